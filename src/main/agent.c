/* SPDX-License-Identifier: Apache-2.0 */
/* agent - the program. */
#include "cli/cli.h"
#include "main/prefault.h"

int main(int argc, char **argv)
{
    prefault_program();
    return cli_main(argc, argv);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* agent-manual - at build time: writes the manual pages, or the completion script, from the tables of options. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--completion") == 0) {
        completion_print();
        return fflush(stdout) == 0 ? 0 : 1;
    }
    return argc == 2 && manual_write(argv[1]) >= 0 ? 0 : 1;
}

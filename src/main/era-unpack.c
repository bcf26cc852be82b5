/* SPDX-License-Identifier: Apache-2.0 */
/* era-unpack: takes archives and layers apart, in a sandbox. See src/image/unpack.h. */
#include <unistd.h>

#include "image/unpack.h"

int main(int argc, char *argv[])
{
    /* Without exit handlers: a leak checker could not work in the sandbox. */
    _exit(era_unpack_main(argc, argv));
}

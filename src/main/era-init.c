/* SPDX-License-Identifier: Apache-2.0 */
/*
 * era-init - PID 1 of a guest. Started by a launcher, with the shim on
 * descriptor 3, or by a kernel of the guest's own: `era-init microvm KEY=VALUE…`
 */
#include <string.h>
#include <unistd.h>

#include "guest/guest.h"

int main(int argc, char **argv)
{
    if (getpid() != 1) {
        static const char message[] = "era-init is the first process of a VM and cannot be run by hand\n";
        (void)write(STDERR_FILENO, message, sizeof message - 1);
        return 2;
    }
    if (argc < 2 || strcmp(argv[1], "microvm") != 0)
        era_init_main(3, NULL);
    struct machine machine;
    int control_fd = boot_machine(argv + 2, &machine);
    era_init_main(control_fd, &machine);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* era-init - PID 1 of a guest. Started by a launcher, with the shim on descriptor 3. */
#include <unistd.h>

#include "guest/guest.h"

int main(void)
{
    if (getpid() != 1) {
        static const char message[] = "era-init is the first process of a VM and cannot be run by hand\n";
        (void)write(STDERR_FILENO, message, sizeof message - 1);
        return 2;
    }
    era_init_main(3);
}

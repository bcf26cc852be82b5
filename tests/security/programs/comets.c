/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comets [orphaned]: CHAINS chains of processes, each of which lives just long
 * enough to make the next one, in a session of its own; with that word the
 * leader of the run is killed first, so that init is the parent of all. In C
 * and without a libc's help, for it has to be faster than who reads /proc.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CHAINS
#define CHAINS 1 /* how many: what is built says */
#endif

int main(int argc, char *argv[])
{
    (void)argv;
    if (argc > 1)
        kill(getppid(), SIGKILL);
    for (int i = 0; i < CHAINS; i++)
        if (fork() == 0)
            for (;;) {
                if (syscall(SYS_fork) > 0)
                    syscall(SYS_exit_group, 0);
                setsid();
            }
    for (;;)
        pause();
}

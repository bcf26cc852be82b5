/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals come as data: blocked, and read from a signalfd. One that our caller
 * ignores (nohup, a background job of a shell) stays ignored: the kernel would
 * keep it for us once it is blocked.
 */
#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/cli.h"

/* By which a user or an operator ends a program. */
static void ending(sigset_t *to)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    sigemptyset(to);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction action;
        if (sigaction(numbers[i], NULL, &action) < 0 || action.sa_handler != SIG_IGN)
            sigaddset(to, numbers[i]);
    }
}

static int block(const sigset_t *set)
{
    if (sigprocmask(SIG_BLOCK, set, NULL) < 0)
        return -errno;
    int fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int signals_block(void)
{
    sigset_t set;
    ending(&set);
    return block(&set);
}

int signals_block_with_resize(void)
{
    sigset_t set;
    ending(&set);
    sigaddset(&set, SIGWINCH);
    signal(SIGPIPE, SIG_IGN); /* the command is to end, and not we before it */
    return block(&set);
}

int signals_pending(void)
{
    sigset_t set;
    sigset_t pending;
    ending(&set);
    if (sigpending(&pending) == 0)
        for (int signo = 1; signo < NSIG; signo++)
            if (sigismember(&set, signo) == 1 && sigismember(&pending, signo) == 1)
                return signo;
    return 0;
}

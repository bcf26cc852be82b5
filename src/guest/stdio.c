/* SPDX-License-Identifier: Apache-2.0 */
/* What a command reads and writes: pipes, or a terminal of its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "guest/guest.h"

void stdio_close(struct stdio *stdio)
{
    for (int i = 0; i < CHANNELS; i++) {
        era_closep(&stdio->ours[i]);
        era_closep(&stdio->theirs[i]);
    }
    era_closep(&stdio->status[0]);
    era_closep(&stdio->status[1]);
    era_closep(&stdio->go[0]);
    era_closep(&stdio->go[1]);
}

static int open_pipe(int *ret_read, int *ret_write)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    *ret_read = fds[0];
    *ret_write = fds[1];
    return 0;
}

static int open_pipes(struct stdio *stdio, bool with_stdin)
{
    int r = 0;
    if (with_stdin) {
        r = open_pipe(&stdio->theirs[CHANNEL_STDIN], &stdio->ours[CHANNEL_STDIN]);
    } else {
        stdio->theirs[CHANNEL_STDIN] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (stdio->theirs[CHANNEL_STDIN] < 0)
            r = -errno;
    }
    for (int i = CHANNEL_STDOUT; r >= 0 && i <= CHANNEL_STDERR; i++)
        r = open_pipe(&stdio->ours[i], &stdio->theirs[i]);
    return r;
}

static int open_terminal(struct stdio *stdio, uint16_t cols, uint16_t rows)
{
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0)
        return -errno;
    stdio->ours[CHANNEL_STDOUT] = master;
    const struct winsize size = {.ws_col = cols, .ws_row = rows};
    int unlock = 0;
    int number = 0;
    char path[32];
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCGPTN, &number) < 0 ||
        ioctl(master, TIOCSWINSZ, &size) < 0)
        return -errno;
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    stdio->ours[CHANNEL_STDIN] = fcntl(master, F_DUPFD_CLOEXEC, 0);
    for (int i = 0; i < CHANNELS; i++)
        stdio->theirs[i] = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    bool failed = stdio->ours[CHANNEL_STDIN] < 0;
    for (int i = 0; i < CHANNELS; i++)
        failed = failed || stdio->theirs[i] < 0;
    return failed ? -errno : 0;
}

int stdio_open(const struct era_run_request *request, struct stdio *stdio)
{
    int r;
    if ((request->flags & ERA_RUN_TTY) != 0)
        r = open_terminal(stdio, request->cols, request->rows);
    else
        r = open_pipes(stdio, (request->flags & ERA_RUN_STDIN) != 0);
    if (r >= 0)
        r = open_pipe(&stdio->status[0], &stdio->status[1]);
    if (r >= 0 && (request->flags & ERA_RUN_HOLD) != 0)
        r = open_pipe(&stdio->go[0], &stdio->go[1]);
    for (int i = 0; r >= 0 && i < CHANNELS; i++)
        if (stdio->ours[i] >= 0)
            r = era_set_nonblock(stdio->ours[i], true);
    if (r >= 0)
        r = era_set_nonblock(stdio->status[0], true);
    return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

/* One line of the terminal, written anew for each report, and gone at the end. */
static void show_progress(void *userdata, const char *line)
{
    (void)userdata;
    uint16_t cols;
    uint16_t rows;
    terminal_size(&cols, &rows);
    fprintf(stderr, "\r\033[K%.*s", cols - 1, line);
    fflush(stderr);
}

static void erase_progress(void)
{
    fputs("\r\033[K", stderr);
}

int session_open(const struct invocation *invocation, struct era **ret_era, struct era_error *err)
{
    const char *state_dir = option_value(invocation, "state-dir");
    if (state_dir == NULL)
        state_dir = getenv("AGENT_STATE_DIR");
    int r = era_open(state_dir, ret_era, err);
    if (r >= 0 && isatty(STDERR_FILENO)) {
        era_set_progress(*ret_era, show_progress, NULL);
        atexit(erase_progress);
    }
    return r;
}

int session_open_interruptible(const struct invocation *invocation, struct era **ret_era, int *ret_signal_fd,
                               struct era_error *err)
{
    int fd = signals_block();
    if (fd < 0)
        return era_error_errno(err, -fd, "cannot wait for signals");
    *ret_signal_fd = fd;
    int r = session_open(invocation, ret_era, err);
    if (r >= 0)
        era_set_cancel(*ret_era, fd);
    return r;
}

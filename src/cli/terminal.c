/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli/cli.h"

/* The one terminal of the process, as it was; restored on every way out. */
static struct {
    bool raw;
    struct termios before;
} terminal;

void terminal_restore(void)
{
    if (terminal.raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal.before);
    terminal.raw = false;
}

int terminal_raw(void)
{
    if (tcgetattr(STDIN_FILENO, &terminal.before) < 0)
        return -errno;
    struct termios raw = terminal.before;
    cfmakeraw(&raw);
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0)
        return -errno;
    terminal.raw = true;
    atexit(terminal_restore);
    return 0;
}

void terminal_size(uint16_t *ret_cols, uint16_t *ret_rows)
{
    struct winsize size = {0};
    const int fds[] = {STDOUT_FILENO, STDIN_FILENO, STDERR_FILENO};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0] && size.ws_col == 0; i++)
        (void)ioctl(fds[i], TIOCGWINSZ, &size);
    *ret_cols = size.ws_col != 0 ? size.ws_col : 80;
    *ret_rows = size.ws_row != 0 ? size.ws_row : 24;
}

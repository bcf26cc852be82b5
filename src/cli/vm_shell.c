/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "cli/cli.h"

static int make_spec(const struct invocation *invocation, struct era_run_spec **ret_spec, struct era_error *err)
{
    const char *command = option_value(invocation, "cmd");
    char term[128];
    const char *ours = getenv("TERM");
    snprintf(term, sizeof term, "TERM=%s", ours != NULL && ours[0] != '\0' ? ours : "xterm");
    uint16_t cols;
    uint16_t rows;
    terminal_size(&cols, &rows);

    struct era_run_spec *spec = NULL;
    int r = era_run_spec_new_shell(command != NULL ? command : "exec /bin/bash", &spec, err);
    if (r >= 0)
        r = era_run_spec_set_tty(spec, cols, rows, err);
    if (r >= 0)
        r = era_run_spec_set_timeout(spec, 0, err);
    if (r >= 0)
        r = era_run_spec_set_kill_on_hangup(spec, true, err);
    if (r >= 0)
        r = era_run_spec_add_env(spec, term, err);
    if (r < 0) {
        era_run_spec_free(spec);
        return r;
    }
    *ret_spec = spec;
    return 0;
}

int vm_shell(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_run_spec *spec = NULL;
    const char *id = option_value(invocation, "vm");
    struct live_run live = {.vm_id = id};
    _cleanup_close_ int signal_fd = signals_block_with_resize();
    const struct live_options options = {.forward_stdin = true, .terminal = true, .signal_fd = signal_fd};

    int r = make_spec(invocation, &spec, &err);
    if (r >= 0)
        r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_run_start(era, id, spec, &live.run, &err);
    if (r >= 0 && isatty(STDIN_FILENO))
        (void)terminal_raw();
    if (r >= 0)
        r = live_loop(&live, 1, &options, &err);
    terminal_restore();
    if (r >= 0)
        live_tell_lost(invocation, &live, 1);
    int status = r < 0 ? output_error(invocation, &err) : r;
    era_run_free(live.run);
    era_run_spec_free(spec);
    era_close(era);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

static size_t count_of(char **ids)
{
    size_t count = 0;
    while (ids != NULL && ids[count] != NULL)
        count++;
    return count;
}

/* Nothing is begun in one VM when another is not there. */
static int check_all(struct era *era, char **ids, struct era_error *err)
{
    int r = 0;
    for (size_t i = 0; r >= 0 && ids[i] != NULL; i++) {
        struct era_vm *vm = NULL;
        r = era_vm_get(era, ids[i], &vm, err);
        era_vm_free(vm);
    }
    return r;
}

/* All of them, side by side. */
static int exec_all(const struct invocation *invocation, struct era *era, char **ids, const struct era_run_spec *spec,
                    int signal_fd, struct era_error *err)
{
    size_t count = count_of(ids);
    struct live_run *runs = calloc(count + 1, sizeof *runs);
    char(*prefixes)[64] = calloc(count + 1, sizeof *prefixes);
    int r = runs == NULL || prefixes == NULL ? era_error_oom(err) : 0;
    for (size_t i = 0; r >= 0 && runs != NULL && prefixes != NULL && i < count; i++) {
        runs[i].vm_id = ids[i];
        snprintf(prefixes[i], sizeof prefixes[i], "%s | ", ids[i]);
        if (count > 1)
            runs[i].prefix = prefixes[i];
        r = era_run_start(era, ids[i], spec, &runs[i].run, err);
        if (r >= 0 && count > 1)
            (void)era_run_close_stdin(runs[i].run);
    }
    const struct live_options options = {.forward_stdin = count == 1, .signal_fd = signal_fd};
    if (r >= 0)
        r = live_loop(runs, count, &options, err);
    if (r >= 0)
        live_tell_lost(invocation, runs, count);
    for (size_t i = 0; runs != NULL && i < count; i++)
        era_run_free(runs[i].run);
    free(runs);
    free(prefixes);
    return r;
}

int vm_exec(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_run_spec *spec = NULL;
    char **ids = NULL;
    _cleanup_close_ int signal_fd = signals_block_with_resize();

    int r = ask_run(invocation, &spec, &err);
    if (r >= 0)
        r = era_run_spec_set_live(spec, true, &err);
    if (r >= 0)
        r = era_run_spec_set_stdin(spec, true, &err);
    if (r >= 0)
        r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = ask_targets(invocation, era, true, &ids, &err);
    if (r >= 0 && count_of(ids) > 1)
        r = check_all(era, ids, &err);
    if (r >= 0)
        r = exec_all(invocation, era, ids, spec, signal_fd, &err);
    int status = r < 0 ? output_error(invocation, &err) : r;
    ask_targets_free(ids);
    era_run_spec_free(spec);
    era_close(era);
    return status;
}

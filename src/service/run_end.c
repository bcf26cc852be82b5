/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How runs end, and who writes it down: the handle that the run belongs to, at once; or, when the run was
 * parted from its handle, whatever handle it is settled with.
 */
#include <stdlib.h>

#include "base/fault.h"
#include "service/service.h"

int run_end(struct era_run *run, const struct era_run_outcome *outcome, struct era_event *ret_event)
{
    run->result.outcome = *outcome;
    run->ended = true;
    ERA_POINT("run.ended");
    if (run->era != NULL)
        (void)era_run_settle(run, run->era, NULL);
    ERA_POINT("run.finished");
    *ret_event = (struct era_event){.type = ERA_EVENT_EXIT};
    return 1;
}

int run_lose(struct era_run *run, struct era_event *ret_event)
{
    const struct era_run_outcome lost = {.verdict = ERA_VERDICT_VM_LOST, .exit_code = 125};
    run->lost = true;
    return run_end(run, &lost, ret_event);
}

void era_run_detach(struct era_run *run)
{
    run->era = NULL;
}

/* The shim did not say how it ended. What it wrote down counts; else the VM is lost. */
static int find_outcome(struct era_run *run, struct era_error *err)
{
    reconcile_run(run->era, run->vm_id, run->result.run_id, false);
    _cleanup_free_ struct era_run_record *runs = NULL;
    size_t count = 0;
    int r = era_store_run_list(run->era->store, run->vm_id, false, &runs, &count, err);
    for (size_t i = 0; r >= 0 && i < count; i++)
        if (era_str_eq(runs[i].id, run->result.run_id) && runs[i].outcome.verdict != ERA_VERDICT_NONE)
            run->result.outcome = runs[i].outcome;
    return r;
}

int era_run_settle(struct era_run *run, struct era *era, struct era_error *err)
{
    run->era = era;
    if (!run->ended || !run->recorded)
        return 0;
    if (run->lost)
        return find_outcome(run, err);
    const struct era_run_outcome refused = {.verdict = ERA_VERDICT_VM_LOST, .exit_code = 125};
    const struct era_run_outcome *outcome = &run->result.outcome;
    return era_store_run_finish(era->store, run->vm_id, run->result.run_id,
                                outcome->verdict != ERA_VERDICT_NONE ? outcome : &refused, err);
}

/* ---- for callers without an event loop ---------------------------------- */

int era_vm_run(struct era *era, const char *id, const struct era_run_spec *spec, struct era_result **ret_result,
               struct era_error *err)
{
    struct era_run *run = NULL;
    int r = era_run_start(era, id, spec, &run, err);
    if (r < 0 || run == NULL)
        return r;
    (void)era_run_close_stdin(run);
    struct era_event event = {.type = ERA_EVENT_NONE};
    while (r >= 0 && event.type != ERA_EVENT_EXIT) {
        r = era_run_next(run, &event, err);
        if (r == 0)
            r = run_wait(run);
    }
    if (r < 0) {
        era_run_free(run);
        return r;
    }
    struct era_result *result = malloc(sizeof *result);
    if (result != NULL) {
        *result = run->result; /* the paths change hands */
        run->result.paths[0] = run->result.paths[1] = NULL;
        *ret_result = result;
    }
    era_run_free(run);
    return result != NULL ? 0 : era_error_oom(err);
}

void era_result_free(struct era_result *result)
{
    if (result == NULL)
        return;
    free(result->paths[0]);
    free(result->paths[1]);
    free(result);
}

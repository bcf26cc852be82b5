/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/str.h"
#include "shim/shim.h"

enum { EXIT_TIMED_OUT = 124, EXIT_LOST = 125, EXIT_OOM = 137 };

struct run *run_find(struct shim *shim, uint32_t stream)
{
    for (struct run *run = shim->runs; run != NULL; run = run->next)
        if (run->stream == stream)
            return run;
    return NULL;
}

static unsigned count_runs(const struct shim *shim)
{
    unsigned count = 0;
    for (const struct run *run = shim->runs; run != NULL; run = run->next)
        count++;
    return count;
}

static void run_free(struct run *run)
{
    if (run == NULL)
        return;
    log_close(&run->logs[0]);
    log_close(&run->logs[1]);
    era_closep(&run->dirfd);
    free(run);
}
ERA_DEFINE_CLEANUP(struct run, run_free)

/* What happened before is none of this run's. */
static void start_clock(const struct shim *shim, struct run *run)
{
    run->started_ns = era_clock_monotonic_ns();
    run->deadline_ns = run->timeout_ms > 0 ? run->started_ns + (int64_t)run->timeout_ms * 1000000 : 0;
    run->oom_kills = shim->guest->ops->oom_kills(shim->guest);
}

static struct run *run_new(struct shim *shim, const struct era_run_request *request)
{
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL)
        return NULL;
    run->stream = ++shim->next_stream;
    era_str_copy(run->id, sizeof run->id, request->id);
    run->kind = request->kind;
    run->flags = request->flags;
    run->dirfd = -EBADF;
    run->window[0] = run->window[1] = run->input_window = ERA_WINDOW_INITIAL;
    for (int i = 0; i < 2; i++)
        run->logs[i].fd = run->logs[i].ring_fd = -EBADF;
    run->timeout_ms = request->timeout_ms;
    run->cap = request->output_cap;
    run->held = (run->flags & ERA_RUN_HOLD) != 0;
    for (struct run *other = shim->runs; other != NULL; other = other->next)
        other->in_company = run->in_company = true;
    start_clock(shim, run);
    return run;
}

static int open_logs(struct shim *shim, struct run *run, struct era_error *err)
{
    int r = (run->flags & ERA_RUN_LOG) != 0 ? runs_open(shim, run, run->cap) : 0;
    if (r < 0)
        return era_error_set(err, -r, r == -ENOSPC ? "disk_full" : "system_error", "cannot make the run's logs: %s",
                             strerror(-r));
    return 0;
}

struct run *run_begin(struct shim *shim, struct client *client, const struct era_frame *frame, struct era_error *err)
{
    struct era_run_request request;
    int r = era_run_request_decode(frame, &request);
    if (r < 0) {
        era_error_set(err, -r, r == -ENOMEM ? "out_of_memory" : "bad_request", "the run request is malformed");
        return NULL;
    }
    _cleanup_(run_freep) struct run *run = run_new(shim, &request);
    era_run_request_clear(&request);
    if (run == NULL) {
        era_error_oom(err);
        return NULL;
    }
    if (count_runs(shim) >= RUNS_MAX || shim->stop_deadline_ns != 0) {
        era_error_set(err, EBUSY, "vm_busy",
                      shim->stop_deadline_ns != 0 ? "the VM is being stopped" : "the VM has %d runs at once already",
                      RUNS_MAX);
        return NULL;
    }
    if (shim->paused_since_ns != 0) {
        era_error_set(err, EBUSY, "vm_paused", "the VM is paused; `agent vm resume` has it go on");
        return NULL;
    }
    if (!run->held && open_logs(shim, run, err) < 0)
        return NULL;
    if (era_frame_append(&shim->to_guest, ERA_FRAME_RUN, run->stream, frame->payload, frame->len) < 0) {
        era_error_oom(err);
        return NULL;
    }
    ERA_POINT("keep.begun");
    run->client = client;
    run->next = shim->runs;
    shim->runs = run;
    return era_take_ptr(run);
}

static void kill_run(struct shim *shim, struct run *run)
{
    run->stopped = true;
    (void)era_frame_append(&shim->to_guest, ERA_FRAME_KILL, run->stream, NULL, 0);
}

int run_go(struct shim *shim, struct run *run, const char *id, struct era_error *err)
{
    era_str_copy(run->id, sizeof run->id, id);
    run->held = false;
    if (open_logs(shim, run, err) < 0) {
        run->client = NULL; /* who is told why, and not how it ended */
        kill_run(shim, run);
        return -err->errnum;
    }
    start_clock(shim, run);
    ERA_POINT("keep.gone");
    return era_frame_append(&shim->to_guest, ERA_FRAME_GO, run->stream, NULL, 0);
}

/*
 * The kernel counts whom it killed for want of memory in the whole VM. Whoever was alone with it and failed, failed
 * of it, also where a parent made another status of its child's death. In company it may have been another's: then
 * it takes the status of one that was killed, the command's own or, by a shell, that of its child.
 */
static bool lacked_memory(const struct shim *shim, const struct run *run, const struct era_run_ended *ended,
                          int exit_code)
{
    bool killed = ended->oom_kills > 0 || shim->guest->ops->oom_kills(shim->guest) > run->oom_kills;
    if (!killed || run->stopped)
        return false;
    return run->in_company ? exit_code == EXIT_OOM : exit_code != 0;
}

/* The judgement: what a run's end means. */
static struct era_run_outcome judge(const struct shim *shim, const struct run *run, const struct era_run_ended *ended)
{
    struct era_run_outcome outcome = {
        .exit_code = era_exit_code_of_wait(ended->wait_status),
        .wall_us = (uint64_t)(era_clock_monotonic_ns() - run->started_ns) / 1000,
        .cpu_us = ended->cpu_us,
        .peak_mem_kib = ended->peak_mem_kib,
    };
    if (run->timed_out) {
        outcome.verdict = ERA_VERDICT_TIMED_OUT;
        outcome.exit_code = EXIT_TIMED_OUT;
    } else if (lacked_memory(shim, run, ended, outcome.exit_code)) {
        outcome.verdict = ERA_VERDICT_OOM_KILLED;
        outcome.exit_code = EXIT_OOM;
    } else {
        outcome.verdict = WIFSIGNALED(ended->wait_status) ? ERA_VERDICT_SIGNALED : ERA_VERDICT_EXITED;
    }
    return outcome;
}

/* While a run is ended by force, the guest is not held back. */
static void hurry(struct shim *shim)
{
    bool on = false;
    for (const struct run *run = shim->runs; run != NULL; run = run->next)
        on = on || run->timed_out;
    if (shim->guest->ops->hurry != NULL && on != shim->hurried)
        shim->guest->ops->hurry(shim->guest, on);
    shim->hurried = on;
}

static void conclude(struct shim *shim, struct run *run, struct era_run_outcome *outcome, const struct era_error *err)
{
    runs_close(shim, run, outcome);
    struct client *client = run->client;
    if (client != NULL) {
        client->run = NULL;
        client->state = CLIENT_DONE;
        if (err != NULL)
            (void)era_message_append(&client->out, ERA_FRAME_ERROR, 0, era_error_encode, err);
        else
            (void)era_message_append(&client->out, ERA_FRAME_EXIT, 0, era_outcome_encode, outcome);
    }
    for (struct run **link = &shim->runs; *link != NULL; link = &(*link)->next)
        if (*link == run) {
            *link = run->next;
            break;
        }
    run_free(run);
    hurry(shim);
}

/* Says on the command's own stderr why there is no command, as a shell would. */
static void explain(struct shim *shim, struct run *run, const struct era_run_ended *ended)
{
    char text[400];
    int len = snprintf(text, sizeof text, "agent: %s: %s\n", ended->message, strerror(ended->errnum));
    run_output(shim, run, 2, text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
}

void run_ended(struct shim *shim, struct run *run, const struct era_run_ended *ended)
{
    ERA_POINT("keep.ended");
    struct era_run_outcome outcome = judge(shim, run, ended);
    bool failed = ended->errnum != 0 && outcome.verdict == ERA_VERDICT_EXITED;
    if (failed && run->kind != ERA_RUN_COMMAND) {
        struct era_error err;
        const char *code = ended->errnum == ENOENT   ? "file_not_found"
                           : ended->errnum == ENOSPC ? "storage_full"
                                                     : "copy_failed";
        era_error_set(&err, ended->errnum, code, "in the VM: %s", ended->message);
        conclude(shim, run, &outcome, &err);
        return;
    }
    if (failed)
        explain(shim, run, ended);
    conclude(shim, run, &outcome, NULL);
}

void run_lost(struct shim *shim, struct run *run)
{
    const struct era_run_ended ended = {.wait_status = SIGKILL};
    struct era_run_outcome outcome = judge(shim, run, &ended);
    if (outcome.verdict == ERA_VERDICT_SIGNALED) {
        outcome.verdict = ERA_VERDICT_VM_LOST;
        outcome.exit_code = EXIT_LOST;
    }
    conclude(shim, run, &outcome, NULL);
}

void run_detach(struct shim *shim, struct run *run)
{
    run->client = NULL;
    for (int i = 0; i < 2; i++) {
        if (run->unread[i] == 0)
            continue;
        run->window[i] += run->unread[i];
        (void)era_window_append(&shim->to_guest, run->stream, (uint8_t)(i + 1), run->unread[i]);
        run->unread[i] = 0;
    }
    if (run->held || (run->flags & ERA_RUN_KILL_ON_HANGUP) != 0) {
        kill_run(shim, run);
    } else if ((run->flags & ERA_RUN_STDIN) != 0) {
        (void)era_frame_append(&shim->to_guest, ERA_FRAME_STDIN_END, run->stream, NULL, 0);
    }
}

void run_time_out(struct shim *shim, struct run *run, int64_t now_ns)
{
    if (run->timed_out) {
        shim->guest->ops->kill(shim->guest); /* it did not obey in time */
        run->deadline_ns = 0;
        return;
    }
    run->timed_out = true;
    hurry(shim);
    run->deadline_ns = now_ns + (int64_t)KILL_GRACE_MS * 1000000;
    (void)era_frame_append(&shim->to_guest, ERA_FRAME_KILL, run->stream, NULL, 0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run in flight: one connection to the shim, worked in small steps that never
 * block. Output is given out in place; the room it took is given back to the
 * sender when the caller comes for the next piece.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "service/service.h"

static int make_paths(struct era *era, const char *vm_id, struct era_result *result, bool logs)
{
    static const char *const names[2] = {"stdout", "stderr"};
    for (int i = 0; i < 2; i++) {
        result->paths[i] = logs ? era_str_printf("%s/vms/%s/out/%s.log", era->state_dir, vm_id, names[i]) : strdup("");
        if (result->paths[i] == NULL)
            return -ENOMEM;
    }
    return 0;
}

int run_open(struct era *era, int fd, const struct era_run_request *request, const char *vm_id,
             struct era_run **ret_run, struct era_error *err)
{
    struct era_run *run = calloc(1, sizeof *run);
    if (run == NULL) {
        close(fd);
        return era_error_oom(err);
    }
    run->era = era;
    run->fd = fd;
    run->lock_fd = -EBADF;
    run->input_window = ERA_WINDOW_INITIAL;
    era_str_copy(run->vm_id, sizeof run->vm_id, vm_id);
    era_str_copy(run->result.run_id, sizeof run->result.run_id, request->id);
    int r = make_paths(era, vm_id, &run->result, (request->flags & ERA_RUN_LOG) != 0);
    if (r >= 0)
        r = era_message_append(&run->out, ERA_FRAME_RUN, 0, era_run_request_encode, request);
    if (r >= 0)
        r = era_set_nonblock(fd, true);
    if (r < 0) {
        era_run_free(run);
        return r == -EMSGSIZE
                   ? era_error_invalid(err, "cmd", "command, environment and directory together are too long")
                   : era_error_set(err, -r, "system_error", "cannot start the run: %s", strerror(-r));
    }
    *ret_run = run;
    return 0;
}

static int fill_request(const struct era_run_spec *spec, struct era_run_request *request)
{
    request->flags = spec->flags;
    request->timeout_ms = spec->timeout_ms;
    request->output_cap = spec->output_cap;
    request->cols = spec->cols;
    request->rows = spec->rows;
    era_str_copy(request->workdir, sizeof request->workdir, spec->workdir);
    int r = era_strv_copy(&request->argv, &spec->argv);
    for (size_t i = 0; r >= 0 && i < spec->env.count; i++)
        r = env_set(&request->env, spec->env.items[i]);
    return r;
}

/*
 * Records a run that is held, which gives it its name, and lets it go. The guest makes it ready meanwhile: to
 * open the store takes as long.
 */
static int record_and_go(struct era_run *run, struct era_error *err)
{
    struct era_run_record record = {.started_at_ns = era_clock_realtime_ns()};
    era_str_copy(record.vm_id, sizeof record.vm_id, run->vm_id);
    /* All of run.lock while it has no name yet: see service.h. */
    _cleanup_close_ int folder = shim_open_folder(run->era, run->vm_id);
    run->lock_fd = folder < 0 ? folder : lock_take(folder, "run.lock", F_RDLCK, 0);
    if (run->lock_fd < 0)
        return era_error_errno(err, -run->lock_fd, "cannot take the run's lock");
    int r = era_store_run_insert(run->era->store, &record, err);
    if (r < 0)
        return r;
    uint64_t at = 0;
    if (era_parse_u64(record.id + 1, 0, INT64_MAX, &at) >= 0)
        (void)lock_narrow(run->lock_fd, (int64_t)at);
    ERA_POINT("run.recorded");
    run->recorded = true;
    era_str_copy(run->result.run_id, sizeof run->result.run_id, record.id);
    r = era_go_append(&run->out, record.id);
    return r < 0 ? era_error_oom(err) : 0;
}

static int flush_start(struct era_run *run, struct era_error *err)
{
    int r = era_buffer_flush(&run->out, run->fd);
    if (r < 0 && r != -EAGAIN)
        return era_error_set(err, -r, "vm_busy", "the VM went down when the run was to start");
    return 0;
}

static int stage_files(struct era *era, const char *id, const struct era_run_spec *spec, struct era_error *err)
{
    for (size_t i = 0; i < spec->files.count; i++) {
        struct era_error why = {0};
        int r = era_vm_copy_in(era, id, spec->files.items[i], "/workspace/in", &why);
        if (r >= 0)
            continue;
        /* What era_run_spec_add_file() finds by a look at a file shows at its length and its content only. */
        if (era_error_is(&why, "file_too_large") || era_error_is(&why, "file_not_found"))
            era_str_copy(why.field, sizeof why.field, "file");
        if (err != NULL)
            *err = why;
        return r;
    }
    return 0;
}

int era_run_start(struct era *era, const char *id, const struct era_run_spec *spec, struct era_run **ret_run,
                  struct era_error *err)
{
    /* First of all: a VM that ends while it is given files, and is started anew, does not have them. */
    _cleanup_close_ int fd = vm_connect(era, id, err);
    if (fd < 0)
        return fd;
    ERA_POINT("run.connected");
    int r = stage_files(era, id, spec, err);
    if (r >= 0)
        r = stage_data(era, id, spec, err);
    if (r < 0)
        return r;
    ERA_POINT("run.staged");
    struct era_run_request request = {.kind = ERA_RUN_COMMAND};
    struct era_run *run = NULL;
    bool record = (spec->flags & ERA_RUN_LOG) != 0;
    r = fill_request(spec, &request) < 0 ? era_error_oom(err) : 0;
    if (record)
        request.flags |= ERA_RUN_HOLD;
    era_run_id_make(era_clock_realtime_ns(), request.id);
    if (r >= 0)
        r = run_open(era, era_take_fd(&fd), &request, id, &run, err);
    era_run_request_clear(&request);
    if (r < 0 || run == NULL)
        return r;
    ERA_POINT("run.opened");
    r = flush_start(run, err);
    ERA_POINT("run.sent");
    if (r >= 0 && record) {
        r = record_and_go(run, err);
        if (r >= 0)
            r = flush_start(run, err);
        ERA_POINT("run.gone");
    }
    if (r < 0) {
        era_run_free(run);
        return r;
    }
    *ret_run = run;
    return 0;
}

void era_run_free(struct era_run *run)
{
    if (run == NULL)
        return;
    era_closep(&run->fd);
    era_closep(&run->lock_fd);
    era_buffer_clear(&run->in);
    era_buffer_clear(&run->out);
    free(run->result.paths[0]);
    free(run->result.paths[1]);
    free(run);
}

const char *era_run_id(const struct era_run *run)
{
    return run->result.run_id;
}

int era_run_fd(const struct era_run *run)
{
    return run->fd;
}

short era_run_poll_events(const struct era_run *run)
{
    return era_buffer_len(&run->out) > 0 ? POLLIN | POLLOUT : POLLIN;
}

int run_wait(const struct era_run *run)
{
    struct pollfd poller = {.fd = run->fd, .events = era_run_poll_events(run)};
    while (poll(&poller, 1, -1) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* ---- events ------------------------------------------------------------- */

static int refuse(struct era_run *run, const struct era_frame *frame, struct era_error *err)
{
    struct era_error told;
    if (era_error_decode(frame, &told) < 0)
        return era_error_set(err, EBADMSG, "protocol_error", "the VM's shim answered nonsense");
    run->ended = true;
    if (run->era != NULL)
        (void)era_run_settle(run, run->era, NULL);
    if (err != NULL)
        *err = told;
    return -told.errnum;
}

static int take_window(struct era_run *run, const struct era_frame *frame, struct era_event *ret_event)
{
    struct era_window window;
    if (era_window_decode(frame, &window) < 0 || window.channel != 0 ||
        window.bytes > ERA_WINDOW_INITIAL - run->input_window)
        return -EBADMSG;
    run->input_window += window.bytes;
    if (!run->input_full)
        return 0;
    run->input_full = false;
    *ret_event = (struct era_event){.type = ERA_EVENT_STDIN};
    return 1;
}

/* What a frame means to the caller: 1 an event, 0 nothing, -errno. */
static int handle(struct era_run *run, const struct era_frame *frame, struct era_event *ret_event,
                  struct era_error *err)
{
    struct era_run_outcome outcome;
    if (frame->type == ERA_FRAME_STDOUT || frame->type == ERA_FRAME_STDERR) {
        run->handed_channel = frame->type == ERA_FRAME_STDOUT ? 1 : 2;
        run->handed_len = frame->len;
        *ret_event = (struct era_event){
            .type = frame->type == ERA_FRAME_STDOUT ? ERA_EVENT_STDOUT : ERA_EVENT_STDERR,
            .data = frame->payload,
            .len = frame->len,
        };
        return 1;
    }
    if (frame->type == ERA_FRAME_ERROR)
        return refuse(run, frame, err);
    int r = -EBADMSG;
    if (frame->type == ERA_FRAME_EXIT && era_outcome_decode(frame, &outcome) >= 0)
        r = run_end(run, &outcome, ret_event);
    else if (frame->type == ERA_FRAME_WINDOW)
        r = take_window(run, frame, ret_event);
    return r < 0 ? era_error_set(err, -r, "protocol_error", "the VM's shim answered nonsense") : r;
}

/* The piece that the caller has looked at is his no more. */
static void give_back(struct era_run *run)
{
    if (run->handed_channel != 0)
        (void)era_window_append(&run->out, 0, run->handed_channel, run->handed_len);
    run->handed_channel = 0;
    era_buffer_consume(&run->in, run->handed_out);
    run->handed_out = 0;
}

int era_run_next(struct era_run *run, struct era_event *ret_event, struct era_error *err)
{
    *ret_event = (struct era_event){.type = ERA_EVENT_NONE};
    if (run->ended)
        return era_error_set(err, EPIPE, "run_ended", "the run has ended");
    give_back(run);
    (void)era_buffer_flush(&run->out, run->fd);
    for (;;) {
        struct era_frame frame;
        ssize_t taken = era_frame_decode(era_buffer_data(&run->in), era_buffer_len(&run->in), &frame);
        if (taken < 0)
            return era_error_set(err, EBADMSG, "protocol_error", "the VM's shim answered nonsense");
        if (taken > 0) {
            run->handed_out = (size_t)taken;
            int r = handle(run, &frame, ret_event, err);
            if (r != 0)
                return r;
            give_back(run);
            continue;
        }
        ssize_t n = era_buffer_fill(&run->in, run->fd, 64 * 1024);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0)
            return run_lose(run, ret_event);
    }
}

/* ---- input -------------------------------------------------------------- */

ssize_t era_run_write(struct era_run *run, const void *data, size_t len)
{
    if (run->ended)
        return -EPIPE;
    size_t n = len < run->input_window ? len : run->input_window;
    if (n > ERA_FRAME_DATA_MAX)
        n = ERA_FRAME_DATA_MAX;
    if (n == 0) {
        run->input_full = true;
        return 0;
    }
    if (era_frame_append(&run->out, ERA_FRAME_STDIN, 0, data, n) < 0)
        return -ENOMEM;
    run->input_window -= (uint32_t)n;
    int r = era_buffer_flush(&run->out, run->fd);
    return r < 0 && r != -EAGAIN ? -EPIPE : (ssize_t)n;
}

static int send_now(struct era_run *run, int r)
{
    if (run->ended)
        return -EPIPE;
    if (r < 0)
        return r;
    r = era_buffer_flush(&run->out, run->fd);
    return r < 0 && r != -EAGAIN ? -EPIPE : 0;
}

int era_run_close_stdin(struct era_run *run)
{
    return send_now(run, era_frame_append(&run->out, ERA_FRAME_STDIN_END, 0, NULL, 0));
}

int era_run_resize(struct era_run *run, uint16_t cols, uint16_t rows)
{
    return send_now(run, era_resize_append(&run->out, 0, cols, rows));
}

int era_run_signal(struct era_run *run, int signo)
{
    if (signo < 1 || signo > 63)
        return -EINVAL;
    return send_now(run, era_u32_append(&run->out, ERA_FRAME_SIGNAL, 0, (uint32_t)signo));
}

const struct era_result *era_run_result(const struct era_run *run)
{
    return run->ended && run->result.outcome.verdict != ERA_VERDICT_NONE ? &run->result : NULL;
}

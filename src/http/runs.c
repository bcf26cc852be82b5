/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /api/vm/{id}/run and /api/vm/temp.
 *
 * Theory of operation: a job reads the body and starts the run (for temp: creates the VM before), and parts it from
 * its handle. From then on it stands in the loop: input goes in as the VM makes room, output is in its logs, or
 * (stream.c) is fetched as the client takes it. When it has ended, a second job records that, opens the logs and, for
 * temp, removes the VM. A client that hangs up does not end a plain run, which is not even noticed; what streams and
 * what is temporary ends with its client.
 */
#include "http/runs.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

enum { LONG_BODY = 256 << 10 };

static struct run_work *work_of(struct request *request)
{
    return (struct run_work *)request->work;
}

/* ---- in the loop -------------------------------------------------------------------- */

void run_leave_loop(struct request *request)
{
    struct run_work *work = work_of(request);
    loop_forget(&request->server->loop, &work->source);
    request_set_live(request, false);
    if (work->in_flight)
        request->server->runs--;
    work->in_flight = false;
}

static void work_free(struct work *base)
{
    struct run_work *work = (struct run_work *)base;
    run_leave_loop(work->request); /* the connection broke while it streamed */
    era_run_free(work->run);
    era_buffer_clear(&work->out);
    ask_clear(&work->ask);
    free(work);
}

/* As much of stdin as there is room for; then its end. */
static void feed(struct run_work *work)
{
    while (work->sent < work->ask.input_len) {
        ssize_t n = era_run_write(work->run, work->ask.input + work->sent, work->ask.input_len - work->sent);
        if (n == 0)
            return;
        if (n < 0) /* the command does not want it */
            work->sent = work->ask.input_len;
        else
            work->sent += (size_t)n;
    }
    if (!work->fed)
        (void)era_run_close_stdin(work->run);
    work->fed = true;
}

void run_wait_for_it(struct request *request)
{
    struct run_work *work = work_of(request);
    bool output = (era_run_poll_events(work->run) & POLLOUT) != 0;
    (void)loop_watch(&request->server->loop, &work->source, EPOLLIN | (output ? EPOLLOUT : 0));
}

static void finish(struct job *job, struct era *era);
static void finished(struct request *request);

void run_finish(struct request *request)
{
    struct run_work *work = work_of(request);
    run_leave_loop(request);
    request_watch_client(request, false);
    request_submit(request, work->temporary ? POOL_SLOW : POOL_QUICK, finish, finished);
}

int run_pump(struct request *request, struct era_event *ret_event)
{
    struct run_work *work = work_of(request);
    for (;;) {
        feed(work);
        int r = era_run_next(work->run, ret_event, &work->err);
        if (r > 0 && ret_event->type == ERA_EVENT_STDIN)
            continue;
        if (r < 0)
            work->failed = true;
        return r;
    }
}

/* Output of a run that is not live does not come here: only its end does. */
static void ready(struct source *source, uint32_t events)
{
    struct run_work *work = (struct run_work *)(void *)((char *)source - offsetof(struct run_work, source));
    struct request *request = work->request;
    (void)events;
    if (work->streams) {
        stream_ready(request);
        return;
    }
    struct era_event event;
    int r = run_pump(request, &event);
    if (r < 0 || (r > 0 && event.type == ERA_EVENT_EXIT))
        run_finish(request);
    else
        run_wait_for_it(request);
}

/* The client hung up, or the server ends. A plain run goes on in its VM, and who looks at it finds its end. */
static void cut(struct request *request)
{
    struct run_work *work = work_of(request);
    if (work->run == NULL || work->cut)
        return;
    work->cut = true;
    if (!work->temporary && !work->streams) {
        run_leave_loop(request);
        era_run_free(era_take_ptr(work->run));
        reply_refusal(request, 503, "shutting_down", NULL, "the server is shutting down; the command goes on");
        request_resume(request);
        return;
    }
    if (era_run_signal(work->run, SIGKILL) < 0)
        work->failed = true;
    if (work->failed)
        run_finish(request);
}

static void started(struct request *request)
{
    struct run_work *work = work_of(request);
    request->server->body_bytes -= era_buffer_len(&request->body);
    era_buffer_clear(&request->body); /* a run may be long */
    if (work->run == NULL) {
        request->server->runs--;
        work->in_flight = false;
        request_resume(request);
        return;
    }
    if (work->temporary)
        metrics_observe(&request->server->metrics.create_seconds, request->create_seconds);
    work->source = (struct source){.fd = era_run_fd(work->run), .ready = ready};
    request_set_live(request, true);
    if (work->streams) {
        stream_begin(request);
        return;
    }
    if (work->temporary)
        request_watch_client(request, true);
    ready(&work->source, 0);
}

/* ---- in jobs --------------------------------------------------------------------------- */

static void start(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct run_work *work = work_of(request);
    struct era_error err = {0};
    struct era_vm *vm = NULL;
    bool kill = work->streams || work->temporary;
    if (ask_read(request, ASK_RUN | (work->temporary ? ASK_VM : 0), &work->ask) < 0)
        return;
    int64_t began_ns = era_clock_monotonic_ns();
    int r = work->temporary ? era_vm_create(era, work->ask.vm, &vm, &err) : 0;
    request->create_seconds = (double)(era_clock_monotonic_ns() - began_ns) / 1e9;
    era_str_copy(work->vm_id, sizeof work->vm_id, vm != NULL ? era_vm_id(vm) : request->params.id);
    /* A volume that was named was there before, and stays. */
    work->keep_volume = vm != NULL && !era_str_eq(era_vm_volume(vm), era_vm_id(vm));
    if (r >= 0 && kill)
        r = era_run_spec_set_kill_on_hangup(work->ask.run, true, &err);
    if (r >= 0 && work->streams)
        r = era_run_spec_set_live(work->ask.run, true, &err);
    if (r >= 0)
        r = era_run_start(era, work->vm_id, work->ask.run, &work->run, &err);
    if (r >= 0)
        era_run_detach(work->run);
    else
        reply_error(request, &err);
    if (r < 0 && vm != NULL)
        (void)era_vm_clean(era, work->vm_id, work->keep_volume, NULL);
    era_run_spec_free(era_take_ptr(work->ask.run)); /* it may hold files */
    era_vm_free(vm);
}

/* The run ended, or failed: records it, answers, and leaves nothing of a temporary VM. */
static void finish(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct run_work *work = work_of(request);
    struct era_error err = work->err;
    int r = era_run_settle(work->run, era, work->failed ? NULL : &err);
    const struct era_result *result = era_run_result(work->run);
    if (result != NULL) {
        era_str_copy(work->verdict, sizeof work->verdict, era_result_verdict(result));
        work->seconds = (double)era_result_wall_us(result) / 1e6;
    }
    if (work->streams)
        stream_result(request, result, &err);
    else if (!work->failed && r >= 0 && result != NULL)
        result_reply(request, era, work->vm_id, result);
    else
        reply_error(request, &err);
    if (work->temporary && era_vm_clean(era, work->vm_id, work->keep_volume, &err) < 0 && !work->streams)
        reply_error(request, &err);
    era_run_free(work->run);
    work->run = NULL;
}

static void finished(struct request *request)
{
    struct run_work *work = work_of(request);
    if (work->verdict[0] != '\0')
        metrics_count_run(&request->server->metrics, work->verdict, work->seconds);
    request_resume(request);
}

/* ---- the handlers ------------------------------------------------------------------------ */

/* What may take its time: a VM is made, files are put into one, a long body is read. */
static bool is_slow(const struct request *request, bool temporary)
{
    static const char files[] = "\"files\"";
    size_t len = era_buffer_len(&request->body);
    return temporary || len > LONG_BODY ||
           (len > 0 && memmem(era_buffer_data(&request->body), len, files, sizeof files - 1) != NULL);
}

static void begin(struct request *request, bool temporary)
{
    struct server *server = request->server;
    char mode[TARGET_VALUE_MAX] = "";
    int streams = target_query(request->target, "stream", mode);
    if (streams < 0 || (streams > 0 && !era_str_eq(mode, "sse"))) {
        reply_refusal(request, 400, "invalid_argument", "field: stream", "the only stream is sse");
        return;
    }
    if (server->runs >= server->settings.max_runs) {
        reply_refusal(request, 429, "too_many_runs", NULL, "%llu runs are in flight; try again",
                      (unsigned long long)server->settings.max_runs);
        return;
    }
    struct run_work *work = calloc(1, sizeof *work);
    if (work == NULL) {
        reply_refusal(request, 503, "out_of_memory", NULL, "out of memory");
        return;
    }
    *work = (struct run_work){
        .base = {.free = work_free, .cut = cut},
        .request = request,
        .temporary = temporary,
        .streams = streams > 0,
        .in_flight = true,
    };
    request->work = &work->base;
    server->runs++;
    request_submit(request, is_slow(request, temporary) ? POOL_SLOW : POOL_QUICK, start, started);
}

void handle_run(struct request *request)
{
    begin(request, false);
}

void handle_temp(struct request *request)
{
    begin(request, true);
}

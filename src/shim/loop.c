/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "shim/shim.h"

int shim_watch(struct shim *shim, struct source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(shim->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

void shim_rewatch(struct shim *shim, struct source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    (void)epoll_ctl(shim->epoll_fd, EPOLL_CTL_MOD, source->fd, &event);
}

bool shim_congested(const struct shim *shim)
{
    return era_buffer_len(&shim->to_guest) > BACKLOG_MAX;
}

/* ---- the end ------------------------------------------------------------ */

/* The guest is dead: tells everyone, gives everything back, goes. */
static _Noreturn void guest_gone(struct shim *shim)
{
    ERA_POINT("end.dead");
    while (shim->runs != NULL)
        run_lost(shim, shim->runs);
    unlink("vm.sock"); /* before the answer: who has it may start the VM anew */
    era_closep(&shim->listen.fd);
    ERA_POINT("end.unlinked");
    shim->guest->ops->free(shim->guest);
    ERA_POINT("end.freed");
    close(SHIM_FD_LOCK); /* who is told that the VM ended finds it so */
    for (struct client *client = shim->clients; client != NULL; client = client->next) {
        if (client->state == CLIENT_STOPPING)
            (void)era_frame_append(&client->out, ERA_FRAME_STOPPED, 0, NULL, 0);
        (void)era_buffer_flush(&client->out, client->source.fd);
    }
    exit(0);
}

/* A guest that breaks the protocol is not worth talking to. */
void shim_guest_hostile(struct shim *shim, const char *what)
{
    era_log(ERA_LOG_WARN, "%s: the guest broke the protocol: %s", shim->launch.id, what);
    shim->guest->ops->kill(shim->guest);
}

/* ---- frames from the guest ---------------------------------------------- */

static bool take_output(struct shim *shim, struct run *run, const struct era_frame *frame)
{
    int channel = frame->type == ERA_FRAME_STDOUT ? 1 : 2;
    /* Windows count bytes: frames without any would be counted by nothing. */
    if (frame->len == 0 || frame->len > run->window[channel - 1] || frame->len > ERA_FRAME_DATA_MAX)
        return false;
    run->window[channel - 1] -= frame->len;
    run_output(shim, run, channel, frame->payload, frame->len);
    return true;
}

static bool take_input_window(struct run *run, const struct era_frame *frame)
{
    struct era_window window;
    if (era_window_decode(frame, &window) < 0 || window.channel != 0 ||
        window.bytes > ERA_WINDOW_INITIAL - run->input_window)
        return false;
    run->input_window += window.bytes;
    if (run->client != NULL)
        (void)era_window_append(&run->client->out, 0, 0, window.bytes);
    return true;
}

bool shim_take_guest_frame(struct shim *shim, const struct era_frame *frame)
{
    if (frame->type == ERA_FRAME_STILL && frame->len == 0 && shim->stills_owed > 0) {
        shim->stills_owed--;
        return true;
    }
    if (frame->type == ERA_FRAME_READY && frame->len == 0 && shim->clocks_owed > 0) {
        shim_clock_answered(shim);
        return true;
    }
    struct run *run = run_find(shim, frame->stream);
    if (run == NULL)
        return false;
    if (frame->type == ERA_FRAME_STDOUT || frame->type == ERA_FRAME_STDERR)
        return take_output(shim, run, frame);
    if (frame->type == ERA_FRAME_WINDOW)
        return take_input_window(run, frame);
    struct era_run_ended ended;
    if (frame->type != ERA_FRAME_ENDED || era_run_ended_decode(frame, &ended) < 0)
        return false;
    run_ended(shim, run, &ended);
    return true;
}

static void read_guest(struct shim *shim)
{
    ssize_t n = era_buffer_fill(&shim->from_guest, shim->guest->control_fd, 64 * 1024);
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        shim->guest->ops->kill(shim->guest); /* its end comes by the pidfd */
        (void)epoll_ctl(shim->epoll_fd, EPOLL_CTL_DEL, shim->guest->control_fd, NULL);
        return;
    }
    for (;;) {
        struct era_frame frame;
        ssize_t taken = era_frame_decode(era_buffer_data(&shim->from_guest), era_buffer_len(&shim->from_guest), &frame);
        if (taken == 0)
            return;
        if (taken < 0 || !shim_take_guest_frame(shim, &frame)) {
            shim_guest_hostile(shim, taken < 0 ? "no frame" : "a frame out of place");
            era_buffer_clear(&shim->from_guest);
            (void)epoll_ctl(shim->epoll_fd, EPOLL_CTL_DEL, shim->guest->control_fd, NULL);
            return;
        }
        era_buffer_consume(&shim->from_guest, (size_t)taken);
    }
}

/* To one that stands still nothing is said: see pause.c. */
static void flush_guest(struct shim *shim)
{
    int r = shim->paused_since_ns != 0 ? 0 : era_buffer_flush(&shim->to_guest, shim->guest->control_fd);
    if (r < 0 && r != -EAGAIN)
        era_buffer_clear(&shim->to_guest);
    uint32_t events = (shim_congested(shim) ? 0 : EPOLLIN) | (r == -EAGAIN ? EPOLLOUT : 0);
    if (events != shim->guest_events) {
        shim->guest_events = events;
        shim_rewatch(shim, &shim->guest_source, events);
    }
}

/* ---- time --------------------------------------------------------------- */

static void keep_time(struct shim *shim)
{
    uint64_t expirations;
    (void)era_read_full(shim->timer.fd, &expirations, sizeof expirations);
    int64_t now = era_clock_monotonic_ns();
    for (struct run *run = shim->runs; run != NULL && shim->paused_since_ns == 0; run = run->next)
        if (run->deadline_ns != 0 && run->deadline_ns <= now)
            run_time_out(shim, run, now);
    if (shim->stop_deadline_ns != 0 && shim->stop_deadline_ns <= now) {
        shim->guest->ops->kill(shim->guest);
        /* It takes its time to die: the timer must not stand in the past meanwhile. */
        shim->stop_deadline_ns = now + (int64_t)STOP_SLACK_MS * 1000000;
    }
}

/* The timer stands at the earliest deadline there is. */
static void set_timer(const struct shim *shim)
{
    int64_t next = shim->stop_deadline_ns;
    for (const struct run *run = shim->runs; run != NULL && shim->paused_since_ns == 0; run = run->next)
        if (run->deadline_ns != 0 && (next == 0 || run->deadline_ns < next))
            next = run->deadline_ns;
    const struct itimerspec when = {.it_value = {.tv_sec = next / 1000000000, .tv_nsec = next % 1000000000}};
    timerfd_settime(shim->timer.fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* ---- the loop ----------------------------------------------------------- */

static void dispatch(struct shim *shim, const struct epoll_event *event)
{
    struct source *source = event->data.ptr;
    switch (source->kind) {
    case SOURCE_LISTEN:
        client_accept(shim);
        break;
    case SOURCE_GUEST:
        if ((event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
            read_guest(shim);
        break;
    case SOURCE_GUEST_DEATH:
        read_guest(shim); /* what it said last */
        guest_gone(shim);
    case SOURCE_TIMER:
        keep_time(shim);
        break;
    case SOURCE_CLOCK:
        shim_clock_ready(shim);
        break;
    case SOURCE_OWNER: /* it has nothing to say any more: this is its end */
        (void)epoll_ctl(shim->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
        shim->guest->ops->kill(shim->guest);
        break;
    case SOURCE_CLIENT:
        client_ready(shim, (struct client *)source, event->events);
        break;
    }
}

static int set_up(struct shim *shim)
{
    shim->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    shim->listen.kind = SOURCE_LISTEN;
    shim->guest_source = (struct source){.kind = SOURCE_GUEST, .fd = shim->guest->control_fd};
    shim->guest_death = (struct source){.kind = SOURCE_GUEST_DEATH, .fd = shim->guest->pid_fd};
    shim->timer =
        (struct source){.kind = SOURCE_TIMER, .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)};
    if (shim->epoll_fd < 0 || shim->timer.fd < 0)
        return -errno;
    int r = era_set_nonblock(shim->guest->control_fd, true);
    struct source *const sources[] = {&shim->listen, &shim->guest_source, &shim->guest_death, &shim->timer};
    shim->guest_events = EPOLLIN;
    for (size_t i = 0; r >= 0 && i < sizeof sources / sizeof sources[0]; i++)
        r = shim_watch(shim, sources[i], EPOLLIN);
    if (r >= 0 && shim->clock_timer.fd >= 0)
        r = shim_watch(shim, &shim->clock_timer, EPOLLIN);
    if (r >= 0 && shim->owner.fd >= 0)
        r = shim_watch(shim, &shim->owner, EPOLLIN);
    return r;
}

_Noreturn void shim_loop(struct shim *shim)
{
    if (set_up(shim) < 0) {
        shim->guest->ops->free(shim->guest);
        exit(1);
    }
    for (;;) {
        flush_guest(shim);
        for (struct client *client = shim->clients; client != NULL; client = client->next)
            client_flush(shim, client);
        set_timer(shim);
        /* One event at a time: handling it may free what a second one points to. */
        struct epoll_event event;
        int n = epoll_wait(shim->epoll_fd, &event, 1, -1);
        if (n > 0)
            dispatch(shim, &event);
    }
}

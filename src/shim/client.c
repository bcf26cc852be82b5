/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "shim/shim.h"

/* Which frames a client may send in which state; everything else ends the connection. */
#define FRAME(type) (UINT64_C(1) << (type))
static const uint64_t allowed[CLIENT_STATES] = {
    [CLIENT_NEW] = FRAME(ERA_FRAME_RUN) | FRAME(ERA_FRAME_STOP) | FRAME(ERA_FRAME_PAUSE) | FRAME(ERA_FRAME_RESUME) |
                   FRAME(ERA_FRAME_SNAPSHOT),
    [CLIENT_RUNNING] = FRAME(ERA_FRAME_STDIN) | FRAME(ERA_FRAME_STDIN_END) | FRAME(ERA_FRAME_RESIZE) |
                       FRAME(ERA_FRAME_SIGNAL) | FRAME(ERA_FRAME_WINDOW) | FRAME(ERA_FRAME_GO),
    [CLIENT_STOPPING] = 0,
    /* its last words may cross with our own */
    [CLIENT_DONE] = FRAME(ERA_FRAME_STDIN) | FRAME(ERA_FRAME_STDIN_END) | FRAME(ERA_FRAME_RESIZE) |
                    FRAME(ERA_FRAME_SIGNAL) | FRAME(ERA_FRAME_WINDOW) | FRAME(ERA_FRAME_GO),
};
_Static_assert(ERA_FRAME_TYPE_COUNT <= 64, "a frame type is a bit");

static bool peer_allowed(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return false;
    return peer.uid == geteuid() || peer.uid == 0;
}

/* Makes room for one more client, if need be by ending the oldest that has nothing under way. */
static bool make_room(struct shim *shim, int clients_max)
{
    struct client *idle = NULL;
    int count = 0;
    for (struct client *client = shim->clients; client != NULL; client = client->next) {
        bool waits = client->state == CLIENT_NEW || client->state == CLIENT_DONE;
        if (waits && era_buffer_len(&client->out) == 0)
            idle = client;
        count++;
    }
    if (count < clients_max)
        return true;
    if (idle != NULL)
        client_free(shim, idle);
    return idle != NULL;
}

/* Others wait in the socket's queue until one of those that there are has gone. */
static void set_deaf(struct shim *shim, bool deaf)
{
    if (deaf != shim->deaf)
        shim_rewatch(shim, &shim->listen, deaf ? 0 : EPOLLIN);
    shim->deaf = deaf;
}

void client_accept(struct shim *shim)
{
    if (!make_room(shim, CLIENTS_MAX)) {
        set_deaf(shim, true);
        return;
    }
    _cleanup_close_ int fd = accept4(shim->listen.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
        set_deaf(shim, shim->clients != NULL && !make_room(shim, 0));
    if (fd < 0 || !peer_allowed(fd))
        return;
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return;
    client->source = (struct source){.kind = SOURCE_CLIENT, .fd = era_take_fd(&fd)};
    client->events = EPOLLIN;
    if (shim_watch(shim, &client->source, client->events) < 0) {
        era_closep(&client->source.fd);
        free(client);
        return;
    }
    client->next = shim->clients;
    shim->clients = client;
}

void client_free(struct shim *shim, struct client *client)
{
    if (client->run != NULL)
        run_detach(shim, client->run);
    for (struct client **link = &shim->clients; *link != NULL; link = &(*link)->next)
        if (*link == client) {
            *link = client->next;
            break;
        }
    era_buffer_clear(&client->in);
    era_buffer_clear(&client->out);
    era_closep(&client->source.fd);
    free(client);
    set_deaf(shim, false);
}

static void refuse(struct client *client, const struct era_error *err)
{
    client->state = CLIENT_DONE;
    (void)era_message_append(&client->out, ERA_FRAME_ERROR, 0, era_error_encode, err);
}

static int begin_stop(struct shim *shim, struct client *client, const struct era_frame *frame)
{
    uint32_t grace_ms;
    if (era_u32_decode(frame, &grace_ms) < 0 || grace_ms > ERA_TIMEOUT_MS_MAX)
        return -EBADMSG;
    client->state = CLIENT_STOPPING;
    ERA_POINT("end.asked");
    if (grace_ms != 0 && shim_resume(shim, NULL) < 0 && shim->paused_since_ns != 0)
        grace_ms = 0; /* it hears no signal */
    int64_t deadline = era_clock_monotonic_ns() + (int64_t)(grace_ms + STOP_SLACK_MS) * 1000000;
    if (shim->stop_deadline_ns == 0 || deadline < shim->stop_deadline_ns)
        shim->stop_deadline_ns = deadline;
    if (grace_ms == 0)
        shim->guest->ops->kill(shim->guest);
    else
        (void)era_u32_append(&shim->to_guest, ERA_FRAME_SHUTDOWN, 0, grace_ms);
    return 0;
}

/* Answered at once: the shim does nothing else meanwhile. */
static int stand_still(struct shim *shim, struct client *client, const struct era_frame *frame)
{
    char path[ERA_PATH_MAX] = "";
    struct era_error err = {0};
    bool snapshot = frame->type == ERA_FRAME_SNAPSHOT;
    if (frame->len >= sizeof path || snapshot != (frame->len > 0))
        return -EBADMSG;
    memcpy(path, frame->payload, frame->len);
    int r = snapshot                         ? shim_snapshot(shim, path, &err)
            : frame->type == ERA_FRAME_PAUSE ? shim_pause(shim, &err)
                                             : shim_resume(shim, &err);
    if (r < 0)
        refuse(client, &err);
    else
        (void)era_frame_append(&client->out, ERA_FRAME_DONE, 0, NULL, 0);
    client->state = CLIENT_DONE;
    return 0;
}

static int take_input(struct shim *shim, struct run *run, const struct era_frame *frame)
{
    if (frame->len == 0 || frame->len > run->input_window || frame->len > ERA_FRAME_DATA_MAX ||
        (run->flags & ERA_RUN_STDIN) == 0)
        return -EBADMSG;
    run->input_window -= frame->len;
    return era_frame_append(&shim->to_guest, ERA_FRAME_STDIN, run->stream, frame->payload, frame->len);
}

static int take_window(struct shim *shim, struct run *run, const struct era_frame *frame)
{
    struct era_window window;
    if (era_window_decode(frame, &window) < 0 || window.channel == 0 || window.bytes > run->unread[window.channel - 1])
        return -EBADMSG;
    run->unread[window.channel - 1] -= window.bytes;
    run->window[window.channel - 1] += window.bytes;
    return era_window_append(&shim->to_guest, run->stream, window.channel, window.bytes);
}

static int take_signal(struct shim *shim, struct run *run, const struct era_frame *frame)
{
    uint32_t signo;
    if (era_u32_decode(frame, &signo) < 0 || signo == 0 || signo >= 64)
        return -EBADMSG;
    if (signo != SIGKILL)
        return era_u32_append(&shim->to_guest, ERA_FRAME_SIGNAL, run->stream, signo);
    run->stopped = true;
    return era_frame_append(&shim->to_guest, ERA_FRAME_KILL, run->stream, NULL, 0);
}

static int take_go(struct shim *shim, struct client *client, const struct era_frame *frame)
{
    char id[ERA_RUN_ID_MAX];
    struct era_error err = {0};
    if (!client->run->held || era_go_decode(frame, id) < 0)
        return -EBADMSG;
    if (run_go(shim, client->run, id, &err) >= 0)
        return 0;
    client->run = NULL;
    refuse(client, &err);
    return 0;
}

static int handle_run_frame(struct shim *shim, struct run *run, const struct era_frame *frame)
{
    uint16_t cols;
    uint16_t rows;
    if (frame->type == ERA_FRAME_STDIN)
        return take_input(shim, run, frame);
    if (frame->type == ERA_FRAME_STDIN_END)
        return era_frame_append(&shim->to_guest, ERA_FRAME_STDIN_END, run->stream, NULL, 0);
    if (frame->type == ERA_FRAME_WINDOW)
        return take_window(shim, run, frame);
    if (frame->type == ERA_FRAME_SIGNAL)
        return take_signal(shim, run, frame);
    if (era_resize_decode(frame, &cols, &rows) < 0)
        return -EBADMSG;
    return era_resize_append(&shim->to_guest, run->stream, cols, rows);
}

static int handle_frame(struct shim *shim, struct client *client, const struct era_frame *frame)
{
    if ((allowed[client->state] & FRAME(frame->type)) == 0 || frame->stream != 0)
        return -EBADMSG;
    if (frame->type == ERA_FRAME_STOP)
        return begin_stop(shim, client, frame);
    if (frame->type == ERA_FRAME_PAUSE || frame->type == ERA_FRAME_RESUME || frame->type == ERA_FRAME_SNAPSHOT)
        return stand_still(shim, client, frame);
    if (frame->type == ERA_FRAME_RUN) {
        struct era_error err = {0};
        client->run = run_begin(shim, client, frame, &err);
        if (client->run != NULL)
            client->state = CLIENT_RUNNING;
        else
            refuse(client, &err);
        return 0;
    }
    if (client->run != NULL && frame->type == ERA_FRAME_GO)
        return take_go(shim, client, frame);
    return client->run != NULL ? handle_run_frame(shim, client->run, frame) : 0;
}

static int read_frames(struct shim *shim, struct client *client)
{
    ssize_t n = era_buffer_fill(&client->in, client->source.fd, 64 * 1024);
    if (n == -EAGAIN)
        return 0;
    if (n <= 0)
        return n < 0 ? (int)n : -EPIPE;
    for (;;) {
        struct era_frame frame;
        ssize_t taken = era_frame_decode(era_buffer_data(&client->in), era_buffer_len(&client->in), &frame);
        if (taken <= 0)
            return (int)taken;
        int r = handle_frame(shim, client, &frame);
        if (r < 0)
            return r;
        era_buffer_consume(&client->in, (size_t)taken);
    }
}

void client_flush(struct shim *shim, struct client *client)
{
    int r = era_buffer_flush(&client->out, client->source.fd);
    if (r < 0 && r != -EAGAIN) {
        era_buffer_clear(&client->out); /* the read side will say that it is gone */
        r = 0;
    }
    uint32_t events = (shim_congested(shim) ? 0 : EPOLLIN) | (r == -EAGAIN ? EPOLLOUT : 0);
    if (events != client->events) {
        client->events = events;
        shim_rewatch(shim, &client->source, events);
    }
}

void client_ready(struct shim *shim, struct client *client, uint32_t events)
{
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && read_frames(shim, client) < 0)
        client_free(shim, client);
}

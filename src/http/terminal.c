/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session of a shell. Its socket stands in the loop beside the run's descriptor; wslay does the framing. Each side
 * is read only while the other takes what came: the terminal when nothing waits to be sent, the client while its
 * input finds room. The session ends with either side; libmicrohttpd is told, and the request ends as any other.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "http/shell.h"
#include "http/websocket.h"

enum {
    MESSAGE_MAX = 1 << 20, /* bytes of one message of a client */
    INPUT_MAX = 256 << 10, /* bytes that wait for the terminal; then the client is not read */
    ANSWERS_MAX = 16,      /* pongs and other frames that wait for the client; the same */
    TURN_BYTES = 64 << 10, /* read from one client before others have their turn */
    PING_SECONDS = 20,     /* of silence */
    GONE_SECONDS = 60,     /* of silence, in spite of pings */
    CLOSE_SECONDS = 5,     /* that a client may take to answer our close frame */
};

static void hang_up(struct shell_work *work)
{
    struct server *server = work->request->server;
    loop_forget(&server->loop, &work->terminal);
    if (work->run != NULL) {
        server->runs--;
        era_run_free(work->run);
    }
    work->run = NULL;
}

void terminal_end(struct shell_work *work)
{
    hang_up(work);
    loop_forget(&work->request->server->loop, &work->client);
    request_set_live(work->request, false);
    if (work->handle != NULL)
        (void)MHD_upgrade_action(work->handle, MHD_UPGRADE_ACTION_CLOSE);
    work->handle = NULL;
}

/* ---- what wslay asks for --------------------------------------------------------- */

static bool reads_client(const struct shell_work *work)
{
    return wslay_event_want_read(work->frames) && era_buffer_len(&work->input) < INPUT_MAX &&
           wslay_event_get_queued_msg_count(work->frames) < ANSWERS_MAX;
}

static ssize_t receive(wslay_event_context_ptr frames, uint8_t *to, size_t len, int flags, void *userdata)
{
    (void)flags;
    struct shell_work *work = userdata;
    ssize_t n = (ssize_t)era_buffer_len(&work->early);
    if (n > 0) {
        n = (size_t)n < len ? n : (ssize_t)len;
        memcpy(to, era_buffer_data(&work->early), (size_t)n);
        era_buffer_consume(&work->early, (size_t)n);
        return n;
    }
    if (!reads_client(work) || work->turn_bytes == 0) {
        wslay_event_set_error(frames, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    len = len < work->turn_bytes ? len : work->turn_bytes;
    do
        n = recv(work->client.fd, to, len, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        work->turn_bytes -= (size_t)n;
        work->heard_ns = era_clock_monotonic_ns();
        return n;
    }
    wslay_event_set_error(frames, n < 0 && errno == EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t transmit(wslay_event_context_ptr frames, const uint8_t *data, size_t len, int flags, void *userdata)
{
    (void)flags;
    struct shell_work *work = userdata;
    ssize_t n;
    do
        n = send(work->client.fd, data, len, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0) {
        work->request->sent_bytes += (uint64_t)n;
        return n;
    }
    wslay_event_set_error(frames, errno == EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static void close_with(struct shell_work *work, uint16_t code, const char *reason)
{
    if (work->closing)
        return;
    work->closing = true;
    work->closed_ns = era_clock_monotonic_ns();
    (void)wslay_event_queue_close(work->frames, code, (const uint8_t *)reason, strlen(reason));
}

static void take_message(wslay_event_context_ptr frames, const struct wslay_event_on_msg_recv_arg *message,
                         void *userdata)
{
    (void)frames;
    struct shell_work *work = userdata;
    uint16_t cols = 0;
    uint16_t rows = 0;
    work->request->server->metrics.received_bytes += message->msg_length;
    if (message->opcode == WSLAY_BINARY_FRAME) {
        if (era_buffer_append(&work->input, message->msg, message->msg_length) < 0)
            close_with(work, WSLAY_CODE_INTERNAL_SERVER_ERROR, "out of memory");
    } else if (message->opcode == WSLAY_TEXT_FRAME) {
        if (websocket_resize((const char *)message->msg, message->msg_length, &cols, &rows) < 0)
            close_with(work, WSLAY_CODE_UNSUPPORTED_DATA, "a text message is {\"resize\":[cols,rows]}");
        else if (work->run != NULL)
            (void)era_run_resize(work->run, cols, rows);
    }
}

/* ---- moving ------------------------------------------------------------------------ */

static void feed_terminal(struct shell_work *work)
{
    while (work->run != NULL && era_buffer_len(&work->input) > 0) {
        ssize_t n = era_run_write(work->run, era_buffer_data(&work->input), era_buffer_len(&work->input));
        if (n == 0)
            return;
        if (n < 0)
            break;
        era_buffer_consume(&work->input, (size_t)n);
    }
    era_buffer_clear(&work->input);
}

static void say_how_it_ended(struct shell_work *work)
{
    char reason[100];
    const struct era_result *result = era_run_result(work->run);
    if (result == NULL || era_str_format(reason, sizeof reason, "{\"exit_code\":%d,\"verdict\":\"%s\"}",
                                         era_result_exit_code(result), era_result_verdict(result)) < 0) {
        close_with(work, WSLAY_CODE_INTERNAL_SERVER_ERROR, "the VM is gone");
        return;
    }
    metrics_count_run(&work->request->server->metrics, era_result_verdict(result),
                      (double)era_result_wall_us(result) / 1e6);
    close_with(work, WSLAY_CODE_NORMAL_CLOSURE, reason);
}

/* The terminal's output, while the client takes it. */
static void fetch_output(struct shell_work *work)
{
    struct era_event event;
    struct era_error err;
    while (work->run != NULL && !work->closing && wslay_event_get_queued_msg_length(work->frames) == 0) {
        int r = era_run_next(work->run, &event, &err);
        if (r == 0)
            return;
        if (r < 0 || event.type == ERA_EVENT_EXIT) {
            say_how_it_ended(work);
            hang_up(work);
        } else if (event.type == ERA_EVENT_STDOUT) {
            const struct wslay_event_msg message = {WSLAY_BINARY_FRAME, event.data, event.len};
            if (wslay_event_queue_msg(work->frames, &message) < 0 || wslay_event_send(work->frames) < 0)
                close_with(work, WSLAY_CODE_INTERNAL_SERVER_ERROR, "out of memory");
        } else {
            feed_terminal(work);
        }
    }
}

/* A client that broke a rule may be sending still: closing at once would reset what we said about it. */
static void linger(struct shell_work *work)
{
    hang_up(work);
    if (!work->closing)
        work->closed_ns = era_clock_monotonic_ns();
    work->closing = work->lingering = true;
    (void)shutdown(work->client.fd, SHUT_WR);
    (void)loop_watch(&work->request->server->loop, &work->client, EPOLLIN);
}

static void read_away(struct shell_work *work)
{
    char rubbish[4096];
    ssize_t n = 1;
    for (size_t taken = 0; n > 0 && taken < TURN_BYTES; taken += (size_t)n)
        n = recv(work->client.fd, rubbish, sizeof rubbish, MSG_DONTWAIT);
    if (n > 0)
        return;
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        terminal_end(work);
}

/* Moves what can be moved, and says what is waited for; ends the session when both have closed. */
static void move(struct shell_work *work)
{
    int r = 0;
    work->turn_bytes = TURN_BYTES;
    if (reads_client(work))
        r = wslay_event_recv(work->frames);
    feed_terminal(work);
    /* First what waited: output that the run has buffered is fetched only when nothing does, and no event tells of it.
     */
    if (r >= 0 && wslay_event_want_write(work->frames))
        r = wslay_event_send(work->frames);
    fetch_output(work);
    if (r >= 0 && wslay_event_want_write(work->frames))
        r = wslay_event_send(work->frames);
    if (work->run != NULL && wslay_event_get_close_received(work->frames))
        hang_up(work);
    bool over = !wslay_event_want_read(work->frames) && !wslay_event_want_write(work->frames);
    if (r >= 0 && over && !wslay_event_get_close_received(work->frames)) {
        linger(work);
        return;
    }
    if (r < 0 || over) {
        terminal_end(work);
        return;
    }
    struct loop *loop = &work->request->server->loop;
    (void)loop_watch(loop, &work->client,
                     (reads_client(work) ? EPOLLIN : 0) | (wslay_event_want_write(work->frames) ? EPOLLOUT : 0));
    bool fetches = work->run != NULL && wslay_event_get_queued_msg_length(work->frames) == 0;
    bool feeds = work->run != NULL && (era_run_poll_events(work->run) & POLLOUT) != 0;
    if (work->run != NULL)
        (void)loop_watch(loop, &work->terminal, (fetches ? EPOLLIN : 0) | (feeds ? EPOLLOUT : 0));
}

static void terminal_ready(struct source *source, uint32_t events)
{
    (void)events;
    move((struct shell_work *)(void *)((char *)source - offsetof(struct shell_work, terminal)));
}

static void client_ready(struct source *source, uint32_t events)
{
    struct shell_work *work = (struct shell_work *)(void *)((char *)source - offsetof(struct shell_work, client));
    if ((events & (EPOLLHUP | EPOLLERR)) != 0)
        terminal_end(work);
    else if (work->lingering)
        read_away(work);
    else
        move(work);
}

/* A client that says nothing is asked whether it lives; one that vanished is given up. */
void terminal_tick(struct request *request)
{
    struct shell_work *work = (struct shell_work *)request->work;
    int64_t now_ns = era_clock_monotonic_ns();
    int64_t silent_ns = now_ns - work->heard_ns;
    if (work->handle == NULL)
        return;
    if (silent_ns > GONE_SECONDS * INT64_C(1000000000) ||
        (work->closing && now_ns - work->closed_ns > CLOSE_SECONDS * INT64_C(1000000000))) {
        terminal_end(work);
    } else if (!work->lingering && silent_ns > PING_SECONDS * INT64_C(1000000000) &&
               now_ns - work->pinged_ns > PING_SECONDS * INT64_C(1000000000)) {
        const struct wslay_event_msg ping = {WSLAY_PING, NULL, 0};
        work->pinged_ns = now_ns;
        (void)wslay_event_queue_msg(work->frames, &ping);
        move(work);
    }
}

void terminal_cut(struct request *request)
{
    struct shell_work *work = (struct shell_work *)request->work;
    if (work->handle == NULL || work->lingering)
        return;
    close_with(work, WSLAY_CODE_GOING_AWAY, "the server is shutting down");
    hang_up(work);
    move(work);
}

/* ---- start -------------------------------------------------------------------------- */

void terminal_begin(void *userdata, struct MHD_Connection *connection, void *slot, const char *early, size_t early_len,
                    MHD_socket fd, struct MHD_UpgradeResponseHandle *handle)
{
    (void)connection;
    (void)slot;
    struct shell_work *work = userdata;
    struct request *request = work->request;
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = receive, .send_callback = transmit, .on_msg_recv_callback = take_message};
    work->handle = handle;
    work->heard_ns = work->pinged_ns = era_clock_monotonic_ns();
    work->client = (struct source){.fd = fd, .ready = client_ready};
    work->terminal = (struct source){.fd = era_run_fd(work->run), .ready = terminal_ready};
    if (era_set_nonblock(fd, true) < 0 || wslay_event_context_server_init(&work->frames, &callbacks, work) < 0 ||
        era_buffer_append(&work->early, early, early_len) < 0) {
        terminal_end(work);
        return;
    }
    wslay_event_config_set_max_recv_msg_length(work->frames, MESSAGE_MAX);
    request_set_live(request, true);
    move(work);
}

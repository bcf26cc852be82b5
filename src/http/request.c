/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a request, from its first line to its last byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/internal.h"

enum { BODIES_MAX = 256 << 20 }; /* bytes of all bodies together */

const char *request_header(const struct request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

struct request *request_of(struct job *job)
{
    return (struct request *)(void *)((char *)job - offsetof(struct request, job));
}

/* ---- waiting ---------------------------------------------------------------- */

void request_suspend(struct request *request)
{
    if (!request->suspended)
        MHD_suspend_connection(request->connection);
    request->suspended = true;
    peer_set(request->server, request->peer, PATIENT);
}

void request_resume(struct request *request)
{
    request_watch_client(request, false);
    if (request->suspended)
        MHD_resume_connection(request->connection);
    request->suspended = false;
}

static void job_done(struct job *job)
{
    struct request *request = request_of(job);
    if (request->then != NULL)
        request->then(request);
    else
        request_resume(request);
}

void request_submit(struct request *request, enum pool_kind kind, void (*work)(struct job *job, struct era *era),
                    void (*then)(struct request *request))
{
    request->job = (struct job){.work = work, .done = job_done};
    request->then = then;
    request_suspend(request);
    pool_submit(request->server->pool, kind, &request->job);
}

static void client_gone(struct source *source, uint32_t events)
{
    struct request *request = (struct request *)(void *)((char *)source - offsetof(struct request, socket));
    (void)events;
    request_watch_client(request, false);
    if (request->work != NULL && request->work->cut != NULL)
        request->work->cut(request);
}

void request_watch_client(struct request *request, bool watch)
{
    if (!watch) {
        loop_forget(&request->server->loop, &request->socket);
        return;
    }
    if (request->peer == NULL || request->socket.watched)
        return;
    request->socket = (struct source){.fd = request->peer->fd, .ready = client_gone};
    (void)loop_watch(&request->server->loop, &request->socket, EPOLLRDHUP);
}

void request_set_live(struct request *request, bool live)
{
    struct server *server = request->server;
    if (request->live == live)
        return;
    request->live = live;
    if (live) {
        request->next_live = server->live;
        server->live = request;
        return;
    }
    for (struct request **link = &server->live; *link != NULL; link = &(*link)->next_live)
        if (*link == request) {
            *link = request->next_live;
            return;
        }
}

/* ---- the daemon's callbacks --------------------------------------------------- */

void *request_begin(void *userdata, const char *uri, struct MHD_Connection *connection)
{
    struct request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return NULL;
    request->server = userdata;
    request->connection = connection;
    request->target = strdup(uri);
    request->began_ns = era_clock_monotonic_ns();
    request->socket.fd = -1;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    request->peer = info != NULL ? info->socket_context : NULL;
    if (request->target == NULL) {
        free(request);
        return NULL;
    }
    return request;
}

static enum MHD_Result answer(struct request *request)
{
    struct MHD_Response *response = request->response;
    request->state = AT_ANSWER;
    peer_set(request->server, request->peer, PATIENT);
    if (response == NULL)
        return MHD_NO;
    guard_mark(request);
    enum MHD_Result result = MHD_queue_response(request->connection, request->status, response);
    MHD_destroy_response(response);
    request->response = NULL;
    return result;
}

static bool has_body(const struct request *request)
{
    const char *length = request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL ||
           (length != NULL && !era_str_eq(length, "0"));
}

static enum MHD_Result begin(struct request *request, const char *method, const char *version)
{
    struct server *server = request->server;
    request->method = method;
    request->version = version;
    request->state = AT_BODY;
    /* What is answered at the headers costs the connection, which is right where a body follows that nobody wants. */
    if (!guard_admit(request))
        return request->close || has_body(request) ? answer(request) : MHD_YES;
    request->counted = true;
    server->requests++;
    peer_set(server, request->peer, SENDING);
    if (request->route->body == BODY_BYTES)
        request->route->handle(request);
    return request->response != NULL ? answer(request) : MHD_YES;
}

/* A body that nobody will read is read to its end, unless it has none. */
static enum MHD_Result collect(struct request *request, const char *data, size_t *size)
{
    struct server *server = request->server;
    request->body_bytes += *size;
    server->metrics.received_bytes += *size;
    uint64_t limit = server->settings.max_body << 20;
    if (request->body_bytes > 2 * limit)
        return MHD_NO;
    if (request->body_bytes > limit || request->route->body == BODY_NONE)
        request->overlong |= request->body_bytes > limit;
    else if (server->body_bytes + *size > BODIES_MAX || era_buffer_append(&request->body, data, *size) < 0)
        request->crowded = true;
    else
        server->body_bytes += *size;
    *size = 0;
    return MHD_YES;
}

static enum MHD_Result work(struct request *request)
{
    request->state = AT_WORK;
    peer_set(request->server, request->peer, PATIENT);
    if (request->overlong)
        reply_refusal(request, 413, "body_too_large", NULL, "a body has at most %llu MiB",
                      (unsigned long long)request->server->settings.max_body);
    else if (request->crowded)
        reply_refusal(request, 429, "too_many_requests", NULL, "too much is being sent at once");
    else
        request->route->handle(request);
    return request->response != NULL ? answer(request) : MHD_YES;
}

enum MHD_Result request_step(void *userdata, struct MHD_Connection *connection, const char *url, const char *method,
                             const char *version, const char *data, size_t *size, void **slot)
{
    (void)userdata;
    (void)connection;
    (void)url;
    struct request *request = *slot;
    if (request == NULL)
        return MHD_NO;
    if (request->state == AT_HEADERS)
        return begin(request, method, version);
    if (request->response != NULL)
        return answer(request);
    bool again = request->again;
    request->again = false;
    if (request->state != AT_BODY || (again && *size == 0))
        return MHD_YES;
    if (request->on_body != NULL) {
        enum MHD_Result result = request->on_body(request, data, size);
        return request->response != NULL && *size == 0 ? answer(request) : result;
    }
    return *size > 0 ? collect(request, data, size) : work(request);
}

/* ---- the end ---------------------------------------------------------------------- */

static void write_log(const struct request *request, double seconds, enum MHD_RequestTerminationCode why)
{
    char method[32];
    char path[1024];
    char fields[1400];
    char *mark = strchr(request->target, '?');
    if (mark != NULL)
        *mark = '\0';
    era_json_escape(request->method != NULL ? request->method : "-", method, sizeof method);
    era_json_escape(request->target, path, sizeof path);
    bool whole = why == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    if (era_str_format(fields, sizeof fields,
                       "\"method\":\"%s\",\"path\":\"%s\",\"status\":%u,\"duration_ms\":%.3f,\"client\":\"%s\"%s",
                       method, path, request->status, seconds * 1000,
                       request->peer != NULL ? request->peer->client : "", whole ? "" : ",\"aborted\":true") >= 0)
        era_log_fields(ERA_LOG_INFO, "request", fields);
}

void request_end(void *userdata, struct MHD_Connection *connection, void **slot, enum MHD_RequestTerminationCode why)
{
    (void)connection;
    struct server *server = userdata;
    struct request *request = *slot;
    if (request == NULL)
        return;
    *slot = NULL;
    double seconds = (double)(era_clock_monotonic_ns() - request->began_ns) / 1e9;
    write_log(request, seconds, why);
    metrics_count_request(&server->metrics, request->route != NULL ? route_index(request->route) : METRICS_ROUTES - 1,
                          request->status, seconds);
    if (request->method == NULL || !era_str_eq(request->method, MHD_HTTP_METHOD_HEAD))
        server->metrics.sent_bytes += request->sent_bytes;
    server->body_bytes -= era_buffer_len(&request->body);
    if (request->counted)
        server->requests--;
    request_watch_client(request, false);
    request_set_live(request, false);
    if (request->work != NULL)
        request->work->free(request->work);
    if (request->response != NULL)
        MHD_destroy_response(request->response);
    if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK && request->status != 101)
        peer_answered(server, request->peer);
    era_buffer_clear(&request->body);
    free(request->target);
    free(request);
}

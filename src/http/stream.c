/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run as server-sent events: "stdout" and "stderr" carry base64 of what was written, "exit" the result, "error"
 * what went wrong instead. Output is fetched from the VM only when the client has room, so that who does not read
 * holds the command back and fills nobody's memory.
 */
#include <errno.h>
#include <string.h>

#include "http/runs.h"

enum { BLOCK = 1024 };

static struct run_work *work_of(struct request *request)
{
    return (struct run_work *)request->work;
}

static int put_event(struct era_buffer *to, const char *name, const void *data, size_t len, bool coded)
{
    char head[64];
    size_t coded_len = coded ? base64_length(len) : len;
    if (era_str_format(head, sizeof head, "event: %s\ndata: ", name) < 0)
        return -EINVAL;
    uint8_t *room = era_buffer_reserve(to, strlen(head) + coded_len + 2);
    if (room == NULL)
        return -ENOMEM;
    memcpy(room, head, strlen(head));
    if (coded)
        base64_encode(data, len, (char *)room + strlen(head));
    else
        memcpy(room + strlen(head), data, len);
    memcpy(room + strlen(head) + coded_len, "\n\n", 2);
    era_buffer_commit(to, strlen(head) + coded_len + 2);
    return 0;
}

void stream_result(struct request *request, const struct era_result *result, const struct era_error *err)
{
    struct run_work *work = work_of(request);
    json_t *object = result != NULL && !work->failed
                         ? result_json(result)
                         : json_pack("{s:s, s:s, s:i, s:s}", "error", status_phrase(status_of_code(err->code)), "code",
                                     err->code, "status", (int)status_of_code(err->code), "message", err->message);
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    if (text != NULL)
        (void)put_event(&work->out, result != NULL && !work->failed ? "exit" : "error", text, strlen(text), false);
    work->over = true;
    json_decref(object);
    free(text);
}

/* Fills `out` with one event: 1, 0 when there is none now, -errno at the end. */
static int fetch(struct request *request)
{
    struct run_work *work = work_of(request);
    struct era_event event;
    int r = work->ended ? -EPIPE : run_pump(request, &event);
    if (r > 0 && event.type == ERA_EVENT_EXIT)
        r = -EPIPE;
    work->ended = r < 0; /* what was fetched before is sent first */
    if (r <= 0)
        return r;
    const char *name = event.type == ERA_EVENT_STDOUT ? "stdout" : "stderr";
    return put_event(&work->out, name, event.data, event.len, true) < 0 ? -ENOMEM : 1;
}

static ssize_t give(void *userdata, uint64_t position, char *to, size_t size)
{
    (void)position;
    struct request *request = userdata;
    struct run_work *work = work_of(request);
    size_t done = 0;
    int r = 1;
    while (done < size && r > 0) {
        size_t len = era_buffer_len(&work->out);
        size_t n = len < size - done ? len : size - done;
        if (n > 0)
            memcpy(to + done, era_buffer_data(&work->out), n);
        era_buffer_consume(&work->out, n);
        done += n;
        if (done < size)
            r = work->over ? 0 : fetch(request);
    }
    request->sent_bytes += done;
    if (done > 0)
        return (ssize_t)done;
    if (work->over)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (r < 0) {
        run_finish(request); /* suspends */
        return 0;
    }
    request_suspend(request);
    request_watch_client(request, true);
    run_wait_for_it(request);
    return 0;
}

void stream_ready(struct request *request)
{
    loop_forget(&request->server->loop, &work_of(request)->source);
    request_resume(request);
}

void stream_begin(struct request *request)
{
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, give, request, NULL);
    reply_response(request, 200, response, "text/event-stream");
    reply_header(request, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    reply_header(request, "X-Accel-Buffering", "no");
    request_resume(request);
}

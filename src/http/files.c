/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /api/vm/{id}/files/{path}: files of a VM, streamed both ways. A job connects to the VM; then the transfer stands in
 * the loop, and moves as far as both sides can. The path is the VM's; no path of the host is made from it.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "http/internal.h"

enum {
    BLOCK = 64 * 1024,
    LIST_MAX = 10000,           /* entries of a folder */
    PROGRESS_BYTES = 64 * 1024, /* what a sender must send within the time that a request may take */
    DISCARD_BYTES = 16 << 20,   /* of a body whose file was refused: then the connection is cut */
    MODE_DEFAULT = 0644,
};

struct file_work {
    struct work base; /* first */
    struct request *request;
    struct era_transfer *transfer; /* owned */
    struct source source;
    struct era_error err;
    bool failed;
    bool head_known;
    uint64_t size; /* in: of the file */
    uint32_t mode;
    uint64_t moved;
    uint64_t progress; /* what had been moved when the sender's time was counted anew */
    json_t *entries;   /* owned: of a folder */
    bool cut_list;
};

static struct file_work *work_of(struct request *request)
{
    return (struct file_work *)request->work;
}

static void work_free(struct work *base)
{
    struct file_work *work = (struct file_work *)base;
    loop_forget(&work->request->server->loop, &work->source);
    era_transfer_free(work->transfer);
    json_decref(work->entries);
    free(work);
}

static void wait_for_it(struct request *request)
{
    struct file_work *work = work_of(request);
    bool output = (era_transfer_poll_events(work->transfer) & POLLOUT) != 0;
    (void)loop_watch(&request->server->loop, &work->source, EPOLLIN | (output ? EPOLLOUT : 0));
}

static void fail(struct request *request)
{
    struct file_work *work = work_of(request);
    loop_forget(&request->server->loop, &work->source);
    work->failed = true;
}

/*
 * The client went away, or the server ends: the transfer ends, and leaves no half file. A body that is on its way
 * ends with its connection, since nothing is to be done with the rest.
 */
static void cut(struct request *request)
{
    struct file_work *work = work_of(request);
    if (work->failed)
        return;
    fail(request);
    era_transfer_free(era_take_ptr(work->transfer));
    request->close = true;
    era_error_set(&work->err, ECANCELED, "shutting_down", "the transfer was cut");
    if (request->route->body == BODY_BYTES)
        (void)shutdown(request->peer != NULL ? request->peer->fd : -1, SHUT_RDWR);
    else if (request->state != AT_ANSWER)
        reply_error(request, &work->err);
    request_resume(request);
}

static struct file_work *make_work(struct request *request, void (*ready)(struct source *, uint32_t))
{
    struct file_work *work = calloc(1, sizeof *work);
    if (work == NULL) {
        reply_refusal(request, 503, "out_of_memory", NULL, "out of memory");
        return NULL;
    }
    *work = (struct file_work){.base = {.free = work_free, .cut = cut}, .request = request};
    work->source = (struct source){.fd = -1, .ready = ready};
    request->work = &work->base;
    return work;
}

static struct request *request_of_source(struct source *source)
{
    return ((struct file_work *)(void *)((char *)source - offsetof(struct file_work, source)))->request;
}

/* ---- out ------------------------------------------------------------------------ */

static ssize_t give(void *userdata, uint64_t position, char *to, size_t size)
{
    (void)position;
    struct request *request = userdata;
    struct file_work *work = work_of(request);
    if (work->failed)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    ssize_t n = era_get_read(work->transfer, to, size, &work->err);
    if (n > 0) {
        request->sent_bytes += (uint64_t)n;
        return n;
    }
    if (n == -EAGAIN) {
        request_suspend(request);
        request_watch_client(request, true);
        wait_for_it(request);
        return 0;
    }
    return n == 0 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

static json_t *entry_json(const struct era_file_info *info)
{
    static const char *const kinds[] = {
        [ERA_FILE_REGULAR] = "file", [ERA_FILE_FOLDER] = "folder", [ERA_FILE_LINK] = "link"};
    char mode[8];
    (void)era_str_format(mode, sizeof mode, "%04o", (unsigned)info->mode);
    json_t *entry =
        json_pack("{s:s, s:I, s:s}", "type", kinds[info->kind], "size", (json_int_t)info->size, "mode", mode);
    size_t len = strlen(info->name);
    if (entry != NULL && era_str_is_utf8(info->name, len)) {
        json_object_set_new(entry, "name", json_string(info->name));
    } else if (entry != NULL) {
        char coded[344]; /* of 255 bytes, the longest name */
        if (len <= 255)
            base64_encode(info->name, len, coded);
        json_object_set_new(entry, "name_base64", json_stringn(coded, len <= 255 ? base64_length(len) : 0));
    }
    return entry;
}

/* Collects a folder's entries: 0 at the end, -EAGAIN, -errno. */
static int collect(struct file_work *work)
{
    for (;;) {
        struct era_file_info info;
        int r = era_get_next(work->transfer, &info, &work->err);
        if (r <= 0)
            return r;
        if (json_array_size(work->entries) >= LIST_MAX)
            work->cut_list = true;
        else
            json_array_append_new(work->entries, entry_json(&info));
    }
}

static void answer_folder(struct request *request)
{
    struct file_work *work = work_of(request);
    json_t *body = json_pack("{s:O, s:i, s:b}", "entries", work->entries, "count", (int)json_array_size(work->entries),
                             "truncated", work->cut_list);
    const char *path = request->params.path;
    if (body != NULL && era_str_is_utf8(path, strlen(path)))
        json_object_set_new(body, "path", json_string(path));
    reply_json(request, 200, body);
}

static void answer_file(struct request *request, const struct era_file_info *info)
{
    struct MHD_Response *response = MHD_create_response_from_callback(
        info->size, info->size < BLOCK ? (size_t)info->size + 1 : BLOCK, give, request, NULL);
    reply_response(request, 200, response, "application/octet-stream");
}

/* The head is awaited, and for a folder the rest. */
static void look(struct source *source, uint32_t events)
{
    (void)events;
    struct request *request = request_of_source(source);
    struct file_work *work = work_of(request);
    struct era_file_info info = {0};
    if (request->state == AT_ANSWER) { /* more of the content came */
        loop_forget(&request->server->loop, source);
        request_resume(request);
        return;
    }
    int r = 1;
    if (!work->head_known) {
        r = era_get_head(work->transfer, &info, &work->err);
        work->head_known = r > 0;
        if (r > 0 && info.kind == ERA_FILE_FOLDER)
            work->entries = json_array();
        else if (r > 0)
            answer_file(request, &info);
    }
    if (r > 0 && work->entries != NULL && (r = collect(work)) == 0)
        answer_folder(request);
    if (request->response == NULL && (r == 0 || r == -EAGAIN)) {
        wait_for_it(request);
        return;
    }
    if (r < 0)
        reply_error(request, &work->err);
    loop_forget(&request->server->loop, source);
    request_resume(request);
}

static void open_get(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct file_work *work = work_of(request);
    if (era_get_open(era, request->params.id, request->params.path, &work->transfer, &work->err) < 0)
        reply_error(request, &work->err);
}

static void opened_get(struct request *request)
{
    struct file_work *work = work_of(request);
    if (work->transfer == NULL) {
        request_resume(request);
        return;
    }
    request_set_live(request, true);
    request_watch_client(request, true);
    work->source.fd = era_transfer_fd(work->transfer);
    look(&work->source, 0);
}

void handle_file_get(struct request *request)
{
    if (make_work(request, look) != NULL)
        request_submit(request, POOL_QUICK, open_get, opened_get);
}

/* ---- in --------------------------------------------------------------------------- */

static void room(struct source *source, uint32_t events)
{
    (void)events;
    struct request *request = request_of_source(source);
    loop_forget(&request->server->loop, source);
    request_resume(request);
    peer_set(request->server, request->peer, SENDING);
}

/* Waits for room in the VM, or its last word. */
static void wait_for_room(struct request *request)
{
    request_suspend(request);
    request_watch_client(request, true);
    wait_for_it(request);
}

/* What is wrong is told at the end of the body, since it cannot be told in its middle. */
static enum MHD_Result discard(struct request *request, size_t *size)
{
    struct file_work *work = work_of(request);
    work->moved += *size;
    request->close = true;
    if (*size == 0)
        reply_error(request, &work->err);
    *size = 0;
    return work->moved > DISCARD_BYTES ? MHD_NO : MHD_YES;
}

static enum MHD_Result end_put(struct request *request)
{
    struct file_work *work = work_of(request);
    int r = era_put_finish(work->transfer, &work->err);
    if (r == 0) {
        wait_for_room(request);
        return MHD_YES;
    }
    if (r < 0)
        reply_error(request, &work->err);
    else
        reply_json(request, 201,
                   json_pack("{s:s, s:s, s:I}", "status", "written", "vm_id", request->params.id, "size",
                             (json_int_t)work->size));
    return MHD_YES;
}

static enum MHD_Result take_body(struct request *request, const char *data, size_t *size)
{
    struct file_work *work = work_of(request);
    if (work->failed)
        return discard(request, size);
    if (*size == 0)
        return end_put(request);
    /* All of it, or it waits: libmicrohttpd would wait for more to come before it brings the rest. */
    ssize_t n = 1;
    while (*size > 0 && (n = era_put_write(work->transfer, data, *size, &work->err)) > 0) {
        data += n;
        *size -= (size_t)n;
        work->moved += (uint64_t)n;
        request->server->metrics.received_bytes += (uint64_t)n;
    }
    if (n < 0) {
        fail(request);
        return discard(request, size);
    }
    if (n == 0) {
        wait_for_room(request);
    } else if (work->moved - work->progress >= PROGRESS_BYTES) {
        work->progress = work->moved;
        peer_set(request->server, request->peer, SENDING);
    }
    return MHD_YES;
}

static void open_put(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct file_work *work = work_of(request);
    if (era_put_open(era, request->params.id, request->params.path, work->size, work->mode, &work->transfer,
                     &work->err) < 0)
        reply_error(request, &work->err);
}

static void opened_put(struct request *request)
{
    struct file_work *work = work_of(request);
    if (work->transfer != NULL) {
        request->again = true;
        request_set_live(request, true);
        work->source.fd = era_transfer_fd(work->transfer);
    }
    request_resume(request);
    if (work->transfer != NULL)
        peer_set(request->server, request->peer, SENDING);
}

/* Called when the headers are there: the file's size among them. */
void handle_file_put(struct request *request)
{
    struct file_work *work = make_work(request, room);
    char text[TARGET_VALUE_MAX];
    uint64_t mode = MODE_DEFAULT;
    if (work == NULL)
        return;
    int has_mode = target_query(request->target, "mode", text);
    if (has_mode > 0) {
        mode = 0;
        for (const char *p = text; *p >= '0' && *p <= '7' && mode <= 0777; p++)
            mode = mode * 8 + (uint64_t)(*p - '0');
        if (text[0] == '\0' || text[strspn(text, "01234567")] != '\0' || mode > 0777)
            has_mode = -EINVAL;
    }
    if (has_mode < 0) {
        reply_refusal(request, 400, "invalid_argument", "field: mode", "mode is written in octal, 0 to 777");
        return;
    }
    work->mode = (uint32_t)mode;
    (void)era_parse_u64(request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH), 0, INT64_MAX, &work->size);
    request->on_body = take_body;
    request_submit(request, POOL_QUICK, open_put, opened_put);
}

/* ---- away ------------------------------------------------------------------------- */

static void remove_file(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct era_error err = {0};
    if (era_vm_remove_path(era, request->params.id, request->params.path, &err) < 0)
        reply_error(request, &err);
    else
        reply_json(request, 200,
                   json_pack("{s:s, s:s, s:s}", "status", "deleted", "vm_id", request->params.id, "message",
                             "the file, or the folder and all in it, is gone"));
}

void handle_file_delete(struct request *request)
{
    request_submit(request, POOL_SLOW, remove_file, NULL);
}

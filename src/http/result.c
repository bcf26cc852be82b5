/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer to a run. Its output, up to 16 MiB a stream, is not held in memory: the logs are looked through once,
 * for how long they will be as JSON and whether they are text, and then read again while they are sent.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "http/internal.h"

enum { PIECE = 6 * 1024, BLOCK = 16 * 1024, ESCAPE_MAX = 6 };

/* One of: fixed text, or the rest of a log. */
struct section {
    char text[512];
    int fd; /* owned; -EBADF: there is no log */
    bool coded;
};

struct body {
    struct section sections[5]; /* text, stdout, text, stderr, text */
    size_t at;                  /* the section under way */
    size_t ready, given;        /* bytes of `piece` */
    char piece[PIECE * ESCAPE_MAX];
};

/* How many bytes a byte takes in a JSON string, written to `to`. */
static size_t escape(unsigned char c, char *to)
{
    static const char hex[] = "0123456789abcdef";
    if (c == '"' || c == '\\') {
        to[0] = '\\';
        to[1] = (char)c;
        return 2;
    }
    if (c == '\n' || c == '\t' || c == '\r') {
        to[0] = '\\';
        to[1] = (char)(c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        return 2;
    }
    if (c < 0x20) {
        to[0] = '\\';
        to[1] = 'u';
        to[2] = to[3] = '0';
        to[4] = hex[c >> 4];
        to[5] = hex[c & 15];
        return 6;
    }
    to[0] = (char)c;
    return 1;
}

/* Where the last character of UTF-8 begins that the end cuts off; len when none is. */
static size_t whole_characters(const unsigned char *data, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = data[len - back];
        size_t want = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
        if ((c & 0xC0) != 0x80)
            return want > back ? len - back : len;
    }
    return len;
}

/* Looks through a log: its length as text of JSON, and as base64 when it is not UTF-8. */
static int measure(struct section *log, uint64_t *ret_len)
{
    _cleanup_free_ unsigned char *data = malloc(PIECE + 4);
    uint64_t bytes = 0;
    uint64_t escaped = 0;
    size_t carried = 0;
    char unused[ESCAPE_MAX];
    if (data == NULL)
        return -ENOMEM;
    for (ssize_t n = 1; n > 0;) {
        n = log->fd >= 0 ? era_read_full(log->fd, data + carried, PIECE) : 0;
        if (n < 0)
            return (int)n;
        size_t have = carried + (size_t)n;
        size_t whole = n > 0 ? whole_characters(data, have) : have;
        log->coded |= !era_str_is_utf8(data, whole);
        bytes += (uint64_t)n;
        for (size_t i = carried; i < have; i++)
            escaped += escape(data[i], unused);
        carried = have - whole;
        memmove(data, data + whole, carried);
    }
    if (log->fd >= 0 && lseek(log->fd, 0, SEEK_SET) < 0)
        return -errno;
    *ret_len = log->coded ? base64_length((size_t)bytes) : escaped;
    return 0;
}

static ssize_t fill(struct body *body)
{
    struct section *section = &body->sections[body->at];
    body->given = 0;
    if (body->at % 2 == 0) {
        body->ready = strlen(section->text);
        memcpy(body->piece, section->text, body->ready);
        body->at++;
        return 0;
    }
    char data[PIECE];
    ssize_t n = section->fd >= 0 ? era_read_full(section->fd, data, sizeof data) : 0; /* PIECE is a multiple of 3 */
    if (n < 0)
        return n;
    body->ready = 0;
    if (section->coded && n > 0) {
        base64_encode(data, (size_t)n, body->piece);
        body->ready = base64_length((size_t)n);
    }
    for (ssize_t i = 0; i < n && !section->coded; i++)
        body->ready += escape((unsigned char)data[i], body->piece + body->ready);
    if ((size_t)n < sizeof data)
        body->at++;
    return 0;
}

static ssize_t give(void *userdata, uint64_t position, char *to, size_t size)
{
    (void)position;
    struct body *body = userdata;
    size_t done = 0;
    while (done < size) {
        size_t left = body->ready - body->given;
        if (left == 0 && body->at == 5)
            break;
        if (left == 0) {
            if (fill(body) < 0)
                return MHD_CONTENT_READER_END_WITH_ERROR;
            continue;
        }
        size_t n = left < size - done ? left : size - done;
        memcpy(to + done, body->piece + body->given, n);
        body->given += n;
        done += n;
    }
    return done > 0 ? (ssize_t)done : MHD_CONTENT_READER_END_OF_STREAM;
}

static void body_free(void *userdata)
{
    struct body *body = userdata;
    era_closep(&body->sections[1].fd);
    era_closep(&body->sections[3].fd);
    free(body);
}

static void write_tail(const struct era_result *result, char *to, size_t size)
{
    bool cut = era_result_stdout_dropped(result) > 0 || era_result_stderr_dropped(result) > 0;
    const char *verdict = era_result_verdict(result);
    (void)era_str_format(
        to, size,
        "\"duration\":\"%.3fs\",\"verdict\":\"%s\",\"timed_out\":%s,\"truncated\":%s,\"cpu_ms\":%" PRIu64
        ",\"peak_memory_kib\":%" PRIu64 "}",
        (double)era_result_wall_us(result) / 1e6, verdict, era_str_eq(verdict, "timed_out") ? "true" : "false",
        cut ? "true" : "false", era_result_cpu_us(result) / 1000, era_result_peak_mem_kib(result));
}

json_t *result_json(const struct era_result *result)
{
    char tail[512];
    char text[640];
    json_t *object = NULL;
    write_tail(result, tail, sizeof tail);
    int r = era_str_format(text, sizeof text, "{\"run_id\":\"%s\",\"exit_code\":%d,%s", era_result_run_id(result),
                           era_result_exit_code(result), tail);
    if (r >= 0)
        (void)era_json_parse(text, strlen(text), 2, &object, NULL, 0);
    return object;
}

void result_reply(struct request *request, struct era *era, const char *vm_id, const struct era_result *result)
{
    struct body *body = calloc(1, sizeof *body);
    uint64_t total = 0;
    uint64_t len[2] = {0, 0};
    int r = body == NULL ? -ENOMEM : 0;
    for (int i = 0; r >= 0 && i < 2; i++) {
        bool live = false;
        struct section *log = &body->sections[1 + 2 * i];
        log->fd = -EBADF;
        /* A VM that was lost, or cleaned meanwhile, has none. */
        (void)era_vm_open_log(era, vm_id, era_result_run_id(result), i + 1, &log->fd, &live, NULL);
        r = measure(log, &len[i]);
        total += len[i];
    }
    if (r < 0 || body == NULL) {
        if (body != NULL)
            body_free(body);
        reply_refusal(request, 503, "out_of_memory", NULL, "cannot read the output of the run");
        return;
    }
    struct section *sections = body->sections;
    (void)era_str_format(sections[0].text, sizeof sections[0].text,
                         "{\"run_id\":\"%s\",\"exit_code\":%d,\"stdout%s\":\"", era_result_run_id(result),
                         era_result_exit_code(result), sections[1].coded ? "_base64" : "");
    (void)era_str_format(sections[2].text, sizeof sections[2].text, "\",\"stderr%s\":\"",
                         sections[3].coded ? "_base64" : "");
    memcpy(sections[4].text, "\",", 2);
    write_tail(result, sections[4].text + 2, sizeof sections[4].text - 2);
    for (size_t i = 0; i < 5; i += 2)
        total += strlen(sections[i].text);
    request->sent_bytes = total;
    struct MHD_Response *response =
        MHD_create_response_from_callback(total, total < BLOCK ? (size_t)total + 1 : BLOCK, give, body, body_free);
    if (response == NULL)
        body_free(body);
    reply_response(request, 200, response, "application/json");
}

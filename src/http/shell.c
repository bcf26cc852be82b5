/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /api/vm/{id}/shell: a terminal in a VM, as a WebSocket. Binary messages are the terminal's bytes, both ways; a
 * text message {"resize":[cols,rows]} has its size changed. When the command ends, the close frame's reason is
 * {"exit_code":…,"verdict":"…"}.
 *
 * A job starts the command, which is to end when we hang up. Then libmicrohttpd hands the socket over, and the session
 * begins: terminal.c.
 */
#include <stdlib.h>

#include "base/error.h"
#include "http/shell.h"
#include "http/websocket.h"

static struct shell_work *work_of(struct request *request)
{
    return (struct shell_work *)request->work;
}

static void work_free(struct work *base)
{
    struct shell_work *work = (struct shell_work *)base;
    terminal_end(work);
    if (work->frames != NULL)
        wslay_event_context_free(work->frames);
    era_buffer_clear(&work->early);
    era_buffer_clear(&work->input);
    free(work);
}

static void start(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct shell_work *work = work_of(request);
    struct era_run_spec *spec = NULL;
    struct era_error err = {0};
    int r = era_run_spec_new_shell(work->command, &spec, &err);
    if (r >= 0)
        r = era_run_spec_set_tty(spec, work->cols, work->rows, &err);
    if (r >= 0)
        r = era_run_spec_set_timeout(spec, 0, &err);
    if (r >= 0)
        r = era_run_spec_set_kill_on_hangup(spec, true, &err);
    if (r >= 0)
        r = era_run_start(era, request->params.id, spec, &work->run, &err);
    if (r >= 0)
        era_run_detach(work->run);
    else
        reply_error(request, &err);
    era_run_spec_free(spec);
}

static void started(struct request *request)
{
    struct shell_work *work = work_of(request);
    if (work->run == NULL) {
        request->server->runs--;
    } else {
        char accept[WEBSOCKET_ACCEPT_MAX];
        websocket_accept(request_header(request, "Sec-WebSocket-Key"), accept);
        reply_response(request, 101, MHD_create_response_for_upgrade(terminal_begin, work), NULL);
        reply_header(request, MHD_HTTP_HEADER_UPGRADE, "websocket");
        reply_header(request, "Sec-WebSocket-Accept", accept);
    }
    request_resume(request);
}

static int read_size(const struct request *request, const char *name, uint16_t *ret_size)
{
    char text[TARGET_VALUE_MAX];
    uint64_t size = 0;
    int r = target_query(request->target, name, text);
    if (r > 0)
        r = era_parse_u64(text, 1, 10000, &size);
    if (r >= 0 && size > 0)
        *ret_size = (uint16_t)size;
    return r;
}

void handle_shell(struct request *request)
{
    struct server *server = request->server;
    if (!era_str_eq(request->method, MHD_HTTP_METHOD_GET) ||
        !websocket_asked(
            request_header(request, MHD_HTTP_HEADER_UPGRADE), request_header(request, MHD_HTTP_HEADER_CONNECTION),
            request_header(request, "Sec-WebSocket-Version"), request_header(request, "Sec-WebSocket-Key"))) {
        reply_refusal(request, 426, "upgrade_required", NULL, "a shell is a WebSocket of version 13");
        reply_header(request, MHD_HTTP_HEADER_UPGRADE, "websocket");
        reply_header(request, "Sec-WebSocket-Version", "13");
        return;
    }
    struct shell_work *work = server->runs < server->settings.max_runs ? calloc(1, sizeof *work) : NULL;
    if (work == NULL) {
        reply_refusal(request, 429, "too_many_runs", NULL, "%llu runs are in flight; try again",
                      (unsigned long long)server->settings.max_runs);
        return;
    }
    *work = (struct shell_work){.base = {.free = work_free, .cut = terminal_cut, .tick = terminal_tick},
                                .request = request,
                                .cols = 80,
                                .rows = 24,
                                .command = "/bin/bash"};
    work->client.fd = work->terminal.fd = -1;
    request->work = &work->base;
    if (read_size(request, "cols", &work->cols) < 0 || read_size(request, "rows", &work->rows) < 0 ||
        target_query(request->target, "command", work->command) < 0) {
        reply_refusal(request, 400, "invalid_argument", "cols and rows are 1 to 10000, command has at most 255 bytes",
                      "wrong in the query: cols, rows or command");
        return;
    }
    server->runs++;
    request_submit(request, POOL_QUICK, start, started);
}

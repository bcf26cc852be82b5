/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in and out are a run like any other, whose command is this code: so
 * they have the same limits, the same flow control and the same death.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/fd.h"
#include "files/files.h"
#include "guest/guest.h"

/* argv: where to, and the name of what comes. */
static int put(const struct era_run_request *request, struct era_error *err)
{
    const char *basename = request->argv.count > 1 ? request->argv.items[1] : "";
    _cleanup_(era_tree_sink_freep) struct era_tree_sink *sink = NULL;
    int r = era_tree_sink_open(AT_FDCWD, request->argv.items[0], basename, false, &sink, err);
    if (r < 0)
        return r;
    static char buffer[64 * 1024];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return era_error_errno(err, errno, "cannot read the copy");
        if (n == 0)
            return era_tree_sink_finish(sink, err);
        r = era_tree_sink_feed(sink, buffer, (size_t)n, err);
        if (r < 0)
            return r;
    }
}

static int get(const struct era_run_request *request, struct era_error *err)
{
    _cleanup_(era_tree_source_freep) struct era_tree_source *source = NULL;
    int r = era_tree_source_open(AT_FDCWD, request->argv.items[0], 0, &source, err);
    if (r < 0)
        return r;
    static char buffer[64 * 1024];
    for (;;) {
        ssize_t n = era_tree_source_read(source, buffer, sizeof buffer, err);
        if (n <= 0)
            return (int)n;
        r = era_write_full(STDOUT_FILENO, buffer, (size_t)n);
        if (r < 0)
            return era_error_errno(err, -r, "cannot write the copy");
    }
}

_Noreturn void worker_run(const struct era_run_request *request, int status_fd)
{
    ERA_POINT("worker.begun");
    struct era_error err = {0};
    int r = request->kind == ERA_RUN_PUT ? put(request, &err) : get(request, &err);
    if (r < 0)
        report_failure(status_fd, -r, err.message, 1);
    _exit(0);
}

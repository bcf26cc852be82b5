/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/str.h"
#include "cli/cli.h"

/* What is there now: 0, or -errno of the write. */
static int copy_out(int fd)
{
    char buffer[64 * 1024];
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n <= 0)
            return n < 0 && errno != EINTR ? -errno : 0;
        int r = era_write_full(STDOUT_FILENO, buffer, (size_t)n);
        if (r < 0)
            return r;
    }
}

/*
 * Which run an open log is of: it lies in a folder of that name. The newest run
 * of now may be another one when it is asked for again.
 */
static int run_of(const char *path, char *run_id, size_t size, struct era_error *err)
{
    char target[4352];
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0)
        return era_error_errno(err, errno, "cannot find the run of the log");
    target[n] = '\0';
    char *name = strrchr(target, '/');
    if (name != NULL)
        *name = '\0';
    const char *folder = name != NULL ? strrchr(target, '/') : NULL;
    if (folder == NULL || !era_str_copy(run_id, size, folder + 1))
        return era_error_errno(err, EIO, "cannot find the run of the log");
    return 0;
}

/* Whether the run still writes. */
static int ask_live(struct era *era, const struct invocation *invocation, const char *run_id, bool *ret_live,
                    struct era_error *err)
{
    _cleanup_close_ int fd = -EBADF;
    return era_vm_open_log(era, option_value(invocation, "vm"), run_id, 1, &fd, ret_live, err);
}

/* Copies until the run has ended; waits for the file to change, and looks at the record now and then. */
static int follow(struct era *era, const struct invocation *invocation, int fd, struct era_error *err)
{
    enum { LOOK_AGAIN_MS = 250 }; /* the end of a run is no change of the file */
    char path[64];
    char run_id[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int r = run_of(path, run_id, sizeof run_id, err);
    if (r < 0)
        return r;
    _cleanup_close_ int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch < 0 || inotify_add_watch(watch, path, IN_MODIFY | IN_CLOSE_WRITE) < 0)
        return era_error_errno(err, errno, "cannot watch the log");
    bool live = true;
    while (live) {
        r = copy_out(fd);
        if (r < 0)
            return era_error_errno(err, -r, "cannot copy the log");
        struct pollfd poller = {.fd = watch, .events = POLLIN};
        if (poll(&poller, 1, LOOK_AGAIN_MS) > 0) {
            char events[4096];
            (void)read(watch, events, sizeof events);
        }
        r = ask_live(era, invocation, run_id, &live, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int vm_logs(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    _cleanup_close_ int fd = -EBADF;
    bool live = false;
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_vm_open_log(era, option_value(invocation, "vm"), option_value(invocation, "run"),
                            option_given(invocation, "stderr") ? 2 : 1, &fd, &live, &err);
    if (r >= 0 && live && option_given(invocation, "follow"))
        r = follow(era, invocation, fd, &err);
    if (r >= 0 && (r = copy_out(fd)) < 0)
        era_error_errno(&err, -r, "cannot copy the log");
    era_close(era);
    return r < 0 ? output_error(invocation, &err) : EXIT_OK;
}

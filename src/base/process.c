/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: one clone, with the namespaces wanted. The child says
 * over a close-on-exec pipe which step of its set-up failed; the end of that
 * pipe without a word means that the tool runs. With a user namespace the
 * child waits for its id maps, which only the parent may write, behind a
 * second pipe. Between clone and exec the child makes system calls only.
 *
 * The parent polls the two output pipes and a pidfd. The pidfd matters where a
 * tool leaves a stray behind that holds a pipe open: the tool's own end is the
 * end, whatever its strays hold.
 */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/idmap.h"

/* What the child may fail at. */
enum step { STEP_PARENT, STEP_FDS, STEP_CWD, STEP_MOUNTS, STEP_EXEC };

static const char *const step_names[] = {
    [STEP_PARENT] = "wait for its parent",          [STEP_FDS] = "arrange descriptors", [STEP_CWD] = "change directory",
    [STEP_MOUNTS] = "mount /proc in its namespace", [STEP_EXEC] = "be executed",
};

struct report {
    enum step step;
    int error;
};

struct pipes {
    int out[2];
    int err[2];
    int status[2];
    int go[2];
};

struct child {
    const struct era_process_spec *spec;
    struct pipes *pipes;
    pid_t parent;
    bool user_namespace;
};

static void pipes_close(struct pipes *pipes)
{
    for (size_t i = 0; i < 2; i++) {
        era_closep(&pipes->out[i]);
        era_closep(&pipes->err[i]);
        era_closep(&pipes->status[i]);
        era_closep(&pipes->go[i]);
    }
}

static _Noreturn void child_fail(const struct child *child, enum step step)
{
    struct report report = {step, errno};
    (void)!write(child->pipes->status[1], &report, sizeof report);
    _exit(127);
}

/* stdin, stdout, stderr, then the caller's; all else closes at exec. */
static bool child_arrange_fds(const struct child *child)
{
    const struct era_process_spec *spec = child->spec;
    int above = 3 + (int)spec->fd_count;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0)
        return false;
    int moved[ERA_PROCESS_FDS_MAX];
    for (size_t i = 0; i < spec->fd_count; i++)
        if ((moved[i] = fcntl(spec->fds[i], F_DUPFD_CLOEXEC, above)) < 0)
            return false;
    int null_moved = fcntl(null, F_DUPFD_CLOEXEC, above);
    int out = fcntl(child->pipes->out[1], F_DUPFD_CLOEXEC, above);
    int err = fcntl(child->pipes->err[1], F_DUPFD_CLOEXEC, above);
    int status = fcntl(child->pipes->status[1], F_DUPFD_CLOEXEC, above);
    int cwd = spec->cwd_fd >= 0 ? fcntl(spec->cwd_fd, F_DUPFD_CLOEXEC, above) : -1;
    if (null_moved < 0 || out < 0 || err < 0 || status < 0 || (spec->cwd_fd >= 0 && cwd < 0))
        return false;
    child->pipes->status[1] = status;
    if (dup2(null_moved, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
        return false;
    if (cwd >= 0 && fchdir(cwd) < 0)
        child_fail(child, STEP_CWD);
    for (size_t i = 0; i < spec->fd_count; i++)
        if (dup2(moved[i], 3 + (int)i) < 0)
            return false;
    /* Before Linux 5.11 this relies on every descriptor being made close-on-exec. */
    (void)syscall(SYS_close_range, (unsigned)above, ~0U, CLOSE_RANGE_CLOEXEC);
    return true;
}

static bool child_mount(void)
{
    /* Private first, or the new /proc would show up outside. */
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0;
}

static _Noreturn void child_main(const struct child *child)
{
    const struct era_process_spec *spec = child->spec;
    for (int signo = 1; signo < NSIG; signo++)
        (void)signal(signo, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL); /* cannot fail with these arguments */

    /* In a pid namespace the parent is 0 from here; the pipe tells whether it still lives. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || (!spec->own_namespaces && getppid() != child->parent))
        child_fail(child, STEP_PARENT);
    close(child->pipes->go[1]);
    char go = 0;
    if (read(child->pipes->go[0], &go, 1) != 1)
        child_fail(child, STEP_PARENT);
    (void)setpgid(0, 0);
    /* In a user namespace the maps, written by now, have made us root; no id changes, so the line above holds. */
    if (!child_arrange_fds(child))
        child_fail(child, STEP_FDS);
    if (spec->own_namespaces && !child_mount())
        child_fail(child, STEP_MOUNTS);
    /* execve(2) changes neither array. */
    execve(spec->path, (char *const *)(uintptr_t)spec->argv, (char *const *)(uintptr_t)spec->envp);
    child_fail(child, STEP_EXEC);
}

/* All that one output stream needs. */
struct stream {
    int number;
    size_t len;
    char line[4096];
};

static void tail_add(char *tail, const char *line)
{
    size_t len = strlen(line);
    if (len == 0)
        return;
    if (len >= ERA_PROCESS_TAIL_MAX) {
        line += len - (ERA_PROCESS_TAIL_MAX - 1);
        len = ERA_PROCESS_TAIL_MAX - 1;
    }
    /* Whole lines go from the front until the new one fits. */
    while (tail[0] != '\0' && strlen(tail) + 2 + len >= ERA_PROCESS_TAIL_MAX) {
        const char *next = strstr(tail, "; ");
        if (next == NULL)
            tail[0] = '\0';
        else
            memmove(tail, next + 2, strlen(next + 2) + 1);
    }
    size_t used = strlen(tail);
    snprintf(tail + used, ERA_PROCESS_TAIL_MAX - used, "%s%s", used > 0 ? "; " : "", line);
}

static void stream_flush(struct stream *stream, const struct era_process_spec *spec, struct era_process_result *result)
{
    stream->line[stream->len] = '\0';
    if (stream->number == 2)
        tail_add(result->tail, stream->line);
    if (spec->on_line != NULL)
        spec->on_line(spec->userdata, stream->number, stream->line);
    stream->len = 0;
}

static void stream_take(struct stream *stream, const char *data, size_t len, const struct era_process_spec *spec,
                        struct era_process_result *result)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n' || data[i] == '\r') {
            if (stream->len > 0)
                stream_flush(stream, spec, result);
        } else if (data[i] != '\0' && stream->len < sizeof stream->line - 1) {
            stream->line[stream->len++] = data[i];
        }
    }
}

/* Returns false at the end of the stream. */
static bool stream_read(struct stream *stream, int fd, const struct era_process_spec *spec,
                        struct era_process_result *result)
{
    for (;;) {
        char data[8192];
        ssize_t n = read(fd, data, sizeof data);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            return false;
        stream_take(stream, data, (size_t)n, spec, result);
    }
}

/* Follows the output until the child has ended. Returns false when it is to be cut short. */
static bool follow(pid_t pid, struct pipes *pipes, const struct era_process_spec *spec,
                   struct era_process_result *result)
{
    struct stream out = {.number = 1};
    struct stream err = {.number = 2};
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    bool ended = false;
    bool cancelled = false;
    /* Without a pidfd (Linux before 5.3) the end of its output has to stand for its own. */
    while (!ended && !cancelled && (pidfd >= 0 || pipes->out[0] >= 0 || pipes->err[0] >= 0)) {
        struct pollfd polled[] = {{.fd = pipes->out[0], .events = POLLIN},
                                  {.fd = pipes->err[0], .events = POLLIN},
                                  {.fd = pidfd, .events = POLLIN},
                                  {.fd = spec->cancel_fd > 0 ? spec->cancel_fd : -1, .events = POLLIN}};
        if (poll(polled, 4, -1) < 0) {
            if (errno == EINTR)
                continue;
            break;
        }
        ended = pidfd >= 0 && polled[2].revents != 0;
        cancelled = polled[3].revents != 0;
        if (pipes->out[0] >= 0 && !stream_read(&out, pipes->out[0], spec, result))
            era_closep(&pipes->out[0]);
        if (pipes->err[0] >= 0 && !stream_read(&err, pipes->err[0], spec, result))
            era_closep(&pipes->err[0]);
    }
    if (out.len > 0)
        stream_flush(&out, spec, result);
    if (err.len > 0)
        stream_flush(&err, spec, result);
    return !cancelled;
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static int make_pipes(struct pipes *pipes, struct era_error *err)
{
    if (pipe2(pipes->out, O_CLOEXEC) < 0 || pipe2(pipes->err, O_CLOEXEC) < 0 || pipe2(pipes->status, O_CLOEXEC) < 0 ||
        pipe2(pipes->go, O_CLOEXEC) < 0)
        return era_error_errno(err, errno, "cannot make a pipe");
    int r = era_set_nonblock(pipes->out[0], true);
    if (r >= 0)
        r = era_set_nonblock(pipes->err[0], true);
    return r < 0 ? era_error_errno(err, -r, "cannot set up a pipe") : 0;
}

/* Lets the child go on, and learns whether it came as far as its program. */
static int start(pid_t pid, struct child *child, struct era_error *err)
{
    struct pipes *pipes = child->pipes;
    era_closep(&pipes->out[1]);
    era_closep(&pipes->err[1]);
    era_closep(&pipes->status[1]);
    era_closep(&pipes->go[0]);
    if (child->user_namespace) {
        int r = era_idmap_write(pid, child->spec->need_id_range, err);
        if (r < 0)
            return r;
    }
    int r = era_write_full(pipes->go[1], "", 1);
    era_closep(&pipes->go[1]);
    struct report report;
    ssize_t n = r < 0 ? r : era_read_full(pipes->status[0], &report, sizeof report);
    if (n == 0)
        return 0;
    if (n != (ssize_t)sizeof report)
        return era_error_set(err, EIO, "system_error", "%s ended before it began", child->spec->path);
    return era_error_errno(err, report.error, "%s could not %s", child->spec->path, step_names[report.step]);
}

int era_process_run(const struct era_process_spec *spec, struct era_process_result *ret_result, struct era_error *err)
{
    if (spec->fd_count > ERA_PROCESS_FDS_MAX)
        return era_error_set(err, E2BIG, "system_error", "too many descriptors for %s", spec->path);
    _cleanup_(pipes_close) struct pipes pipes = {
        {-EBADF, -EBADF}, {-EBADF, -EBADF}, {-EBADF, -EBADF}, {-EBADF, -EBADF}};
    int r = make_pipes(&pipes, err);
    if (r < 0)
        return r;

    struct child child = {.spec = spec, .pipes = &pipes, .parent = getpid()};
    child.user_namespace = (spec->own_namespaces || spec->as_root) && geteuid() != 0;
    unsigned long flags = SIGCHLD;
    if (spec->own_namespaces)
        flags |= CLONE_NEWPID | CLONE_NEWNS;
    if (child.user_namespace)
        flags |= CLONE_NEWUSER;

    /* No handler of ours may run in the child. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
    int error = errno;
    if (pid == 0)
        child_main(&child);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return era_error_errno(err, error, "cannot make a process%s",
                               flags != SIGCHLD ? " in namespaces of its own (this host, or the container that this "
                                                  "is, may forbid them to who is not root)"
                                                : "");

    r = start(pid, &child, err);
    if (r < 0) {
        kill(pid, SIGKILL); /* not yet waited for, so still ours */
        wait_for(pid);
        return r;
    }
    struct era_process_result result = {0};
    bool whole = follow(pid, &pipes, spec, &result);
    if (!whole && kill(-pid, SIGKILL) < 0) /* not yet waited for, so still ours */
        kill(pid, SIGKILL);
    result.wait_status = wait_for(pid);
    if (!whole)
        return era_error_set(err, ECANCELED, "interrupted", "interrupted");
    *ret_result = result;
    return 0;
}

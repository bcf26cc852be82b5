/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "launcher/microvm/internal.h"

static int append(struct qemu *qemu, struct era_buffer *line, const char *command, const struct qmp_member members[])
{
    qemu->monitor_asked = qemu->monitor_asked % QMP_ID_MAX + 1;
    return qmp_append(line, command, qemu->monitor_asked, members);
}

int monitor_send(struct qemu *qemu, const char *command, const struct qmp_member members[])
{
    struct era_buffer line = {0};
    int r = append(qemu, &line, command, members);
    if (r >= 0)
        r = era_buffer_flush(&line, qemu->monitor_fd);
    era_buffer_clear(&line);
    return r;
}

int monitor_read(struct qemu *qemu, int64_t deadline_ns, struct qmp_line *ret_line)
{
    for (;;) {
        ssize_t taken = 0;
        if (era_buffer_len(&qemu->monitor_in) > 0)
            taken = qmp_decode((const char *)era_buffer_data(&qemu->monitor_in), era_buffer_len(&qemu->monitor_in),
                               ret_line);
        if (taken < 0)
            return (int)taken;
        if (taken > 0) {
            era_buffer_consume(&qemu->monitor_in, (size_t)taken);
            return 0;
        }
        int64_t left_ms = (deadline_ns - era_clock_monotonic_ns()) / 1000000;
        struct pollfd poller = {.fd = qemu->monitor_fd, .events = POLLIN};
        int n = left_ms <= 0 ? 0 : poll(&poller, 1, (int)left_ms);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ETIMEDOUT;
        ssize_t got = era_buffer_fill(&qemu->monitor_in, qemu->monitor_fd, QMP_LINE_MAX);
        if (got <= 0)
            return got < 0 ? (int)got : -EPIPE;
    }
}

/* Whether a line is about what was asked last. What QEMU cannot read at all is refused without an id. */
static bool is_answer(const struct qemu *qemu, const struct qmp_line *line, enum qmp_kind kind)
{
    return line->kind == kind && (line->id == qemu->monitor_asked || (kind == QMP_ERROR && line->id == 0));
}

/* Until its command is answered. */
static int await_answer(struct qemu *qemu, const char *command, int64_t deadline_ns, struct era_error *err)
{
    for (;;) {
        struct qmp_line line = {0};
        int r = monitor_read(qemu, deadline_ns, &line);
        if (r < 0)
            return qemu_fail(qemu, r, command, err);
        if (is_answer(qemu, &line, QMP_RETURN))
            return 0;
        if (is_answer(qemu, &line, QMP_ERROR))
            return era_error_set(err, EIO, "vm_start_failed", "QEMU refused %s: %s", command, line.text);
    }
}

int monitor_pass(struct qemu *qemu, const char *command, const struct qmp_member members[], int fd, int64_t deadline_ns,
                 struct era_error *err)
{
    struct era_buffer line = {0};
    int r = append(qemu, &line, command, members);
    char control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)era_buffer_data(&line), .iov_len = era_buffer_len(&line)};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    /* So short a line goes whole or not at all. */
    if (r >= 0 && sendmsg(qemu->monitor_fd, &message, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
        r = -EPIPE;
    era_buffer_clear(&line);
    return r < 0 ? qemu_fail(qemu, r, command, err) : await_answer(qemu, command, deadline_ns, err);
}

int monitor_give(struct qemu *qemu, const char *name, int fd, int64_t deadline_ns, struct era_error *err)
{
    const struct qmp_member members[] = {{.key = "fdname", .text = name}, {.key = NULL}};
    return monitor_pass(qemu, "getfd", members, fd, deadline_ns, err);
}

int monitor_ask(struct qemu *qemu, const char *command, const struct qmp_member members[], int64_t deadline_ns,
                struct era_error *err)
{
    int r = monitor_send(qemu, command, members);
    return r < 0 ? qemu_fail(qemu, r, command, err) : await_answer(qemu, command, deadline_ns, err);
}

int monitor_await(struct qemu *qemu, const char *event, const char *status, int64_t deadline_ns, struct era_error *err)
{
    for (;;) {
        struct qmp_line line = {0};
        int r = monitor_read(qemu, deadline_ns, &line);
        if (r < 0)
            return qemu_fail(qemu, r, event, err);
        if (is_answer(qemu, &line, QMP_ERROR))
            return era_error_set(err, EIO, "vm_start_failed", "QEMU: %s", line.text);
        if (line.kind != QMP_EVENT || strcmp(line.word, event) != 0)
            continue;
        if (status == NULL || strcmp(line.status, status) == 0)
            return 0;
        if (strcmp(line.status, "failed") == 0)
            return era_error_set(err, EIO, "vm_start_failed", "QEMU: %s failed", event);
    }
}

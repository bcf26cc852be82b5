/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "shim/shim.h"

int log_open(struct run_log *log, int dirfd, const char *name, uint64_t cap)
{
    *log = (struct run_log){.fd = -EBADF, .ring_fd = -EBADF, .head_max = cap - cap / 2, .ring_max = cap / 2};
    log->fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return log->fd < 0 ? -errno : 0;
}

/* A full disk: the command goes on, the loss is reported. What is kept follows on what was kept before. */
static size_t write_head(struct run_log *log, const void *data, size_t len)
{
    if (log->total >= log->head_max)
        return 0;
    uint64_t room = log->head_max - log->total;
    size_t n = len < room ? len : (size_t)room;
    ssize_t kept = pwrite(log->fd, data, n, (off_t)(log->total - log->lost));
    log->lost += n - (kept > 0 ? (size_t)kept : 0);
    return n;
}

static void write_ring(struct run_log *log, const uint8_t *data, size_t len)
{
    uint64_t skip = len > log->ring_max ? len - log->ring_max : 0; /* overwritten by its own end */
    uint64_t at = log->total + skip;
    uint64_t position = (at - log->head_max) % log->ring_max;
    data += skip;
    len -= (size_t)skip;
    while (len > 0) {
        uint64_t room = log->ring_max - position;
        size_t n = len < room ? len : (size_t)room;
        at += n;
        if (pwrite(log->ring_fd, data, n, (off_t)position) != (ssize_t)n)
            log->ring_from = at;
        data += n;
        len -= n;
        position = 0;
    }
}

void log_write(struct run_log *log, int dirfd, const char *ring_name, const void *data, size_t len)
{
    if (log->fd < 0)
        return;
    size_t n = write_head(log, data, len);
    log->total += n;
    len -= n;
    if (len == 0)
        return;
    if (log->ring_max == 0) { /* a cap of 0 or 1: all that is kept is the head */
        log->total += len;
        return;
    }
    if (log->ring_fd < 0)
        log->ring_fd = openat(dirfd, ring_name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (log->ring_fd >= 0)
        write_ring(log, (const uint8_t *)data + n, len);
    else
        log->ring_from = log->total + len;
    log->total += len;
}

/* Appends `len` bytes of the ring, from a position on; returns how many. */
static uint64_t copy_ring(const struct run_log *log, uint64_t position, uint64_t len)
{
    char buffer[64 * 1024];
    uint64_t copied = 0;
    while (copied < len && log->ring_max > 0) {
        size_t want = len - copied < sizeof buffer ? (size_t)(len - copied) : sizeof buffer;
        if (want > log->ring_max - position)
            want = (size_t)(log->ring_max - position);
        ssize_t n = pread(log->ring_fd, buffer, want, (off_t)position);
        ssize_t written = n > 0 ? write(log->fd, buffer, (size_t)n) : -1;
        if (written <= 0)
            break;
        position = (position + (uint64_t)written) % log->ring_max;
        copied += (uint64_t)written;
    }
    return copied;
}

/* The place in the stream from which the ring has all of it; not before the head's end. */
static uint64_t ring_begin(const struct run_log *log)
{
    uint64_t from = log->total - log->head_max > log->ring_max ? log->total - log->ring_max : log->head_max;
    return log->ring_from > from ? log->ring_from : from;
}

uint64_t log_finish(struct run_log *log, int dirfd, const char *ring_name)
{
    if (log->fd < 0 || log->total <= log->head_max)
        return log->lost;
    uint64_t from = ring_begin(log);
    (void)lseek(log->fd, 0, SEEK_END);
    if (from > log->head_max) {
        char mark[80];
        int len =
            snprintf(mark, sizeof mark, "\n[… %llu bytes left out …]\n", (unsigned long long)(from - log->head_max));
        (void)era_write_full(log->fd, mark, (size_t)len);
    }
    uint64_t position = log->ring_max > 0 ? (from - log->head_max) % log->ring_max : 0;
    uint64_t copied = copy_ring(log, position, log->total - from);
    unlinkat(dirfd, ring_name, 0);
    return log->total - (log->head_max - log->lost) - copied;
}

void log_close(struct run_log *log)
{
    era_closep(&log->fd);
    era_closep(&log->ring_fd);
}

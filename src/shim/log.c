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

static size_t write_head(struct run_log *log, const void *data, size_t len)
{
    if (log->total >= log->head_max)
        return 0;
    uint64_t room = log->head_max - log->total;
    size_t n = len < room ? len : (size_t)room;
    if (pwrite(log->fd, data, n, (off_t)(log->total - log->lost)) != (ssize_t)n)
        log->lost += n; /* a full disk: the command goes on, the loss is reported */
    return n;
}

static void write_ring(struct run_log *log, const uint8_t *data, size_t len)
{
    uint64_t skip = len > log->ring_max ? len - log->ring_max : 0; /* overwritten by its own end */
    uint64_t position = (log->total - log->head_max + skip) % log->ring_max;
    data += skip;
    len -= (size_t)skip;
    while (len > 0) {
        uint64_t room = log->ring_max - position;
        size_t n = len < room ? len : (size_t)room;
        if (pwrite(log->ring_fd, data, n, (off_t)position) != (ssize_t)n)
            log->lost += n;
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
    log->total += len;
}

/* Appends `len` bytes of the ring, from a position on. */
static int copy_ring(const struct run_log *log, uint64_t position, uint64_t len)
{
    char buffer[64 * 1024];
    while (len > 0) {
        size_t want = len < sizeof buffer ? (size_t)len : sizeof buffer;
        if (want > log->ring_max - position)
            want = (size_t)(log->ring_max - position);
        ssize_t n = pread(log->ring_fd, buffer, want, (off_t)position);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        int r = era_write_full(log->fd, buffer, (size_t)n);
        if (r < 0)
            return r;
        position = (position + (uint64_t)n) % log->ring_max;
        len -= (uint64_t)n;
    }
    return 0;
}

uint64_t log_finish(struct run_log *log, int dirfd, const char *ring_name)
{
    if (log->fd < 0 || log->total <= log->head_max)
        return log->lost;
    uint64_t after_head = log->total - log->head_max;
    uint64_t kept = after_head < log->ring_max ? after_head : log->ring_max;
    uint64_t dropped = after_head - kept;
    if (log->ring_fd < 0) {
        kept = 0;
        dropped = after_head;
    }
    (void)lseek(log->fd, 0, SEEK_END);
    if (dropped > 0) {
        char mark[80];
        int len = snprintf(mark, sizeof mark, "\n[… %llu bytes left out …]\n", (unsigned long long)dropped);
        (void)era_write_full(log->fd, mark, (size_t)len);
    }
    if (kept > 0 && copy_ring(log, dropped > 0 ? after_head % log->ring_max : 0, kept) < 0)
        dropped += kept;
    unlinkat(dirfd, ring_name, 0);
    return dropped + log->lost;
}

void log_close(struct run_log *log)
{
    era_closep(&log->fd);
    era_closep(&log->ring_fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

enum { PIECE = 1 << 20 };

int era_pwrite_full(int fd, const void *data, size_t len, int64_t at)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        p += n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int copy_piece(int from_fd, int to_fd, char *buffer, off_t at, off_t end)
{
    while (at < end) {
        ssize_t n = pread(from_fd, buffer, (size_t)(end - at < PIECE ? end - at : PIECE), at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO; /* it became shorter */
        int r = era_pwrite_full(to_fd, buffer, (size_t)n, at);
        if (r < 0)
            return r;
        at += n;
    }
    return 0;
}

int era_copy_sparse(int from_fd, int to_fd)
{
    struct stat st;
    if (fstat(from_fd, &st) < 0)
        return -errno;
    if (ioctl(to_fd, FICLONE, from_fd) == 0)
        return 0;
    if (ftruncate(to_fd, st.st_size) < 0)
        return -errno;
    _cleanup_free_ char *buffer = malloc(PIECE);
    if (buffer == NULL)
        return -ENOMEM;
    for (off_t at = 0; at < st.st_size;) {
        off_t data = lseek(from_fd, at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno; /* a hole up to the end */
        off_t hole = lseek(from_fd, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        int r = copy_piece(from_fd, to_fd, buffer, data, hole);
        if (r < 0)
            return r;
        at = hole;
    }
    return 0;
}

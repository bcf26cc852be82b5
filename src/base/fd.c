/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

void era_closep(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd);
    errno = saved;
    *fd = -EBADF;
}

ssize_t era_read_full(int fd, void *buffer, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = read(fd, (char *)buffer + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int era_write_full(int fd, const void *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(fd, (const char *)data + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return 0;
}

int era_ensure_dir_at(int dirfd, const char *name, mode_t mode)
{
    if (mkdirat(dirfd, name, mode) == 0)
        return 0;
    int error = errno;
    if (error != EEXIST)
        return -error;
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -EEXIST;
}

int era_read_file_at(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;

    /* The size is a hint only: files of /proc and /sys report 0. */
    size_t capacity = st.st_size > 0 && (size_t)st.st_size < max ? (size_t)st.st_size + 1 : 4096;
    size_t len = 0;
    _cleanup_free_ char *data = NULL;
    for (;;) {
        char *grown = realloc(data, capacity + 1);
        if (grown == NULL)
            return -ENOMEM;
        data = grown;
        ssize_t n = era_read_full(fd, data + len, capacity - len);
        if (n < 0)
            return (int)n;
        len += (size_t)n;
        if (len > max)
            return -EFBIG;
        if (len < capacity)
            break;
        capacity *= 2;
    }
    data[len] = '\0';
    *ret_data = era_take_ptr(data);
    if (ret_len != NULL)
        *ret_len = len;
    return 0;
}

int era_write_file_atomic_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode)
{
    char temporary[NAME_MAX + 1];
    int n = snprintf(temporary, sizeof temporary, ".%s.%d.tmp", name, (int)getpid());
    if (n < 0 || (size_t)n >= sizeof temporary)
        return -ENAMETOOLONG;
    _cleanup_close_ int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    int r = era_write_full(fd, data, len);
    if (r >= 0 && renameat(dirfd, temporary, dirfd, name) < 0)
        r = -errno;
    if (r < 0)
        unlinkat(dirfd, temporary, 0);
    return r;
}

/* The kernel's own entries, which getdents64(2) fills in, are what C libraries of 64 bits have. */
static_assert(sizeof(ino_t) == 8 && sizeof(off_t) == 8 && offsetof(struct dirent, d_name) == 19, "linux_dirent64");

/* As close_range(), by the list that /proc has; false where there is none. */
static bool close_listed(unsigned first, unsigned last)
{
    _cleanup_close_ int list = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (list < 0)
        return false;
    _Alignas(struct dirent) char entries[4096];
    ssize_t len;
    /* The kernel goes by number, so that what is closed meanwhile makes it pass nothing over. */
    while ((len = syscall(SYS_getdents64, list, entries, sizeof entries)) > 0) {
        const struct dirent *entry;
        for (ssize_t at = 0; at < len; at += entry->d_reclen) {
            entry = (const struct dirent *)(const void *)(entries + at);
            uint64_t fd = 0;
            if (era_parse_u64(entry->d_name, first, last, &fd) == 0 && (int)fd != list)
                close((int)fd);
        }
    }
    return len == 0;
}

/*
 * Closes first..last. The kernel may have no close_range (before Linux 5.9), and
 * the limit on descriptors says nothing of those that were open when it was set.
 */
static void close_span(unsigned first, unsigned last)
{
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0 || close_listed(first, last))
        return;
    struct rlimit limit = {0};
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_max > 1048576)
        limit.rlim_max = 1048576;
    for (unsigned fd = first; fd <= last && fd < limit.rlim_max; fd++)
        close((int)fd);
}

void era_close_all_but(const int keep[], size_t count)
{
    unsigned next = 3;
    for (;;) {
        unsigned kept = UINT_MAX; /* the lowest to keep that is not passed yet */
        for (size_t i = 0; i < count; i++)
            if (keep[i] >= 0 && (unsigned)keep[i] >= next && (unsigned)keep[i] < kept)
                kept = (unsigned)keep[i];
        close_span(next, kept - 1);
        if (kept == UINT_MAX)
            return;
        next = kept + 1;
    }
}

int era_set_nonblock(int fd, bool nonblock)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    int wanted = nonblock ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (wanted != flags && fcntl(fd, F_SETFL, wanted) < 0)
        return -errno;
    return 0;
}

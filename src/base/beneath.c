/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: openat2(2) does all of it in the kernel. Where it is
 * missing (before Linux 5.6, or refused by an outer seccomp filter) the path
 * is walked component by component: each directory is opened O_NOFOLLOW from
 * the one before, ".." is refused, so that no step can leave the tree.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

static int open_by_walk(int dirfd, const char *path, int flags, mode_t mode)
{
    if (path[0] == '/' || path[0] == '\0')
        return path[0] == '/' ? -EXDEV : -ENOENT;

    _cleanup_close_ int held = -EBADF;
    int at = dirfd;
    for (;;) {
        path += strspn(path, "/");
        size_t len = strcspn(path, "/");
        const char *rest = path + len + strspn(path + len, "/");
        char name[NAME_MAX + 1];
        if (len > NAME_MAX)
            return -ENAMETOOLONG;
        memcpy(name, path, len);
        name[len] = '\0';
        if (strcmp(name, "..") == 0)
            return -EXDEV;
        if (rest[0] == '\0') {
            int fd = openat(at, len == 0 ? "." : name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
            if (fd < 0)
                return -errno;
            struct stat st;
            if ((flags & O_PATH) != 0 && (fstat(fd, &st) < 0 || S_ISLNK(st.st_mode))) {
                close(fd);
                return -ELOOP;
            }
            return fd;
        }
        int next = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return errno == ENOTDIR ? -ELOOP : -errno;
        era_closep(&held);
        at = held = next;
        path = rest;
    }
}

int era_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC),
        .mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int fd;
    do
        fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    if (fd >= 0)
        return fd;
    if (errno != ENOSYS && errno != EPERM)
        return -errno;
    return open_by_walk(dirfd, path, flags, mode);
}

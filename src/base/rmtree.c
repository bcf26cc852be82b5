/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a guest, or an archive, can nest directories deeper
 * than any stack and longer than any path. The tree is therefore taken apart
 * with two descriptors only: go down into the first subdirectory met; when a
 * directory is empty of them, step up by "..", and remove it from above. The
 * step up is checked against the inode that we came from, so that a directory
 * moved away meanwhile ends the walk instead of leading it elsewhere. What is
 * not there any more, somebody else has removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

struct level {
    ino_t ino;
    char name[256];
};

/* 0: it is gone, and be it by somebody else's hand; 1: it is a directory with something in it. */
static int remove_entry(int fd, const char *name, dev_t dev)
{
    if (unlinkat(fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    int error = errno;
    struct stat st;
    if (error != EISDIR && error != EPERM)
        return -error;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISDIR(st.st_mode))
        return -error;
    if (st.st_dev != dev)
        return -EXDEV;
    if (unlinkat(fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    return errno == ENOTEMPTY || errno == EEXIST ? 1 : -errno;
}

/* Removes everything but directories that are not empty; returns 1 and the name of a first one, or 0. */
static int sweep_directory(int fd, dev_t dev, char ret_subdir[256])
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0)
        return -errno;
    DIR *dir = fdopendir(copy);
    if (dir == NULL) {
        int error = errno;
        close(copy);
        return -error;
    }
    int r = 0;
    struct dirent *entry;
    while (r == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        r = remove_entry(fd, entry->d_name, dev);
        if (r == 1)
            era_str_copy(ret_subdir, 256, entry->d_name);
    }
    if (entry == NULL && errno != 0 && r == 0)
        r = -errno;
    closedir(dir);
    return r;
}

/* Also one that its owner closed to himself, wholly or in part: it is opened up, for it is going anyway. */
static int open_directory(int dirfd, const char *name)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
        fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat st;
    if (fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
        (void)fchmod(fd, 0700); /* if it fails, then so does what comes */
    return fd;
}

static int inode_of(int fd, struct stat *st)
{
    return fstat(fd, st) < 0 ? -errno : 0;
}

int era_remove_tree_at(int dirfd, const char *name)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return -errno;

    _cleanup_close_ int fd = open_directory(dirfd, name);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    struct stat st;
    int r = inode_of(fd, &st);
    if (r < 0)
        return r;
    dev_t dev = st.st_dev;

    _cleanup_free_ struct level *levels = NULL; /* the way down from `name`, its own level left out */
    size_t depth = 0;
    size_t capacity = 0;
    for (;;) {
        char subdir[256];
        r = sweep_directory(fd, dev, subdir);
        if (r < 0)
            return r;
        if (r == 1) {
            if (depth == capacity) {
                capacity = capacity == 0 ? 16 : capacity * 2;
                struct level *grown = reallocarray(levels, capacity, sizeof *levels);
                if (grown == NULL)
                    return -ENOMEM;
                levels = grown;
            }
            if ((r = inode_of(fd, &st)) < 0)
                return r;
            levels[depth].ino = st.st_ino;
            memcpy(levels[depth].name, subdir, sizeof subdir);
            int down = open_directory(fd, subdir);
            if (down == -ENOENT)
                continue;
            if (down < 0)
                return down;
            depth++;
            era_closep(&fd);
            fd = down;
            continue;
        }
        if (depth == 0)
            break;
        depth--;
        int up = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (up < 0)
            return -errno;
        era_closep(&fd);
        fd = up;
        if ((r = inode_of(fd, &st)) < 0)
            return r;
        if (st.st_ino != levels[depth].ino || st.st_dev != dev)
            return -ESTALE;
        if (unlinkat(fd, levels[depth].name, AT_REMOVEDIR) < 0 && errno != ENOENT && errno != ENOTEMPTY)
            return -errno;
    }
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return -errno;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a walk with a stack of open directories. The stream is
 * produced on demand: `pending` holds a header, name or link target that did
 * not fit the caller's buffer, `file_fd` the file whose content is under way.
 */
#include "files/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/fd.h"
#include "base/str.h"
#include "wire/tree.h"

enum { DEPTH_MAX = 64 };

struct level {
    DIR *dir;
    size_t name_len; /* of entry.name up to this directory */
};

struct era_tree_source {
    struct level levels[DEPTH_MAX];
    size_t depth;
    int file_fd;
    uint64_t file_left;
    uint64_t budget; /* bytes of content that may still come */
    bool ended;
    struct era_buffer pending;
    struct era_tree_entry entry; /* entry.name: the path under way */
};

static int put_header(struct era_tree_source *source, struct era_error *err)
{
    uint8_t bytes[ERA_TREE_ENTRY_MAX];
    ssize_t n = era_tree_encode(&source->entry, bytes);
    if (n < 0 || era_buffer_append(&source->pending, bytes, (size_t)n) < 0)
        return era_error_oom(err);
    return 0;
}

static int put_file(struct era_tree_source *source, int dirfd, const char *name, struct era_error *err)
{
    _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return era_error_errno(err, errno, "cannot open %s", name);
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return era_error_set(err, EINVAL, "not_a_file", "%s changed while it was read", name);
    if ((uint64_t)st.st_size > source->budget)
        return era_error_set(err, EFBIG, "file_too_large", "%s has %llu bytes, more than the %llu that fit", name,
                             (unsigned long long)st.st_size, (unsigned long long)source->budget);
    source->budget -= (uint64_t)st.st_size;
    source->entry.kind = ERA_TREE_FILE;
    source->entry.size = (uint64_t)st.st_size;
    int r = put_header(source, err);
    if (r < 0)
        return r;
    source->file_fd = era_take_fd(&fd);
    source->file_left = (uint64_t)st.st_size;
    return 0;
}

static int put_link(struct era_tree_source *source, int dirfd, const char *name, struct era_error *err)
{
    char target[ERA_TREE_NAME_MAX];
    ssize_t n = readlinkat(dirfd, name, target, sizeof target);
    if (n <= 0)
        return era_error_errno(err, n < 0 ? errno : EINVAL, "cannot read the link %s", name);
    source->entry.kind = ERA_TREE_SYMLINK;
    source->entry.size = (uint64_t)n;
    int r = put_header(source, err);
    if (r >= 0 && era_buffer_append(&source->pending, target, (size_t)n) < 0)
        r = era_error_oom(err);
    return r;
}

static int enter_folder(struct era_tree_source *source, int dirfd, const char *name, struct era_error *err)
{
    if (source->depth == DEPTH_MAX)
        return era_error_set(err, ELOOP, "tree_too_deep", "directories are nested deeper than %d levels", DEPTH_MAX);
    _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL)
        return era_error_errno(err, errno, "cannot open the directory %s", name);
    fd = -EBADF; /* the stream has it */
    source->levels[source->depth++] = (struct level){.dir = dir, .name_len = strlen(source->entry.name)};
    source->entry.kind = ERA_TREE_FOLDER;
    source->entry.size = 0;
    return put_header(source, err);
}

/* Starts the entry dirfd/name, whose path in the tree is entry.name. */
static int put_entry(struct era_tree_source *source, int dirfd, const char *name, struct era_error *err)
{
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT && source->depth > 0 ? 0 : era_error_errno(err, errno, "cannot look at %s", name);
    source->entry.mode = st.st_mode & 0777;
    if (S_ISREG(st.st_mode))
        return put_file(source, dirfd, name, err);
    if (S_ISDIR(st.st_mode))
        return enter_folder(source, dirfd, name, err);
    if (S_ISLNK(st.st_mode))
        return put_link(source, dirfd, name, err);
    if (source->depth == 0)
        return era_error_set(err, EINVAL, "not_a_file", "%s is neither a file nor a directory", name);
    return 0;
}

/* Goes on to the next entry of the innermost directory, or out of it. */
static int advance(struct era_tree_source *source, struct era_error *err)
{
    if (source->depth == 0) {
        source->entry = (struct era_tree_entry){.kind = ERA_TREE_END};
        source->ended = true;
        return put_header(source, err);
    }
    struct level *level = &source->levels[source->depth - 1];
    errno = 0;
    struct dirent *found = readdir(level->dir);
    if (found == NULL) {
        if (errno != 0)
            return era_error_errno(err, errno, "cannot read a directory");
        closedir(level->dir);
        source->depth--;
        return 0;
    }
    if (era_str_eq(found->d_name, ".") || era_str_eq(found->d_name, ".."))
        return 0;
    int r = era_str_format(source->entry.name + level->name_len, sizeof source->entry.name - level->name_len, "%s%s",
                           level->name_len > 0 ? "/" : "", found->d_name);
    if (r < 0)
        return era_error_set(err, ENAMETOOLONG, "path_too_long", "a path has more than %d bytes", ERA_TREE_NAME_MAX);
    return put_entry(source, dirfd(level->dir), found->d_name, err);
}

static ssize_t read_content(struct era_tree_source *source, void *buffer, size_t len, struct era_error *err)
{
    size_t want = source->file_left < len ? (size_t)source->file_left : len;
    ssize_t n = era_read_full(source->file_fd, buffer, want);
    if (n < 0)
        return era_error_errno(err, (int)-n, "cannot read %s", source->entry.name);
    if ((size_t)n < want)
        return era_error_set(err, EIO, "file_changed", "%s became shorter while it was read", source->entry.name);
    source->file_left -= (uint64_t)n;
    return n;
}

ssize_t era_tree_source_read(struct era_tree_source *source, void *buffer, size_t len, struct era_error *err)
{
    size_t done = 0;
    while (done < len) {
        size_t pending = era_buffer_len(&source->pending);
        if (pending > 0) {
            size_t n = pending < len - done ? pending : len - done;
            memcpy((char *)buffer + done, era_buffer_data(&source->pending), n);
            era_buffer_consume(&source->pending, n);
            done += n;
        } else if (source->file_fd >= 0 && source->file_left > 0) {
            ssize_t n = read_content(source, (char *)buffer + done, len - done, err);
            if (n < 0)
                return n;
            done += (size_t)n;
        } else if (source->ended) {
            break;
        } else {
            era_closep(&source->file_fd);
            int r = advance(source, err);
            if (r < 0)
                return r;
        }
    }
    return (ssize_t)done;
}

int era_tree_source_open(int dirfd, const char *path, uint64_t max_bytes, struct era_tree_source **ret_source,
                         struct era_error *err)
{
    struct stat st;
    if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return era_error_set(err, errno, "file_not_found", "%s does not exist", path);
        return era_error_errno(err, errno, "cannot look at %s", path);
    }
    struct era_tree_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        return era_error_oom(err);
    source->file_fd = -EBADF;
    source->budget = max_bytes > 0 ? max_bytes : UINT64_MAX;
    int r = put_entry(source, dirfd, path, err);
    if (r < 0) {
        era_tree_source_free(source);
        return r;
    }
    *ret_source = source;
    return 0;
}

void era_tree_source_free(struct era_tree_source *source)
{
    if (source == NULL)
        return;
    while (source->depth > 0)
        closedir(source->levels[--source->depth].dir);
    era_closep(&source->file_fd);
    era_buffer_clear(&source->pending);
    free(source);
}

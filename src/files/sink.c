/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: bytes are collected until an entry's header is whole,
 * then go to the file under way. A file is written beside its name and renamed
 * when its last byte is there, so that no half file is ever taken for whole.
 * `root_fd` is the parent of the tree's root and `root` the root's name in it;
 * an entry "a/b" lives at root/a/b and is reached beneath root_fd only.
 */
#include "files/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/fd.h"
#include "base/str.h"
#include "wire/tree.h"

struct era_tree_sink {
    int root_fd;
    char root[NAME_MAX + 1];
    bool inside_links_only;
    bool started; /* the root's own entry was seen */
    bool ended;
    size_t skipped;
    uint64_t budget;             /* bytes that may still come */
    struct era_buffer input;     /* an incomplete header, or a link's target */
    struct era_tree_entry entry; /* under way while entry_left > 0 */
    uint64_t entry_left;
    int parent_fd; /* of the entry under way */
    int file_fd;
    char leaf[NAME_MAX + 1];      /* its final name */
    char temporary[NAME_MAX + 1]; /* "" when there is none */
};

/* Opens the parent of the entry and finds its last name. */
static int locate(struct era_tree_sink *sink, struct era_error *err)
{
    era_closep(&sink->parent_fd);
    if (sink->entry.name[0] == '\0') {
        era_str_copy(sink->leaf, sizeof sink->leaf, sink->root);
        sink->parent_fd = fcntl(sink->root_fd, F_DUPFD_CLOEXEC, 0);
        return sink->parent_fd < 0 ? era_error_errno(err, errno, "cannot copy") : 0;
    }
    char path[NAME_MAX + 2 + ERA_TREE_NAME_MAX];
    snprintf(path, sizeof path, "%s/%s", sink->root, sink->entry.name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    era_str_copy(sink->leaf, sizeof sink->leaf, slash + 1);
    sink->parent_fd = era_open_beneath(sink->root_fd, path, O_PATH | O_DIRECTORY, 0);
    return sink->parent_fd < 0 ? era_error_errno(err, -sink->parent_fd, "cannot reach %s", path) : 0;
}

static int begin_file(struct era_tree_sink *sink, struct era_error *err)
{
    for (unsigned attempt = 0; attempt < 100; attempt++) {
        snprintf(sink->temporary, sizeof sink->temporary, ".era-%d-%u.part", (int)getpid(), attempt);
        sink->file_fd = openat(sink->parent_fd, sink->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                               sink->entry.mode | 0200);
        if (sink->file_fd >= 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    sink->temporary[0] = '\0';
    return era_error_errno(err, errno, "cannot create %s", sink->leaf);
}

static int end_file(struct era_tree_sink *sink, struct era_error *err)
{
    era_closep(&sink->file_fd);
    if (renameat(sink->parent_fd, sink->temporary, sink->parent_fd, sink->leaf) < 0)
        return era_error_errno(err, errno, "cannot put %s in its place", sink->leaf);
    sink->temporary[0] = '\0';
    return 0;
}

static int make_folder(struct era_tree_sink *sink, struct era_error *err)
{
    int r = era_ensure_dir_at(sink->parent_fd, sink->leaf, sink->entry.mode | 0700);
    return r < 0 ? era_error_errno(err, -r, "cannot make the directory %s", sink->leaf) : 0;
}

static int make_link(struct era_tree_sink *sink, struct era_error *err)
{
    char target[ERA_TREE_NAME_MAX + 1];
    size_t len = (size_t)sink->entry.size;
    memcpy(target, era_buffer_data(&sink->input), len);
    target[len] = '\0';
    era_buffer_consume(&sink->input, len);
    if (strlen(target) != len)
        return era_error_set(err, EBADMSG, "tree_corrupt", "a link's target holds a NUL byte");
    if (sink->inside_links_only && !era_tree_link_inside(sink->entry.name, target)) {
        sink->skipped++;
        return 0;
    }
    if (unlinkat(sink->parent_fd, sink->leaf, 0) < 0 && errno != ENOENT)
        return era_error_errno(err, errno, "cannot replace %s by a link", sink->leaf);
    if (symlinkat(target, sink->parent_fd, sink->leaf) < 0)
        return era_error_errno(err, errno, "cannot make the link %s", sink->leaf);
    return 0;
}

/* What an entry costs: nobody is to fill a disk by a header, nor its inodes by empty files. */
static int pay(struct era_tree_sink *sink, struct era_error *err)
{
    enum { ENTRY_COST = 512 };
    if (sink->budget < ENTRY_COST || sink->entry.size > sink->budget - ENTRY_COST)
        return era_error_set(err, EFBIG, "file_too_large", "the tree holds more than there can be in it, at %s",
                             sink->entry.name[0] != '\0' ? sink->entry.name : sink->root);
    sink->budget -= ENTRY_COST + sink->entry.size;
    return 0;
}

/* A header is whole: starts its entry. */
static int begin_entry(struct era_tree_sink *sink, struct era_error *err)
{
    bool is_root = sink->entry.name[0] == '\0' && sink->entry.kind != ERA_TREE_END;
    if (is_root == sink->started)
        return era_error_set(err, EBADMSG, "tree_corrupt", "the entries of the tree are out of order");
    sink->started = true;
    if (sink->entry.kind == ERA_TREE_END) {
        sink->ended = true;
        return 0;
    }
    int r = pay(sink, err);
    if (r >= 0)
        r = locate(sink, err);
    if (r < 0)
        return r;
    if (sink->entry.kind == ERA_TREE_FOLDER)
        return make_folder(sink, err);
    if (sink->entry.kind == ERA_TREE_FILE) {
        r = begin_file(sink, err);
        if (r >= 0 && sink->entry.size == 0)
            r = end_file(sink, err);
    }
    sink->entry_left = sink->entry.size;
    return r;
}

/* Takes what it can use of the bytes: the count, or -errno. */
static ssize_t take(struct era_tree_sink *sink, const uint8_t *data, size_t len, struct era_error *err)
{
    if (sink->entry_left > 0 && sink->entry.kind == ERA_TREE_FILE) {
        size_t n = sink->entry_left < len ? (size_t)sink->entry_left : len;
        int r = era_write_full(sink->file_fd, data, n);
        if (r < 0)
            return era_error_errno(err, -r, "cannot write %s", sink->leaf);
        sink->entry_left -= n;
        if (sink->entry_left == 0 && (r = end_file(sink, err)) < 0)
            return r;
        return (ssize_t)n;
    }
    if (sink->ended)
        return era_error_set(err, EBADMSG, "tree_corrupt", "there are bytes after the end of the tree");

    /* Headers and targets are short: collect, then look. */
    if (era_buffer_append(&sink->input, data, len) < 0)
        return era_error_oom(err);
    return (ssize_t)len;
}

/* Works off collected bytes; 1 when something was done, 0 when more are needed. */
static int step(struct era_tree_sink *sink, struct era_error *err)
{
    size_t have = era_buffer_len(&sink->input);
    if (sink->entry_left > 0 && sink->entry.kind == ERA_TREE_SYMLINK) {
        if (have < sink->entry.size)
            return 0;
        sink->entry_left = 0;
        int r = make_link(sink, err);
        return r < 0 ? r : 1;
    }
    if (sink->entry_left > 0 && have > 0) {
        size_t n = sink->entry_left < have ? (size_t)sink->entry_left : have;
        ssize_t taken = take(sink, era_buffer_data(&sink->input), n, err);
        if (taken < 0)
            return (int)taken;
        era_buffer_consume(&sink->input, (size_t)taken);
        return 1;
    }
    if (have == 0)
        return 0;
    if (sink->ended)
        return era_error_set(err, EBADMSG, "tree_corrupt", "there are bytes after the end of the tree");
    ssize_t n = era_tree_decode(era_buffer_data(&sink->input), have, &sink->entry);
    if (n < 0)
        return era_error_set(err, EBADMSG, "tree_corrupt", "the tree holds an entry that is none");
    if (n == 0)
        return 0;
    era_buffer_consume(&sink->input, (size_t)n);
    int r = begin_entry(sink, err);
    return r < 0 ? r : 1;
}

int era_tree_sink_feed(struct era_tree_sink *sink, const void *data, size_t len, struct era_error *err)
{
    const uint8_t *p = data;
    while (len > 0) {
        ssize_t taken = take(sink, p, len, err);
        if (taken < 0)
            return (int)taken;
        p += taken;
        len -= (size_t)taken;
        int r;
        do
            r = step(sink, err);
        while (r > 0);
        if (r < 0)
            return r;
    }
    return 0;
}

int era_tree_sink_finish(struct era_tree_sink *sink, struct era_error *err)
{
    if (!sink->ended || era_buffer_len(&sink->input) > 0)
        return era_error_set(err, EPIPE, "tree_truncated", "the copy ended before its end");
    return 0;
}

void era_tree_sink_limit(struct era_tree_sink *sink, uint64_t max_bytes)
{
    sink->budget = max_bytes;
}

size_t era_tree_sink_skipped(const struct era_tree_sink *sink)
{
    return sink->skipped;
}

/* Splits a path into an opened parent and a last name. */
static int open_parent(struct era_tree_sink *sink, int dirfd, const char *path, struct era_error *err)
{
    _cleanup_free_ char *copy = strdup(path);
    if (copy == NULL)
        return era_error_oom(err);
    size_t len = strlen(copy);
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    char *slash = strrchr(copy, '/');
    const char *leaf = slash != NULL ? slash + 1 : copy;
    const char *parent = slash == NULL ? "." : slash == copy ? "/" : copy;
    if (leaf[0] == '\0' || era_str_eq(leaf, ".") || era_str_eq(leaf, "..") ||
        !era_str_copy(sink->root, sizeof sink->root, leaf))
        return era_error_invalid(err, "path", "%s does not end in a name for the copy", path);
    if (slash != NULL)
        *slash = '\0';
    sink->root_fd = openat(dirfd, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (sink->root_fd < 0)
        return era_error_set(err, errno, errno == ENOENT ? "file_not_found" : "system_error",
                             "cannot copy to %s: its directory: %s", path, strerror(errno));
    return 0;
}

int era_tree_sink_open(int dirfd, const char *path, const char *basename, bool inside_links_only,
                       struct era_tree_sink **ret_sink, struct era_error *err)
{
    _cleanup_(era_tree_sink_freep) struct era_tree_sink *sink = calloc(1, sizeof *sink);
    if (sink == NULL)
        return era_error_oom(err);
    sink->parent_fd = sink->file_fd = -EBADF;
    sink->budget = UINT64_MAX;
    sink->inside_links_only = inside_links_only;
    sink->root_fd = openat(dirfd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (sink->root_fd >= 0) {
        if (basename[0] == '\0' || strchr(basename, '/') != NULL || era_str_eq(basename, ".") ||
            era_str_eq(basename, "..") || !era_str_copy(sink->root, sizeof sink->root, basename))
            return era_error_invalid(err, "path", "the copy needs a name of its own inside %s", path);
    } else {
        int r = open_parent(sink, dirfd, path, err);
        if (r < 0)
            return r;
    }
    *ret_sink = era_take_ptr(sink);
    return 0;
}

void era_tree_sink_free(struct era_tree_sink *sink)
{
    if (sink == NULL)
        return;
    if (sink->temporary[0] != '\0')
        unlinkat(sink->parent_fd, sink->temporary, 0);
    era_closep(&sink->root_fd);
    era_closep(&sink->parent_fd);
    era_closep(&sink->file_fd);
    era_buffer_clear(&sink->input);
    free(sink);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in and out are a run like any other, whose command is this code: so
 * they have the same limits, the same flow control and the same death.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/str.h"
#include "files/files.h"
#include "guest/guest.h"
#include "wire/tree.h"

/* argv: where to, and the name of what comes. */
static int put(const struct era_run_request *request, struct era_error *err)
{
    const char *basename = request->argv.count > 1 ? request->argv.items[1] : "";
    _cleanup_(era_tree_sink_freep) struct era_tree_sink *sink = NULL;
    int r = era_tree_sink_open(AT_FDCWD, request->argv.items[0], basename, false, &sink, err);
    if (r < 0)
        return r;
    static char buffer[64 * 1024];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return era_error_errno(err, errno, "cannot read the copy");
        if (n == 0)
            return era_tree_sink_finish(sink, err);
        r = era_tree_sink_feed(sink, buffer, (size_t)n, err);
        if (r < 0)
            return r;
    }
}

static int send_tree(const char *path, struct era_error *err)
{
    _cleanup_(era_tree_source_freep) struct era_tree_source *source = NULL;
    int r = era_tree_source_open(AT_FDCWD, path, 0, &source, err);
    if (r < 0)
        return r;
    static char buffer[64 * 1024];
    for (;;) {
        ssize_t n = era_tree_source_read(source, buffer, sizeof buffer, err);
        if (n <= 0)
            return (int)n;
        r = era_write_full(STDOUT_FILENO, buffer, (size_t)n);
        if (r < 0)
            return era_error_errno(err, -r, "cannot write the copy");
    }
}

static int get(const struct era_run_request *request, struct era_error *err)
{
    return send_tree(request->argv.items[0], err);
}

/* The head of an entry; what is neither file, folder nor link is left out. */
static int send_head(const char *name, const struct stat *st, struct era_error *err)
{
    struct era_tree_entry entry = {.kind = ERA_TREE_FILE, .mode = st->st_mode & 0777, .size = (uint64_t)st->st_size};
    uint8_t bytes[ERA_TREE_ENTRY_MAX];
    if (S_ISDIR(st->st_mode))
        entry.kind = ERA_TREE_FOLDER;
    else if (S_ISLNK(st->st_mode))
        entry.kind = ERA_TREE_SYMLINK;
    else if (!S_ISREG(st->st_mode))
        return 0;
    if (entry.kind == ERA_TREE_FOLDER)
        entry.size = 0;
    if (entry.kind == ERA_TREE_SYMLINK && entry.size == 0) /* of /proc, whose links do not tell */
        entry.size = 1;
    era_str_copy(entry.name, sizeof entry.name, name);
    ssize_t n = era_tree_encode(&entry, bytes);
    int r = n < 0 ? (int)n : era_write_full(STDOUT_FILENO, bytes, (size_t)n);
    return r < 0 ? era_error_errno(err, -r, "cannot write the list") : 0;
}

static int send_list(const char *path, const struct stat *st, struct era_error *err)
{
    static const struct era_tree_entry end = {.kind = ERA_TREE_END};
    uint8_t bytes[ERA_TREE_ENTRY_MAX];
    DIR *dir = opendir(path);
    if (dir == NULL)
        return era_error_errno(err, errno, "cannot open the directory");
    int r = send_head("", st, err);
    struct dirent *found;
    while (r >= 0 && (found = readdir(dir)) != NULL) {
        struct stat child;
        if (era_str_eq(found->d_name, ".") || era_str_eq(found->d_name, "..") ||
            fstatat(dirfd(dir), found->d_name, &child, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        r = send_head(found->d_name, &child, err);
    }
    closedir(dir);
    if (r < 0)
        return r;
    r = era_write_full(STDOUT_FILENO, bytes, (size_t)era_tree_encode(&end, bytes));
    return r < 0 ? era_error_errno(err, -r, "cannot write the list") : 0;
}

static int open_path(const struct era_run_request *request, struct era_error *err)
{
    struct stat st;
    char path[PATH_MAX];
    if (realpath(request->argv.items[0], path) == NULL || lstat(path, &st) < 0)
        return era_error_errno(err, errno == ENOTDIR ? ENOENT : errno, "%.256s", request->argv.items[0]);
    if (S_ISDIR(st.st_mode))
        return send_list(path, &st, err);
    if (!S_ISREG(st.st_mode))
        return era_error_set(err, EINVAL, "not_a_file", "%.256s is neither a file nor a folder", path);
    return send_tree(path, err);
}

static int remove_path(const struct era_run_request *request, struct era_error *err)
{
    char path[PATH_MAX];
    struct stat st;
    if (!era_str_copy(path, sizeof path, request->argv.items[0]) || lstat(path, &st) < 0)
        return era_error_errno(err, errno == ENOTDIR ? ENOENT : errno, "%.256s", request->argv.items[0]);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    _cleanup_close_ int parent = open(path[0] != '\0' ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = parent < 0 ? -errno : era_remove_tree_at(parent, slash + 1);
    return r < 0 ? era_error_errno(err, -r, "cannot remove %.256s", request->argv.items[0]) : 0;
}

_Noreturn void worker_run(const struct era_run_request *request, int status_fd)
{
    static int (*const workers[])(const struct era_run_request *, struct era_error *) = {
        [ERA_RUN_PUT] = put,
        [ERA_RUN_GET] = get,
        [ERA_RUN_OPEN] = open_path,
        [ERA_RUN_REMOVE] = remove_path,
    };
    ERA_POINT("worker.begun");
    struct era_error err = {0};
    int r = workers[request->kind](request, &err);
    if (r < 0)
        report_failure(status_fd, -r, err.message, 1);
    _exit(0);
}

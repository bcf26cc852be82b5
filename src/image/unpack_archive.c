/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archive around an image: a tar file of an OCI layout, or what
 * `docker save` writes. Its plain files come out for the caller to read, who
 * follows no links; older `docker save` archives have links between layers
 * that are the same, so at the end such links become hard ones.
 */
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "image/unpack.h"

enum { LINKS_LIMIT = 4096 };

struct links {
    struct era_strv paths;
    struct era_strv targets;
};

static void links_clear(struct links *links)
{
    era_strv_clear(&links->paths);
    era_strv_clear(&links->targets);
}

/* A link's target as a path of the archive: without "..", by its text alone. -EINVAL when it leads out. */
static int resolve(const char *path, const char *target, char to[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    char joined[2 * PATH_MAX];
    int r = target[0] == '/' || slash == NULL
                ? era_str_format(joined, sizeof joined, "%s", target)
                : era_str_format(joined, sizeof joined, "%.*s/%s", (int)(slash - path), path, target);
    if (r < 0)
        return r;
    size_t used = 0;
    for (const char *at = joined; *at != '\0';) {
        at += strspn(at, "/");
        size_t len = strcspn(at, "/");
        if (len == 2 && memcmp(at, "..", 2) == 0) {
            if (used == 0)
                return -EINVAL;
            while (used > 0 && to[--used] != '/')
                ;
        } else if (len > 0 && !(len == 1 && at[0] == '.')) {
            if (used + 1 + len >= PATH_MAX)
                return -ENAMETOOLONG;
            if (used > 0)
                to[used++] = '/';
            memcpy(to + used, at, len);
            used += len;
        }
        at += len;
    }
    to[used] = '\0';
    return used > 0 ? 0 : -EINVAL;
}

static int keep_link(struct links *links, const char *path, const char *target, struct era_error *err)
{
    char resolved[PATH_MAX];
    if (target == NULL || resolve(path, target, resolved) < 0)
        return era_error_set(err, EBADMSG, "image_corrupt", "the link %.200s leads out of the archive", path);
    if (links->paths.count == LINKS_LIMIT)
        return era_error_set(err, EBADMSG, "image_corrupt", "the archive has too many links");
    if (era_strv_add(&links->paths, path) < 0 || era_strv_add(&links->targets, resolved) < 0)
        return era_error_oom(err);
    return 0;
}

static int apply(struct era_tree *tree, struct era_stream *stream, struct archive_entry *entry, struct links *links,
                 struct era_error *err)
{
    const char *path = archive_entry_pathname(entry);
    int r = era_tree_check_path(path, err);
    if (r < 0)
        return r;
    if (archive_entry_hardlink(entry) == NULL && archive_entry_filetype(entry) == AE_IFLNK)
        return keep_link(links, path, archive_entry_symlink(entry), err);
    return era_entry_apply(tree, era_stream_reader(stream), entry, path, ERA_OWNER_PRIVATE, err);
}

static int make_link(struct era_tree *tree, const char *path, const char *target, struct era_error *err)
{
    _cleanup_(era_place_close) struct era_place place = {.dir_fd = -EBADF};
    int r = era_tree_spend(tree, 1, 0, err);
    if (r >= 0)
        r = era_tree_find(tree, path, true, &place, err);
    return r < 0 ? r : era_entry_link(tree, target, &place, path, err);
}

int era_unpack_archive(struct era_tree *tree, int fd, struct era_error *err)
{
    _cleanup_(era_stream_closep) struct era_stream *stream = NULL;
    _cleanup_(links_clear) struct links links = {0};
    int r = era_stream_open(fd, tree->bytes_left, &stream, err);
    if (r < 0)
        return r;
    struct archive_entry *entry = NULL;
    while ((r = era_stream_next(stream, &entry, err)) > 0) {
        r = apply(tree, stream, entry, &links, err);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; r >= 0 && i < links.paths.count; i++)
        r = make_link(tree, links.paths.items[i], links.targets.items[i], err);
    return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whiteouts of the OCI image specification (layer.md). A whiteout hides what
 * lower layers have, never what its own layer makes, whichever comes first.
 */
#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "image/unpack.h"

#define PREFIX ".wh."
#define OPAQUE ".wh..wh..opq"

enum era_whiteout era_whiteout_of(const char *path, const char **ret_name)
{
    const char *base = path;
    for (const char *at = path; *at != '\0';) {
        at += strspn(at, "/");
        size_t len = strcspn(at, "/");
        if (len == 0)
            break;
        base = at;
        at += len;
        if (!era_str_starts_with(base, PREFIX))
            continue;
        /* AUFS keeps .wh..wh.aufs, .wh..wh.orph/ and .wh..wh.plnk/ at the top of a branch. */
        bool opaque = len == strlen(OPAQUE) && strncmp(base, OPAQUE, len) == 0;
        if (era_str_starts_with(base, PREFIX PREFIX) && !opaque)
            return ERA_WHITEOUT_IGNORE;
        if (at[strspn(at, "/")] != '\0')
            return ERA_WHITEOUT_BAD; /* a whiteout is no directory */
    }
    if (!era_str_starts_with(base, PREFIX))
        return ERA_WHITEOUT_NONE;
    if (base[strcspn(base, "/")] != '\0')
        return ERA_WHITEOUT_BAD;
    if (strcmp(base, OPAQUE) == 0)
        return ERA_WHITEOUT_OPAQUE;
    const char *name = base + strlen(PREFIX);
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return ERA_WHITEOUT_BAD;
    *ret_name = name;
    return ERA_WHITEOUT_REMOVE;
}

int era_whiteout_apply(struct era_tree *tree, enum era_whiteout kind, const char *path, const char *name,
                       struct era_error *err)
{
    if (kind == ERA_WHITEOUT_IGNORE)
        return 0;
    if (kind == ERA_WHITEOUT_BAD)
        return era_error_set(err, EBADMSG, "image_corrupt", "a whiteout names nothing that can be: %.200s", path);
    struct era_place place = {.dir_fd = -EBADF};
    int r = era_tree_find(tree, path, false, &place, err);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    r = kind == ERA_WHITEOUT_OPAQUE ? era_tree_purge(tree, &place, NULL, err) : era_tree_purge(tree, &place, name, err);
    era_place_close(&place);
    return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An npm package: a gzipped tar file of plain files below `package/`. It is
 * hashed whole before its first byte is parsed.
 */
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "image/unpack.h"

static int check_integrity(int fd, const char *integrity, struct era_error *err)
{
    _cleanup_(era_hash_freep) struct era_hash *hash = era_hash_new(true);
    if (hash == NULL)
        return era_error_oom(err);
    int r = era_hash_fd(hash, fd);
    if (r < 0)
        return era_error_errno(err, -r, "cannot read the package");
    if (lseek(fd, 0, SEEK_SET) < 0)
        return era_error_errno(err, errno, "cannot read the package again");
    char got[ERA_INTEGRITY_MAX];
    era_hash_integrity(hash, got);
    if (!era_str_eq(got, integrity))
        return era_error_set(err, EBADMSG, "integrity_mismatch", "the package is %s, but %s was expected", got,
                             integrity);
    return 0;
}

/* Where a rule puts a path; false when it is not about it. */
static bool rule_applies(const char *rule, const char *path, char ret_to[PATH_MAX])
{
    const char *to = strchr(rule, '=');
    if (to == NULL || to == rule)
        return false;
    size_t len = (size_t)(to - rule);
    bool folder = rule[len - 1] == '/';
    if (strncmp(path, rule, len) != 0 || (!folder && path[len] != '\0'))
        return false;
    return era_str_format(ret_to, PATH_MAX, "%s%s", to + 1, path + len) == 0;
}

static int apply(struct era_tree *tree, struct era_stream *stream, struct archive_entry *entry, char *const rules[],
                 size_t count, struct era_error *err)
{
    const char *path = archive_entry_pathname(entry);
    int r = era_tree_check_path(path, err);
    if (r < 0 || archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != NULL)
        return r;
    /* The first component is "package" by custom only. */
    const char *inner = strchr(path, '/');
    char to[PATH_MAX];
    for (size_t i = 0; inner != NULL && i < count; i++)
        if (rule_applies(rules[i], inner + 1, to))
            return era_entry_apply(tree, era_stream_reader(stream), entry, to, ERA_OWNER_ROOT, err);
    return 0;
}

int era_unpack_package(struct era_tree *tree, int fd, const char *integrity, char *const rules[], size_t count,
                       struct era_error *err)
{
    int r = check_integrity(fd, integrity, err);
    if (r < 0)
        return r;
    _cleanup_(era_stream_closep) struct era_stream *stream = NULL;
    r = era_stream_open(fd, tree->bytes_left, &stream, err);
    if (r < 0)
        return r;
    struct archive_entry *entry = NULL;
    while ((r = era_stream_next(stream, &entry, err)) > 0) {
        r = apply(tree, stream, entry, rules, count, err);
        if (r < 0)
            return r;
    }
    return r;
}

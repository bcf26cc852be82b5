/* SPDX-License-Identifier: Apache-2.0 */
/* One layer of an image over the ones before it. */
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "image/unpack.h"

/* What a tar file holds beside the data: a header, padding, perhaps a pax header, for each entry. */
static uint64_t tar_size_limit(const struct era_tree *tree)
{
    return tree->bytes_left + (tree->entries_left + 1) * 8192;
}

static int apply(struct era_tree *tree, struct era_stream *stream, struct archive_entry *entry, struct era_error *err)
{
    const char *path = archive_entry_pathname(entry);
    int r = era_tree_check_path(path, err);
    if (r < 0)
        return r;
    const char *hidden = NULL;
    enum era_whiteout whiteout = era_whiteout_of(path, &hidden);
    if (whiteout == ERA_WHITEOUT_NONE)
        return era_entry_apply(tree, era_stream_reader(stream), entry, path, ERA_OWNER_AS_WRITTEN, err);
    r = era_tree_spend(tree, 1, 0, err); /* work that must be bounded too */
    return r < 0 ? r : era_whiteout_apply(tree, whiteout, path, hidden, err);
}

static int check_digest(const char *what, const char *wanted, const char *got, struct era_error *err)
{
    if (wanted[0] == '\0' || era_str_eq(wanted, got))
        return 0;
    return era_error_set(err, EBADMSG, "image_corrupt", "a layer's %s is %s, but the image says %s", what, got, wanted);
}

int era_unpack_layer(struct era_tree *tree, const struct era_layer *layer, struct era_error *err)
{
    era_marks_clear(&tree->marks);
    _cleanup_(era_stream_closep) struct era_stream *stream = NULL;
    int r = era_stream_open(layer->fd, tar_size_limit(tree), &stream, err);
    if (r < 0)
        return r;
    struct archive_entry *entry = NULL;
    while ((r = era_stream_next(stream, &entry, err)) > 0) {
        r = apply(tree, stream, entry, err);
        if (r < 0)
            return r;
    }
    if (r < 0)
        return r;
    char digest[ERA_DIGEST_MAX];
    char diff_id[ERA_DIGEST_MAX];
    r = era_stream_finish(stream, digest, diff_id, err);
    if (r < 0)
        return r;
    r = check_digest("digest", layer->digest, digest, err);
    return r < 0 ? r : check_digest("diff_id", layer->diff_id, diff_id, err);
}

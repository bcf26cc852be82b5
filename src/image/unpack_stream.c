/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two readers in a row: the first undoes the compression and gives raw bytes,
 * the second takes those for a tar file. Between them sits the digest of the
 * tar file (an OCI diff_id), before them that of the blob. An ordinary single
 * reader could tell neither.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/unpack.h"

struct era_stream {
    int fd; /* borrowed */
    int read_error;
    bool raw_ended;
    uint64_t bytes_left;
    struct archive *raw;
    struct archive *tar;
    struct era_hash *blob_hash;
    struct era_hash *tar_hash;
    char buffer[256 << 10];
};

static la_ssize_t read_blob(struct archive *raw, void *userdata, const void **ret_data)
{
    struct era_stream *stream = userdata;
    ssize_t n;
    do
        n = read(stream->fd, stream->buffer, sizeof stream->buffer);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        stream->read_error = errno;
        archive_set_error(raw, errno, "cannot read the archive");
        return -1;
    }
    era_hash_update(stream->blob_hash, stream->buffer, (size_t)n);
    *ret_data = stream->buffer;
    return n;
}

static la_ssize_t read_tar(struct archive *tar, void *userdata, const void **ret_data)
{
    struct era_stream *stream = userdata;
    size_t len = 0;
    la_int64_t offset = 0;
    while (len == 0) {
        if (stream->raw_ended)
            return 0;
        int got = archive_read_data_block(stream->raw, ret_data, &len, &offset);
        if (got == ARCHIVE_EOF) {
            stream->raw_ended = true;
            return 0;
        }
        if (got < ARCHIVE_WARN) {
            archive_set_error(tar, EIO, "%s", archive_error_string(stream->raw));
            return -1;
        }
    }
    if (len > stream->bytes_left) {
        archive_set_error(tar, EFBIG, "it is larger than an image may be");
        return -1;
    }
    stream->bytes_left -= len;
    era_hash_update(stream->tar_hash, *ret_data, len);
    return (la_ssize_t)len;
}

void era_stream_close(struct era_stream *stream)
{
    if (stream == NULL)
        return;
    /* The second reads from the first. */
    archive_read_free(stream->tar);
    archive_read_free(stream->raw);
    era_hash_free(stream->blob_hash);
    era_hash_free(stream->tar_hash);
    free(stream);
}

static int corrupt(struct era_stream *stream, struct archive *reader, struct era_error *err)
{
    if (stream->read_error != 0)
        return era_error_errno(err, stream->read_error, "cannot read the archive");
    const char *why = archive_error_string(reader);
    return era_error_set(err, EBADMSG, "image_corrupt", "the archive cannot be read: %.300s",
                         why != NULL ? why : "unknown error");
}

static int open_raw(struct era_stream *stream, struct era_error *err)
{
    struct archive *raw = stream->raw;
    /* A filter that would run a program answers with a warning. */
    if (archive_read_support_filter_gzip(raw) != ARCHIVE_OK || archive_read_support_filter_zstd(raw) != ARCHIVE_OK)
        return era_error_set(err, ENOTSUP, "system_error", "libarchive was built without gzip or zstd");
    archive_read_support_format_raw(raw);
    archive_read_support_format_empty(raw);
    struct archive_entry *entry = NULL;
    if (archive_read_open2(raw, stream, NULL, read_blob, NULL, NULL) != ARCHIVE_OK)
        return corrupt(stream, raw, err);
    int got = archive_read_next_header(raw, &entry);
    stream->raw_ended = got == ARCHIVE_EOF;
    return got < ARCHIVE_WARN ? corrupt(stream, raw, err) : 0;
}

static int open_tar(struct era_stream *stream, struct era_error *err)
{
    archive_read_support_format_tar(stream->tar);
    archive_read_support_format_empty(stream->tar);
    if (archive_read_open2(stream->tar, stream, NULL, read_tar, NULL, NULL) != ARCHIVE_OK)
        return corrupt(stream, stream->tar, err);
    return 0;
}

int era_stream_open(int fd, uint64_t max_bytes, struct era_stream **ret_stream, struct era_error *err)
{
    _cleanup_(era_stream_closep) struct era_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return era_error_oom(err);
    stream->fd = fd;
    stream->bytes_left = max_bytes;
    stream->raw = archive_read_new();
    stream->tar = archive_read_new();
    stream->blob_hash = era_hash_new(false);
    stream->tar_hash = era_hash_new(false);
    if (stream->raw == NULL || stream->tar == NULL || stream->blob_hash == NULL || stream->tar_hash == NULL)
        return era_error_oom(err);
    int r = open_raw(stream, err);
    if (r >= 0)
        r = open_tar(stream, err);
    if (r < 0)
        return r;
    *ret_stream = era_take_ptr(stream);
    return 0;
}

struct archive *era_stream_reader(struct era_stream *stream)
{
    return stream->tar;
}

int era_stream_next(struct era_stream *stream, struct archive_entry **ret_entry, struct era_error *err)
{
    int got = archive_read_next_header(stream->tar, ret_entry);
    if (got == ARCHIVE_EOF)
        return 0;
    return got < ARCHIVE_WARN ? corrupt(stream, stream->tar, err) : 1;
}

int era_stream_finish(struct era_stream *stream, char ret_blob[ERA_DIGEST_MAX], char ret_tar[ERA_DIGEST_MAX],
                      struct era_error *err)
{
    const void *data = NULL;
    la_ssize_t n;
    while ((n = read_tar(stream->tar, stream, &data)) > 0)
        ;
    if (n < 0)
        return corrupt(stream, stream->tar, err);
    /* A decompressor stops at the end of its data; the blob's digest is of the whole file. */
    while ((n = read_blob(stream->raw, stream, &data)) > 0)
        ;
    if (n < 0)
        return corrupt(stream, stream->raw, err);
    if (ret_blob != NULL)
        era_hash_digest(stream->blob_hash, ret_blob);
    if (ret_tar != NULL)
        era_hash_digest(stream->tar_hash, ret_tar);
    return 0;
}

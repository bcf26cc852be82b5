/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single files in and out, piece by piece, for callers with an event loop: the runs of copy.c, fed and drained
 * in steps that never block. What comes from the guest is hostile: the head of its stream is decoded and
 * checked, its content counted.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "service/service.h"
#include "wire/tree.h"

enum { STAGE_TIMEOUT_MS = 30000, REMOVE_TIMEOUT_MS = 120000 };

struct era_transfer {
    struct era_run *run;         /* owned */
    struct era_buffer pending;   /* in: headers to be sent; out: bytes that were received and not looked at */
    uint64_t left;               /* bytes of content that must still come, either way */
    bool headed;                 /* out: the head was read */
    bool ended;                  /* out: the worker ended, and all was well */
    bool whole;                  /* out: the end of the tree was read */
    struct era_tree_entry entry; /* out: the one that was read last */
    bool closing;                /* in: the end of the tree was queued, and stdin is to be closed */
    bool closed;
};

void era_transfer_free(struct era_transfer *transfer)
{
    if (transfer == NULL)
        return;
    era_run_free(transfer->run);
    era_buffer_clear(&transfer->pending);
    free(transfer);
}

int era_transfer_fd(const struct era_transfer *transfer)
{
    return era_run_fd(transfer->run);
}

short era_transfer_poll_events(const struct era_transfer *transfer)
{
    return era_run_poll_events(transfer->run);
}

static int check_path(const char *path, struct era_error *err)
{
    if (path[0] == '/' && era_guest_path_valid(path))
        return 0;
    return era_error_invalid(err, "path", "a path in the VM is absolute, and has plain names only");
}

static int open_transfer(struct era *era, const char *id, enum era_run_kind kind, const char *path, const char *name,
                         uint32_t timeout_ms, struct era_transfer **ret_transfer, struct era_error *err)
{
    struct era_transfer *transfer = calloc(1, sizeof *transfer);
    if (transfer == NULL)
        return era_error_oom(err);
    int r = copy_open(era, id, kind, path, name, timeout_ms, &transfer->run, err);
    if (r < 0) {
        era_transfer_free(transfer);
        return r;
    }
    era_run_detach(transfer->run); /* it is not recorded, and needs no handle */
    *ret_transfer = transfer;
    return 0;
}

/* ---- in ----------------------------------------------------------------- */

static int put_entry(struct era_buffer *to, enum era_tree_kind kind, const char *name, uint32_t mode, uint64_t size)
{
    struct era_tree_entry entry = {.kind = kind, .mode = mode, .size = size};
    uint8_t bytes[ERA_TREE_ENTRY_MAX];
    era_str_copy(entry.name, sizeof entry.name, name);
    ssize_t n = era_tree_encode(&entry, bytes);
    return n < 0 ? (int)n : era_buffer_append(to, bytes, (size_t)n);
}

/* The folders that lead to a path, and the head of the file itself. rest: the path behind its first name. */
static int put_head(struct era_buffer *to, const char *rest, uint32_t mode, uint64_t size)
{
    if (rest[0] == '\0')
        return put_entry(to, ERA_TREE_FILE, "", mode, size);
    int r = put_entry(to, ERA_TREE_FOLDER, "", 0755, 0);
    char name[ERA_PATH_MAX];
    for (const char *slash = strchr(rest, '/'); r >= 0 && slash != NULL; slash = strchr(slash + 1, '/')) {
        memcpy(name, rest, (size_t)(slash - rest));
        name[slash - rest] = '\0';
        r = put_entry(to, ERA_TREE_FOLDER, name, 0755, 0);
    }
    return r < 0 ? r : put_entry(to, ERA_TREE_FILE, rest, mode, size);
}

static int open_put(struct era *era, const char *id, const char *path, uint64_t size, uint32_t mode,
                    uint32_t timeout_ms, struct era_transfer **ret_transfer, struct era_error *err)
{
    int r = check_path(path, err);
    if (r < 0)
        return r;
    struct era_vm_record record;
    r = vm_find(era, id, &record, err);
    if (r < 0)
        return r;
    uint64_t room = copy_room(&record, path);
    era_vm_record_clear(&record);
    if (room > 0 && size > room)
        return era_error_set(err, EFBIG, "file_too_large", "the file has %llu bytes, more than the %llu that fit",
                             (unsigned long long)size, (unsigned long long)room);
    char first[256];
    size_t len = strcspn(path + 1, "/");
    memcpy(first, path + 1, len);
    first[len] = '\0';
    struct era_transfer *transfer = NULL;
    r = open_transfer(era, id, ERA_RUN_PUT, "/", first, timeout_ms, &transfer, err);
    if (r < 0 || transfer == NULL)
        return r;
    transfer->left = size;
    if (put_head(&transfer->pending, path + 1 + len + (path[1 + len] == '/'), mode, size) < 0) {
        era_transfer_free(transfer);
        return era_error_oom(err);
    }
    *ret_transfer = transfer;
    return 0;
}

int era_put_open(struct era *era, const char *id, const char *path, uint64_t size, uint32_t mode,
                 struct era_transfer **ret_transfer, struct era_error *err)
{
    return open_put(era, id, path, size, mode, 0, ret_transfer, err);
}

/* 1 once nothing is pending, 0 when there is no room. */
static int send_pending(struct era_transfer *transfer)
{
    while (era_buffer_len(&transfer->pending) > 0) {
        ssize_t n =
            era_run_write(transfer->run, era_buffer_data(&transfer->pending), era_buffer_len(&transfer->pending));
        if (n <= 0)
            return (int)n;
        era_buffer_consume(&transfer->pending, (size_t)n);
    }
    return 1;
}

/* Looks for words of the VM: 1 at its end, 0 when there are none. It may end early, with an error. */
static int listen_to(struct era_transfer *transfer, struct era_error *err)
{
    struct era_event event;
    int r;
    while ((r = era_run_next(transfer->run, &event, err)) > 0)
        if (event.type == ERA_EVENT_EXIT) {
            r = copy_judge(transfer->run, err);
            if (r >= 0 && !transfer->closed)
                r = era_error_set(err, EPIPE, "copy_failed", "the VM took not all of the file");
            return r < 0 ? r : 1;
        }
    return r;
}

ssize_t era_put_write(struct era_transfer *transfer, const void *data, size_t len, struct era_error *err)
{
    int r = listen_to(transfer, err);
    if (r < 0)
        return r;
    size_t n = transfer->left < len ? (size_t)transfer->left : len;
    r = send_pending(transfer);
    ssize_t taken = r > 0 && n > 0 ? era_run_write(transfer->run, data, n) : r < 0 ? r : 0;
    if (taken == -EPIPE)
        return 0; /* why, the next look says */
    if (taken < 0)
        return era_error_errno(err, (int)-taken, "cannot copy into the VM");
    transfer->left -= (uint64_t)taken;
    return taken;
}

int era_put_finish(struct era_transfer *transfer, struct era_error *err)
{
    if (transfer->left > 0)
        return era_error_set(err, EPIPE, "tree_truncated", "the copy ended before its end");
    if (!transfer->closing && put_entry(&transfer->pending, ERA_TREE_END, "", 0, 0) < 0)
        return era_error_oom(err);
    transfer->closing = true;
    if (!transfer->closed && send_pending(transfer) > 0) {
        (void)era_run_close_stdin(transfer->run);
        transfer->closed = true;
    }
    return listen_to(transfer, err);
}

/* ---- out ----------------------------------------------------------------- */

int era_get_open(struct era *era, const char *id, const char *path, struct era_transfer **ret_transfer,
                 struct era_error *err)
{
    if (!era_str_eq(path, "/")) {
        int r = check_path(path, err);
        if (r < 0)
            return r;
    }
    return open_transfer(era, id, ERA_RUN_OPEN, path, "", 0, ret_transfer, err);
}

/* More bytes to look at: 1; -EAGAIN when there are none now; 0 at the end. */
static int pull(struct era_transfer *transfer, struct era_error *err)
{
    if (transfer->ended)
        return 0;
    struct era_event event;
    int r;
    while ((r = era_run_next(transfer->run, &event, err)) > 0) {
        if (event.type == ERA_EVENT_STDOUT) {
            r = era_buffer_append(&transfer->pending, event.data, event.len);
            return r < 0 ? era_error_oom(err) : 1;
        }
        if (event.type == ERA_EVENT_EXIT) {
            r = copy_judge(transfer->run, err);
            transfer->ended = r >= 0;
            return r;
        }
    }
    return r < 0 ? r : -EAGAIN;
}

/* The next entry's head: 1, -EAGAIN. */
static int next_entry(struct era_transfer *transfer, struct era_error *err)
{
    for (;;) {
        ssize_t n =
            era_tree_decode(era_buffer_data(&transfer->pending), era_buffer_len(&transfer->pending), &transfer->entry);
        if (n < 0)
            return era_error_set(err, EBADMSG, "tree_corrupt", "the VM sent an entry that is none");
        if (n > 0) {
            era_buffer_consume(&transfer->pending, (size_t)n);
            return 1;
        }
        int r = pull(transfer, err);
        if (r <= 0)
            return r < 0 ? r : era_error_set(err, EPIPE, "tree_truncated", "the copy ended before its end");
    }
}

/* After the last entry nothing may come but the end. 0, -EAGAIN. */
static int finish_get(struct era_transfer *transfer, struct era_error *err)
{
    transfer->whole = true;
    int r = era_buffer_len(&transfer->pending) > 0 ? 1 : pull(transfer, err);
    return r > 0 ? era_error_set(err, EBADMSG, "tree_corrupt", "there are bytes after the end of the tree") : r;
}

static void describe(const struct era_tree_entry *entry, struct era_file_info *info)
{
    info->kind = entry->kind == ERA_TREE_FILE     ? ERA_FILE_REGULAR
                 : entry->kind == ERA_TREE_FOLDER ? ERA_FILE_FOLDER
                                                  : ERA_FILE_LINK;
    info->name = entry->name;
    info->size = entry->size;
    info->mode = entry->mode;
}

int era_get_head(struct era_transfer *transfer, struct era_file_info *ret_info, struct era_error *err)
{
    int r = transfer->headed ? 1 : next_entry(transfer, err);
    if (r == -EAGAIN)
        return 0;
    if (r < 0)
        return r;
    const struct era_tree_entry *entry = &transfer->entry;
    if (entry->name[0] != '\0' || (entry->kind != ERA_TREE_FILE && entry->kind != ERA_TREE_FOLDER))
        return era_error_set(err, EBADMSG, "tree_corrupt", "the VM sent neither a file nor a folder");
    transfer->headed = true;
    transfer->left = entry->kind == ERA_TREE_FILE ? entry->size : 0;
    describe(entry, ret_info);
    return 1;
}

ssize_t era_get_read(struct era_transfer *transfer, void *to, size_t len, struct era_error *err)
{
    if (transfer->left == 0) {
        int r = transfer->whole ? 1 : next_entry(transfer, err);
        if (r >= 0 && !transfer->whole && transfer->entry.kind != ERA_TREE_END)
            return era_error_set(err, EBADMSG, "tree_corrupt", "the VM sent more than one file");
        return r < 0 ? r : finish_get(transfer, err);
    }
    if (era_buffer_len(&transfer->pending) == 0) {
        int r = pull(transfer, err);
        if (r <= 0)
            return r < 0 ? r : era_error_set(err, EPIPE, "tree_truncated", "the copy ended before its end");
    }
    size_t n = era_buffer_len(&transfer->pending);
    n = n < len ? n : len;
    n = n < transfer->left ? n : (size_t)transfer->left;
    memcpy(to, era_buffer_data(&transfer->pending), n);
    era_buffer_consume(&transfer->pending, n);
    transfer->left -= n;
    return (ssize_t)n;
}

int era_get_next(struct era_transfer *transfer, struct era_file_info *ret_info, struct era_error *err)
{
    int r = transfer->whole ? 1 : next_entry(transfer, err);
    if (r < 0)
        return r;
    if (transfer->whole || transfer->entry.kind == ERA_TREE_END)
        return finish_get(transfer, err);
    if (transfer->entry.name[0] == '\0' || strchr(transfer->entry.name, '/') != NULL)
        return era_error_set(err, EBADMSG, "tree_corrupt", "the VM sent a name that is none");
    describe(&transfer->entry, ret_info);
    return 1;
}

/* ---- blocking, for a bounded time --------------------------------------------- */

static int wait_bounded(const struct era_transfer *transfer, int64_t deadline_ns, struct era_error *err)
{
    int64_t left_ms = (deadline_ns - era_clock_monotonic_ns()) / 1000000;
    struct pollfd poller = {.fd = era_transfer_fd(transfer), .events = era_transfer_poll_events(transfer)};
    int n = left_ms > 0 ? poll(&poller, 1, (int)left_ms) : 0;
    if (n < 0 && errno != EINTR)
        return era_error_errno(err, errno, "cannot wait for the copy");
    return n == 0 ? era_error_set(err, ETIMEDOUT, "copy_failed", "the VM does not take the file") : 0;
}

static int stage(struct era_transfer *transfer, const struct spec_data *data, struct era_error *err)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)STAGE_TIMEOUT_MS * 1000000;
    size_t sent = 0;
    for (;;) {
        int r = 0;
        ssize_t n = sent < data->len ? era_put_write(transfer, (char *)data->bytes + sent, data->len - sent, err) : 0;
        if (n < 0)
            return (int)n;
        sent += (size_t)n;
        if (sent == data->len && (r = era_put_finish(transfer, err)) != 0)
            return r;
        if (n == 0 && (r = wait_bounded(transfer, deadline_ns, err)) < 0)
            return r;
    }
}

int stage_data(struct era *era, const char *id, const struct era_run_spec *spec, struct era_error *err)
{
    for (size_t i = 0; i < spec->data_count; i++) {
        struct era_transfer *transfer = NULL;
        const struct spec_data *data = &spec->data[i];
        int r = open_put(era, id, data->path, data->len, 0644, STAGE_TIMEOUT_MS, &transfer, err);
        if (r >= 0 && transfer != NULL)
            r = stage(transfer, data, err);
        era_transfer_free(transfer);
        if (r < 0) {
            if (err != NULL && (era_error_is(err, "file_too_large") || era_error_is(err, "copy_failed")))
                era_str_copy(err->field, sizeof err->field, "files");
            return r;
        }
    }
    return 0;
}

int era_vm_remove_path(struct era *era, const char *id, const char *path, struct era_error *err)
{
    struct era_transfer *transfer = NULL;
    int r = check_path(path, err);
    if (r >= 0)
        r = open_transfer(era, id, ERA_RUN_REMOVE, path, "", REMOVE_TIMEOUT_MS, &transfer, err);
    if (r < 0 || transfer == NULL)
        return r;
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)REMOVE_TIMEOUT_MS * 1000000;
    while ((r = pull(transfer, err)) == -EAGAIN || r > 0) {
        era_buffer_clear(&transfer->pending);
        if (r == -EAGAIN && (r = wait_bounded(transfer, deadline_ns, err)) < 0)
            break;
    }
    era_transfer_free(transfer);
    return r;
}

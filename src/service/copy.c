/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in and out of a VM: a run whose command is a worker of era-init, with a
 * tree stream (wire/tree.h) as its stdin or stdout. What comes out of a guest
 * is hostile; what it may write on the host is below the target and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "files/files.h"
#include "service/service.h"

/* The last name of a path, without trailing slashes; "" for none. */
static void last_name(const char *path, char *name, size_t size)
{
    size_t len = strlen(path);
    while (len > 0 && path[len - 1] == '/')
        len--;
    size_t start = len;
    while (start > 0 && path[start - 1] != '/')
        start--;
    size_t n = len - start < size - 1 ? len - start : size - 1;
    memcpy(name, path + start, n);
    name[n] = '\0';
    if (era_str_eq(name, ".") || era_str_eq(name, ".."))
        name[0] = '\0';
}

static int check_guest_path(const char *path, struct era_error *err)
{
    if (path[0] != '/' || strlen(path) >= ERA_PATH_MAX)
        return era_error_invalid(err, "path", "a path in the VM is absolute and has less than %u bytes", ERA_PATH_MAX);
    return 0;
}

int copy_open(struct era *era, const char *id, enum era_run_kind kind, const char *guest_path, const char *name,
              uint32_t timeout_ms, struct era_run **ret_run, struct era_error *err)
{
    _cleanup_close_ int fd = vm_connect(era, id, err);
    if (fd < 0)
        return fd;
    struct era_run_request request = {
        .kind = kind,
        /* A worker that writes is not killed when we are gone: at the end of its input it takes back a half file. */
        .flags = kind == ERA_RUN_PUT ? ERA_RUN_STDIN : ERA_RUN_LIVE | ERA_RUN_KILL_ON_HANGUP,
        .timeout_ms = timeout_ms,
        .workdir = "/",
    };
    era_run_id_make(era_clock_realtime_ns(), request.id);
    int r = era_strv_add(&request.argv, guest_path);
    if (r >= 0)
        r = era_strv_add(&request.argv, name);
    r = r < 0 ? era_error_oom(err) : run_open(era, era_take_fd(&fd), &request, id, ret_run, err);
    era_run_request_clear(&request);
    return r;
}

int copy_judge(const struct era_run *run, struct era_error *err)
{
    const struct era_result *result = era_run_result(run);
    if (result != NULL && result->outcome.verdict == ERA_VERDICT_EXITED && result->outcome.exit_code == 0)
        return 0;
    return era_error_set(err, EIO, "copy_failed", "the copy was ended in the VM: %s",
                         result != NULL ? era_verdict_name(result->outcome.verdict) : "lost");
}

/* Feeds the stream until its end, and waits for the worker's. */
static int feed(struct era_run *run, struct era_tree_source *source, struct era_error *err)
{
    static const size_t piece = 32 * 1024;
    _cleanup_free_ char *buffer = malloc(piece);
    if (buffer == NULL)
        return era_error_oom(err);
    size_t have = 0;
    size_t sent = 0;
    bool end = false;
    for (;;) {
        struct era_event event;
        int r = era_run_next(run, &event, err);
        if (r < 0)
            return r;
        if (event.type == ERA_EVENT_EXIT)
            return copy_judge(run, err);
        if (have == sent && !end) {
            ssize_t n = era_tree_source_read(source, buffer, piece, err);
            if (n < 0)
                return (int)n;
            have = (size_t)n;
            sent = 0;
            end = n == 0;
            if (end)
                (void)era_run_close_stdin(run);
        }
        ssize_t taken = have > sent ? era_run_write(run, buffer + sent, have - sent) : 0;
        if (taken > 0)
            sent += (size_t)taken;
        else if (r == 0 && (r = run_wait(run)) < 0)
            return era_error_errno(err, -r, "cannot wait for the copy");
    }
}

/* Nothing that cannot fit is begun: the writable layer is half of the VM's memory. A volume bounds itself. */
uint64_t copy_room(const struct era_vm_record *record, const char *guest_path)
{
    if (record->ask.volume[0] != '\0' && era_str_starts_with(guest_path, "/workspace/persist"))
        return 0;
    return (uint64_t)record->ask.mem_mib << 19;
}

int era_vm_copy_in(struct era *era, const char *id, const char *host_path, const char *guest_path,
                   struct era_error *err)
{
    int r = check_guest_path(guest_path, err);
    if (r < 0)
        return r;
    struct era_vm_record record;
    r = vm_find(era, id, &record, err);
    if (r < 0)
        return r;
    uint64_t room = copy_room(&record, guest_path);
    era_vm_record_clear(&record);

    /* The caller names the path, and may name a link. */
    _cleanup_free_ char *real = realpath(host_path, NULL);
    if (real == NULL)
        return era_error_set(err, errno, errno == ENOENT ? "file_not_found" : "file_unreadable", "%s: %s", host_path,
                             strerror(errno));
    _cleanup_(era_tree_source_freep) struct era_tree_source *source = NULL;
    r = era_tree_source_open(AT_FDCWD, real, room, &source, err);
    if (r < 0)
        return r;
    char name[256];
    last_name(host_path, name, sizeof name);
    if (name[0] == '\0')
        last_name(real, name, sizeof name);
    struct era_run *run = NULL;
    r = copy_open(era, id, ERA_RUN_PUT, guest_path, name, 0, &run, err);
    if (r < 0)
        return r;
    ERA_POINT("copy.opened");
    r = feed(run, source, err);
    ERA_POINT("copy.fed");
    era_run_free(run);
    return r;
}

static int drain(struct era_run *run, struct era_tree_sink *sink, struct era_error *err)
{
    for (;;) {
        struct era_event event;
        int r = era_run_next(run, &event, err);
        if (r < 0)
            return r;
        if (event.type == ERA_EVENT_EXIT) {
            r = copy_judge(run, err);
            return r < 0 ? r : era_tree_sink_finish(sink, err);
        }
        if (event.type == ERA_EVENT_STDOUT && (r = era_tree_sink_feed(sink, event.data, event.len, err)) < 0)
            return r;
        /* Only when nothing is left that was read already: the last frames come together. */
        if (event.type == ERA_EVENT_NONE && (r = run_wait(run)) < 0)
            return era_error_errno(err, -r, "cannot wait for the copy");
    }
}

/*
 * Twice what the image, the memory and the volume of a VM hold: more is a file
 * with holes, or a lie, and the host's disk would be full before it ended.
 */
static uint64_t most_of(struct era *era, const struct era_vm_record *record)
{
    uint64_t image_bytes = 0;
    uint64_t disk_mib = 0;
    struct era_volume_record volume;
    if (record->ask.volume[0] != '\0' && era_store_volume_get(era->store, record->ask.volume, &volume, NULL) >= 0)
        disk_mib = volume.size_mib;
    struct era_image_info *info = NULL;
    _cleanup_close_ int root = -EBADF;
    _cleanup_close_ int lock = -EBADF;
    if (service_images(era, NULL) >= 0 &&
        era_image_store_get(era->images, record->ask.image, &root, &lock, &info, NULL) >= 0)
        image_bytes = info->size_bytes;
    era_image_info_free(info);
    return 2 * (image_bytes + ((record->ask.mem_mib + disk_mib) << 20));
}

int era_vm_copy_out(struct era *era, const char *id, const char *guest_path, const char *host_path,
                    struct era_error *err)
{
    int r = check_guest_path(guest_path, err);
    if (r < 0)
        return r;
    struct era_vm_record record;
    r = vm_find(era, id, &record, err);
    if (r < 0)
        return r;
    uint64_t most = most_of(era, &record);
    era_vm_record_clear(&record);
    char name[256];
    last_name(guest_path, name, sizeof name);
    _cleanup_(era_tree_sink_freep) struct era_tree_sink *sink = NULL;
    r = era_tree_sink_open(AT_FDCWD, host_path, name[0] != '\0' ? name : "root", true, &sink, err);
    if (r < 0)
        return r;
    era_tree_sink_limit(sink, most);
    struct era_run *run = NULL;
    r = copy_open(era, id, ERA_RUN_GET, guest_path, name, 0, &run, err);
    if (r < 0)
        return r;
    r = drain(run, sink, err);
    era_run_free(run);
    if (r >= 0 && era_tree_sink_skipped(sink) > 0 && era->progress != NULL)
        era->progress(era->progress_userdata, "links that lead out of the copy were left out");
    return r;
}

int era_vm_open_log(struct era *era, const char *id, const char *run_id, int stream, int *ret_fd, bool *ret_live,
                    struct era_error *err)
{
    if (run_id != NULL && !era_run_id_valid(run_id))
        return era_error_invalid(err, "run", "this is no run id");
    if (stream != 1 && stream != 2)
        return era_error_invalid(err, "stream", "the stream is 1 or 2");
    struct era_vm_record record;
    int r = vm_find(era, id, &record, err);
    if (r < 0)
        return r;
    era_vm_record_clear(&record);
    _cleanup_free_ struct era_run_record *runs = NULL;
    size_t count = 0;
    r = era_store_run_list(era->store, id, false, &runs, &count, err);
    if (r < 0)
        return r;
    const struct era_run_record *found = run_id == NULL && count > 0 ? &runs[0] : NULL;
    for (size_t i = 0; run_id != NULL && i < count; i++)
        if (era_str_eq(runs[i].id, run_id))
            found = &runs[i];
    if (found == NULL)
        return era_error_set(err, ENOENT, "run_not_found",
                             run_id == NULL ? "nothing has run in this VM" : "the VM has no such run");
    char path[128];
    snprintf(path, sizeof path, "%s/out/runs/%s/%s.log", id, found->id, stream == 1 ? "stdout" : "stderr");
    int fd = openat(era->vms_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return era_error_set(err, errno, "run_not_found",
                             "the logs of this run are not there (the newest 100 are kept)");
    *ret_fd = fd;
    *ret_live = found->outcome.verdict == ERA_VERDICT_NONE;
    return 0;
}

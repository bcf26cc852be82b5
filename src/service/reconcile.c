/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "service/service.h"

/* The outcome that the shim left in out/runs/<id>/result. */
static int read_result(int folder_fd, const char *run_id, struct era_run_outcome *ret_outcome)
{
    char path[80];
    snprintf(path, sizeof path, "out/runs/%s/result", run_id);
    _cleanup_free_ char *data = NULL;
    size_t len = 0;
    int r = era_read_file_at(folder_fd, path, 4096, &data, &len);
    if (r < 0)
        return r;
    const struct era_frame frame = {.type = ERA_FRAME_EXIT, .payload = (const uint8_t *)data, .len = (uint32_t)len};
    return era_outcome_decode(&frame, ret_outcome);
}

/*
 * Whether a run on record, without end, will never begin: who recorded it is
 * gone, and its shim has made no folder for it. It cannot make one any more
 * when we were first: then the run that asks for it fails.
 */
static bool never_begins(int folder_fd, const char *run_id)
{
    uint64_t at;
    char path[64];
    if (era_parse_u64(run_id + 1, 0, INT64_MAX, &at) < 0 || lock_is_held_at(folder_fd, "run.lock", (int64_t)at))
        return false;
    snprintf(path, sizeof path, "out/runs/%s", run_id);
    return mkdirat(folder_fd, path, 0700) == 0;
}

void reconcile_run(struct era *era, const char *vm_id, const char *run_id, bool vm_alive)
{
    _cleanup_close_ int folder = shim_open_folder(era, vm_id);
    struct era_run_outcome outcome = {.verdict = ERA_VERDICT_VM_LOST, .exit_code = 125};
    if ((folder < 0 || read_result(folder, run_id, &outcome) < 0) && vm_alive &&
        (folder < 0 || !never_begins(folder, run_id)))
        return; /* it runs, or is about to */
    (void)era_store_run_finish(era->store, vm_id, run_id, &outcome, NULL);
}

static int reconcile_runs(struct era *era, const char *vm_id, bool alive, bool *ret_running, struct era_error *err)
{
    _cleanup_free_ struct era_run_record *runs = NULL;
    size_t count = 0;
    int r = era_store_run_list(era->store, vm_id, true, &runs, &count, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++)
        reconcile_run(era, vm_id, runs[i].id, alive);
    if (count > 0) {
        free(runs);
        runs = NULL;
        r = era_store_run_list(era->store, vm_id, true, &runs, &count, err);
    }
    *ret_running = r >= 0 && count > 0;
    return r;
}

/* Removes all of a VM that never came to be. */
static int abandon(struct era *era, const struct era_vm_record *record, struct era_error *err)
{
    shim_sweep(era, record->id);
    ERA_POINT("abandon.swept");
    (void)era_remove_tree_at(era->vms_fd, record->id);
    ERA_POINT("abandon.folder");
    int r = era_store_vm_delete_with_volume(era->store, record->id, record->id, err);
    ERA_POINT("abandon.record");
    if (r >= 0)
        (void)volume_remove_files(era, record->id, NULL);
    return r < 0 ? r : era_error_set(err, ENOENT, "vm_not_found", "no VM has the id %s", record->id);
}

/* A temporary VM whose creator did not come to clean it. */
static bool lost_its_owner(int folder_fd)
{
    return faccessat(folder_fd, "owner.lock", F_OK, 0) == 0 && !lock_is_held(folder_fd, "owner.lock");
}

/* Takes down what is on record as up and served by nobody; 0 when somebody else is at it, or has brought it up. */
static int take_down(struct era *era, int folder, struct era_vm_record *record, struct era_error *err)
{
    _cleanup_close_ int op = folder >= 0 ? lock_take(folder, "op.lock", F_WRLCK, 0) : -ENOENT;
    if (op == -EAGAIN || (folder >= 0 && shim_serves(folder)))
        return 0;
    record->status = ERA_VM_STOPPED;
    if (folder >= 0 && shim_alive(folder))
        return 1; /* a guest dies as slowly as it likes: nobody waits here, and who looks afterwards puts it on record
                   */
    shim_sweep(era, record->id);
    ERA_POINT("reconcile.swept");
    if (folder >= 0)
        (void)unlinkat(folder, "vm.sock", 0);
    ERA_POINT("reconcile.socket");
    int r = era_store_vm_set_status(era->store, record->id, ERA_VM_STOPPED, err);
    return r < 0 ? r : 1;
}

int reconcile_vm(struct era *era, struct era_vm_record *record, struct era_error *err)
{
    _cleanup_close_ int folder = shim_open_folder(era, record->id);
    bool alive = folder >= 0 && shim_alive(folder);
    if (record->status == ERA_VM_PROVISIONING) {
        /* A shim without its creator is on its way out. */
        if (lock_is_held(era->state_fd, "create.lock") || (alive && shim_await_end(folder, NULL) < 0))
            return 0;
        return abandon(era, record, err);
    }
    if (folder >= 0 && lost_its_owner(folder)) {
        _cleanup_close_ int op = lock_take(folder, "op.lock", F_WRLCK, 0);
        return op < 0 || shim_stop(folder, 0, NULL) < 0 ? 0 : abandon(era, record, err);
    }
    int r = 0;
    if (record->status == ERA_VM_READY) {
        alive = folder >= 0 && shim_serves(folder);
        if (!alive && (r = take_down(era, folder, record, err)) <= 0)
            return r;
    }
    bool running = false;
    r = reconcile_runs(era, record->id, alive, &running, err);
    if (r >= 0 && running && record->status == ERA_VM_READY)
        record->status = ERA_VM_RUNNING;
    if (r >= 0 && alive && record->paused && (record->status == ERA_VM_READY || record->status == ERA_VM_RUNNING))
        record->status = ERA_VM_PAUSED;
    return r;
}

void reconcile_folders(struct era *era)
{
    int fd = openat(era->vms_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        era_closep(&fd);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        struct era_vm_record record;
        struct era_error err = {0};
        if (!era_vm_id_valid(entry->d_name))
            continue;
        if (era_store_vm_get(era->store, entry->d_name, &record, &err) >= 0) {
            era_vm_record_clear(&record);
            continue;
        }
        _cleanup_close_ int folder = shim_open_folder(era, entry->d_name);
        if (era_error_is(&err, "vm_not_found") && folder >= 0 && !shim_alive(folder)) {
            shim_sweep(era, entry->d_name);
            (void)era_remove_tree_at(era->vms_fd, entry->d_name);
        }
    }
    closedir(dir);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "service/service.h"

/* OP_WAIT_MS is more than a stop or a start takes: who has op.lock for so long is stuck. */
enum {
    STOP_GRACE_MS = 2000,
    OP_WAIT_MS = 20000,
    CONNECT_TRIES = 3,
    MAKE_TRIES = 10,
    REMOVE_TRIES = 10,
    INSERT_TRIES = 3,
};

int vm_find(struct era *era, const char *id, struct era_vm_record *ret_record, struct era_error *err)
{
    if (!era_vm_id_valid(id))
        return era_error_invalid(err, "vm", "this is no VM id; see `agent vm list`");
    struct era_vm_record record;
    int r = era_store_vm_get(era->store, id, &record, err);
    if (r < 0)
        return r;
    r = reconcile_vm(era, &record, err);
    if (r < 0) {
        era_vm_record_clear(&record);
        return r;
    }
    *ret_record = record;
    return 0;
}

/* ---- create ------------------------------------------------------------- */

/* The image must be there; a language's own is built when it is not. Its environment goes before the caller's. */
static int take_image(struct era *era, const struct era_vm_spec *spec, struct era_vm_ask *ask, struct era_error *err)
{
    int r = service_images(era, err);
    if (r < 0)
        return r;
    _cleanup_close_ int root = -EBADF;
    _cleanup_close_ int lock = -EBADF;
    _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
    struct era_error missing = {0};
    r = era_image_store_get(era->images, ask->image, &root, &lock, &info, &missing);
    if (r < 0 && !spec->image_named && era_error_is(&missing, "image_not_found")) {
        r = era_image_store_build(era->images, era_language_name(ask->language), false, &info, err);
    } else if (r < 0 && err != NULL) {
        *err = missing;
        if (era_error_is(err, "image_not_found"))
            era_str_copy(err->field, sizeof err->field, "image");
    }
    if (r < 0)
        return r;
    for (size_t i = 0; i < info->env.count; i++)
        if (era_env_valid(info->env.items[i]) && env_set(&ask->env, info->env.items[i]) < 0)
            return era_error_oom(err);
    for (size_t i = 0; i < spec->ask.env.count; i++)
        if (env_set(&ask->env, spec->ask.env.items[i]) < 0)
            return era_error_oom(err);
    return 0;
}

static void snapshot_close(struct snapshot *snapshot)
{
    era_closep(&snapshot->volume_fd);
}

/* The same of a VM that goes on where another was saved: it is what that one was. */
static int take_snapshot(struct era *era, const struct era_vm_spec *spec, struct era_vm_ask *ask,
                         struct snapshot *ret_from, struct era_error *err)
{
    struct era_vm_ask usual;
    era_vm_ask_init(&usual, ask->language);
    if (ask->cpu_count != usual.cpu_count || ask->mem_mib != usual.mem_mib || ask->disk_mib != usual.disk_mib ||
        ask->pids != usual.pids || ask->network != usual.network || ask->persist || spec->image_named ||
        ask->kernel[0] != '\0')
        return era_error_invalid(err, "from",
                                 "a VM that is made from a snapshot is what its VM was: nothing but its "
                                 "environment can be given");
    int r = snapshot_find(era, spec->from, ask, ret_from, err);
    for (size_t i = 0; r >= 0 && i < spec->ask.env.count; i++)
        if (env_set(&ask->env, spec->ask.env.items[i]) < 0)
            r = era_error_oom(err);
    return r;
}

/* Who brings a kernel asks for the launcher that has one. */
static int take_kernel(struct era_vm_ask *ask, struct era_error *err)
{
    if (ask->kernel[0] == '\0')
        return 0;
    if (ask->launcher == ERA_LAUNCHER_NAMESPACE)
        return era_error_invalid(err, "kernel", "guests of the launcher namespace have no kernel of their own");
    ask->launcher = ERA_LAUNCHER_MICROVM;
    return 0;
}

static int make_folder(struct era *era, const char *id, struct era_error *err)
{
    int r = -ENOENT;
    for (int i = 0; i < MAKE_TRIES && r == -ENOENT; i++) { /* somebody who cleans it may remove it in between */
        r = ERA_POINT_OR("create.folder", era_ensure_dir_at(era->vms_fd, id, 0700));
        _cleanup_close_ int folder = r < 0 ? r : shim_open_folder(era, id);
        r = folder < 0 ? folder : era_ensure_dir_at(folder, "mnt", 0755);
        if (r >= 0)
            return era_take_fd(&folder);
    }
    return era_error_set(err, -r, r == -ENOSPC ? "disk_full" : "system_error", "cannot make the VM's folder: %s",
                         strerror(-r));
}

/*
 * What a VM left in vms/. Others that open its folder right now may put a lock
 * into it once more, or remove it with us.
 */
static int remove_folder(struct era *era, const char *id, struct era_error *err)
{
    int r = -ENOTEMPTY;
    for (int i = 0; i < REMOVE_TRIES && (r == -ENOTEMPTY || r == -ENOENT); i++)
        r = era_remove_tree_at(era->vms_fd, id);
    return r < 0 ? era_error_errno(err, -r, "cannot remove the VM's folder") : 0;
}

/*
 * Takes the VM for oneself, and looks at its record: it may have been cleaned
 * while we waited. Then the folder is no VM's, and perhaps made by ourselves.
 */
static int take_vm(struct era *era, const char *id, int folder, int *ret_op, struct era_vm_record *ret_record,
                   struct era_error *err)
{
    _cleanup_close_ int op = lock_take(folder, "op.lock", F_WRLCK, OP_WAIT_MS);
    if (op == -EAGAIN)
        return era_error_set(err, EBUSY, "vm_busy", "the VM is being started or ended by somebody else");
    if (op < 0 && op != -ENOENT) /* a folder that is removed takes no new file */
        return era_error_errno(err, -op, "cannot lock the VM");
    struct era_error why = {0};
    int r = era_store_vm_get(era->store, id, ret_record, &why);
    if (r >= 0 && op < 0) {
        era_vm_record_clear(ret_record);
        r = era_error_set(&why, EBUSY, "vm_busy", "the VM's folder was removed by somebody else");
    }
    if (era_error_is(&why, "vm_not_found"))
        (void)remove_folder(era, id, NULL);
    if (r < 0) {
        if (err != NULL)
            *err = why;
        return r;
    }
    *ret_op = era_take_fd(&op);
    return 0;
}

/* From the record on: folder, volume, shim. */
static int bring_up(struct era *era, struct era_vm *vm, bool temporary, const struct snapshot *from,
                    struct era_error *err)
{
    struct era_vm_record *record = &vm->record;
    _cleanup_close_ int folder = make_folder(era, record->id, err);
    if (folder < 0)
        return folder;
    if (temporary && (vm->owner_lock = lock_take(folder, "owner.lock", F_WRLCK, 0)) < 0)
        return era_error_errno(err, -vm->owner_lock, "cannot make the VM's lock");
    if (record->ask.persist && record->ask.volume[0] == '\0') {
        int r = volume_create(era, record->id, record->id, record->ask.disk_mib,
                              record->ask.launcher == ERA_LAUNCHER_MICROVM, from->volume_fd, err);
        if (r < 0)
            return r;
        era_str_copy(record->ask.volume, sizeof record->ask.volume, record->id);
    }
    struct shim_launch launch = {.channel_fd = -EBADF};
    int r = shim_start(era, record, from->path, folder, &launch, err);
    if (r < 0)
        return r;
    ERA_POINT("create.launched");
    r = era_store_vm_set_ready(era->store, record->id, launch.launched.launcher, launch.launched.unenforced, err);
    ERA_POINT("create.ready");
    if (r >= 0)
        r = shim_commit(&launch, temporary, err);
    if (r >= 0 && temporary)
        vm->owner_fd = era_take_fd(&launch.channel_fd);
    shim_abandon(&launch);
    if (r < 0)
        return r;
    ERA_POINT("create.committed");
    record->status = ERA_VM_READY;
    record->launcher = launch.launched.launcher;
    era_str_copy(record->unenforced, sizeof record->unenforced, launch.launched.unenforced);
    return 0;
}

/* A VM that did not come to be leaves nothing. */
static void take_back(struct era *era, const struct era_vm_record *record)
{
    ERA_POINT("undo.begun");
    _cleanup_close_ int folder = shim_open_folder(era, record->id);
    if (folder >= 0 && shim_stop(folder, 0, NULL) < 0)
        return;                  /* it does not answer: its record stays, and is abandoned when it is gone */
    shim_sweep(era, record->id); /* it may have been killed */
    (void)era_remove_tree_at(era->vms_fd, record->id);
    ERA_POINT("undo.folder");
    (void)era_store_vm_delete_with_volume(era->store, record->id, record->id, NULL);
    ERA_POINT("undo.record");
    (void)volume_remove_files(era, record->id, NULL);
}

int era_vm_create(struct era *era, const struct era_vm_spec *spec, struct era_vm **ret_vm, struct era_error *err)
{
    struct era_vm *vm = calloc(1, sizeof *vm);
    if (vm == NULL)
        return era_error_oom(err);
    vm->owner_lock = vm->owner_fd = -EBADF;
    struct era_vm_record *record = &vm->record;
    record->ask = spec->ask;
    record->ask.env = (struct era_strv){0};
    _cleanup_(snapshot_close) struct snapshot from = {.volume_fd = -EBADF};
    int r = spec->from[0] != '\0' ? take_snapshot(era, spec, &record->ask, &from, err)
                                  : take_image(era, spec, &record->ask, err);
    if (r >= 0)
        r = take_kernel(&record->ask, err);
    if (r < 0) {
        era_vm_free(vm);
        return r;
    }
    record->status = ERA_VM_PROVISIONING;
    record->created_at_ns = era_clock_realtime_ns();
    _cleanup_close_ int creating = lock_take(era->state_fd, "create.lock", F_RDLCK, 0);
    if (creating < 0)
        r = era_error_errno(err, -creating, "cannot lock the state directory");
    ERA_POINT("create.locked");
    if (r >= 0)
        r = vm_insert(era, spec->key, record, err);
    ERA_POINT("create.recorded");
    if (r > 0 && (r = bring_up(era, vm, spec->temporary, &from, err)) < 0)
        take_back(era, record);
    if (r < 0) {
        era_vm_free(vm);
        return r;
    }
    *ret_vm = vm;
    return 0;
}

/* ---- start -------------------------------------------------------------- */

/* Starts a VM that is down. */
static int start_again(struct era *era, struct era_vm_record *record, int folder, struct era_error *err)
{
    _cleanup_close_ int op = -EBADF;
    struct era_vm_record now = {0};
    int r = take_vm(era, record->id, folder, &op, &now, err);
    if (r < 0)
        return r;
    bool unborn = now.status == ERA_VM_PROVISIONING;
    era_vm_record_clear(&now);
    if (unborn)
        return era_error_set(err, EBUSY, "vm_busy", "the VM is being created");
    if (shim_serves(folder))
        return 0;
    if ((r = shim_await_end(folder, err)) < 0) /* one whose guest has just ended */
        return r;
    ERA_POINT("start.seized");
    shim_sweep(era, record->id);
    struct shim_launch launch = {.channel_fd = -EBADF};
    /* From now on it leaves something if we are killed: what is ready and not alive is swept. */
    r = era_store_vm_set_status(era->store, record->id, ERA_VM_READY, err);
    if (r >= 0 && (r = shim_start(era, record, "", folder, &launch, err)) < 0)
        (void)era_store_vm_set_status(era->store, record->id, ERA_VM_STOPPED, NULL);
    ERA_POINT("start.launched");
    if (r >= 0)
        r = era_store_vm_set_ready(era->store, record->id, launch.launched.launcher, launch.launched.unenforced, err);
    ERA_POINT("start.ready");
    if (r >= 0)
        r = shim_commit(&launch, false, err);
    ERA_POINT("start.committed");
    shim_abandon(&launch);
    return r;
}

/* Who listens on vm.sock is alive, and who is alive has a record: no need to look for it. */
static int connect_alive(const struct era *era, const char *id)
{
    _cleanup_close_ int folder = era_vm_id_valid(id) ? shim_open_folder(era, id) : -EINVAL;
    return folder < 0 ? folder : shim_connect(folder);
}

int vm_connect(struct era *era, const char *id, struct era_error *err)
{
    int alive = connect_alive(era, id);
    if (alive >= 0)
        return alive;
    struct era_vm_record record;
    int r = vm_find(era, id, &record, err);
    if (r < 0)
        return r;
    _cleanup_close_ int folder = make_folder(era, id, err); /* in case somebody cleans it: start_again() will see */
    if (folder < 0)
        r = folder;
    int fd = -EBADF;
    for (int i = 0; r >= 0 && i < CONNECT_TRIES; i++) {
        fd = shim_connect(folder);
        if (fd >= 0)
            break;
        r = start_again(era, &record, folder, err);
    }
    if (r >= 0 && fd < 0)
        r = era_error_set(err, EBUSY, "vm_busy",
                          "the VM does not stay up; `agent vm show` and its shim.log may say why");
    era_vm_record_clear(&record);
    return r < 0 ? r : fd;
}

/* ---- stop, clean -------------------------------------------------------- */

int vm_seize(struct era *era, const char *id, int *ret_folder, int *ret_op, struct era_error *err)
{
    struct era_vm_record record;
    int r = vm_find(era, id, &record, err);
    if (r < 0)
        return r;
    era_vm_record_clear(&record);
    _cleanup_close_ int folder = make_folder(era, id, err);
    if (folder < 0)
        return folder;
    _cleanup_close_ int op = -EBADF;
    r = take_vm(era, id, folder, &op, &record, err);
    if (r < 0)
        return r;
    era_vm_record_clear(&record);
    if (record.status == ERA_VM_PROVISIONING) /* its creator is at work, and counts on the record */
        return era_error_set(err, EBUSY, "vm_busy", "the VM is being created");
    *ret_folder = era_take_fd(&folder);
    *ret_op = era_take_fd(&op);
    return 0;
}

int era_vm_stop(struct era *era, const char *id, struct era_error *err)
{
    _cleanup_close_ int folder = -EBADF;
    _cleanup_close_ int op = -EBADF;
    int r = vm_seize(era, id, &folder, &op, err);
    ERA_POINT("stop.seized");
    if (r >= 0)
        r = shim_stop(folder, STOP_GRACE_MS, err);
    ERA_POINT("stop.down");
    if (r < 0)
        return r;
    /* The shim may have been killed while it ended. */
    shim_sweep(era, id);
    (void)unlinkat(folder, "vm.sock", 0);
    r = era_store_vm_set_status(era->store, id, ERA_VM_STOPPED, err);
    if (r < 0)
        return r;
    ERA_POINT("stop.recorded");
    struct era_vm_record record;
    era_closep(&op);
    r = vm_find(era, id, &record, err); /* the ends of its runs */
    if (r >= 0)
        era_vm_record_clear(&record);
    return r;
}

int era_vm_clean(struct era *era, const char *id, bool keep_persist, struct era_error *err)
{
    _cleanup_close_ int folder = -EBADF;
    _cleanup_close_ int op = -EBADF;
    int r = vm_seize(era, id, &folder, &op, err);
    ERA_POINT("clean.seized");
    if (r >= 0)
        r = shim_stop(folder, 0, err);
    if (r < 0)
        return r;
    ERA_POINT("clean.down");
    struct era_vm_record record;
    r = era_store_vm_get(era->store, id, &record, err);
    if (r < 0)
        return r;
    if (record.status != ERA_VM_STOPPED)
        shim_sweep(era, id); /* in case it was killed before */
    /* The record first: once op.lock goes with the folder, somebody else may take one, and must see the end. */
    bool discard = record.ask.volume[0] != '\0' && !keep_persist;
    r = discard ? era_store_vm_delete_with_volume(era->store, id, record.ask.volume, err)
                : era_store_vm_delete(era->store, id, err);
    ERA_POINT("clean.forgotten");
    if (r >= 0)
        r = remove_folder(era, id, err);
    ERA_POINT("clean.removed");
    if (r >= 0 && discard)
        r = volume_remove_files(era, record.ask.volume, err);
    era_vm_record_clear(&record);
    return r;
}

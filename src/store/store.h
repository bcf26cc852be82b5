/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - state.db: the facts about VMs, runs and volumes.
 *
 * SQLite in WAL mode; many processes at once, one writer at a time (a busy
 * writer is waited for up to 10 s). Each function is one transaction: it
 * happened whole or not at all. The store knows nothing of life: whether a VM
 * runs is for its shim's lock to say, and for the service to reconcile.
 *
 * A `struct era_store` belongs to one thread at a time, and to the process that
 * opened it: a child made by fork() neither uses nor closes it. While one is
 * open, its file is not opened by other means: closing a descriptor of it would
 * drop the locks of this process.
 *
 * Text read back is as
 * hostile as any file: enumerations, lengths and id grammars are checked, and
 * a row that fails is the error state_corrupt.
 * Errors of every function: state_corrupt (EUCLEAN), state_busy (EBUSY),
 * disk_full (ENOSPC), state_error (EIO), out_of_memory (ENOMEM),
 * state_dir_unusable (EACCES, EROFS). What breaks the grammars and limits of
 * vm.h is refused as invalid_argument (EINVAL), so that it need not be refused
 * as corrupt when it is read.
 */
#ifndef ERA_STORE_STORE_H
#define ERA_STORE_STORE_H

#include "base/cleanup.h"
#include "vm/vm.h"

struct era_store;

enum {
    ERA_UID_SLOTS = 4096, /* how many VMs can have a record at once */
    ERA_KEY_MAX = 256,    /* bytes of a key, with the NUL */
    ERA_RUNS_KEPT = 100,  /* how many runs of a VM stay recorded; those in flight in any case */
};

/*
 * Opens or creates `path` (mode 0600) and brings its schema up to date.
 * Also: state_too_new (EPROTO) when a newer version wrote it,
 * state_dir_unusable (EACCES, EROFS) when it cannot be written.
 */
int era_store_open(const char *path, struct era_store **ret_store, struct era_error *err);

/* The same, but the file is opened (and its errors told) when it is first needed: some commands never do. */
int era_store_open_later(const char *path, struct era_store **ret_store, struct era_error *err);

/* Opens what was left for later. */
int era_store_check(struct era_store *store, struct era_error *err);
void era_store_close(struct era_store *store);
ERA_DEFINE_CLEANUP(struct era_store, era_store_close)

/*
 * Inserts a VM. record->id and record->uid_slot are chosen here: the id from
 * created_at_ns, counted up until it is free (created_at_ns stays), the lowest
 * free slot; both are written back. With ask.volume set the volume is claimed
 * for the VM in the same transaction.
 * Errors: too_many_vms (EAGAIN), volume_not_found (ENOENT), volume_busy (EBUSY).
 */
int era_store_vm_insert(struct era_store *store, struct era_vm_record *record, struct era_error *err);

/*
 * The same under a key: unless a VM was inserted under it within a day (as created_at_ns goes) and is there still;
 * then 0 is returned, that VM's id written to record->id, and nothing inserted. 1: inserted. The key goes with the VM.
 * key: 1 to ERA_KEY_MAX - 1 bytes.
 */
int era_store_vm_insert_once(struct era_store *store, const char *key, struct era_vm_record *record,
                             struct era_error *err);

/* vm_not_found (ENOENT). ret_record: clear it with era_vm_record_clear(). */
int era_store_vm_get(struct era_store *store, const char *id, struct era_vm_record *ret_record, struct era_error *err);

/* All of them, oldest first: ret_records is one malloc'ed array, each element to be cleared. */
int era_store_vm_list(struct era_store *store, struct era_vm_record **ret_records, size_t *ret_count,
                      struct era_error *err);

/* In the same order, at most max of those that come behind (created_at_ns, id). */
int era_store_vm_page(struct era_store *store, int64_t created_at_ns, const char *id, size_t max,
                      struct era_vm_record **ret_records, size_t *ret_count, struct era_error *err);

/* vm_not_found when the record is gone. ERA_VM_RUNNING is derived, never stored: invalid_argument. */
int era_store_vm_set_status(struct era_store *store, const char *id, enum era_vm_status status, struct era_error *err);

/* Records that a shim came up: status ready, the launcher (not "auto"), what is not enforced. vm_not_found. */
int era_store_vm_set_ready(struct era_store *store, const char *id, enum era_launcher_kind launcher,
                           const char *unenforced, struct era_error *err);

/* Whether it stands still; each change of its status says no. vm_not_found. */
int era_store_vm_set_paused(struct era_store *store, const char *id, bool paused, struct era_error *err);

/* Removes the VM, its runs, and its claim on a volume. An absent one is success. */
int era_store_vm_delete(struct era_store *store, const char *id, struct era_error *err);
/* The same, and at one stroke the record of its volume; absent ones are success. */
int era_store_vm_delete_with_volume(struct era_store *store, const char *id, const char *volume, struct era_error *err);

/*
 * Records a run without outcome and the VM's last_run_at. The id is made from
 * started_at_ns, counted up until it is free within the VM, and written back.
 * Forgets the oldest finished runs of the VM beyond ERA_RUNS_KEPT. vm_not_found.
 */
int era_store_run_insert(struct era_store *store, struct era_run_record *run, struct era_error *err);

/* Records the outcome of a run that has none; a run that has one, or is gone, is left alone (success). */
int era_store_run_finish(struct era_store *store, const char *vm_id, const char *run_id,
                         const struct era_run_outcome *outcome, struct era_error *err);

/* Runs of a VM, or of all VMs (vm_id NULL), newest first; only_open: those without outcome. free() the array. */
int era_store_run_list(struct era_store *store, const char *vm_id, bool only_open, struct era_run_record **ret_runs,
                       size_t *ret_count, struct era_error *err);

struct era_volume_record {
    char name[ERA_NAME_MAX];
    enum era_volume_kind kind;
    uint32_t size_mib;
    int64_t created_at_ns;
    char vm_id[ERA_VM_ID_MAX]; /* "" when no VM has it */
};

/* With vm_id set the VM has it at once. volume_exists (EEXIST: the name, or the VM has one), vm_not_found. */
int era_store_volume_insert(struct era_store *store, const struct era_volume_record *volume, struct era_error *err);
/* volume_not_found (ENOENT). */
int era_store_volume_get(struct era_store *store, const char *name, struct era_volume_record *ret_volume,
                         struct era_error *err);
/* By name. free() the array. */
int era_store_volume_list(struct era_store *store, struct era_volume_record **ret_volumes, size_t *ret_count,
                          struct era_error *err);
/* volume_not_found, volume_busy when a VM has it. */
int era_store_volume_delete(struct era_store *store, const char *name, struct era_error *err);

#endif

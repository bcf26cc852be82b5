/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.h - inside the use cases: what is behind include/era/era.h.
 *
 * Theory of operation. A VM's folder vms/<id>/ holds two lock files:
 *   shim.lock  write-locked by the shim for as long as it lives. The lock is of
 *              the open file description (F_OFD_SETLK): the service takes it
 *              and the shim inherits it, so that it is never free in between.
 *   op.lock    taken by whoever starts, stops or cleans the VM, one at a time.
 *   run.lock   one byte for each run, its id being the offset: locked by who
 *              began the run, as long as he lives. An open run whose byte is
 *              free and which has no folder has not started, and never will.
 *   owner.lock of a temporary VM only, locked by who created it: when he is
 *              gone, so is the VM.
 * create.lock in the state directory is read-locked by everyone who is creating
 * a VM; a record without shim is abandoned only when nobody is.
 */
#ifndef ERA_SERVICE_SERVICE_H
#define ERA_SERVICE_SERVICE_H

#include "base/cleanup.h"
#include "era/era.h"
#include "image/image.h"
#include "store/store.h"
#include "vm/vm.h"
#include "wire/frame.h"
#include "wire/message.h"

struct era {
    char *state_dir;  /* absolute */
    char *helper_dir; /* where era-shim, era-init and era-unpack lie */
    int state_fd;
    int vms_fd;
    int volumes_fd;
    struct era_store *store;
    struct era_image_store *images; /* opened when first needed */
    era_progress_fn progress;
    void *progress_userdata;
    int cancel_fd; /* borrowed; 0 or less: none */
};

struct era_vm_spec {
    struct era_vm_ask ask;
    char from[ERA_NAME_MAX]; /* a snapshot's name; "": a new VM */
    bool image_named;        /* not the language's own */
    bool temporary;          /* ends with the object that era_vm_create() gives */
    char key[ERA_KEY_MAX];
};

struct era_vm {
    struct era_vm_record record;
    int owner_lock; /* owned; of a temporary VM, else -EBADF */
    int owner_fd;   /* the shim's channel, by which it learns of our end; the same */
};

/* What era_run_spec_add_data() was given: staged before the command starts. */
struct spec_data {
    char *path;  /* owned; absolute */
    void *bytes; /* owned */
    size_t len;
};

struct era_run_spec {
    struct era_strv argv;
    struct era_strv env;
    struct era_strv files;
    struct spec_data *data; /* owned */
    size_t data_count;
    uint32_t flags; /* ERA_RUN_… */
    uint32_t timeout_ms;
    uint64_t output_cap;
    uint16_t cols;
    uint16_t rows;
    char workdir[ERA_PATH_MAX];
};

struct era_result {
    char run_id[ERA_RUN_ID_MAX];
    struct era_run_outcome outcome;
    char *paths[2]; /* owned; "" without logs */
};

/* ---- state.c ------------------------------------------------------------ */

/* The images of this state directory, opened on first use. */
int service_images(struct era *era, struct era_error *err);

/* ---- kernel.c ----------------------------------------------------------- */

/* Makes what a guest with a kernel of its own needs, and says in launch where it is; nothing for other guests. */
int kernel_prepare(struct era *era, const struct era_vm_ask *ask, const struct era_image_info *info,
                   struct era_launch *launch, struct era_error *err);

/* ---- lock.c ------------------------------------------------------------- */

/* Whether somebody holds a write lock on dirfd/name; an absent file is not locked. */
bool lock_is_held(int dirfd, const char *name);
/* The same for one byte of the file, which need not have it. */
bool lock_is_held_at(int dirfd, const char *name, int64_t at);
/* Opens dirfd/name (made when absent) and locks it: type F_RDLCK or F_WRLCK. -EAGAIN when it is held for wait_ms. */
int lock_take(int dirfd, const char *name, short type, int wait_ms);
/* Gives back all of a lock but one byte. */
int lock_narrow(int fd, int64_t at);

/* ---- shim.c ------------------------------------------------------------- */

/* A VM's folder, opened; -ENOENT. */
int shim_open_folder(const struct era *era, const char *id);
bool shim_alive(int folder_fd);
/* Whether it has a socket as well. One without is about to start its guest, or to end with it. */
bool shim_serves(int folder_fd);

/* A shim that has launched its guest and waits for the commit. */
struct shim_launch {
    int channel_fd;
    struct era_launched launched;
};

/* Starts the shim of a record; snapshot_path: what its guest goes on from, or "". The caller holds op.lock or created
 * the folder. */
int shim_start(struct era *era, const struct era_vm_record *record, const char *snapshot_path, int folder_fd,
               struct shim_launch *ret_launch, struct era_error *err);
/* From here on it lives without us; bound: for as long as the channel, which stays open. */
int shim_commit(struct shim_launch *launch, bool bound, struct era_error *err);
void shim_abandon(struct shim_launch *launch); /* it ends, with its guest */

/* Connects to vm.sock; -errno without touching err. */
int shim_connect(int folder_fd);
/* Ends the VM; returns when the shim is gone. grace_ms 0: at once. */
int shim_stop(int folder_fd, uint32_t grace_ms, struct era_error *err);
/* Asks for something that is answered by DONE: type, and text (which may be "") as its payload. vm_not_running. */
int shim_ask(int folder_fd, enum era_frame_type type, const char *text, int timeout_ms, struct era_error *err);
/* Waits for one that ends by itself. vm_busy: it does not. */
int shim_await_end(int folder_fd, struct era_error *err);
/* Removes what a killed shim left on the host. */
void shim_sweep(const struct era *era, const char *id);

/* ---- reconcile.c: makes records say what is ----------------------------- */

/* One VM: its status, and the ends of its runs. The record is updated; -ENOENT when it was abandoned and is gone. */
int reconcile_vm(struct era *era, struct era_vm_record *record, struct era_error *err);
/* Folders without a record. */
void reconcile_folders(struct era *era);
/* Files of volumes without a record; in volume.c. */
void reconcile_volumes(struct era *era);
/* What makers of snapshots, forks and templates left that were killed. */
void reconcile_snapshots(struct era *era);
void reconcile_templates(struct era *era);
/* Records the end of a run from the file that its shim left. */
void reconcile_run(struct era *era, const char *vm_id, const char *run_id, bool vm_alive);

/* ---- vm.c --------------------------------------------------------------- */

/* The record, checked and reconciled: invalid_argument, vm_not_found. */
int vm_find(struct era *era, const char *id, struct era_vm_record *ret_record, struct era_error *err);
/* Opens the folder of a VM and takes it for oneself, as whoever starts or ends it does. vm_busy as well. */
int vm_seize(struct era *era, const char *id, int *ret_folder, int *ret_op, struct era_error *err);
/* A connection to its shim; a stopped VM is started. */
int vm_connect(struct era *era, const char *id, struct era_error *err);

/* ---- key.c --------------------------------------------------------------- */

/* Inserts the record (1), or, when key is not "" and has a VM, finds that one (0); see era_vm_spec_set_key(). */
int vm_insert(struct era *era, const char *key, struct era_vm_record *record, struct era_error *err);

/* ---- snapshot.c --------------------------------------------------------- */

/* What a VM is made from, when it is not new; volume_fd owned, or -EBADF. */
struct snapshot {
    char path[ERA_PATH_MAX]; /* absolute: its folder */
    int volume_fd;
    uint32_t volume_mib;
};

/* Opens one, with what its VM was: ask's env is added to, all else is replaced. snapshot_not_found, snapshot_corrupt.
 */
int snapshot_find(struct era *era, const char *name, struct era_vm_ask *ask, struct snapshot *ret_snapshot,
                  struct era_error *err);

/* ---- list.c -------------------------------------------------------------- */

/* Adds a VM to a list, which is made when it is NULL, and takes over what the VM owns. */
int vm_list_add(struct era_vm_list **list, struct era_vm *vm);

/* ---- volume.c ----------------------------------------------------------- */

/* disk: for a guest that takes nothing else; else what this host can mount. from_fd: what it is a copy of, or -EBADF.
 */
int volume_create(struct era *era, const char *name, const char *vm_id, uint32_t size_mib, bool disk, int from_fd,
                  struct era_error *err);
/* Of a volume whose record is gone. */
int volume_remove_files(struct era *era, const char *name, struct era_error *err);
/* Its absolute path; free() it. NULL when out of memory. */
char *volume_path(const struct era *era, const struct era_volume_record *volume);

/* ---- run.c -------------------------------------------------------------- */

struct era_run {
    struct era *era; /* borrowed; NULL: parted from it by era_run_detach() */
    int fd;          /* owned */
    int lock_fd;     /* owned: its byte of run.lock, when it is recorded */
    struct era_buffer in;
    struct era_buffer out;
    size_t handed_out;      /* bytes at the start of `in` that the caller looked at */
    uint8_t handed_channel; /* whose room they took; 0: nobody's */
    uint32_t handed_len;
    uint32_t input_window;
    bool input_full; /* the caller was told to wait */
    bool recorded;   /* in the store */
    bool ended;
    bool lost; /* the shim went without a word */
    char vm_id[ERA_VM_ID_MAX];
    struct era_result result;
};

/* A request under way on a connection of its own; takes over fd. */
int run_open(struct era *era, int fd, const struct era_run_request *request, const char *vm_id,
             struct era_run **ret_run, struct era_error *err);
/* Blocks until there is something to do. */
int run_wait(const struct era_run *run);

/* ---- run_end.c ---------------------------------------------------------- */

/* The last event of a run: it ended so, or its shim is gone without a word. Both return 1. */
int run_end(struct era_run *run, const struct era_run_outcome *outcome, struct era_event *ret_event);
int run_lose(struct era_run *run, struct era_event *ret_event);

/* ---- copy.c ------------------------------------------------------------- */

/* A transfer's run, with argv {guest_path, name}; timeout_ms 0: none. */
int copy_open(struct era *era, const char *id, enum era_run_kind kind, const char *guest_path, const char *name,
              uint32_t timeout_ms, struct era_run **ret_run, struct era_error *err);
/* How the worker ended; it told its errors before. */
int copy_judge(const struct era_run *run, struct era_error *err);
/* What may be copied to a path, in bytes; 0: a volume, which bounds itself. */
uint64_t copy_room(const struct era_vm_record *record, const char *guest_path);

/* ---- transfer.c --------------------------------------------------------- */

/* Puts all data of a spec into the VM; blocks, for a bounded time. */
int stage_data(struct era *era, const char *id, const struct era_run_spec *spec, struct era_error *err);

/* ---- spec.c ------------------------------------------------------------- */

/* Adds "KEY=VALUE", replacing an earlier one of the same key. */
int env_set(struct era_strv *env, const char *key_value);

#endif

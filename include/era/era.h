/* SPDX-License-Identifier: Apache-2.0 */
/*
 * era/era.h - libera, the C interface to lightweight VMs for untrusted code.
 *
 * Conventions
 *   Results    `int` functions return 0 (or a positive count) or -errno; a
 *              `ret_x` argument is written on success only.
 *   Errors     the last argument, `struct era_error *`, is filled on failure;
 *              it may be NULL. See era/error.h.
 *   Lifetime   what `ret_x` hands out is owned by the caller and freed by the
 *              matching `_free`; every `_free` accepts NULL. A `const char *`
 *              that a getter returns is borrowed and lives as long as its handle.
 *   Threads    there is no mutable global state. Two threads may use two
 *              `struct era` freely; one handle, and what came from it, belongs
 *              to one thread at a time.
 *   Silence    the library never prints, never exits, and leaves signal
 *              dispositions alone. It writes to sockets with MSG_NOSIGNAL.
 *   Processes  each VM is kept by an `era-shim` process of its own, which
 *              outlives the caller. The library starts it and reaps what it
 *              started; it never calls wait() for children of the caller.
 */
#ifndef ERA_ERA_H
#define ERA_ERA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <era/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct era;          /* a state directory, opened */
struct era_vm_spec;  /* what is asked for when a VM is created */
struct era_vm;       /* what is known of one VM; a snapshot */
struct era_vm_list;  /* several of them */
struct era_run_spec; /* what is asked for when a command is run */
struct era_run;      /* a run in flight */
struct era_result;   /* how a run ended */
struct era_image;    /* what is known of one image; a snapshot */
struct era_image_list;
struct era_volume_list;
struct era_report; /* what this host can do */

/* "0.1.0": the version of the library at run time. Static storage. */
const char *era_version(void);

/* ---- the state directory ------------------------------------------------ */

/*
 * Opens a state directory, creating it (mode 0700) when absent.
 * state_dir: a path, or NULL for the first usable of /var/lib/agent,
 * ~/.config/agent, ~/.agent and /tmp/agent.
 * Errors: state_dir_unusable, state_too_new, state_corrupt, out_of_memory.
 */
int era_open(const char *state_dir, struct era **ret_era, struct era_error *err);
void era_close(struct era *era);

/* The absolute path in use. */
const char *era_state_dir(const struct era *era);

/* The absolute path of the folder with era-shim and the other programs that belong to the library. */
const char *era_helper_dir(const struct era *era);

/*
 * Where the library reports slow work (building an image): one UTF-8 line
 * without a newline, called from the thread that called in. NULL: silence.
 */
typedef void (*era_progress_fn)(void *userdata, const char *line);
void era_set_progress(struct era *era, era_progress_fn fn, void *userdata);

/*
 * How slow work (building or fetching an image, the start of a VM) is cut
 * short: once fd can be read (a signalfd, an eventfd, a pipe), it is given up,
 * what it had begun is removed, and the call fails with "interrupted"; so do
 * later ones, for the descriptor is never read. It is borrowed until
 * era_close(). 0 or less: none.
 */
void era_set_cancel(struct era *era, int fd);

/* ---- creating a VM ------------------------------------------------------ */

/* "python" or "node" ("javascript" and "js" mean "node").
 * Errors: invalid_argument (field "language"). */
int era_vm_spec_new(const char *language, struct era_vm_spec **ret_spec, struct era_error *err);
void era_vm_spec_free(struct era_vm_spec *spec);

int era_vm_spec_set_cpu(struct era_vm_spec *spec, uint32_t cpu_count, struct era_error *err); /* 1..256, default 1 */
int era_vm_spec_set_mem(struct era_vm_spec *spec, uint32_t mem_mib,
                        struct era_error *err); /* 32..1048576 MiB, default 256 */
int era_vm_spec_set_disk(struct era_vm_spec *spec, uint32_t disk_mib,
                         struct era_error *err); /* 16..1048576 MiB, default 1024 */
int era_vm_spec_set_pids(struct era_vm_spec *spec, uint32_t pids, struct era_error *err); /* 16..65536, default 512 */
int era_vm_spec_set_network(struct era_vm_spec *spec, const char *mode,
                            struct era_error *err); /* "none" (default) or "allow_all" */
int era_vm_spec_set_image(struct era_vm_spec *spec, const char *reference, struct era_error *err);
int era_vm_spec_set_launcher(struct era_vm_spec *spec, const char *name,
                             struct era_error *err); /* "auto" (default), "namespace", "microvm" */
int era_vm_spec_set_persist(struct era_vm_spec *spec, bool persist,
                            struct era_error *err); /* a new volume of the VM's own */
int era_vm_spec_set_temporary(struct era_vm_spec *spec, bool temporary,
                              struct era_error *err); /* ends when its object is freed, or its creator dies */
int era_vm_spec_set_volume(struct era_vm_spec *spec, const char *name,
                           struct era_error *err); /* a kept volume; implies persist */
int era_vm_spec_set_from(struct era_vm_spec *spec, const char *name,
                         struct era_error *err); /* a snapshot to go on from; all but the environment is its own */
int era_vm_spec_set_kernel(struct era_vm_spec *spec, const char *path,
                           struct era_error *err); /* instead of Debian's; implies the launcher microvm */
int era_vm_spec_set_best_effort(struct era_vm_spec *spec, bool best_effort, struct era_error *err);
int era_vm_spec_add_env(struct era_vm_spec *spec, const char *key_value, struct era_error *err); /* "KEY=VALUE" */

/*
 * So that asking twice creates one VM: era_vm_create() with a key that a VM was created with in the last 24 hours
 * gives that VM. 1 to 255 bytes of UTF-8. A key goes with its VM.
 */
int era_vm_spec_set_key(struct era_vm_spec *spec, const char *key, struct era_error *err);

/*
 * Creates a VM and waits until it answers. A missing default image is built
 * first. Errors: invalid_argument, image_not_found, launcher_unavailable,
 * limit_unenforceable, volume_not_found, volume_busy, vm_start_failed, …
 * With a key also idempotency_mismatch (it is of a VM with other properties)
 * and vm_busy (that VM is being created).
 */
int era_vm_create(struct era *era, const struct era_vm_spec *spec, struct era_vm **ret_vm, struct era_error *err);

/* ---- looking at VMs ----------------------------------------------------- */

/* Errors: invalid_argument (not an id at all), vm_not_found. */
int era_vm_get(struct era *era, const char *id, struct era_vm **ret_vm, struct era_error *err);
void era_vm_free(struct era_vm *vm);

/* All VMs, oldest first. status: one of the status names, or NULL for all. */
int era_vm_list(struct era *era, const char *status, struct era_vm_list **ret_list, struct era_error *err);

/*
 * One page of the same list: at most max (1..1000) VMs behind the cursor, which is NULL for the first page. The
 * cursor of the next page is "" when this is the last; it is borrowed, and holds good when VMs come and go.
 */
int era_vm_list_page(struct era *era, const char *status, size_t max, const char *cursor, struct era_vm_list **ret_list,
                     struct era_error *err);
const char *era_vm_list_cursor(const struct era_vm_list *list);

size_t era_vm_list_count(const struct era_vm_list *list);
const struct era_vm *era_vm_list_at(const struct era_vm_list *list, size_t index); /* NULL past the end */
void era_vm_list_free(struct era_vm_list *list);

const char *era_vm_id(const struct era_vm *vm);
const char *era_vm_language(const struct era_vm *vm);
const char *era_vm_image(const struct era_vm *vm);
uint32_t era_vm_cpu(const struct era_vm *vm);
uint32_t era_vm_mem_mib(const struct era_vm *vm);
uint32_t era_vm_disk_mib(const struct era_vm *vm);
uint32_t era_vm_pids(const struct era_vm *vm);
const char *era_vm_network(const struct era_vm *vm);
bool era_vm_persist(const struct era_vm *vm);
const char *era_vm_volume(const struct era_vm *vm); /* "" without a volume */
const char *era_vm_launcher(const struct era_vm *vm);
const char *era_vm_status(const struct era_vm *vm);     /* provisioning, ready, running, paused, stopped, failed */
const char *era_vm_unenforced(const struct era_vm *vm); /* "" or comma-separated limits: "memory,cpu" */
int64_t era_vm_created_at_ns(const struct era_vm *vm);  /* nanoseconds since the Unix epoch */
int64_t era_vm_last_run_at_ns(const struct era_vm *vm); /* 0 before the first run */

/* Stops the VM; what was in memory is gone. Stopping a stopped VM succeeds. */
int era_vm_stop(struct era *era, const char *id, struct era_error *err);

/* Stops the VM and removes all of it; with keep_persist its volume stays. */
int era_vm_clean(struct era *era, const char *id, bool keep_persist, struct era_error *err);

/*
 * Has a VM stand still, and go on: its processes do not notice, but by the clock; the time of its runs stands still
 * with it. A command for one that stands still is refused with vm_paused. 0 also when it is so already.
 * Errors: vm_not_found, vm_not_running, vm_busy, not_supported (by its launcher: only microvm can).
 */
int era_vm_pause(struct era *era, const char *id, struct era_error *err);
int era_vm_resume(struct era *era, const char *id, struct era_error *err);

/* ---- snapshots and forks ------------------------------------------------ */

/*
 * Saves a VM as it is, memory, processes and disks, under a name (by the grammar of volumes); it goes on, having stood
 * still while its changed pages and its volume were written. Errors: vm_not_found, vm_not_running, vm_busy,
 * snapshot_exists, disk_full, not_supported.
 */
int era_vm_snapshot(struct era *era, const char *id, const char *name, struct era_error *err);

/*
 * Creates 1..100 VMs that go on where this one is. Either all of them are there afterwards, or none. Each has an id,
 * a hostname, a MAC, kernel randomness and a copy of the volume of its own; what a process had in its own memory, the
 * state of a generator of random numbers among it, is the same in all.
 */
int era_vm_fork(struct era *era, const char *id, uint32_t count, struct era_vm_list **ret_list, struct era_error *err);

struct era_snapshot_list;
int era_snapshot_list(struct era *era, struct era_snapshot_list **ret_list, struct era_error *err);
size_t era_snapshot_list_count(const struct era_snapshot_list *list);
void era_snapshot_list_free(struct era_snapshot_list *list);
const char *era_snapshot_list_name(const struct era_snapshot_list *list, size_t index);
const char *era_snapshot_list_vm(const struct era_snapshot_list *list, size_t index);      /* "": it cannot be read */
uint64_t era_snapshot_list_size_bytes(const struct era_snapshot_list *list, size_t index); /* on the disk */
int64_t era_snapshot_list_created_at_ns(const struct era_snapshot_list *list, size_t index);
/* VMs that were made from it are not touched. Errors: snapshot_not_found. */
int era_snapshot_remove(struct era *era, const char *name, struct era_error *err);

/* ---- running commands --------------------------------------------------- */

/* Exactly one of the two: a shell command line, or an argument vector. */
int era_run_spec_new_shell(const char *command, struct era_run_spec **ret_spec, struct era_error *err);
int era_run_spec_new_argv(const char *const argv[], struct era_run_spec **ret_spec, struct era_error *err);
void era_run_spec_free(struct era_run_spec *spec);

int era_run_spec_set_timeout(struct era_run_spec *spec, uint32_t timeout_ms,
                             struct era_error *err); /* 1..604800000, 0: none; default 30000 */
int era_run_spec_set_workdir(struct era_run_spec *spec, const char *dir,
                             struct era_error *err); /* default /workspace */
int era_run_spec_set_output_cap(struct era_run_spec *spec, uint64_t bytes,
                                struct era_error *err); /* a stream; default 16 MiB */
int era_run_spec_add_env(struct era_run_spec *spec, const char *key_value, struct era_error *err);
int era_run_spec_add_file(struct era_run_spec *spec, const char *path,
                          struct era_error *err); /* staged to /workspace/in/<basename> */

/*
 * Bytes that become a file of the VM before the command starts; the folders that lead there are made. path: absolute,
 * or relative to /workspace, of plain names (no "." or ".."). At most 256 files; the bytes are copied.
 */
int era_run_spec_add_data(struct era_run_spec *spec, const char *path, const void *data, size_t len,
                          struct era_error *err);
int era_run_spec_set_stdin(struct era_run_spec *spec, bool open, struct era_error *err); /* default: an empty stdin */
int era_run_spec_set_live(struct era_run_spec *spec, bool live,
                          struct era_error *err); /* output events, not only logs */
int era_run_spec_set_tty(struct era_run_spec *spec, uint16_t cols, uint16_t rows, struct era_error *err);
int era_run_spec_set_kill_on_hangup(struct era_run_spec *spec, bool kill,
                                    struct era_error *err); /* default: the run goes on */

/*
 * Starts a command; a stopped VM is started first. Staging files and starting
 * a VM block; the run itself does not: poll era_run_fd() for era_run_poll_events()
 * and call era_run_next(). Errors: vm_not_found, vm_busy, command_not_found, …
 */
int era_run_start(struct era *era, const char *id, const struct era_run_spec *spec, struct era_run **ret_run,
                  struct era_error *err);
void era_run_free(struct era_run *run); /* without an exit event: hangs up */
const char *era_run_id(const struct era_run *run);
int era_run_fd(const struct era_run *run);            /* borrowed; non-blocking */
short era_run_poll_events(const struct era_run *run); /* POLLIN, and POLLOUT while input waits */

enum era_event_type {
    ERA_EVENT_NONE = 0, /* nothing now: poll */
    ERA_EVENT_STDOUT = 1,
    ERA_EVENT_STDERR = 2,
    ERA_EVENT_STDIN = 3, /* era_run_write() would accept bytes again */
    ERA_EVENT_EXIT = 4,  /* the last one: era_run_result() is there */
};

struct era_event {
    enum era_event_type type;
    const void *data; /* borrowed until the next call with this run */
    size_t len;
};

/* Never blocks. Output must be fetched: what is not read holds the command back. */
int era_run_next(struct era_run *run, struct era_event *ret_event, struct era_error *err);

/* Feeds stdin; returns the bytes taken (0: wait for ERA_EVENT_STDIN) or -EPIPE. */
ssize_t era_run_write(struct era_run *run, const void *data, size_t len);
int era_run_close_stdin(struct era_run *run);
int era_run_resize(struct era_run *run, uint16_t cols, uint16_t rows);
int era_run_signal(struct era_run *run,
                   int signo); /* to the command's process group; SIGKILL ends the run with all its children */

/*
 * For programs with many runs and few threads. A run that was parted from the
 * handle which it was started by belongs to whoever has it, whatever that
 * handle does; it touches no state directory, and so its end is not recorded
 * before it is settled, with any handle on the same directory. (If it never
 * is: the next look at the VM records it.) After ERA_EVENT_EXIT settle it
 * before era_run_result() is believed: a shim that went without a word may
 * have left one behind.
 */
void era_run_detach(struct era_run *run);
int era_run_settle(struct era_run *run, struct era *era, struct era_error *err);

/* NULL before ERA_EVENT_EXIT; borrowed from the run. */
const struct era_result *era_run_result(const struct era_run *run);

/* Starts, waits, and hands the result over: for callers without an event loop. */
int era_vm_run(struct era *era, const char *id, const struct era_run_spec *spec, struct era_result **ret_result,
               struct era_error *err);
void era_result_free(struct era_result *result);

const char *era_result_run_id(const struct era_result *r);
const char *era_result_verdict(const struct era_result *r); /* exited, signaled, timed_out, oom_killed, vm_lost */
int era_result_exit_code(
    const struct era_result *r); /* 0..255; 128+N for signal N; 124 timed out; 137 out of memory; 125 VM lost */
uint64_t era_result_wall_us(const struct era_result *r);
uint64_t era_result_cpu_us(const struct era_result *r);       /* user and system time of the command and its children */
uint64_t era_result_peak_mem_kib(const struct era_result *r); /* the largest resident set among its processes */
uint64_t era_result_stdout_dropped(const struct era_result *r); /* bytes cut out of the middle of the log */
uint64_t era_result_stderr_dropped(const struct era_result *r);
const char *era_result_stdout_path(const struct era_result *r); /* "" when the VM left no log */
const char *era_result_stderr_path(const struct era_result *r);

/* ---- files and logs ----------------------------------------------------- */

/* A file or directory tree between the host and a running VM (it is started
 * when stopped). Errors: file_not_found, file_too_large, not_a_file, … */
int era_vm_copy_in(struct era *era, const char *id, const char *host_path, const char *guest_path,
                   struct era_error *err);
int era_vm_copy_out(struct era *era, const char *id, const char *guest_path, const char *host_path,
                    struct era_error *err);

/*
 * A single file, piece by piece, for callers with an event loop. Opening blocks while a stopped VM is started; then
 * nothing does: poll era_transfer_fd() for era_transfer_poll_events() when a function returns 0 for "not now". A
 * transfer does not belong to its handle: another thread may go on with it. Freed before its end, it leaves no
 * half file behind. Paths are absolute and of plain names.
 */
struct era_transfer;
int era_transfer_fd(const struct era_transfer *transfer); /* borrowed */
short era_transfer_poll_events(const struct era_transfer *transfer);
void era_transfer_free(struct era_transfer *transfer);

/* Into the VM; the folders that lead there are made. mode: permission bits. */
int era_put_open(struct era *era, const char *id, const char *path, uint64_t size, uint32_t mode,
                 struct era_transfer **ret_transfer, struct era_error *err);
/* The count of bytes taken; 0: not now. */
ssize_t era_put_write(struct era_transfer *transfer, const void *data, size_t len, struct era_error *err);
/* After size bytes: 1 once the file is in its place, 0: not now. */
int era_put_finish(struct era_transfer *transfer, struct era_error *err);

enum era_file_kind { ERA_FILE_REGULAR = 1, ERA_FILE_FOLDER = 2, ERA_FILE_LINK = 3 };

struct era_file_info {
    enum era_file_kind kind;
    const char *name; /* of an entry of a folder; any bytes; borrowed until the next call with this transfer */
    uint64_t size;    /* of a file, in bytes */
    uint32_t mode;    /* permission bits */
};

/* Out of the VM, links followed: a file and its content, or a folder and the names in it. path: "/" is possible. */
int era_get_open(struct era *era, const char *id, const char *path, struct era_transfer **ret_transfer,
                 struct era_error *err);
/* What it is: 1, 0: not now. Errors: file_not_found, copy_failed. */
int era_get_head(struct era_transfer *transfer, struct era_file_info *ret_info, struct era_error *err);
/* Of a file, after its head: the count of bytes, 0 at its end, -EAGAIN: not now. */
ssize_t era_get_read(struct era_transfer *transfer, void *to, size_t len, struct era_error *err);
/* Of a folder, after its head: 1 and an entry, 0 at its end, -EAGAIN: not now. In no order. */
int era_get_next(struct era_transfer *transfer, struct era_file_info *ret_info, struct era_error *err);

/* Removes a file or a whole folder in the VM. Blocks. Errors: file_not_found, copy_failed. */
int era_vm_remove_path(struct era *era, const char *id, const char *path, struct era_error *err);

/*
 * Opens a log for reading. run_id: NULL for the newest run. stream: 1 or 2.
 * ret_live: whether the run still writes to it (a follower polls the file).
 * Errors: vm_not_found, run_not_found.
 */
int era_vm_open_log(struct era *era, const char *id, const char *run_id, int stream, int *ret_fd, bool *ret_live,
                    struct era_error *err);

/* ---- images ------------------------------------------------------------- */

int era_image_build(struct era *era, const char *language, bool rebuild, struct era_image **ret_image,
                    struct era_error *err);
int era_image_pull(struct era *era, const char *reference, struct era_image **ret_image, struct era_error *err);
/* name: the reference to store it under, or NULL for the one in the archive. */
int era_image_import(struct era *era, const char *path, const char *name, struct era_image **ret_image,
                     struct era_error *err);
int era_image_list(struct era *era, struct era_image_list **ret_list, struct era_error *err);
int era_image_remove(struct era *era, const char *reference, struct era_error *err);
size_t era_image_list_count(const struct era_image_list *list);
const struct era_image *era_image_list_at(const struct era_image_list *list, size_t index);
void era_image_list_free(struct era_image_list *list);
void era_image_free(struct era_image *image);
const char *era_image_reference(const struct era_image *image);
const char *era_image_digest(const struct era_image *image); /* "sha256:…" */
const char *era_image_source(const struct era_image *image); /* "debian", "registry", "archive" */
uint64_t era_image_size_bytes(const struct era_image *image);
int64_t era_image_created_at_ns(const struct era_image *image);

/* ---- volumes ------------------------------------------------------------ */

int era_volume_list(struct era *era, struct era_volume_list **ret_list, struct era_error *err);
size_t era_volume_list_count(const struct era_volume_list *list);
void era_volume_list_free(struct era_volume_list *list);
const char *era_volume_list_name(const struct era_volume_list *list, size_t index);
const char *era_volume_list_kind(const struct era_volume_list *list, size_t index); /* "ext4" or "folder" */
const char *era_volume_list_vm(const struct era_volume_list *list, size_t index);   /* "" when no VM has it */
uint32_t era_volume_list_size_mib(const struct era_volume_list *list, size_t index);
int64_t era_volume_list_created_at_ns(const struct era_volume_list *list, size_t index);
/* Errors: volume_not_found, volume_busy (a VM has it). */
int era_volume_remove(struct era *era, const char *name, struct era_error *err);

/* ---- this host ---------------------------------------------------------- */

/* Looks at the host anew. Each check has a name, a state and an explanation. */
int era_doctor(struct era *era, struct era_report **ret_report, struct era_error *err);
void era_report_free(struct era_report *report);
size_t era_report_count(const struct era_report *report);
const char *era_report_name(const struct era_report *report, size_t index);
const char *era_report_state(const struct era_report *report, size_t index); /* "ok", "warn", "missing" */
const char *era_report_detail(const struct era_report *report, size_t index);
const char *era_report_launcher(const struct era_report *report); /* what `auto` picks, "" when none works */
const char *era_report_reason(const struct era_report *report);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

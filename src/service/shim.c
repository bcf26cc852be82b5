/* SPDX-License-Identifier: Apache-2.0 */
/* The service's side of a shim: starting, asking, ending. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "service/service.h"

/* Descriptors of a shim at its birth: see SHIM_FD_… in shim/shim.h. */
enum {
    CHILD_LAUNCH = 3,
    CHILD_LOCK = 4,
    CHILD_IMAGE = 5,
    HIGH_FD = 10,
    STOP_SLACK_MS = 10000,
    LAUNCH_TIMEOUT_MS = 45000,     /* the shim itself gives a guest 30 s */
    TOLD_STEP_TIMEOUT_MS = 300000, /* of what takes long, and is told: 120 s to boot a machine, 60 s to save it */
    START_STACK_BYTES = 64 << 10
};

int shim_open_folder(const struct era *era, const char *id)
{
    int fd = openat(era->vms_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

bool shim_alive(int folder_fd)
{
    return lock_is_held(folder_fd, "shim.lock");
}

bool shim_serves(int folder_fd)
{
    return shim_alive(folder_fd) && faccessat(folder_fd, "vm.sock", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A program to be started, and what came of it. */
struct start {
    const char *path;
    const posix_spawn_file_actions_t *actions;
    char *const *argv;
    pid_t pid;
    int error;
};

static int start_program(void *userdata)
{
    struct start *start = userdata;
    char *const envp[] = {ERA_FAULT_VARIABLE, NULL};
    start->error = posix_spawn(&start->pid, start->path, start->actions, NULL, start->argv, envp);
    return 0;
}

/*
 * Starts it as the child of a process that is gone when this returns: it belongs to nobody here, and whoever
 * embeds us never has to wait for it. The process between borrows our memory, as vfork()'s child does, since
 * a copy of it would cost as much as the rest of the start.
 */
static int start_orphan(struct start *start)
{
    _Alignas(64) char stack[START_STACK_BYTES];
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* no handler of ours may run in the child */
    pid_t between = clone(start_program, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, start);
    int error = between < 0 ? errno : 0;
    while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
        ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error != 0 ? -error : -start->error;
}

/* Starts it, and waits for its end. */
static int start_and_wait(struct start *start)
{
    (void)start_program(start);
    while (start->error == 0 && waitpid(start->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return -start->error;
}

/* Runs era-shim with these descriptors. */
static int spawn(const struct era *era, int (*how)(struct start *), char *const argv[], int folder_fd, const int fds[3],
                 int log_fd)
{
    _cleanup_free_ char *path = era_str_printf("%s/era-shim", era->helper_dir);
    if (path == NULL)
        return -ENOMEM;
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0)
        return -error;
    if (folder_fd >= 0)
        error = posix_spawn_file_actions_addfchdir_np(&actions, folder_fd);
    if (error == 0)
        error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
    if (error == 0)
        error = posix_spawn_file_actions_adddup2(&actions, 0, 1);
    if (error == 0)
        error = posix_spawn_file_actions_adddup2(&actions, log_fd >= 0 ? log_fd : 0, 2);
    for (int i = 0; error == 0 && fds != NULL && i < 3; i++)
        if (fds[i] >= 0)
            error = posix_spawn_file_actions_adddup2(&actions, fds[i], CHILD_LAUNCH + i);
    struct start start = {.path = path, .actions = &actions, .argv = argv};
    int r = error != 0 ? -error : how(&start);
    posix_spawn_file_actions_destroy(&actions);
    return r;
}

static int fill_launch(struct era *era, const struct era_vm_record *record, enum era_launcher_kind launcher,
                       const char *snapshot_path, struct era_launch *launch, int *ret_image_lock, struct era_error *err)
{
    const struct era_vm_ask *ask = &record->ask;
    *launch = (struct era_launch){
        .launcher = launcher,
        .network = ask->network,
        .cpu_count = ask->cpu_count,
        .mem_mib = ask->mem_mib,
        .disk_mib = ask->disk_mib,
        .pids = ask->pids,
        .uid_slot = record->uid_slot,
        .best_effort = ask->best_effort,
    };
    era_str_copy(launch->id, sizeof launch->id, record->id);
    era_str_copy(launch->snapshot_path, sizeof launch->snapshot_path, snapshot_path);
    _cleanup_close_ int root = -EBADF;
    _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
    int r = service_images(era, err);
    if (r >= 0)
        r = era_image_store_get(era->images, ask->image, &root, ret_image_lock, &info, err);
    if (r >= 0)
        r = kernel_prepare(era, ask, info, launch, err);
    if (r < 0)
        return r;
    if (era_strv_copy(&launch->env, &ask->env) < 0)
        return era_error_oom(err);
    /* The name that this directory has now; the lock keeps it. */
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", root);
    ssize_t n = readlink(link, launch->image_path, sizeof launch->image_path - 1);
    if (n <= 0)
        return era_error_errno(err, errno, "cannot find the image");
    launch->image_path[n] = '\0';
    if (ask->volume[0] == '\0')
        return 0;
    struct era_volume_record volume;
    r = era_store_volume_get(era->store, ask->volume, &volume, err);
    if (r < 0)
        return r;
    _cleanup_free_ char *path = volume_path(era, &volume);
    if (path == NULL)
        return era_error_oom(err);
    launch->volume_kind = volume.kind;
    era_str_copy(launch->volume_path, sizeof launch->volume_path, path);
    return 0;
}

/* Until there is something to read, or the end of it: 0, -ETIMEDOUT; -ECANCELED when only cancel_fd (or -1) has. */
static int await_input(int fd, int cancel_fd, int64_t deadline_ns)
{
    for (;;) {
        int64_t left_ms = (deadline_ns - era_clock_monotonic_ns()) / 1000000;
        struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
        int n = left_ms > 0 ? poll(polled, 2, (int)left_ms) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n > 0 && polled[0].revents == 0)
            return -ECANCELED;
        return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
    }
}

static void tell_progress(const struct era *era, const struct era_frame *frame)
{
    char line[160];
    snprintf(line, sizeof line, "%.*s", (int)(frame->len < sizeof line ? frame->len : sizeof line - 1),
             (const char *)frame->payload);
    if (era->progress != NULL)
        era->progress(era->progress_userdata, line);
}

/* Until the peer says STOPPED or closes; -ETIMEDOUT. */
static int await_stopped(int fd, int64_t deadline_ns)
{
    for (;;) {
        char rubbish[256];
        int r = await_input(fd, -1, deadline_ns);
        if (r < 0 || read(fd, rubbish, sizeof rubbish) <= 0)
            return r;
    }
}

/* Nobody waits for the VM any more: the shim hears of it, and ends. */
static int give_up(int fd, struct era_error *err)
{
    if (shutdown(fd, SHUT_WR) == 0)
        (void)await_stopped(fd, era_clock_monotonic_ns() + (int64_t)STOP_SLACK_MS * 1000000);
    return era_error_set(err, ECANCELED, "interrupted", "interrupted");
}

/* Waits for LAUNCHED or ERROR. */
static int read_answer(const struct era *era, int fd, struct era_launched *ret_launched, struct era_error *err)
{
    struct era_buffer in = {0};
    struct era_frame frame;
    ssize_t taken = 0;
    int waited = 0;
    int cancel_fd = era->cancel_fd > 0 ? era->cancel_fd : -1;
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)LAUNCH_TIMEOUT_MS * 1000000;
    for (;;) {
        taken = era_frame_decode(era_buffer_data(&in), era_buffer_len(&in), &frame);
        if (taken == 0 && (waited = await_input(fd, cancel_fd, deadline_ns)) == 0 && era_buffer_fill(&in, fd, 4096) > 0)
            continue;
        if (taken <= 0 || frame.type != ERA_FRAME_PROGRESS)
            break;
        tell_progress(era, &frame);
        era_buffer_consume(&in, (size_t)taken);
        deadline_ns = era_clock_monotonic_ns() + (int64_t)TOLD_STEP_TIMEOUT_MS * 1000000;
    }
    int r;
    struct era_error told;
    if (taken > 0 && frame.type == ERA_FRAME_LAUNCHED && era_launched_decode(&frame, ret_launched) >= 0) {
        r = 0;
    } else if (taken > 0 && frame.type == ERA_FRAME_ERROR && era_error_decode(&frame, &told) >= 0) {
        if (err != NULL)
            *err = told;
        r = -told.errnum;
    } else if (waited == -ECANCELED) {
        r = give_up(fd, err);
    } else {
        r = era_error_set(err, EPIPE, "vm_start_failed",
                          "the VM's shim ended before the VM ran; its shim.log may say why");
    }
    era_buffer_clear(&in);
    return r;
}

static int send_launch(int fd, const struct era_launch *launch)
{
    struct era_buffer out = {0};
    int r = era_message_append(&out, ERA_FRAME_LAUNCH, 0, era_launch_encode, launch);
    if (r >= 0)
        r = era_buffer_flush(&out, fd);
    era_buffer_clear(&out);
    return r;
}

static int start_as(struct era *era, const struct era_vm_record *record, enum era_launcher_kind launcher,
                    const char *snapshot_path, int folder_fd, struct shim_launch *ret_launch, struct era_error *err)
{
    _cleanup_(era_launch_clear) struct era_launch launch = {0};
    _cleanup_close_ int image_lock = -EBADF;
    int r = fill_launch(era, record, launcher, snapshot_path, &launch, &image_lock, err);
    if (r < 0)
        return r;
    _cleanup_close_ int lock = lock_take(folder_fd, "shim.lock", F_WRLCK, 0);
    if (lock < 0)
        return era_error_set(err, EBUSY, "vm_busy", "the VM is being started or ended by somebody else");
    ERA_POINT("launch.locked");
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return era_error_errno(err, errno, "cannot make a socket pair");
    _cleanup_close_ int ours = pair[0];
    _cleanup_close_ int theirs = pair[1];
    _cleanup_close_ int log =
        openat(folder_fd, "shim.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);

    /* High ones, so that none is overwritten while they are put in their places. */
    _cleanup_close_ int high_launch = fcntl(theirs, F_DUPFD_CLOEXEC, HIGH_FD);
    _cleanup_close_ int high_lock = fcntl(lock, F_DUPFD_CLOEXEC, HIGH_FD);
    _cleanup_close_ int high_image = fcntl(image_lock, F_DUPFD_CLOEXEC, HIGH_FD);
    _cleanup_close_ int high_log = fcntl(log, F_DUPFD_CLOEXEC, HIGH_FD);
    _cleanup_close_ int high_folder = fcntl(folder_fd, F_DUPFD_CLOEXEC, HIGH_FD);
    const int fds[3] = {high_launch, high_lock, high_image};
    if (high_launch < 0 || high_lock < 0 || high_image < 0 || high_log < 0 || high_folder < 0)
        return era_error_errno(err, errno, "cannot start the VM's shim");
    char *const argv[] = {(char *)(uintptr_t) "era-shim", NULL};
    r = spawn(era, start_orphan, argv, high_folder, fds, high_log);
    if (r < 0)
        return era_error_set(err, -r, "vm_start_failed", "cannot start the VM's shim: %s", strerror(-r));
    era_closep(&theirs);
    era_closep(&high_launch);
    ERA_POINT("launch.spawned");
    r = ERA_POINT_OR("launch.sent", send_launch(ours, &launch));
    if (r >= 0)
        r = read_answer(era, ours, &ret_launch->launched, err);
    else
        r = era_error_set(err, -r, "vm_start_failed", "the VM's shim ended at once");
    if (r < 0) {
        /* The lock is ours as well: when the shim's copy is closed it is gone. It may have been killed half way. */
        shim_sweep(era, record->id);
        return r;
    }
    ERA_POINT("launch.answered");
    ret_launch->channel_fd = era_take_fd(&ours);
    return 0;
}

int shim_start(struct era *era, const struct era_vm_record *record, const char *snapshot_path, int folder_fd,
               struct shim_launch *ret_launch, struct era_error *err)
{
    struct era_error why = {0};
    int r = start_as(era, record, record->ask.launcher, snapshot_path, folder_fd, ret_launch, &why);
    /* Where no namespace can be made a machine can still be emulated. */
    bool refused = r < 0 && record->ask.launcher == ERA_LAUNCHER_AUTO && era_error_is(&why, "launcher_unavailable");
    if (refused && start_as(era, record, ERA_LAUNCHER_MICROVM, snapshot_path, folder_fd, ret_launch, NULL) >= 0)
        return 0;
    if (r < 0 && err != NULL)
        *err = why;
    return r;
}

int shim_commit(struct shim_launch *launch, bool bound, struct era_error *err)
{
    struct era_buffer out = {0};
    int r = era_frame_append(&out, ERA_FRAME_COMMIT, 0, "b", bound ? 1 : 0);
    if (r >= 0)
        r = era_buffer_flush(&out, launch->channel_fd);
    era_buffer_clear(&out);
    if (r < 0 || !bound)
        era_closep(&launch->channel_fd);
    return r < 0 ? era_error_set(err, -r, "vm_start_failed", "the VM's shim ended at once") : 0;
}

void shim_abandon(struct shim_launch *launch)
{
    era_closep(&launch->channel_fd);
}

int shim_connect(int folder_fd)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/vm.sock", folder_fd);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    return era_take_fd(&fd);
}

/* DONE, or why not. */
static int await_done(int fd, int timeout_ms, struct era_error *err)
{
    struct era_buffer in = {0};
    struct era_frame frame;
    struct era_error told;
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)timeout_ms * 1000000;
    ssize_t taken = 0;
    while ((taken = era_frame_decode(era_buffer_data(&in), era_buffer_len(&in), &frame)) == 0 &&
           await_input(fd, -1, deadline_ns) == 0 && era_buffer_fill(&in, fd, 4096) > 0)
        ;
    int r = 0;
    if (taken > 0 && frame.type == ERA_FRAME_ERROR && era_error_decode(&frame, &told) >= 0) {
        if (err != NULL)
            *err = told;
        r = -told.errnum;
    } else if (taken <= 0 || frame.type != ERA_FRAME_DONE) {
        r = era_error_set(err, EPIPE, "vm_busy", "the VM's shim ended, or does not answer");
    }
    era_buffer_clear(&in);
    return r;
}

int shim_ask(int folder_fd, enum era_frame_type type, const char *text, int timeout_ms, struct era_error *err)
{
    _cleanup_close_ int fd = shim_connect(folder_fd);
    if (fd < 0)
        return era_error_set(err, ESRCH, "vm_not_running", "the VM is not running");
    struct era_buffer out = {0};
    int r = era_frame_append(&out, type, 0, text, strlen(text));
    if (r >= 0)
        r = era_buffer_flush(&out, fd);
    era_buffer_clear(&out);
    return r < 0 ? era_error_set(err, EPIPE, "vm_busy", "the VM's shim ended") : await_done(fd, timeout_ms, err);
}

int shim_await_end(int folder_fd, struct era_error *err)
{
    _cleanup_close_ int lock = lock_take(folder_fd, "shim.lock", F_WRLCK, STOP_SLACK_MS);
    if (lock == -EAGAIN)
        return era_error_set(err, ETIMEDOUT, "vm_busy", "the VM's shim does not end");
    if (lock == -ENOENT)
        return 0; /* somebody has removed the folder, which comes after the end */
    return lock < 0 ? era_error_errno(err, -lock, "cannot wait for the VM's shim") : 0;
}

int shim_stop(int folder_fd, uint32_t grace_ms, struct era_error *err)
{
    if (!shim_alive(folder_fd))
        return 0;
    _cleanup_close_ int fd = shim_connect(folder_fd);
    if (fd >= 0) {
        struct era_buffer out = {0};
        int r = era_u32_append(&out, ERA_FRAME_STOP, 0, grace_ms);
        if (r >= 0)
            r = era_buffer_flush(&out, fd);
        era_buffer_clear(&out);
        ERA_POINT("stop.asked");
        int64_t deadline = era_clock_monotonic_ns() + (int64_t)(grace_ms + STOP_SLACK_MS) * 1000000;
        if (r >= 0 && await_stopped(fd, deadline) < 0)
            return era_error_set(err, ETIMEDOUT, "vm_busy", "the VM's shim does not answer");
    }
    ERA_POINT("stop.answered");
    /* It is on its way out: the lock falls with its last breath. */
    return shim_await_end(folder_fd, err);
}

void shim_sweep(const struct era *era, const char *id)
{
    char *const argv[] = {(char *)(uintptr_t) "era-shim", (char *)(uintptr_t) "--sweep", (char *)(uintptr_t)id, NULL};
    (void)spawn(era, start_and_wait, argv, -EBADF, NULL, -EBADF);
}

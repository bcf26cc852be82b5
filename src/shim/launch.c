/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the service sends LAUNCH and waits. The shim makes the
 * guest, waits for its READY, opens vm.sock, answers LAUNCHED. The service
 * writes the record and sends COMMIT. Should it die before, the channel closes
 * and the shim ends with its guest: there is no VM without a record. A COMMIT
 * that is not empty binds the VM to its creator: the channel stays open, and
 * the guest ends when it closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "shim/shim.h"

enum { READY_TIMEOUT_MS = 30000 };

/* Reads whole frames from a blocking descriptor: 1, 0 at its end, -errno. */
static int next_frame(int fd, struct era_buffer *in, struct era_frame *ret_frame, ssize_t *ret_taken)
{
    for (;;) {
        ssize_t taken = era_frame_decode(era_buffer_data(in), era_buffer_len(in), ret_frame);
        if (taken != 0) {
            *ret_taken = taken;
            return taken < 0 ? (int)taken : 1;
        }
        ssize_t n = era_buffer_fill(in, fd, 16 * 1024);
        if (n <= 0)
            return (int)n;
    }
}

static _Noreturn void give_up(struct shim *shim, const struct era_error *err)
{
    struct era_buffer out = {0};
    if (err != NULL && era_message_append(&out, ERA_FRAME_ERROR, 0, era_error_encode, err) >= 0)
        (void)era_write_full(SHIM_FD_LAUNCH, era_buffer_data(&out), era_buffer_len(&out));
    unlink("vm.sock"); /* first: a shim without one serves nobody */
    if (shim->guest != NULL)
        shim->guest->ops->free(shim->guest);
    exit(1);
}

static int find_init(char *path, size_t size, struct era_error *err)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    if (n < 0)
        return era_error_errno(err, errno, "cannot find era-init");
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash == NULL || era_str_format(slash + 1, size - (size_t)(slash + 1 - path), "era-init") < 0)
        return era_error_set(err, ENOENT, "vm_start_failed", "cannot find era-init beside era-shim");
    return 0;
}

static const char *path_or_null(const char *path)
{
    return path[0] != '\0' ? path : NULL;
}

/* Told to the service, which tells who waits. */
static void tell_progress(void *userdata, const char *line)
{
    (void)userdata;
    struct era_buffer out = {0};
    if (era_frame_append(&out, ERA_FRAME_PROGRESS, 0, line, strlen(line)) >= 0)
        (void)era_write_full(SHIM_FD_LAUNCH, era_buffer_data(&out), era_buffer_len(&out));
    era_buffer_clear(&out);
}

static int start_guest(struct shim *shim, struct era_error *err)
{
    char init_path[ERA_PATH_MAX];
    int r = find_init(init_path, sizeof init_path, err);
    if (r < 0)
        return r;
    const struct era_launch *launch = &shim->launch;
    const struct era_guest_config config = {
        .id = launch->id,
        .image_path = launch->image_path,
        .volume_path = path_or_null(launch->volume_path),
        .init_path = init_path,
        .image_file = path_or_null(launch->image_file),
        .image_digest = path_or_null(launch->image_digest),
        .kernel_path = path_or_null(launch->kernel_path),
        .templates_path = path_or_null(launch->templates_path),
        .template_budget_bytes = (uint64_t)launch->template_budget_mib << 20,
        .snapshot_path = path_or_null(launch->snapshot_path),
        .progress = tell_progress,
        .caller_fd = SHIM_FD_LAUNCH,
        .env = launch->env.items,
        .volume_kind = launch->volume_kind,
        .network = launch->network,
        .cpu_count = launch->cpu_count,
        .mem_mib = launch->mem_mib,
        .pids = launch->pids,
        .uid_slot = launch->uid_slot,
        .best_effort = launch->best_effort,
    };
    r = era_launcher_choose(launch->launcher, &config, &shim->launcher, err);
    if (r >= 0 && config.snapshot_path != NULL && shim->launcher->kind != ERA_LAUNCHER_MICROVM)
        r = era_error_set(err, ENOTSUP, "not_supported", "a snapshot needs the launcher microvm");
    return r < 0 ? r : shim->launcher->start(&config, &shim->guest, err);
}

/* Waits until the guest has more to read: 1 yes, 0 it is gone, -errno. */
static int await_guest(const struct shim *shim, int64_t deadline_ns, struct era_error *err)
{
    struct pollfd fds[] = {
        {.fd = shim->guest->control_fd, .events = POLLIN},
        {.fd = shim->guest->pid_fd, .events = POLLIN},
        {.fd = SHIM_FD_LAUNCH, .events = POLLRDHUP},
    };
    int64_t left_ms = (deadline_ns - era_clock_monotonic_ns()) / 1000000;
    int n;
    do
        n = left_ms > 0 ? poll(fds, 3, (int)left_ms) : 0;
    while (n < 0 && errno == EINTR);
    if (n <= 0 || fds[2].revents != 0)
        return era_error_set(err, ETIMEDOUT, "vm_start_failed", "the guest did not answer in time");
    return (fds[0].revents & POLLIN) != 0;
}

/* READY, or the guest's death, or the service's. A guest that stops in the middle of its word is no reason to wait. */
static int await_ready(struct shim *shim, struct era_error *err)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)READY_TIMEOUT_MS * 1000000;
    int r = era_set_nonblock(shim->guest->control_fd, true);
    if (shim->guest->ready) /* the launcher heard it */
        return r;
    while (r >= 0) {
        struct era_frame frame;
        ssize_t taken = era_frame_decode(era_buffer_data(&shim->from_guest), era_buffer_len(&shim->from_guest), &frame);
        if (taken > 0 && frame.type == ERA_FRAME_READY && frame.stream == 0 && frame.len == 0) {
            era_buffer_consume(&shim->from_guest, (size_t)taken);
            return 0;
        }
        if (taken != 0)
            return era_error_set(err, EPROTO, "vm_start_failed", "the guest's init said something else than ready");
        r = await_guest(shim, deadline_ns, err);
        if (r < 0)
            return r;
        ssize_t n = r > 0 ? era_buffer_fill(&shim->from_guest, shim->guest->control_fd, 4096) : 0;
        if (n == 0 || (n < 0 && n != -EAGAIN))
            return era_error_set(err, EPIPE, "vm_start_failed", "the guest's init ended before it was ready");
    }
    return era_error_errno(err, -r, "cannot listen to the guest");
}

/* The guest's clock is right before anybody can talk to it. */
static int set_clock(struct shim *shim, struct era_error *err)
{
    int r = shim_clock_start(shim);
    if (r >= 0 && shim->guest->own_clock)
        r = shim_await_clock(shim);
    return r < 0 ? era_error_set(err, -r, "vm_start_failed", "the guest's clock could not be set") : 0;
}

static int open_socket(struct shim *shim, struct era_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "vm.sock"};
    unlink("vm.sock");
    shim->listen.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t before = umask(0177);
    bool failed = shim->listen.fd < 0 || bind(shim->listen.fd, (struct sockaddr *)&address, sizeof address) < 0 ||
                  listen(shim->listen.fd, 128) < 0;
    umask(before);
    return failed ? era_error_errno(err, errno, "cannot open vm.sock") : 0;
}

static int answer_launched(const struct shim *shim)
{
    struct era_launched launched = {.launcher = shim->launcher->kind};
    era_str_copy(launched.unenforced, sizeof launched.unenforced, shim->guest->unenforced);
    struct era_buffer out = {0};
    int r = era_message_append(&out, ERA_FRAME_LAUNCHED, 0, era_launched_encode, &launched);
    if (r >= 0)
        r = era_write_full(SHIM_FD_LAUNCH, era_buffer_data(&out), era_buffer_len(&out));
    era_buffer_clear(&out);
    return r;
}

void shim_launch(struct shim *shim)
{
    struct era_buffer in = {0};
    struct era_frame frame;
    struct era_error err = {0};
    ssize_t taken = 0;
    if (next_frame(SHIM_FD_LAUNCH, &in, &frame, &taken) <= 0 || frame.type != ERA_FRAME_LAUNCH ||
        era_launch_decode(&frame, &shim->launch) < 0)
        give_up(shim, NULL);
    era_buffer_consume(&in, (size_t)taken);
    ERA_POINT("shim.ordered");
    ERA_FAULT_HAND_ON(&shim->launch.env); /* to init */

    int r = runs_prepare(shim);
    if (r < 0) {
        era_error_errno(&err, -r, "cannot make the VM's folder");
        give_up(shim, &err);
    }
    ERA_POINT("shim.prepared");
    if (start_guest(shim, &err) < 0 || await_ready(shim, &err) < 0 || set_clock(shim, &err) < 0)
        give_up(shim, &err);
    ERA_POINT("shim.guest");
    if (open_socket(shim, &err) < 0)
        give_up(shim, &err);
    ERA_POINT("shim.listening");
    if (answer_launched(shim) < 0)
        give_up(shim, NULL);
    ERA_POINT("shim.answered");
    if (next_frame(SHIM_FD_LAUNCH, &in, &frame, &taken) <= 0 || frame.type != ERA_FRAME_COMMIT)
        give_up(shim, NULL);
    ERA_POINT("shim.committed");
    shim->owner = (struct source){.kind = SOURCE_OWNER, .fd = frame.len > 0 ? SHIM_FD_LAUNCH : -EBADF};
    era_buffer_clear(&in);
    if (shim->owner.fd < 0)
        close(SHIM_FD_LAUNCH);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher: see internal.h for the theory of operation. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/idmap.h"
#include "launcher/microvm/internal.h"
#include "launcher/microvm/template.h"
#include "launcher/namespace/internal.h"

/* What a QEMU needs beside its guest's memory, and threads of a QEMU beside those that are its processors. */
enum { QEMU_OVERHEAD_MIB = 192, QEMU_THREADS = 64, RESUME_MS = 30000 };

struct microvm_guest {
    struct era_guest head;
    struct cgroup cgroup;
    struct qemu qemu;
    int volume_fd; /* open and locked while the guest lives */
    int wire_fd;   /* while it starts: passt's end of the card's wire */
    int pasta_fd;  /* pidfds of the network's keepers */
    int passt_fd;
    int template_fd; /* the lock on what it was copied from */
    int memory_fd;   /* of what it was copied from: its memory, to be read */
    struct saved_process process;
    struct template_key key;
};

static void guest_kill(struct era_guest *head)
{
    qemu_kill(&((struct microvm_guest *)head)->qemu);
}

/* Its own kernel counts, and era-init tells with the end of each run. */
static uint64_t guest_oom_kills(const struct era_guest *head)
{
    (void)head;
    return 0;
}

static void end_helper(int *pid_fd)
{
    if (*pid_fd >= 0)
        syscall(SYS_pidfd_send_signal, *pid_fd, SIGKILL, NULL, 0);
    era_closep(pid_fd);
}

static void guest_free(struct era_guest *head)
{
    struct microvm_guest *guest = (struct microvm_guest *)head;
    if (guest == NULL)
        return;
    qemu_end(&guest->qemu);
    end_helper(&guest->passt_fd);
    end_helper(&guest->pasta_fd);
    era_closep(&guest->wire_fd);
    cgroup_remove(&guest->cgroup);
    era_closep(&guest->volume_fd);
    era_closep(&guest->template_fd);
    era_closep(&guest->memory_fd);
    saved_process_close(&guest->process);
    free(guest);
}

static void guest_freep(struct microvm_guest **guest)
{
    if (*guest != NULL)
        guest_free(&(*guest)->head);
}

static int guest_pause(struct era_guest *head, struct era_error *err)
{
    return machine_stop(&((struct microvm_guest *)head)->qemu, err);
}

static int guest_resume(struct era_guest *head, struct era_error *err)
{
    return machine_go_on(&((struct microvm_guest *)head)->qemu, err);
}

static int guest_save(struct era_guest *head, int dirfd, enum era_save_step step, struct era_error *err)
{
    struct microvm_guest *guest = (struct microvm_guest *)head;
    const struct saved_parts parts = {
        .memory_fd = guest->memory_fd, .volume_fd = guest->volume_fd, .process = &guest->process, .key = &guest->key};
    return snapshot_save(&guest->qemu, &parts, dirfd, step, err);
}

static const struct era_guest_ops ops = {.kill = guest_kill,
                                         .oom_kills = guest_oom_kills,
                                         .free = guest_free,
                                         .pause = guest_pause,
                                         .resume = guest_resume,
                                         .save = guest_save};

/* The host's bounds around QEMU. The guest's own are its memory, its processors and its kernel: they need none. */
static void bound(struct microvm_guest *guest, const struct era_guest_config *config)
{
    struct era_guest_config around = *config;
    char unenforced[ERA_UNENFORCED_MAX] = "";
    around.best_effort = true;
    around.mem_mib += QEMU_OVERHEAD_MIB;
    around.pids = config->cpu_count + QEMU_THREADS;
    (void)cgroup_create(&around, &guest->cgroup, unenforced, NULL);
}

/* A way out of its network namespace: for the machine that is the guest, and not for its template. */
static int lend_network(void *userdata, pid_t pid, struct era_error *err)
{
    struct microvm_guest *guest = userdata;
    if (guest->wire_fd < 0)
        return 0;
    int r = pasta_start(pid, &guest->pasta_fd, err);
    if (r >= 0)
        r = passt_start(pid, guest->wire_fd, &guest->passt_fd, err);
    era_closep(&guest->wire_fd);
    return r;
}

/* Tells a new QEMU to load the saved state; returns when it has, and the machine stands still. */
static int load(struct qemu *qemu, int state_fd, struct era_error *err)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)RESUME_MS * 1000000;
    static const struct qmp_member source[] = {{.key = "uri", .text = "fd:state"}, {.key = NULL}};
    int r = monitor_ask(qemu, "qmp_capabilities", NULL, deadline_ns, err);
    if (r >= 0)
        r = boot_prepare_saving(qemu, deadline_ns, err);
    if (r >= 0)
        r = monitor_give(qemu, "state", state_fd, deadline_ns, err);
    if (r >= 0)
        r = monitor_send(qemu, "migrate-incoming", source) < 0 ? qemu_fail(qemu, -EPIPE, "going on", err) : 0;
    if (r >= 0)
        r = monitor_await(qemu, "MIGRATION", "completed", deadline_ns, err);
    return r;
}

static const char *interpreter_of(const char *id)
{
    return era_str_starts_with(id, "python-") ? "python3" : era_str_starts_with(id, "node-") ? "node" : NULL;
}

/* With less the kernel ends an interpreter that has done nothing, or would throw its pages out again and again. */
static uint32_t least_mem_mib(const char *id)
{
    return era_str_starts_with(id, "node-") ? 128 : 96;
}

static struct machine_spec describe(const struct era_guest_config *config)
{
    return (struct machine_spec){.cpu_count = config->cpu_count,
                                 .mem_mib = config->mem_mib,
                                 .network = config->network == ERA_NETWORK_ALLOW_ALL,
                                 .warm = interpreter_of(config->id)};
}

static int make_wire(struct microvm_guest *guest, int *ret_fd, struct era_error *err)
{
    int wire[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, wire) < 0)
        return era_error_errno(err, errno, "cannot make a socket pair");
    guest->wire_fd = wire[0];
    *ret_fd = wire[1];
    return 0;
}

static int clone_template(struct microvm_guest *guest, const struct era_guest_config *config, struct era_error *err)
{
    struct machine_spec spec = describe(config);
    spec.kvm = kvm_usable(config, &spec, &guest->cgroup);
    _cleanup_(template_close) struct template template = {-EBADF, -EBADF, -EBADF};
    int r = template_key_of(config, &spec, &guest->key, err);
    if (r >= 0)
        r = config->snapshot_path != NULL ? snapshot_open(config->snapshot_path, &guest->key, &template, err)
                                          : template_open(config, &spec, &guest->cgroup, &template, err);
    if (r < 0)
        return r;
    _cleanup_close_ int image = open(config->image_file, O_RDONLY | O_CLOEXEC);
    if (image < 0)
        return era_error_errno(err, errno, "cannot open %s", config->image_file);
    _cleanup_close_ int wire = -EBADF;
    if (spec.network && (r = make_wire(guest, &wire, err)) < 0)
        return r;
    spec.clone = true;
    spec.snapshot = config->snapshot_path != NULL;
    spec.volume = guest->volume_fd >= 0;
    const struct qemu_files files = {.memory_fd = template.memory_fd,
                                     .image_fd = image,
                                     .volume_fd = guest->volume_fd,
                                     .network_fd = wire,
                                     .kernel_fd = -EBADF,
                                     .initramfs_fd = -EBADF};
    const struct qemu_start how = {.config = config,
                                   .spec = &spec,
                                   .files = &files,
                                   .cgroup = &guest->cgroup,
                                   .lend = lend_network,
                                   .userdata = guest};
    bool jailed = false;
    r = qemu_start(&how, &guest->qemu, &jailed, err);
    if (r >= 0)
        r = load(&guest->qemu, template.state_fd, err);
    if (r < 0)
        return r;
    ERA_POINT("machine.loaded");
    if (!jailed)
        era_str_copy(guest->head.unenforced, sizeof guest->head.unenforced, "jail");
    guest->head.foreign = jailed && era_idmap_is_host_root();
    guest->template_fd = era_take_fd(&template.lock_fd);
    guest->memory_fd = era_take_fd(&template.memory_fd);
    saved_process_open(&guest->process, guest->qemu.pid);
    return 0;
}

static int start(const struct era_guest_config *config, struct era_guest **ret_guest, struct era_error *err)
{
    _cleanup_(guest_freep) struct microvm_guest *guest = calloc(1, sizeof *guest);
    if (guest == NULL)
        return era_error_oom(err);
    if (qemu_find() == NULL)
        return era_error_set(err, ENOENT, "launcher_unavailable",
                             "the launcher microvm needs QEMU; install the package qemu-system-x86");
    if (config->kernel_path == NULL || config->image_file == NULL)
        return era_error_set(err, ENOENT, "launcher_unavailable", "there is no kernel for the launcher microvm");
    if (config->volume_path != NULL && config->volume_kind != ERA_VOLUME_EXT4)
        return era_error_set(err, ENOTSUP, "volume_failed",
                             "the volume is a folder, and a guest with a kernel of its own takes a disk only");
    if (config->mem_mib < least_mem_mib(config->id))
        return era_error_invalid(err, "mem", "a guest with a kernel of its own needs at least %u MiB of memory",
                                 least_mem_mib(config->id));
    guest->head = (struct era_guest){.ops = &ops, .control_fd = -EBADF, .pid_fd = -EBADF};
    guest->qemu = (struct qemu){.pid_fd = -EBADF, .control_fd = -EBADF, .monitor_fd = -EBADF, .words_fd = -EBADF};
    guest->volume_fd = guest->template_fd = guest->memory_fd = guest->wire_fd = guest->pasta_fd = guest->passt_fd =
        -EBADF;
    guest->process = (struct saved_process){-EBADF, -EBADF, -EBADF};
    int r = config->volume_path != NULL ? volume_lock(config, &guest->volume_fd, err) : 0;
    if (r < 0)
        return r;
    bound(guest, config);
    ERA_POINT("machine.bounded");
    r = clone_template(guest, config, err);
    if (r >= 0)
        r = identity_tell(&guest->qemu, config, err);
    if (r < 0)
        return r;
    ERA_POINT("machine.told");
    guest->head.control_fd = guest->qemu.control_fd;
    guest->head.pid_fd = guest->qemu.pid_fd;
    guest->head.ready = true;
    guest->head.own_clock = true;
    *ret_guest = &era_take_ptr(guest)->head;
    return 0;
}

static void sweep(const char *id)
{
    cgroup_sweep(id);
}

static bool proven(const struct era_guest_config *config)
{
    struct machine_spec spec = describe(config);
    bool folder = config->volume_path != NULL && config->volume_kind != ERA_VOLUME_EXT4;
    return qemu_find() != NULL && config->kernel_path != NULL && !folder &&
           config->mem_mib >= least_mem_mib(config->id) && kvm_usable(config, &spec, NULL);
}

const struct era_launcher era_microvm_launcher = {
    .kind = ERA_LAUNCHER_MICROVM,
    .start = start,
    .confine = seccomp_confine_keeper,
    .sweep = sweep,
    .proven = proven,
    .probe = microvm_probe,
};

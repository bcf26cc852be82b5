/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher: see internal.h for the theory of operation. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "launcher/microvm/internal.h"
#include "launcher/namespace/internal.h"
#include "wire/message.h"

/* Threads of a QEMU beside those that are its processors. */
enum { QEMU_OVERHEAD_MIB = 192, QEMU_THREADS = 64 };

struct microvm_guest {
    struct era_guest head;
    struct cgroup cgroup;
    struct qemu qemu;
    int volume_fd; /* open and locked while the guest lives */
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

static void guest_free(struct era_guest *head)
{
    struct microvm_guest *guest = (struct microvm_guest *)head;
    if (guest == NULL)
        return;
    qemu_end(&guest->qemu);
    cgroup_remove(&guest->cgroup);
    era_closep(&guest->volume_fd);
    free(guest);
}

static void guest_freep(struct microvm_guest **guest)
{
    if (*guest != NULL)
        guest_free(&(*guest)->head);
}

static const struct era_guest_ops ops = {.kill = guest_kill, .oom_kills = guest_oom_kills, .free = guest_free};

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

static int lend(void *userdata, pid_t pid, struct era_error *err)
{
    struct microvm_guest *guest = userdata;
    _cleanup_(cgroup_entry_close) struct cgroup_entry cgroups = cgroup_entry_none;
    int r = cgroup_entry_open(&guest->cgroup, &cgroups, err);
    if (r < 0)
        return r;
    r = cgroup_attach(&cgroups, pid);
    return r < 0
               ? era_error_set(err, -r, "vm_start_failed", "cannot move QEMU into its control group: %s", strerror(-r))
               : 0;
}

static void digits(const uint8_t *bytes, size_t count, char *to)
{
    for (size_t i = 0; i < count; i++)
        snprintf(to + 2 * i, 3, "%02x", bytes[i]);
}

static int fill_identity(const struct era_guest_config *config, struct era_identity *identity)
{
    uint8_t random[16 + 6];
    if (getrandom(identity->seed, sizeof identity->seed, 0) != (ssize_t)sizeof identity->seed ||
        getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return -EIO;
    era_str_copy(identity->id, sizeof identity->id, config->id);
    digits(random, 16, identity->machine_id);
    memcpy(identity->mac, random + 16, sizeof identity->mac);
    identity->mac[0] = (uint8_t)((identity->mac[0] & 0xFC) | 0x02); /* given by nobody, of one station */
    identity->network = config->network == ERA_NETWORK_ALLOW_ALL;
    identity->volume = config->volume_path != NULL;
    identity->pids = config->pids;
    for (char *const *item = config->env; item != NULL && *item != NULL; item++)
        if (era_strv_add(&identity->env, *item) < 0)
            return -ENOMEM;
    identity->realtime_ns = era_clock_realtime_ns(); /* last, so that it is right when it arrives */
    return 0;
}

/* The guest answers by READY, which the shim awaits. */
static int send_identity(int control_fd, const struct era_guest_config *config, struct era_error *err)
{
    struct era_buffer out = {0};
    _cleanup_(era_identity_clear) struct era_identity identity = {0};
    int r = fill_identity(config, &identity);
    if (r >= 0)
        r = era_message_append(&out, ERA_FRAME_IDENTITY, 0, era_identity_encode, &identity);
    if (r >= 0)
        r = era_write_full(control_fd, era_buffer_data(&out), era_buffer_len(&out));
    era_buffer_clear(&out);
    return r < 0 ? era_error_set(err, -r, "vm_start_failed", "cannot tell the guest who it is: %s", strerror(-r)) : 0;
}

static int boot(struct microvm_guest *guest, const struct era_guest_config *config, struct era_error *err)
{
    _cleanup_close_ int kernel_dir = open(config->kernel_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int kernel = openat(kernel_dir, "vmlinuz", O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int initramfs = initramfs_make(config->init_path, kernel_dir);
    _cleanup_close_ int image = open(config->image_file, O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int memory = memfd_create("memory", MFD_CLOEXEC);
    if (kernel < 0 || initramfs < 0 || image < 0 || memory < 0)
        return era_error_errno(err, errno, "cannot open the guest's files");
    (void)ftruncate(memory, (off_t)config->mem_mib << 20);
    const struct machine_spec spec = {.cpu_count = config->cpu_count,
                                      .mem_mib = config->mem_mib,
                                      .tsc_khz = 2596138,
                                      .warm = "python3",
                                      .volume = config->volume_path != NULL};
    const struct qemu_files files = {.memory_fd = memory,
                                     .image_fd = image,
                                     .volume_fd = guest->volume_fd,
                                     .state_fd = -EBADF,
                                     .network_fd = -EBADF,
                                     .kernel_fd = kernel,
                                     .initramfs_fd = initramfs};
    const struct qemu_start how = {.config = config, .spec = &spec, .files = &files, .lend = lend, .userdata = guest};
    bool jailed;
    int r = qemu_start(&how, &guest->qemu, &jailed, err);
    if (r < 0)
        return r;
    struct era_buffer in = {0};
    struct era_frame frame;
    ssize_t taken;
    while ((taken = era_frame_decode(era_buffer_data(&in), era_buffer_len(&in), &frame)) == 0)
        if (era_buffer_fill(&in, guest->qemu.control_fd, 4096) <= 0)
            return era_error_set(err, EPIPE, "vm_start_failed", "no boot");
    if (frame.type == ERA_FRAME_ERROR)
        era_error_decode(&frame, err);
    return frame.type == ERA_FRAME_READY ? 0 : -EIO;
}

static int start(const struct era_guest_config *config, struct era_guest **ret_guest, struct era_error *err)
{
    _cleanup_(guest_freep) struct microvm_guest *guest = calloc(1, sizeof *guest);
    if (guest == NULL)
        return era_error_oom(err);
    guest->head = (struct era_guest){.ops = &ops, .control_fd = -EBADF, .pid_fd = -EBADF};
    guest->qemu = (struct qemu){.pid_fd = -EBADF, .control_fd = -EBADF, .monitor_fd = -EBADF, .words_fd = -EBADF};
    guest->volume_fd = -EBADF;
    int r = config->volume_path != NULL ? volume_lock(config, &guest->volume_fd, err) : 0;
    if (r < 0)
        return r;
    bound(guest, config);
    r = boot(guest, config, err);
    if (r >= 0)
        r = send_identity(guest->qemu.control_fd, config, err);
    if (r < 0)
        return r;
    guest->head.control_fd = guest->qemu.control_fd;
    guest->head.pid_fd = guest->qemu.pid_fd;
    *ret_guest = &era_take_ptr(guest)->head;
    return 0;
}

static void sweep(const char *id)
{
    cgroup_sweep(id);
}

static int probe(struct era_check checks[], int max, bool *ret_usable)
{
    (void)checks;
    (void)max;
    *ret_usable = qemu_find() != NULL;
    return 0;
}

const struct era_launcher era_microvm_launcher = {
    .kind = ERA_LAUNCHER_MICROVM,
    .start = start,
    .sweep = sweep,
    .probe = probe,
};

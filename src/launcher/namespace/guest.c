/* SPDX-License-Identifier: Apache-2.0 */
/* The parent's side: see internal.h for the theory of operation. */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/idmap.h"
#include "base/str.h"
#include "launcher/namespace/internal.h"

enum { EXEC_TIMEOUT_MS = 30000 };

struct namespace_guest {
    struct era_guest head;
    struct cgroup cgroup;
    int volume_fd; /* open and locked while the guest lives */
    int pasta_fd;  /* pidfd of the network's keeper */
    pid_t pid;
    uint32_t cpu_count;
};

static void signal_process(int pid_fd)
{
    if (pid_fd >= 0)
        syscall(SYS_pidfd_send_signal, pid_fd, SIGKILL, NULL, 0);
}

static void guest_hurry(struct era_guest *head, bool on)
{
    const struct namespace_guest *guest = (const struct namespace_guest *)head;
    cgroup_hurry(&guest->cgroup, on ? 0 : guest->cpu_count);
}

static void guest_kill(struct era_guest *head)
{
    guest_hurry(head, true);
    signal_process(head->pid_fd);
}

static uint64_t guest_oom_kills(const struct era_guest *head)
{
    return cgroup_oom_kills(&((const struct namespace_guest *)head)->cgroup);
}

static void guest_free(struct era_guest *head)
{
    struct namespace_guest *guest = (struct namespace_guest *)head;
    if (guest == NULL)
        return;
    if (guest->pid > 0) {
        guest_kill(head);
        waitpid(guest->pid, NULL, 0);
    }
    signal_process(guest->pasta_fd);
    cgroup_remove(&guest->cgroup);
    era_closep(&guest->pasta_fd);
    era_closep(&guest->volume_fd);
    era_closep(&head->control_fd);
    era_closep(&head->pid_fd);
    free(guest);
}

static void guest_freep(struct namespace_guest **guest)
{
    if (*guest != NULL)
        guest_free(&(*guest)->head);
}

static const struct era_guest_ops ops = {
    .kill = guest_kill, .hurry = guest_hurry, .oom_kills = guest_oom_kills, .free = guest_free};

static int open_userns(pid_t child, struct era_error *err)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)child);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? era_error_errno(err, errno, "cannot open the guest's user namespace") : fd;
}

/* "Go": one byte, and the mounts that we made for it. */
static int send_go(int sync_fd, const struct guest_mounts *mounts)
{
    int fds[GUEST_MOUNT_FDS] = {mounts->root_fd, mounts->init_fd, mounts->volume_fd};
    size_t count = mounts->root_fd < 0 ? 0 : mounts->volume_fd < 0 ? 2 : 3;
    char control[CMSG_SPACE(sizeof fds)] = {0};
    char byte = 1;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(count * sizeof fds[0]);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof fds[0]);
        memcpy(CMSG_DATA(header), fds, count * sizeof fds[0]);
    }
    return sendmsg(sync_fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The socket closes by exec, or brings the step that failed. */
static int await_exec(int sync_fd, struct era_error *err)
{
    struct child_failure failure;
    struct pollfd poller = {.fd = sync_fd, .events = POLLIN};
    int ready;
    do
        ready = poll(&poller, 1, EXEC_TIMEOUT_MS);
    while (ready < 0 && errno == EINTR);
    if (ready == 0)
        return era_error_set(err, ETIMEDOUT, "vm_start_failed", "the guest's first process was not set up in time");
    ssize_t n = era_read_full(sync_fd, &failure, sizeof failure);
    if (n == 0)
        return 0;
    if (n != (ssize_t)sizeof failure)
        return era_error_set(err, EPIPE, "vm_start_failed", "the guest's first process died while it was set up");
    failure.step[sizeof failure.step - 1] = '\0';
    int errnum = failure.errnum > 0 && failure.errnum < 4096 ? failure.errnum : EIO;
    return era_error_set(err, errnum, "vm_start_failed", "cannot set up the guest: %s: %s", failure.step,
                         strerror(errnum));
}

/* All that needs the host, between the child's birth and its go. */
static int lend(struct namespace_guest *guest, const struct era_guest_config *config, bool privileged, int sync_fd,
                struct era_error *err)
{
    int r = idmap_write(guest->pid, config->uid_slot, privileged, err);
    if (r < 0)
        return r;
    ERA_POINT("guest.mapped");
    /* So that init is heard beside hundreds of busy commands, which go back to 0. An ordinary user may not. */
    (void)setpriority(PRIO_PROCESS, (id_t)guest->pid, -20);
    if (config->network == ERA_NETWORK_ALLOW_ALL && (r = pasta_start(guest->pid, &guest->pasta_fd, err)) < 0)
        return r;
    ERA_POINT("guest.network");

    struct guest_mounts mounts = {-EBADF, -EBADF, -EBADF};
    if (privileged) {
        _cleanup_close_ int userns = open_userns(guest->pid, err);
        r = userns < 0 ? userns : root_build(config, userns, &mounts, err);
        if (r >= 0 && config->volume_path != NULL)
            r = volume_build(config, guest->volume_fd, userns, &mounts, err);
    }
    ERA_POINT("guest.root");
    if (r >= 0 && (r = send_go(sync_fd, &mounts)) < 0)
        r = era_error_set(err, -r, "vm_start_failed", "the guest's first process died before it was set up");
    ERA_POINT("guest.go");
    if (privileged)
        root_forget_scratch();
    era_closep(&mounts.root_fd);
    era_closep(&mounts.init_fd);
    era_closep(&mounts.volume_fd);
    return r;
}

static int give_birth(struct namespace_guest *guest, const struct child_plan *plan, struct era_error *err)
{
    const unsigned long flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
    int pid_fd = -EBADF;
    int r = plan->privileged ? owner_assume(plan->config->uid_slot) : 0;
    if (r < 0)
        return era_error_set(err, -r, "launcher_unavailable", "root may not act for the guest (%s): it needs %s",
                             strerror(-r), "CAP_SETUID and CAP_KILL");
    guest->head.foreign = plan->privileged;
    bool born_outside = false;
    pid_t pid = cgroup_clone(plan->cgroups, flags, &pid_fd, &born_outside);
    if (pid == 0)
        child_main(plan);
    int errnum = errno;
    if (plan->privileged)
        owner_leave();
    if (pid < 0) {
        bool forbidden = errnum == EPERM || errnum == ENOSPC || errnum == EUSERS;
        return era_error_set(err, errnum, "launcher_unavailable", "the kernel refuses namespaces: %s%s%s",
                             strerror(errnum), forbidden ? "; " : "", forbidden ? kernel_why_no_namespaces() : "");
    }
    guest->pid = pid;
    guest->head.pid_fd = pid_fd;
    r = born_outside ? cgroup_attach(plan->cgroups, pid) : 0;
    return r < 0 ? era_error_set(err, -r, "vm_start_failed", "cannot move the guest into its control group: %s",
                                 strerror(-r))
                 : 0;
}

/* As root mounts are made in a namespace of the shim's own, where the host does not see them. */
static int leave_host_mounts(struct era_error *err)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return era_error_set(err, errno, "launcher_unavailable", "cannot make a mount namespace: %s", strerror(errno));
    return 0;
}

static void free_addresses(struct ifaddrs **addresses)
{
    if (*addresses != NULL)
        freeifaddrs(*addresses);
}

static int start(const struct era_guest_config *config, struct era_guest **ret_guest, struct era_error *err)
{
    bool privileged = era_idmap_is_host_root();
    _cleanup_(guest_freep) struct namespace_guest *guest = calloc(1, sizeof *guest);
    if (guest == NULL)
        return era_error_oom(err);
    guest->head = (struct era_guest){.ops = &ops, .control_fd = -EBADF, .pid_fd = -EBADF};
    guest->volume_fd = guest->pasta_fd = -EBADF;
    guest->cpu_count = config->cpu_count;

    char why[KERNEL_WHY_MAX];
    int r = kernel_check_calls(why);
    if (r < 0)
        return era_error_set(err, -r, "launcher_unavailable", "this kernel cannot make a VM: %s", why);
    r = privileged ? leave_host_mounts(err) : 0;
    ERA_POINT("guest.mounts");
    if (r >= 0 && config->volume_path != NULL)
        r = volume_lock(config, &guest->volume_fd, err);
    ERA_POINT("guest.volume");
    if (r >= 0)
        r = cgroup_create(config, &guest->cgroup, guest->head.unenforced, err);
    if (r < 0)
        return r;
    ERA_POINT("guest.cgroup");

    int control[2];
    int sync[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0)
        return era_error_errno(err, errno, "cannot make a socket pair");
    guest->head.control_fd = control[0];
    _cleanup_close_ int their_control = control[1];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sync) < 0)
        return era_error_errno(err, errno, "cannot make a socket pair");
    _cleanup_close_ int our_sync = sync[0];
    _cleanup_close_ int their_sync = sync[1];

    _cleanup_(free_addresses) struct ifaddrs *host_addresses = NULL;
    if (config->network == ERA_NETWORK_ALLOW_ALL && getifaddrs(&host_addresses) < 0)
        return era_error_errno(err, errno, "cannot list the host's addresses");
    _cleanup_(cgroup_entry_close) struct cgroup_entry cgroups = cgroup_entry_none;
    r = cgroup_entry_open(&guest->cgroup, &cgroups, err);
    if (r < 0)
        return r;
    const struct child_plan plan = {.config = config,
                                    .cgroups = &cgroups,
                                    .privileged = privileged,
                                    .sync_fd = their_sync,
                                    .parent_sync_fd = our_sync,
                                    .parent_control_fd = guest->head.control_fd,
                                    .control_fd = their_control,
                                    .host_addresses = host_addresses};
    r = give_birth(guest, &plan, err);
    if (r < 0)
        return r;
    ERA_POINT("guest.born");
    era_closep(&their_sync);
    era_closep(&their_control);
    r = lend(guest, config, privileged, our_sync, err);
    if (r >= 0)
        r = await_exec(our_sync, err);
    if (r < 0)
        return r;
    ERA_POINT("guest.exec");
    *ret_guest = &era_take_ptr(guest)->head;
    return 0;
}

static void sweep(const char *id)
{
    cgroup_sweep(id);
}

const struct era_launcher era_namespace_launcher = {
    .kind = ERA_LAUNCHER_NAMESPACE,
    .start = start,
    .confine = seccomp_confine_keeper,
    .sweep = sweep,
    .probe = namespace_probe,
};

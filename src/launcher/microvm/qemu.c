/* SPDX-License-Identifier: Apache-2.0 */
/* The parent's side of a QEMU in its jail. */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/idmap.h"
#include "launcher/microvm/internal.h"
#include "launcher/namespace/internal.h"

const char *qemu_find(void)
{
    static const char *const candidates[] = {"/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"};
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++)
        if (access(candidates[i], X_OK) == 0)
            return candidates[i];
    return NULL;
}

void qemu_kill(const struct qemu *qemu)
{
    if (qemu->pid_fd >= 0)
        syscall(SYS_pidfd_send_signal, qemu->pid_fd, SIGKILL, NULL, 0);
}

void qemu_end(struct qemu *qemu)
{
    if (qemu->pid > 0) {
        qemu_kill(qemu);
        while (waitpid(qemu->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    qemu->pid = 0;
    era_closep(&qemu->pid_fd);
    era_closep(&qemu->control_fd);
    era_closep(&qemu->monitor_fd);
    era_closep(&qemu->words_fd);
    era_buffer_clear(&qemu->monitor_in);
}

/* The word that all is well, with the descriptor that hears what it opens; or the step that failed. */
static int receive_listener(int sync_fd, int *ret_listener, struct era_error *err)
{
    struct child_failure failure = {0};
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {.iov_base = &failure, .iov_len = sizeof failure};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(sync_fd, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (n == 1 && header != NULL && header->cmsg_type == SCM_RIGHTS) {
        memcpy(ret_listener, CMSG_DATA(header), sizeof *ret_listener);
        return 0;
    }
    if (n != (ssize_t)sizeof failure)
        return era_error_set(err, EPIPE, "vm_start_failed", "QEMU's process died while it was set up");
    failure.step[sizeof failure.step - 1] = '\0';
    int errnum = failure.errnum > 0 && failure.errnum < 4096 ? failure.errnum : EIO;
    return era_error_set(err, errnum, "vm_start_failed", "cannot jail QEMU: %s: %s", failure.step, strerror(errnum));
}

/* As root by the first uid of its range, as any guest: see namespace/owner.c. */
static int give_birth(struct qemu *qemu, struct jail_plan *plan, uint32_t uid_slot, struct era_error *err)
{
    const unsigned long separate =
        CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    int r = plan->privileged ? owner_assume(uid_slot) : 0;
    if (r < 0)
        return era_error_set(err, -r, "launcher_unavailable", "root may not act for QEMU (%s): it needs %s",
                             strerror(-r), "CAP_SETUID and CAP_KILL");
    bool born_outside = false;
    plan->namespaces = true;
    pid_t pid = cgroup_clone(plan->cgroups, separate, &qemu->pid_fd, &born_outside);
    if (pid == 0)
        jail_main(plan);
    int errnum = errno;
    if (plan->privileged)
        owner_leave();
    if (pid < 0 && (errnum == EPERM || errnum == ENOSPC || errnum == EUSERS || errnum == EINVAL)) {
        plan->namespaces = false;
        pid = cgroup_clone(plan->cgroups, 0, &qemu->pid_fd, &born_outside);
        errnum = errno;
    }
    if (pid == 0)
        jail_main(plan);
    if (pid < 0) {
        qemu->pid_fd = -EBADF;
        return era_error_errno(err, errnum, "cannot make a process for QEMU");
    }
    qemu->pid = pid;
    r = born_outside ? cgroup_attach(plan->cgroups, pid) : 0;
    return r < 0
               ? era_error_set(err, -r, "vm_start_failed", "cannot move QEMU into its control group: %s", strerror(-r))
               : 0;
}

static int make_pair(int *ret_ours, int *ret_theirs, struct era_error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return era_error_errno(err, errno, "cannot make a socket pair");
    *ret_ours = pair[0];
    *ret_theirs = pair[1];
    return 0;
}

/* Neither end ever waits for the other: what does not fit is lost. */
static int make_words(int *ret_ours, int *ret_theirs, struct era_error *err)
{
    int words[2];
    if (pipe2(words, O_CLOEXEC | O_NONBLOCK) < 0)
        return era_error_errno(err, errno, "cannot make a pipe");
    *ret_ours = words[0];
    *ret_theirs = words[1];
    return 0;
}

int qemu_fail(const struct qemu *qemu, int r, const char *what, struct era_error *err)
{
    char text[200];
    ssize_t n = qemu->words_fd < 0 ? 0 : read(qemu->words_fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7E)
            *p = '?';
    return era_error_set(err, -r, "vm_start_failed", "QEMU failed (%s): %s", what,
                         text[0] != '\0' ? text
                         : r == -EPIPE   ? "it ended without a word"
                                         : strerror(-r));
}

/* From its birth to the moment when it has its memory. */
static int bring_up(const struct qemu_start *start, struct jail_plan *plan, struct qemu *qemu, int our_sync,
                    int *their_sync, struct era_error *err)
{
    int r = give_birth(qemu, plan, start->config->uid_slot, err);
    era_closep(their_sync);
    ERA_POINT("machine.born");
    if (r >= 0 && plan->namespaces)
        r = idmap_write(qemu->pid, start->config->uid_slot, plan->privileged, err);
    if (r >= 0 && start->lend != NULL)
        r = start->lend(start->userdata, qemu->pid, err);
    ERA_POINT("machine.lent");
    if (r >= 0 && send(our_sync, "", 1, MSG_NOSIGNAL) != 1)
        r = era_error_set(err, EPIPE, "vm_start_failed", "QEMU's process died before it was set up");
    _cleanup_close_ int listener = -EBADF;
    if (r >= 0)
        r = receive_listener(our_sync, &listener, err);
    if (r < 0)
        return r;
    ERA_POINT("machine.jailed");
    r = opens_answer(listener, qemu->pid, qemu->pid_fd, start->files->memory_fd, start->spec->kvm);
    ERA_POINT("machine.remembers");
    return r < 0 ? qemu_fail(qemu, r, "starting", err) : 0;
}

static void free_addresses(struct ifaddrs **addresses)
{
    if (*addresses != NULL)
        freeifaddrs(*addresses);
}

int qemu_start(const struct qemu_start *start, struct qemu *ret_qemu, bool *ret_jailed, struct era_error *err)
{
    _cleanup_(era_strv_clear) struct era_strv args = {0};
    if (machine_args(start->spec, &args) < 0)
        return era_error_oom(err);
    struct qemu qemu = {.pid_fd = -EBADF, .control_fd = -EBADF, .monitor_fd = -EBADF, .words_fd = -EBADF};
    _cleanup_close_ int their_words = -EBADF;
    _cleanup_close_ int their_control = -EBADF;
    _cleanup_close_ int their_monitor = -EBADF;
    _cleanup_close_ int our_sync = -EBADF;
    _cleanup_close_ int their_sync = -EBADF;
    int r = make_pair(&qemu.control_fd, &their_control, err);
    if (r >= 0)
        r = make_pair(&qemu.monitor_fd, &their_monitor, err);
    if (r >= 0)
        r = make_pair(&our_sync, &their_sync, err);
    if (r >= 0)
        r = make_words(&qemu.words_fd, &their_words, err);
    _cleanup_(free_addresses) struct ifaddrs *host_addresses = NULL;
    if (r >= 0 && start->spec->network && getifaddrs(&host_addresses) < 0)
        r = era_error_errno(err, errno, "cannot list the host's addresses");
    _cleanup_(cgroup_entry_close) struct cgroup_entry cgroups = cgroup_entry_none;
    if (r >= 0 && start->cgroup != NULL)
        r = cgroup_entry_open(start->cgroup, &cgroups, err);
    struct jail_plan plan = {.cgroups = &cgroups,
                             .argv = args.items,
                             .qemu_path = qemu_find(),
                             .fds = {[QEMU_CONTROL] = their_control,
                                     [QEMU_MONITOR] = their_monitor,
                                     [QEMU_IMAGE] = start->files->image_fd,
                                     [QEMU_VOLUME] = start->files->volume_fd,
                                     [QEMU_NETWORK] = start->files->network_fd},
                             .kernel_fd = start->files->kernel_fd,
                             .initramfs_fd = start->files->initramfs_fd,
                             .words_fd = their_words,
                             .sync_fd = their_sync,
                             .parent_sync_fd = our_sync,
                             .host_addresses = host_addresses,
                             .network = start->spec->network,
                             .privileged = era_idmap_is_host_root()};
    if (r >= 0)
        r = bring_up(start, &plan, &qemu, our_sync, &their_sync, err);
    if (r < 0) {
        qemu_end(&qemu);
        return r;
    }
    *ret_qemu = qemu;
    *ret_jailed = plan.namespaces;
    return 0;
}

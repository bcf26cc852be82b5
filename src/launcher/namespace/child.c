/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's first process on its way from clone to exec. Everything that is
 * done to it stands in the table `steps`, in order; a step that fails ends it
 * and is reported by name. No memory is allocated here.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/str.h"
#include "launcher/namespace/internal.h"

enum { CONTROL_FD = 3, KEYCTL_JOIN_SESSION = 1 };

struct child {
    const struct child_plan *plan;
    struct guest_mounts mounts;
    char detail[48]; /* of the step that failed */
};

/* The parent may be dead already. Without our copies of its ends, the sockets will say so. */
static int close_parents_ends(struct child *child)
{
    close(child->plan->parent_sync_fd);
    close(child->plan->parent_control_fd);
    return 0;
}

static int die_with_parent(struct child *child)
{
    (void)child;
    return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}

static int enter_cgroups(struct child *child)
{
    return cgroup_enter(child->plan->cgroups);
}

/* The parent writes "go" with the mounts that it made, or closes. */
static int wait_for_parent(struct child *child)
{
    int fds[GUEST_MOUNT_FDS];
    char control[CMSG_SPACE(sizeof fds)];
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(child->plan->sync_fd, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 ? -errno : -EPIPE;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header == NULL)
        return 0;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof fds[0];
    memcpy(fds, CMSG_DATA(header), count * sizeof fds[0]);
    child->mounts.root_fd = count > 0 ? fds[0] : -EBADF;
    child->mounts.init_fd = count > 1 ? fds[1] : -EBADF;
    child->mounts.volume_fd = count > 2 ? fds[2] : -EBADF;
    return 0;
}

static int become_root_inside(struct child *child)
{
    /* Without privilege the kernel forbids setgroups; then there is no group to give up that counts. */
    if (child->plan->privileged && setgroups(0, NULL) < 0)
        return -errno;
    return setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 ? -errno : 0;
}

static int enter_cgroup_namespace(struct child *child)
{
    (void)child;
    return unshare(CLONE_NEWCGROUP) < 0 ? -errno : 0;
}

static int name_host(struct child *child)
{
    return sethostname(child->plan->config->id, strlen(child->plan->config->id)) < 0 ? -errno : 0;
}

static int set_up_network(struct child *child)
{
    int r = network_raise_loopback();
    if (r >= 0 && child->plan->config->network == ERA_NETWORK_ALLOW_ALL)
        r = network_forbid(child->plan->host_addresses);
    return r;
}

static int leave_session_keyring(struct child *child)
{
    (void)child;
    long r = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION, NULL);
    return r < 0 && errno != ENOSYS && errno != EPERM ? -errno : 0;
}

static int seal_mounts(struct child *child)
{
    (void)child;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0;
}

static int build_mounts(struct child *child)
{
    if (child->plan->privileged)
        return 0;
    struct era_error err = {0};
    int r = root_build(child->plan->config, -EBADF, &child->mounts, &err);
    if (r >= 0 && child->plan->config->volume_path != NULL)
        r = volume_build(child->plan->config, -EBADF, -EBADF, &child->mounts, &err);
    if (r < 0)
        era_str_copy(child->detail, sizeof child->detail, err.message);
    return r;
}

static int attach_root(struct child *child)
{
    return mount_attach(child->mounts.root_fd, AT_FDCWD, "/");
}

static int make_dev(struct child *child)
{
    return dev_mount(child->mounts.root_fd, child->plan->config->mem_mib);
}

static int make_proc(struct child *child)
{
    return proc_mount(child->mounts.root_fd);
}

static int make_workspace(struct child *child)
{
    return tree_make_workspace(child->mounts.root_fd, child->mounts.volume_fd);
}

static int write_etc(struct child *child)
{
    if (child->plan->config->network != ERA_NETWORK_ALLOW_ALL)
        return 0;
    return tree_write_resolver(child->mounts.root_fd);
}

/* The new root is on top of the old one; afterwards the old one is gone. */
static int enter_root(struct child *child)
{
    if (fchdir(child->mounts.root_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        chdir("/") < 0)
        return -errno;
    return 0;
}

static int set_rlimits(struct child *child)
{
    return rlimits_set(child->plan->config->pids);
}

/* stdin, stdout, stderr of nobody; 3 the shim; what exec and the report still need is close-on-exec. */
static int arrange_descriptors(struct child *child)
{
    _cleanup_close_ int devnull = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (devnull < 0)
        return -errno;
    const int keep[] = {child->plan->control_fd, child->plan->sync_fd, child->mounts.init_fd, devnull};
    era_close_all_but(keep, sizeof keep / sizeof keep[0]);
    for (int fd = 0; fd < 3; fd++)
        if (dup2(devnull, fd) < 0)
            return -errno;
    return 0;
}

static int reset_process(struct child *child)
{
    (void)child;
    sigset_t none;
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        return -errno;
    for (int signo = 1; signo < NSIG; signo++)
        signal(signo, SIG_DFL);
    umask(022);
    return 0;
}

static int drop_capabilities(struct child *child)
{
    (void)child;
    return caps_drop();
}

static int forbid_new_privileges(struct child *child)
{
    (void)child;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static int filter_system_calls(struct child *child)
{
    (void)child;
    return seccomp_install();
}

/*
 * Each step: what it needs, what it leaves, what it must not do.
 * Until `drop_capabilities` the child has every capability, inside its own
 * user namespace only.
 */
static const struct {
    const char *name;
    int (*run)(struct child *child);
} steps[] = {
    /* needs nothing; leaves a child that cannot outlive the shim. Again after the change of uid, which forgets it */
    {"die with parent", die_with_parent},
    /* leaves the parent as the only one at the other ends: its death before the line above is the end of them */
    {"parent's ends", close_parents_ends},
    /* needs the groups that the parent made and opened; from here on all is counted and limited */
    {"control groups", enter_cgroups},
    /* needs the parent's go: uids are mapped, the network is there; leaves the parent's mounts */
    {"wait for parent", wait_for_parent},
    /* needs the maps; leaves uid 0 inside and no group of the host */
    {"become root inside", become_root_inside},
    {"die with parent again", die_with_parent},
    /* needs to be in its control group, which becomes the visible root */
    {"cgroup namespace", enter_cgroup_namespace},
    {"hostname", name_host},
    /* needs CAP_NET_ADMIN over its own network; leaves loopback, and no way to the host and the cloud's metadata */
    {"network", set_up_network},
    {"session keyring", leave_session_keyring},
    /* from here on no mount reaches the host's namespaces, nor theirs us */
    {"private mounts", seal_mounts},
    /* without root: the overlay is made here; must come before the old root is covered */
    {"guest root", build_mounts},
    /* leaves the guest's root on top of the host's; paths still lead to the host's */
    {"attach root", attach_root},
    /* these work on descriptors of the new root and must not follow a link of the image */
    {"/dev", make_dev},
    {"/proc", make_proc},
    {"/workspace", make_workspace},
    {"/etc", write_etc},
    /* leaves no trace of the host's file systems */
    {"pivot root", enter_root},
    {"resource limits", set_rlimits},
    /* leaves the shim's socket, the report socket and era-init; must not leave a descriptor of the host */
    {"descriptors", arrange_descriptors},
    {"signals", reset_process},
    /* needs all mounting done; leaves what root in a container needs */
    {"capabilities", drop_capabilities},
    {"no new privileges", forbid_new_privileges},
    /* last: the filter refuses much of the above */
    {"seccomp", filter_system_calls},
};

static _Noreturn void fail(const struct child *child, const char *step, int r)
{
    struct child_failure failure = {.errnum = -r};
    era_str_copy(failure.step, sizeof failure.step, child->detail[0] != '\0' ? child->detail : step);
    (void)era_write_full(child->plan->sync_fd, &failure, sizeof failure);
    _exit(1);
}

_Noreturn void child_main(const struct child_plan *plan)
{
    struct child child = {.plan = plan, .mounts = {-EBADF, -EBADF, -EBADF}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        int r = ERA_POINT_OR("child.step", steps[i].run(&child));
        if (r < 0)
            fail(&child, steps[i].name, r);
    }
    /* The shim's socket moves to its place; whatever stood there is not needed any more. */
    int sync_fd = plan->sync_fd;
    if (sync_fd == CONTROL_FD && (sync_fd = fcntl(sync_fd, F_DUPFD_CLOEXEC, CONTROL_FD + 1)) < 0)
        _exit(1);
    int init_fd = child.mounts.init_fd;
    if (init_fd == CONTROL_FD && (init_fd = fcntl(init_fd, F_DUPFD_CLOEXEC, CONTROL_FD + 1)) < 0)
        _exit(1);
    if (plan->control_fd == CONTROL_FD)
        fcntl(CONTROL_FD, F_SETFD, 0);
    else if (dup2(plan->control_fd, CONTROL_FD) < 0)
        _exit(1);
    ERA_POINT("child.exec");
    char *const argv[] = {(char *)(uintptr_t) "era-init", NULL};
    char *const none[] = {NULL};
    syscall(SYS_execveat, init_fd, "", argv, plan->config->env != NULL ? plan->config->env : none, AT_EMPTY_PATH);
    struct child_failure failure = {.errnum = errno, .step = "exec of era-init"};
    (void)era_write_full(sync_fd, &failure, sizeof failure);
    _exit(1);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: what connects a guest's network namespace to the world,
 * pasta(1) or passt(1), needs no privilege of the host. It runs inside the
 * guest's user namespace, so that it has power over that network and over
 * nothing else, and below a *keeper*: the first process of a pid namespace,
 * which dies with its parent, and that one with the shim. The helper changes
 * its credentials, which would make it forget whom to die with; the death of
 * its namespace's first process it cannot forget.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/idmap.h"
#include "launcher/namespace/internal.h"

/*
 * The uid that a helper runs under may have no right to /dev/net/tun, which many
 * distributions open to all, and some to root alone. Root makes one that it may
 * open, where nobody else sees it.
 */
static int offer_tun(void)
{
    const dev_t tun = makedev(10, 200); /* Documentation/admin-guide/devices.txt */
    if (!era_idmap_is_host_root())
        return 0;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("era", "/dev/net", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=4k") < 0)
        return -errno;
    umask(0);
    return mknod("/dev/net/tun", S_IFCHR | 0666, tun) < 0 ? -errno : 0;
}

static const int kept[] = {KEEPER_NETNS, KEEPER_READY, KEEPER_WIRE};

static _Noreturn void become_helper(const struct net_helper *helper)
{
    /* It takes a SIGPIPE that is ignored already for a failure to ignore it. */
    signal(SIGPIPE, SIG_DFL);
    for (int fd = KEEPER_NETNS; fd <= KEEPER_WIRE; fd++)
        fcntl(fd, F_SETFD, 0);
    char *const envp[] = {NULL};
    execve(helper->path, (char *const *)(uintptr_t)helper->argv, envp);
    _exit(127);
}

/* First process of its pid namespace: starts the helper, and ends when it does, or with its parent. */
static _Noreturn void keep(const struct net_helper *helper, int alive_fd)
{
    /* The parent may be dead already; there is no pid of it here to compare, but the other end of this. */
    struct pollfd parent = {.fd = alive_fd, .events = POLLIN};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || poll(&parent, 1, 0) != 0)
        _exit(126);
    era_close_all_but(kept, sizeof kept / sizeof kept[0]);
    ERA_POINT("network.kept");

    pid_t pid = fork();
    if (pid == 0)
        become_helper(helper);
    close(KEEPER_READY);
    close(KEEPER_WIRE);
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(1);
}

/*
 * Between the shim and the keeper: enters the guest's user namespace, in which
 * also a process of an ordinary user may make a pid namespace, and dies with
 * either of them.
 */
static _Noreturn void enter(const struct net_helper *helper, pid_t shim, int userns_fd, int netns_fd, int ready_fd)
{
    (void)prctl(PR_SET_NAME, "era-net");
    int devnull = open("/dev/null", O_RDWR | O_CLOEXEC);
    int high[] = {fcntl(netns_fd, F_DUPFD_CLOEXEC, 10), fcntl(ready_fd, F_DUPFD_CLOEXEC, 10),
                  fcntl(userns_fd, F_DUPFD_CLOEXEC, 10),
                  fcntl(helper->wire_fd < 0 ? devnull : helper->wire_fd, F_DUPFD_CLOEXEC, 10)};
    if (devnull < 0 || dup2(devnull, 0) < 0 || dup2(devnull, 1) < 0 || dup2(high[0], KEEPER_NETNS) < 0 ||
        dup2(high[1], KEEPER_READY) < 0 || dup2(high[3], KEEPER_WIRE) < 0 || offer_tun() < 0 ||
        setns(high[2], CLONE_NEWUSER) < 0 || (helper->inside && setns(KEEPER_NETNS, CLONE_NEWNET) < 0))
        _exit(126);
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        _exit(126);
    /* After the change of credentials, which forgets it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != shim)
        _exit(126);
    era_close_all_but(kept, sizeof kept / sizeof kept[0]);
    ERA_POINT("network.entered");

    int alive[2];
    if (pipe2(alive, O_CLOEXEC) < 0 || unshare(CLONE_NEWPID) < 0)
        _exit(126);
    pid_t keeper = fork();
    if (keeper == 0) {
        close(alive[1]);
        keep(helper, alive[0]);
    }
    for (int fd = KEEPER_NETNS; fd <= KEEPER_WIRE; fd++)
        close(fd);
    while (keeper > 0 && waitpid(keeper, NULL, 0) < 0 && errno == EINTR)
        ;
    _exit(1);
}

static int open_namespace(pid_t child, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)child, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int keeper_start(pid_t child, const struct net_helper *helper, int *ret_pid_fd, struct era_error *err)
{
    if (!era_idmap_is_host_root() && access("/dev/net/tun", R_OK | W_OK) < 0)
        return era_error_set(err, errno, "network_unavailable",
                             "this user may not open /dev/net/tun (%s); as root: chmod 666 /dev/net/tun",
                             strerror(errno));
    _cleanup_close_ int userns = open_namespace(child, "user");
    _cleanup_close_ int netns = open_namespace(child, "net");
    int ready[2];
    if (userns < 0 || netns < 0 || pipe2(ready, O_CLOEXEC) < 0)
        return era_error_errno(err, errno, "cannot reach the guest's network namespace");
    _cleanup_close_ int ready_read = ready[0];
    _cleanup_close_ int ready_write = ready[1];

    /* The helper opens it anew, by another uid than ours. */
    (void)fchmod(ready_write, 0666);
    pid_t shim = getpid();
    int pid_fd = -EBADF;
    pid_t keeper = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_PIDFD | SIGCHLD), NULL, &pid_fd, NULL, 0);
    if (keeper < 0)
        return era_error_errno(err, errno, "cannot start the network helper");
    if (keeper == 0)
        enter(helper, shim, userns, netns, ready_write);
    _cleanup_close_ int helper_fd = pid_fd;
    era_closep(&ready_write);

    /* It writes its pid when all is set up; the end without it means that it gave up. */
    char byte;
    if (era_read_full(ready_read, &byte, 1) != 1) {
        syscall(SYS_pidfd_send_signal, helper_fd, SIGKILL, NULL, 0);
        waitpid(keeper, NULL, 0);
        return era_error_set(err, ENETUNREACH, "network_unavailable",
                             "%s could not connect the guest; does this host have a route to the outside?",
                             helper->argv[0]);
    }
    *ret_pid_fd = era_take_fd(&helper_fd);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: pasta(1) connects the guest's network namespace to the
 * world without any privilege of the host. It runs inside the guest's user
 * namespace, so that it has power over that network and over nothing else, and
 * below a *keeper*: the first process of a pid namespace, which dies with its
 * parent, and that one with the shim. pasta changes its credentials, which
 * would make it forget whom to die with; the death of its namespace's first
 * process it cannot forget.
 *
 * No port is forwarded in either direction, and the gateway's address is not
 * mapped to the host: there is no way to the host's loopback.
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

/* Where the keeper's descriptors stand, so that they can be named in pasta's arguments. */
enum { NETNS_FD = 3, READY_FD = 4 };

static const char *find_pasta(void)
{
    static const char *const candidates[] = {"/usr/bin/pasta", "/usr/local/bin/pasta", "/bin/pasta"};
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++)
        if (access(candidates[i], X_OK) == 0)
            return candidates[i];
    return NULL;
}

static _Noreturn void exec_pasta(const char *pasta)
{
    char netns[32];
    char ready[32];
    snprintf(netns, sizeof netns, "/proc/self/fd/%d", NETNS_FD);
    snprintf(ready, sizeof ready, "/proc/self/fd/%d", READY_FD);
    const char *const argv[] = {
        "pasta",
        "--quiet",
        "--foreground",
        "--netns-only",
        "--netns",
        netns,
        "--runas",
        "0",
        "--config-net",
        "--no-map-gw",
        "-t",
        "none",
        "-u",
        "none",
        "-T",
        "none",
        "-U",
        "none",
        "--dns-forward",
        SANDBOX_RESOLVER,
        "--pid",
        ready,
        NULL,
    };
    char *const envp[] = {NULL};
    execve(pasta, (char *const *)(uintptr_t)argv, envp);
    _exit(127);
}

/*
 * The uid that pasta runs under may have no right to /dev/net/tun, which many
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

/* First process of its pid namespace: starts pasta, and ends when it does, or with its parent. */
static _Noreturn void keep(const char *pasta, int alive_fd)
{
    /* The parent may be dead already; there is no pid of it here to compare, but the other end of this. */
    struct pollfd parent = {.fd = alive_fd, .events = POLLIN};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || poll(&parent, 1, 0) != 0)
        _exit(126);
    const int kept[] = {NETNS_FD, READY_FD};
    era_close_all_but(kept, 2);
    ERA_POINT("network.kept");

    /* It takes a SIGPIPE that is ignored already for a failure to ignore it. */
    signal(SIGPIPE, SIG_DFL);
    pid_t pid = fork();
    if (pid == 0)
        exec_pasta(pasta);
    close(READY_FD);
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
static _Noreturn void enter(const char *pasta, pid_t shim, int userns_fd, int netns_fd, int ready_fd)
{
    (void)prctl(PR_SET_NAME, "era-net");
    int devnull = open("/dev/null", O_RDWR | O_CLOEXEC);
    int high[] = {fcntl(netns_fd, F_DUPFD_CLOEXEC, 10), fcntl(ready_fd, F_DUPFD_CLOEXEC, 10),
                  fcntl(userns_fd, F_DUPFD_CLOEXEC, 10)};
    if (devnull < 0 || dup2(devnull, 0) < 0 || dup2(devnull, 1) < 0 || dup2(high[0], NETNS_FD) < 0 ||
        dup2(high[1], READY_FD) < 0 || offer_tun() < 0 || setns(high[2], CLONE_NEWUSER) < 0)
        _exit(126);
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        _exit(126);
    /* After the change of credentials, which forgets it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != shim)
        _exit(126);
    const int kept[] = {NETNS_FD, READY_FD};
    era_close_all_but(kept, 2);

    ERA_POINT("network.entered");
    int alive[2];
    if (pipe2(alive, O_CLOEXEC) < 0 || unshare(CLONE_NEWPID) < 0)
        _exit(126);
    pid_t keeper = fork();
    if (keeper == 0) {
        close(alive[1]);
        keep(pasta, alive[0]);
    }
    close(READY_FD);
    close(NETNS_FD);
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

int pasta_start(pid_t child, int *ret_pid_fd, struct era_error *err)
{
    const char *pasta = find_pasta();
    if (pasta == NULL)
        return era_error_set(err, ENOENT, "network_unavailable",
                             "--network allow_all needs pasta; install the package passt");
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

    /* pasta opens it anew, by another uid than ours. */
    (void)fchmod(ready_write, 0666);
    pid_t shim = getpid();
    int pid_fd = -EBADF;
    pid_t helper = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_PIDFD | SIGCHLD), NULL, &pid_fd, NULL, 0);
    if (helper < 0)
        return era_error_errno(err, errno, "cannot start the network helper");
    if (helper == 0)
        enter(pasta, shim, userns, netns, ready_write);
    _cleanup_close_ int helper_fd = pid_fd;
    era_closep(&ready_write);

    /* pasta writes its pid when all is set up; the end without it means that it gave up. */
    char byte;
    if (era_read_full(ready_read, &byte, 1) != 1) {
        syscall(SYS_pidfd_send_signal, helper_fd, SIGKILL, NULL, 0);
        waitpid(helper, NULL, 0);
        return era_error_set(err, ENETUNREACH, "network_unavailable",
                             "pasta could not connect the guest; does this host have a route to the outside?");
    }
    *ret_pid_fd = era_take_fd(&helper_fd);
    return 0;
}

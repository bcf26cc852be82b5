/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QEMU's way from clone to exec: one table of steps, as for a guest of the
 * namespace launcher (namespace/child.c). What it leaves: a root of read-only
 * libraries and nothing else, the descriptors of args.c, and no privilege.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/str.h"
#include "launcher/microvm/internal.h"
#include "launcher/namespace/internal.h"
#include "sandbox/sandbox.h"

enum { HIGH_FD = 100 };

struct jail {
    const struct jail_plan *plan;
    int root_fd;
    int fds[QEMU_FDS];
    int sync_fd;
};

static int die_with_parent(struct jail *jail)
{
    (void)jail;
    return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}

static int enter_cgroups(struct jail *jail)
{
    return cgroup_enter(jail->plan->cgroups);
}

static int wait_for_parent(struct jail *jail)
{
    char go;
    close(jail->plan->parent_sync_fd);
    ssize_t n = era_read_full(jail->plan->sync_fd, &go, 1);
    return n == 1 ? 0 : n < 0 ? (int)n : -EPIPE;
}

static int become_root_inside(struct jail *jail)
{
    if (jail->plan->privileged && setgroups(0, NULL) < 0)
        return -errno;
    return setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 ? -errno : 0;
}

static int set_up_network(struct jail *jail)
{
    int r = network_raise_loopback();
    return r >= 0 && jail->plan->network ? network_forbid(jail->plan->host_addresses) : r;
}

static int seal_mounts(struct jail *jail)
{
    (void)jail;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0;
}

static int make_root(struct jail *jail)
{
    /* A kernel and an initramfs fit; what else would be written here is refused by opens.c. */
    const struct mount_option options[] = {{"size", "512m"}, {"nr_inodes", "64"}, {"mode", "0755"}, {NULL, NULL}};
    jail->root_fd = mount_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return jail->root_fd < 0 ? jail->root_fd : mount_attach(jail->root_fd, AT_FDCWD, "/");
}

/* Makes the directories above a path. */
static int make_parents(int root_fd, const char *path)
{
    char folder[128];
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        if (era_str_format(folder, sizeof folder, "%.*s", (int)(slash - path), path) < 0)
            return -ENAMETOOLONG;
        if (mkdirat(root_fd, folder, 0755) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

/* Shows a part of the host, read only: a link as the link that it is. What the host lacks is passed over. */
static int show(int root_fd, const char *path)
{
    char from[128];
    struct stat st;
    snprintf(from, sizeof from, "/%s", path);
    if (lstat(from, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    int r = make_parents(root_fd, path);
    if (r < 0)
        return r;
    if (S_ISLNK(st.st_mode)) {
        char target[128];
        ssize_t n = readlink(from, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        return n < 0 || symlinkat(target, root_fd, path) < 0 ? -errno : 0;
    }
    _cleanup_close_ int mount_fd =
        mount_clone(AT_FDCWD, from, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (mount_fd < 0)
        return mount_fd;
    if (S_ISDIR(st.st_mode)) {
        if (mkdirat(root_fd, path, 0755) < 0 && errno != EEXIST)
            return -errno;
    } else {
        _cleanup_close_ int file = openat(root_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (file < 0)
            return -errno;
    }
    return mount_attach(mount_fd, root_fd, path);
}

/* What a dynamic program needs, and the firmware. */
static int show_programs(struct jail *jail)
{
    static const char *const paths[] = {"lib",           "lib64",          "usr/lib",           "usr/lib64",
                                        "usr/local/lib", "usr/share/qemu", "usr/share/seabios", "etc/ld.so.cache"};
    int r = 0;
    for (size_t i = 0; r >= 0 && i < sizeof paths / sizeof paths[0]; i++)
        r = show(jail->root_fd, paths[i]);
    return r < 0 ? r : show(jail->root_fd, jail->plan->qemu_path + 1);
}

static int copy_file(int from_fd, int root_fd, const char *path)
{
    struct stat st;
    _cleanup_close_ int to = openat(root_fd, path + 1, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (to < 0 || fstat(from_fd, &st) < 0)
        return -errno;
    off_t at = 0;
    while (at < st.st_size) {
        ssize_t n = sendfile(to, from_fd, &at, (size_t)(st.st_size - at));
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
    }
    return 0;
}

static int copy_boot_files(struct jail *jail)
{
    int r = jail->plan->kernel_fd < 0 ? 0 : copy_file(jail->plan->kernel_fd, jail->root_fd, QEMU_KERNEL_PATH);
    if (r >= 0 && jail->plan->initramfs_fd >= 0)
        r = copy_file(jail->plan->initramfs_fd, jail->root_fd, QEMU_INITRAMFS_PATH);
    return r;
}

static int seal_root(struct jail *jail)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    return syscall(SYS_mount_setattr, jail->root_fd, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0 ? -errno : 0;
}

static int enter_root(struct jail *jail)
{
    if (fchdir(jail->root_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        chdir("/") < 0)
        return -errno;
    return 0;
}

static int set_rlimits(struct jail *jail)
{
    (void)jail;
    const struct rlimit none = {0, 0};
    return setrlimit(RLIMIT_CORE, &none) < 0 ? -errno : 0;
}

/* Moves all that is kept out of the way, closes the rest, and puts each in its place. */
static int arrange_descriptors(struct jail *jail)
{
    int keep[QEMU_FDS + 1];
    jail->sync_fd = keep[0] = fcntl(jail->plan->sync_fd, F_DUPFD_CLOEXEC, HIGH_FD);
    if (jail->sync_fd < 0)
        return -errno;
    for (int i = QEMU_CONTROL; i < QEMU_FDS; i++) {
        jail->fds[i] = jail->plan->fds[i] < 0 ? -EBADF : fcntl(jail->plan->fds[i], F_DUPFD_CLOEXEC, HIGH_FD);
        if (jail->plan->fds[i] >= 0 && jail->fds[i] < 0)
            return -errno;
        keep[1 + i - QEMU_CONTROL] = jail->fds[i];
    }
    if (dup2(jail->plan->words_fd, STDOUT_FILENO) < 0 || dup2(jail->plan->words_fd, STDERR_FILENO) < 0)
        return -errno;
    era_close_all_but(keep, 1 + QEMU_FDS - QEMU_CONTROL);
    for (int i = QEMU_CONTROL; i < QEMU_FDS; i++)
        if (jail->fds[i] >= 0 && dup2(jail->fds[i], i) < 0)
            return -errno;
    return 0; /* 0 is the shim's: nothing */
}

static int reset_process(struct jail *jail)
{
    (void)jail;
    sigset_t none;
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        return -errno;
    for (int signo = 1; signo < NSIG; signo++)
        signal(signo, SIG_DFL);
    umask(077);
    return 0;
}

/* All of them, also those that a program of root's would get back by exec. */
static int drop_capabilities(struct jail *jail)
{
    (void)jail;
    for (int cap = 0; cap < 64; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL && errno != EPERM)
            return -errno;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {0};
    return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

/* From here on we are asked. The descriptor that hears it goes to the parent, with the word that all is well. */
static int watch_opens(struct jail *jail)
{
    int listener = opens_watch();
    if (listener < 0)
        return listener;
    char control[CMSG_SPACE(sizeof listener)] = {0};
    char byte = 0;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof listener);
    memcpy(CMSG_DATA(header), &listener, sizeof listener);
    int r = sendmsg(jail->sync_fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
    close(listener);
    return r;
}

static const struct {
    const char *name;
    int (*run)(struct jail *jail);
    bool needs_namespaces;
} steps[] = {
    {"die with parent", die_with_parent, false},
    /* leaves limits on all that follows */
    {"control groups", enter_cgroups, false},
    /* needs the parent's go: uids are mapped, the network is there */
    {"wait for parent", wait_for_parent, false},
    {"become root inside", become_root_inside, true},
    {"die with parent again", die_with_parent, false},
    /* needs CAP_NET_ADMIN over its own network; leaves no way to the host and the cloud's metadata */
    {"network", set_up_network, true},
    {"private mounts", seal_mounts, true},
    {"root", make_root, true},
    {"programs", show_programs, true},
    {"kernel", copy_boot_files, true},
    {"read-only root", seal_root, true},
    /* leaves no trace of the host's file systems but what was shown */
    {"pivot root", enter_root, true},
    {"resource limits", set_rlimits, false},
    {"descriptors", arrange_descriptors, false},
    {"signals", reset_process, false},
    {"capabilities", drop_capabilities, false},
    /* last: it leaves no new privileges, and a parent that waits for questions */
    {"opens", watch_opens, false},
};

static _Noreturn void fail(int sync_fd, const char *step, int r)
{
    struct child_failure failure = {.errnum = -r};
    era_str_copy(failure.step, sizeof failure.step, step);
    (void)era_write_full(sync_fd, &failure, sizeof failure);
    _exit(1);
}

_Noreturn void jail_main(const struct jail_plan *plan)
{
    struct jail jail = {.plan = plan, .root_fd = -EBADF, .sync_fd = plan->sync_fd};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        ERA_POINT("jail.step");
        int r = plan->namespaces || !steps[i].needs_namespaces ? steps[i].run(&jail) : 0;
        if (r < 0)
            fail(jail.sync_fd, steps[i].name, r);
    }
    char *const none[] = {NULL};
    ERA_POINT("jail.exec");
    execve(plan->qemu_path, plan->argv, none);
    fail(jail.sync_fd, "exec of QEMU", -errno);
}

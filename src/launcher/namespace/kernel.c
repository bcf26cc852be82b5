/* SPDX-License-Identifier: Apache-2.0 */
/* What the launcher wants of the kernel, and how to say what is missing. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/idmap.h"
#include "base/str.h"
#include "launcher/namespace/internal.h"

/*
 * Calls without which no guest is made, and none of which has a substitute that
 * would be as strong: mounts by path could be bent, and only mount_setattr shows
 * an image with a guest's uids. Versions: the manual pages.
 */
static const struct {
    const char *name;
    long number;
    const char *since;
} needed[] = {
    {"pidfd_send_signal", SYS_pidfd_send_signal, "5.1"},
    {"open_tree", SYS_open_tree, "5.2"},
    {"move_mount", SYS_move_mount, "5.2"},
    {"fsopen", SYS_fsopen, "5.2"},
    {"fsconfig", SYS_fsconfig, "5.2"},
    {"fsmount", SYS_fsmount, "5.2"},
    {"mount_setattr", SYS_mount_setattr, "5.12"},
};

int kernel_check_calls(char why[KERNEL_WHY_MAX])
{
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        /* None of them does a thing with arguments like these. */
        if (syscall(needed[i].number, -1, NULL, -1, NULL, 0) >= 0 || errno != ENOSYS)
            continue;
        struct utsname uts;
        uname(&uts);
        snprintf(why, KERNEL_WHY_MAX, "no system call %s (Linux has it since %s; this is %.60s%s)", needed[i].name,
                 needed[i].since, uts.release, ", or a filter around this process hides it");
        return -ENOSYS;
    }
    return 0;
}

bool kernel_is_before(unsigned major, unsigned minor)
{
    struct utsname uts;
    uname(&uts);
    unsigned version[2] = {0};
    const char *at = uts.release;
    for (int i = 0; i < 2; i++) {
        for (; *at >= '0' && *at <= '9'; at++)
            version[i] = version[i] * 10 + (unsigned)(*at - '0');
        at += *at == '.';
    }
    return version[0] < major || (version[0] == major && version[1] < minor);
}

/* The number in a file of /proc/sys, or -1. */
static long read_number(const char *path)
{
    _cleanup_free_ char *text = NULL;
    if (era_read_file_at(AT_FDCWD, path, 64, &text, NULL) < 0)
        return -1;
    text[strcspn(text, "\n")] = '\0';
    uint64_t value;
    return era_parse_u64(text, 0, INT32_MAX, &value) < 0 ? -1 : (long)value;
}

const char *kernel_why_no_namespaces(void)
{
    static const char *const limits[][2] = {
        {"/proc/sys/user/max_user_namespaces",
         "user.max_user_namespaces is 0; as root: sysctl -w user.max_user_namespaces=10000"},
        {"/proc/sys/user/max_pid_namespaces",
         "user.max_pid_namespaces is 0; as root: sysctl -w user.max_pid_namespaces=10000"},
        {"/proc/sys/user/max_mnt_namespaces",
         "user.max_mnt_namespaces is 0; as root: sysctl -w user.max_mnt_namespaces=10000"},
        {"/proc/sys/user/max_net_namespaces",
         "user.max_net_namespaces is 0; as root: sysctl -w user.max_net_namespaces=10000"},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        if (read_number(limits[i][0]) == 0)
            return limits[i][1];
    if (read_number("/proc/sys/kernel/unprivileged_userns_clone") == 0 && !era_idmap_is_host_root())
        return "kernel.unprivileged_userns_clone is 0; as root: sysctl -w kernel.unprivileged_userns_clone=1";
    if (read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1 && !era_idmap_is_host_root())
        return "AppArmor restricts user namespaces; as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
    return "an outer container, its system call filter or a chroot forbids them";
}

/* How the trial in a namespace ended, as an exit status; what is below is an errno. */
enum { TRIAL_NO_XATTRS = 200, TRIAL_UNKNOWN };

/* What an ordinary user may do only in a user namespace of his own: in there. */
static int try_mounts(uid_t uid)
{
    char map[32];
    int len = snprintf(map, sizeof map, "0 %u 1\n", (unsigned)uid);
    _cleanup_close_ int map_fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    if (map_fd < 0 || era_write_full(map_fd, map, (size_t)len) < 0)
        return TRIAL_UNKNOWN;
    _cleanup_close_ int overlay = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    if (overlay < 0)
        return errno;
    _cleanup_close_ int tmpfs = mount_new("tmpfs", NULL, 0);
    if (tmpfs < 0)
        return -tmpfs;
    _cleanup_close_ int root = openat(tmpfs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return root >= 0 && fsetxattr(root, "user.era", "", 0, 0) < 0 && errno == EOPNOTSUPP ? TRIAL_NO_XATTRS : 0;
}

int kernel_try_namespaces(struct kernel_trial *ret_trial)
{
    const unsigned long flags =
        CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD;
    uid_t uid = geteuid();
    bool host_root = era_idmap_is_host_root();
    pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
    if (pid == 0)
        _exit(host_root ? 0 : try_mounts(uid));
    if (pid < 0)
        return -errno;
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : TRIAL_UNKNOWN;
    *ret_trial = (struct kernel_trial){.mount_error = code < TRIAL_NO_XATTRS ? code : 0,
                                       .no_user_xattrs = code == TRIAL_NO_XATTRS};
    return 0;
}

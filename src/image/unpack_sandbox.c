/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox of era-unpack, as stages in their order. Each says what it
 * leaves; a failure of any ends the program before it has read a byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <locale.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/unpack.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct sandbox {
    const char *work_dir;
    bool own_mounts;
};

/*
 * Names in pax headers are UTF-8. In a UTF-8 locale libarchive takes them as
 * they are; in another it would load conversion tables. Must come while the
 * host's locale files are there.
 */
static int stage_locale(struct sandbox *sandbox)
{
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
        (void)setlocale(LC_CTYPE, "en_US.UTF-8");
    return 0;
}

static int write_text(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : era_write_full(fd, text, strlen(text));
}

/* An ordinary user whose caller made no user namespace: one with himself as root. */
static int stage_user_namespace(struct sandbox *sandbox)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (uid == 0)
        return 0;
    if (unshare(CLONE_NEWUSER) < 0)
        return -errno;
    char uid_map[32];
    char gid_map[32];
    snprintf(uid_map, sizeof uid_map, "0 %u 1", (unsigned)uid);
    snprintf(gid_map, sizeof gid_map, "0 %u 1", (unsigned)gid);
    int r = write_text("/proc/self/uid_map", uid_map);
    if (r >= 0)
        r = write_text("/proc/self/setgroups", "deny");
    return r < 0 ? r : write_text("/proc/self/gid_map", gid_map);
}

/* Leaves no network and no IPC. Root of a container may lack the right: chroot must do then. */
static int stage_namespaces(struct sandbox *sandbox)
{
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0)
        sandbox->own_mounts = true;
    else if (errno != EPERM && errno != ENOSYS)
        return -errno;
    return 0;
}

/* Leaves the working directory as "/" and, with mounts of our own, nothing else mounted. */
static int stage_root(struct sandbox *sandbox)
{
    if (sandbox->work_dir == NULL)
        return 0;
    if (chdir(sandbox->work_dir) < 0)
        return -errno;
    if (!sandbox->own_mounts)
        return chroot(".") < 0 || chdir("/") < 0 ? -errno : 0;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(sandbox->work_dir, sandbox->work_dir, NULL, MS_BIND, NULL) < 0 || chdir(sandbox->work_dir) < 0)
        return -errno;
    /* Set-id programs and devices of an image mean nothing here. In a user namespace locked flags may forbid it. */
    (void)mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -errno;
    return 0;
}

static int stage_limits(struct sandbox *sandbox)
{
    static const struct {
        int resource;
        rlim_t limit;
    } limits[] = {
        {RLIMIT_CORE, 0}, {RLIMIT_NOFILE, 512}, {RLIMIT_NPROC, 0}, {RLIMIT_MEMLOCK, 0}, {RLIMIT_AS, (rlim_t)1 << 30},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (SANITIZED && limits[i].resource == RLIMIT_AS)
            continue; /* the shadow alone is larger */
        struct rlimit limit = {limits[i].limit, limits[i].limit};
        if (setrlimit(limits[i].resource, &limit) < 0)
            return -errno;
    }
    umask(0);
    return 0;
}

/* Leaves what owners, modes and security.capability need, and takes that from all that could come back. */
static int stage_capabilities(struct sandbox *sandbox)
{
    static const unsigned kept[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETFCAP};
    uint32_t mask = 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        mask |= UINT32_C(1) << kept[i];
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
            return -errno; /* EPERM: without CAP_SETPCAP; nothing is executed from here on anyway */
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    data[0].permitted &= mask;
    data[0].effective = data[0].permitted;
    data[0].inheritable = 0;
    data[1] = (struct __user_cap_data_struct){0};
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* What reading archives and writing trees takes. The rest fails with EPERM. */
static const int allowed[] = {
    SCMP_SYS(read),
    SCMP_SYS(pread64),
    SCMP_SYS(readv),
    SCMP_SYS(write),
    SCMP_SYS(pwrite64),
    SCMP_SYS(writev),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(fcntl),
    SCMP_SYS(dup),
    SCMP_SYS(openat),
    SCMP_SYS(openat2),
    SCMP_SYS(open),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(getdents64),
    SCMP_SYS(readlinkat),
    SCMP_SYS(mkdirat),
    SCMP_SYS(unlinkat),
    SCMP_SYS(symlinkat),
    SCMP_SYS(linkat),
    SCMP_SYS(fchown),
    SCMP_SYS(fchownat),
    SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),
    SCMP_SYS(utimensat),
    SCMP_SYS(fsetxattr),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fsync),
    SCMP_SYS(syncfs),
    SCMP_SYS(brk),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(tgkill),
};

static int stage_seccomp(struct sandbox *sandbox)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    if (SANITIZED)
        return 0; /* the sanitizer's own calls are many and change */
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (filter == NULL)
        return -ENOMEM;
    int r = 0;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed && r >= 0; i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    if (r >= 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r;
}

static const struct stage {
    const char *name;
    int (*enter)(struct sandbox *sandbox);
} stages[] = {
    {"locale", stage_locale},         {"user namespace", stage_user_namespace},
    {"namespaces", stage_namespaces}, {"root directory", stage_root},
    {"limits", stage_limits},         {"capabilities", stage_capabilities}, /* after all that needs them */
    {"seccomp", stage_seccomp},                                             /* last: it forbids every call above */
};

int era_sandbox_enter(const char *work_dir, struct era_error *err)
{
    struct sandbox sandbox = {.work_dir = work_dir};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        int r = stages[i].enter(&sandbox);
        if (r < 0)
            return era_error_errno(err, -r, "cannot enter the sandbox for unpacking (%s)", stages[i].name);
    }
    return 0;
}

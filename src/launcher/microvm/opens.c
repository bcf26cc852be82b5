/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A clone's memory is a file that all clones share, mapped
 * privately. QEMU opens it for writing all the same, and who may write the file
 * could change every other guest. So QEMU may not: a filter of system calls
 * stops whatever it opens for writing (SECCOMP_RET_USER_NOTIF), and we answer
 * with a descriptor, which for a clone is one that can only be read. The same
 * way it gets /dev/kvm, to which its uid has no right.
 *
 * The filter stays for the life of the process. Once it has its memory nobody
 * listens any more, and the kernel refuses what it stops (ENOSYS).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "launcher/microvm/internal.h"

#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1u << 1) /* Linux 5.14 */
#endif

enum { OPEN_TIMEOUT_MS = 20000, PATH_MAX_HERE = 32 };

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#endif

#define LOAD(field)       BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value)     BPF_STMT(BPF_RET | BPF_K, value)
#define IF_EQUAL(k, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, skip)
#define UNLESS(k, to)     BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, to, 0)

static const struct sock_filter filter[] = {
    LOAD(arch),
    UNLESS(NATIVE, 1),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 9, 0), /* x32, another ABI of x86 */
    IF_EQUAL(__NR_openat, 4),
    LOAD(args[2]), /* on a little-endian machine its lower half, where the flags are */
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, O_ACCMODE),
    UNLESS(O_RDONLY, 6),
    RETURN(SECCOMP_RET_USER_NOTIF),
    /* no C library takes these when there is openat */
    UNLESS(__NR_openat2, 3),
#ifdef __NR_open
    UNLESS(__NR_open, 2),
    UNLESS(__NR_creat, 1),
#else
    BPF_JUMP(BPF_JMP | BPF_JA, 0, 0, 0),
    BPF_JUMP(BPF_JMP | BPF_JA, 0, 0, 0),
#endif
    RETURN(SECCOMP_RET_ALLOW),
    RETURN(SECCOMP_RET_ERRNO | ENOSYS),
    RETURN(SECCOMP_RET_ALLOW),
};

int opens_watch(void)
{
    const struct sock_fprog program = {.len = sizeof filter / sizeof filter[0],
                                       .filter = (struct sock_filter *)(uintptr_t)filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    return fd < 0 ? -errno : fd;
}

/* The name that it wants to open: "" when it cannot be read. */
static void read_name(pid_t pid, uint64_t address, char to[PATH_MAX_HERE])
{
    struct iovec ours = {.iov_base = to, .iov_len = PATH_MAX_HERE - 1};
    struct iovec theirs = {.iov_base = (void *)(uintptr_t)address, .iov_len = PATH_MAX_HERE - 1};
    ssize_t n = process_vm_readv(pid, &ours, 1, &theirs, 1, 0);
    to[n < 0 ? 0 : n] = '\0';
}

/* 1: answered. 0: a signal came in between, and it asks again. */
static int refuse(int listener_fd, uint64_t id)
{
    struct seccomp_notif_resp no = {.id = id, .error = -EACCES};
    return ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_SEND, &no) >= 0 ? 1 : errno == ENOENT ? 0 : -errno;
}

static int give(int listener_fd, uint64_t id, int fd)
{
    struct seccomp_notif_addfd yes = {
        .id = id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (uint32_t)fd, .newfd_flags = O_CLOEXEC};
    return ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &yes) >= 0 ? 1 : errno == ENOENT ? 0 : -errno;
}

/* One question. 1: it has its memory. */
static int answer(int listener_fd, pid_t pid, int memory_fd, bool kvm)
{
    struct seccomp_notif question = {0};
    if (ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_RECV, &question) < 0)
        return errno == ENOENT || errno == EINTR ? 0 : -errno; /* it was interrupted, and asks again */
    char name[PATH_MAX_HERE];
    read_name(pid, question.data.args[1], name);
    if (strcmp(name, QEMU_MEMORY_PATH) == 0)
        return give(listener_fd, question.id, memory_fd);
    _cleanup_close_ int device = kvm && strcmp(name, QEMU_KVM_PATH) == 0 ? open(name, O_RDWR | O_CLOEXEC) : -EBADF;
    int r = device < 0 ? refuse(listener_fd, question.id) : give(listener_fd, question.id, device);
    return r < 0 ? r : 0;
}

int opens_answer(int listener_fd, pid_t pid, int pid_fd, int memory_fd, bool kvm)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)OPEN_TIMEOUT_MS * 1000000;
    for (;;) {
        struct pollfd fds[] = {{.fd = listener_fd, .events = POLLIN}, {.fd = pid_fd, .events = POLLIN}};
        int64_t left_ms = (deadline_ns - era_clock_monotonic_ns()) / 1000000;
        int n = left_ms <= 0 ? 0 : poll(fds, 2, (int)left_ms);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ETIMEDOUT;
        if (fds[1].revents != 0)
            return -EPIPE;
        int r = answer(listener_fd, pid, memory_fd, kvm);
        if (r != 0)
            return r < 0 ? r : 0;
    }
}

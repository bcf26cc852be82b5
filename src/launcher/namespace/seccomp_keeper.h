/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp_keeper.h - which system calls the shim of a guest may use
 * from the moment on that its guest runs. It parses what a guest says: should
 * that be its undoing, there is no program that it could start, no socket that
 * it could open, and nothing that it could trace, mount or map ids with.
 * Everything else is EPERM.
 *
 * Read by gen_seccomp, as seccomp_rules.h is.
 */
#ifndef ERA_LAUNCHER_NAMESPACE_SECCOMP_KEEPER_H
#define ERA_LAUNCHER_NAMESPACE_SECCOMP_KEEPER_H

static const char *const keeper_allowed[] = {
    /* its clients, its guest, its clock */
    "accept4",
    "epoll_ctl",
    "epoll_create1",
    "epoll_pwait",
    "epoll_wait",
    "getsockopt",
    "poll",
    "ppoll",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "shutdown",
    "timerfd_create",
    "timerfd_settime",
    "clock_gettime",
    "geteuid",
    "getpid",
    "getuid",
    "gettid",
    /* the end of its guest and of the network's keeper, by their pidfds; the wait for who is left in a control group */
    "pidfd_open",
    "pidfd_send_signal",
    "wait4",
    "waitid",
    /* logs and results of runs; control groups */
    "close",
    "fchmod",
    "fchmodat",
    "fcntl",
    "fdatasync",
    "fstat",
    "fsync",
    "ftruncate",
    "getdents64",
    "link",
    "linkat",
    "lseek",
    "lstat",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "pread64",
    "pwrite64",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "stat",
    "statx",
    "umask",
    "unlink",
    "unlinkat",
    "write",
    "writev",
    /* memory, signals, the end */
    "brk",
    "exit",
    "exit_group",
    "futex",
    "getrandom",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "tkill", /* abort() */
#ifdef ERA_FAULT_INJECTION
    "kill",
    "prctl",
    "rt_sigtimedwait",
#endif
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syscalls THEME - tries the system calls of a theme by number, as a program
 * without a libc would, and prints "NAME ERRNO" for each; 0: it was let in.
 * The arguments are such that a kernel without a filter would give another
 * answer than the one that is expected, or do it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NUM(pointer) ((long)(pointer))
#define X32          0x40000000L
#define HIGH         (1L << 32)

static char buffer[4096];
static const long zero_time[2];

static const struct attempt {
    const char *theme;
    const char *name;
    long number;
    long arguments[6];
} attempts[] = {
    {"io_uring", "io_uring_setup", 425, {8, NUM(buffer)}},
    {"io_uring", "io_uring_enter", 426, {-1, 1}},
    {"io_uring", "io_uring_register", 427, {-1}},

    {"kernel", "bpf", SYS_bpf, {0, NUM(buffer), 48}},
    {"kernel", "userfaultfd", SYS_userfaultfd, {1}},
    {"kernel", "perf_event_open", SYS_perf_event_open, {NUM(buffer), 0, -1, -1}},
    {"kernel", "init_module", SYS_init_module, {NUM(buffer), 1, NUM("")}},
    {"kernel", "finit_module", SYS_finit_module, {-1, NUM("")}},
    {"kernel", "delete_module", SYS_delete_module, {NUM("loop")}},
    {"kernel", "kexec_load", SYS_kexec_load, {0, 0, NUM(buffer)}},
    {"kernel", "kexec_file_load", SYS_kexec_file_load, {-1, -1}},
    {"kernel", "reboot", SYS_reboot, {RB_AUTOBOOT}},
    {"kernel", "syslog", SYS_syslog, {3, NUM(buffer), sizeof buffer}},
    {"kernel", "swapon", SYS_swapon, {NUM("/nothing")}},
    {"kernel", "swapoff", SYS_swapoff, {NUM("/nothing")}},
    {"kernel", "acct", SYS_acct, {NUM("/nothing")}},
    {"kernel", "quotactl", SYS_quotactl, {0x800002L << 8, NUM("/nothing")}},
    {"kernel", "quotactl_fd", 443, {-1}},
    {"kernel", "iopl", SYS_iopl, {7}},
    {"kernel", "ioperm", SYS_ioperm, {0x10000, 1, 1}},
    {"kernel", "vhangup", SYS_vhangup, {0}},
    {"kernel", "lookup_dcookie", 212, {0, NUM(buffer), 0}},
    {"kernel", "fanotify_init", SYS_fanotify_init, {-1}},
    {"kernel", "fanotify_mark", SYS_fanotify_mark, {-1}},
    {"kernel", "move_pages", SYS_move_pages, {0, 0, 0, 0, 0, -1}},
    {"kernel", "migrate_pages", SYS_migrate_pages, {-1}},

    {"unknown", "nfsservctl", 180, {0}},
    {"unknown", "uselib", SYS_uselib, {NUM("/nothing")}},
    {"unknown", "_sysctl", 156, {NUM(buffer)}},
    {"unknown", "ustat", SYS_ustat, {0, NUM(buffer)}},
    {"unknown", "sysfs", SYS_sysfs, {-1}},
    {"unknown", "modify_ldt", SYS_modify_ldt, {-1}},
    {"unknown", "memfd_secret", 447, {-1}},
    {"unknown", "statmount", 457, {0}},
    {"unknown", "listmount", 458, {0}},
    {"unknown", "a number of tomorrow", 999, {0}},

    {"clocks", "settimeofday", SYS_settimeofday, {NUM(zero_time)}},
    {"clocks", "clock_settime", SYS_clock_settime, {0, NUM(zero_time)}},
    {"clocks", "clock_adjtime", SYS_clock_adjtime, {0}},
    {"clocks", "adjtimex", SYS_adjtimex, {0}},

    {"keys", "add_key", SYS_add_key, {NUM("user"), NUM("era"), NUM("x"), 1, KEY_SPEC_SESSION_KEYRING}},
    {"keys", "request_key", SYS_request_key, {NUM("user"), NUM("era"), 0, 0}},
    {"keys", "keyctl", SYS_keyctl, {KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1}},
    {"keys", "keyctl join", SYS_keyctl, {KEYCTL_JOIN_SESSION_KEYRING, 0}},

    {"others", "ptrace traceme", SYS_ptrace, {0}},
    {"others", "ptrace attach", SYS_ptrace, {16, 1}},
    {"others", "process_vm_readv", SYS_process_vm_readv, {1, 0, 0, 0, 0, 0}},
    {"others", "process_vm_writev", SYS_process_vm_writev, {1, 0, 0, 0, 0, 0}},
    {"others", "kcmp", SYS_kcmp, {1, 1, 1, 0, 0}},
    {"others", "pidfd_getfd", 438, {-1, 3}},

    {"handles", "name_to_handle_at", SYS_name_to_handle_at, {AT_FDCWD, NUM("/"), NUM(buffer), NUM(buffer + 64)}},
    {"handles", "open_by_handle_at", SYS_open_by_handle_at, {AT_FDCWD, NUM(buffer), O_RDONLY}},

    {"mounts", "mount", SYS_mount, {NUM("era"), NUM("/nothing"), NUM("tmpfs")}},
    {"mounts", "mount bind of a device", SYS_mount, {NUM("/dev/null"), NUM("/nothing"), 0, MS_BIND}},
    {"mounts", "umount2", SYS_umount2, {NUM("/nothing"), MNT_DETACH}},
    {"mounts", "umount2 of a cover", SYS_umount2, {NUM("/proc/kcore"), MNT_DETACH}},
    {"mounts", "pivot_root", SYS_pivot_root, {NUM("/nothing"), NUM("/nothing")}},
    {"mounts", "fsopen", 430, {NUM("nothing"), 0}},
    {"mounts", "fsconfig", 431, {-1}},
    {"mounts", "fsmount", 432, {-1}},
    {"mounts", "fspick", 433, {AT_FDCWD, NUM("/nothing")}},
    {"mounts", "open_tree", 428, {AT_FDCWD, NUM("/nothing")}},
    {"mounts", "move_mount", 429, {-1, NUM(""), -1, NUM("")}},
    {"mounts", "mount_setattr", 442, {-1, NUM("")}},
    {"mounts", "sethostname", SYS_sethostname, {NUM("other"), -1}},
    {"mounts", "setdomainname", SYS_setdomainname, {NUM("other"), -1}},

    {"namespaces", "setns", SYS_setns, {-1}},
    {"namespaces", "unshare user", SYS_unshare, {CLONE_NEWUSER}},
    {"namespaces", "unshare mount", SYS_unshare, {CLONE_NEWNS}},
    {"namespaces", "unshare pid", SYS_unshare, {CLONE_NEWPID}},
    {"namespaces", "unshare net", SYS_unshare, {CLONE_NEWNET}},
    {"namespaces", "unshare ipc", SYS_unshare, {CLONE_NEWIPC}},
    {"namespaces", "unshare uts", SYS_unshare, {CLONE_NEWUTS}},
    {"namespaces", "unshare cgroup", SYS_unshare, {0x02000000}},
    {"namespaces", "unshare time", SYS_unshare, {0x80}},
    {"namespaces", "unshare files, which makes none", SYS_unshare, {CLONE_FILES}},

    {"clone", "clone user", SYS_clone, {CLONE_NEWUSER | 17}},
    {"clone", "clone mount", SYS_clone, {CLONE_NEWNS | 17}},
    {"clone", "clone pid", SYS_clone, {CLONE_NEWPID | 17}},
    {"clone", "clone net", SYS_clone, {CLONE_NEWNET | 17}},
    {"clone", "clone ipc", SYS_clone, {CLONE_NEWIPC | 17}},
    {"clone", "clone uts", SYS_clone, {CLONE_NEWUTS | 17}},
    {"clone", "clone cgroup", SYS_clone, {0x02000000 | 17}},
    {"clone", "clone all at once", SYS_clone, {0x7E020000 | 17}},
    {"clone", "clone user with high bits", SYS_clone, {HIGH | CLONE_NEWUSER | 17}},

    {"clone3", "clone3", 435, {NUM(buffer), 64}},
    {"clone3", "clone3 without arguments", 435, {0, 0}},

    {"x32", "getpid", X32 | SYS_getpid, {0}},
    {"x32", "ptrace", X32 | 521, {0}},
    {"x32", "mount", X32 | SYS_mount, {0}},
    {"x32", "unshare", X32 | SYS_unshare, {CLONE_NEWUSER}},
    {"x32", "x32's own execve", X32 | 520, {0}},

    {"sockets", "AF_AX25", SYS_socket, {3, 2, 0}},
    {"sockets", "AF_X25", SYS_socket, {9, 5, 0}},
    {"sockets", "AF_KEY", SYS_socket, {15, 3, 2}},
    {"sockets", "AF_PACKET", SYS_socket, {17, 3, 0x300}},
    {"sockets", "AF_RDS", SYS_socket, {21, 5, 0}},
    {"sockets", "AF_CAN", SYS_socket, {29, 3, 1}},
    {"sockets", "AF_TIPC", SYS_socket, {30, 5, 0}},
    {"sockets", "AF_BLUETOOTH", SYS_socket, {31, 3, 1}},
    {"sockets", "AF_RXRPC", SYS_socket, {33, 2, 2}},
    {"sockets", "AF_ALG", SYS_socket, {38, 5, 0}},
    {"sockets", "AF_NFC", SYS_socket, {39, 5, 1}},
    {"sockets", "AF_VSOCK", SYS_socket, {40, 1, 0}},
    {"sockets", "AF_KCM", SYS_socket, {41, 2, 0}},
    {"sockets", "AF_QIPCRTR", SYS_socket, {42, 2, 0}},
    {"sockets", "AF_SMC", SYS_socket, {43, 1, 0}},
    {"sockets", "AF_XDP", SYS_socket, {44, 3, 0}},
    {"sockets", "AF_MCTP", SYS_socket, {45, 2, 0}},
    {"sockets", "a family of tomorrow", SYS_socket, {90, 1, 0}},
    {"sockets", "AF_VSOCK with high bits", SYS_socket, {HIGH | 40, 1, 0}},
    {"sockets", "AF_INET as SOCK_PACKET", SYS_socket, {2, 10, 0x300}},
    {"sockets", "AF_INET raw", SYS_socket, {2, 3, 1}},
    {"sockets", "AF_INET6 raw", SYS_socket, {10, 3, 58}},
    {"sockets", "socketpair AF_TIPC", SYS_socketpair, {30, 5, 0, NUM(buffer)}},
    {"sockets", "socketpair AF_VSOCK", SYS_socketpair, {40, 1, 0, NUM(buffer)}},
    {"sockets", "socketpair AF_ALG with high bits", SYS_socketpair, {HIGH | 38, 5, 0, NUM(buffer)}},

    {"netlink", "firewall", SYS_socket, {16, 3, 3}},
    {"netlink", "sock_diag", SYS_socket, {16, 3, 4}},
    {"netlink", "xfrm", SYS_socket, {16, 3, 6}},
    {"netlink", "audit", SYS_socket, {16, 3, 9}},
    {"netlink", "connector", SYS_socket, {16, 3, 11}},
    {"netlink", "netfilter", SYS_socket, {16, 3, 12}},
    {"netlink", "kobject_uevent", SYS_socket, {16, 3, 15}},
    {"netlink", "generic", SYS_socket, {16, 3, 16}},
    {"netlink", "crypto", SYS_socket, {16, 3, 21}},
    {"netlink", "socketpair netfilter", SYS_socketpair, {16, 3, 12, NUM(buffer)}},

    {"terminals", "TIOCSTI", SYS_ioctl, {0, 0x5412, NUM("x")}},
    {"terminals", "TIOCSTI with high bits", SYS_ioctl, {0, HIGH | 0x5412, NUM("x")}},
    {"terminals", "TIOCSTI with all high bits", SYS_ioctl, {0, ~0xFFFFFFFFL | 0x5412, NUM("x")}},
    {"terminals", "TIOCLINUX", SYS_ioctl, {0, 0x541C, NUM("\3")}},
    {"terminals", "TIOCLINUX with high bits", SYS_ioctl, {0, HIGH | 0x541C, NUM("\3")}},
    {"terminals", "TIOCSETD", SYS_ioctl, {0, 0x5423, NUM(zero_time)}},

    {"personality", "READ_IMPLIES_EXEC", SYS_personality, {0x0400000}},
    {"personality", "ADDR_NO_RANDOMIZE", SYS_personality, {0x0040000}},
    {"personality", "PER_LINUX32", SYS_personality, {8}},

    {"init's limits", "prlimit64 of init", SYS_prlimit64, {1, 7, 0, NUM(buffer)}},
    {"init's limits", "prlimit64 of init with high bits", SYS_prlimit64, {HIGH | 1, 7, 0, NUM(buffer)}},
};

int main(int argc, char **argv)
{
    int found = 0;
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) {
        const struct attempt *attempt = &attempts[i];
        if (argc != 2 || strcmp(argv[1], attempt->theme) != 0)
            continue;
        const long *a = attempt->arguments;
        errno = 0;
        long r = syscall(attempt->number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (r == 0 && attempt->number == SYS_clone)
            _exit(0); /* the child that must not be */
        printf("%s\t%d\n", attempt->name, r < 0 ? errno : 0);
        found++;
    }
    return found > 0 ? 0 : 2;
}

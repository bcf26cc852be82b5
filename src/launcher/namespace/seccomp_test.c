/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the first ones above. */
#include <cmocka.h>

#include "base/cleanup.h"
#include "launcher/namespace/internal.h"

/* What a shim that has been taken over would want. */
static const struct {
    const char *name;
    long number;
    long arguments[4];
} wanted[] = {
    {"start a program", SYS_execve, {0}},
    {"start a program from a descriptor", SYS_execveat, {-1}},
    {"fork", SYS_clone, {SIGCHLD}},
    {"open a socket", SYS_socket, {AF_INET, SOCK_STREAM}},
    {"connect", SYS_connect, {-1}},
    {"listen", SYS_bind, {-1}},
    {"trace", SYS_ptrace, {0}},
    {"read another process", SYS_process_vm_readv, {1}},
    {"signal whom it likes", SYS_tgkill, {1, 1, 0}},
    {"make namespaces", SYS_unshare, {CLONE_NEWUSER}},
    {"enter namespaces", SYS_setns, {-1}},
    {"mount", SYS_mount, {0}},
    {"unmount", SYS_umount2, {0}},
    {"change its root", SYS_chroot, {0}},
    {"change its user", SYS_setuid, {-1}},
    {"change owners", SYS_fchownat, {-1}},
    {"make devices", SYS_mknodat, {-1}},
    {"load a program into the kernel", SYS_bpf, {-1}},
    {"open by handle", SYS_open_by_handle_at, {-1}},
    {"use io_uring", SYS_io_uring_setup, {1}},
    {"use keys", SYS_keyctl, {0}},
};

/* 0: all is refused and a shim's own work is not; else which was the first of them that is not, from 1 on. */
static int judge_from_inside(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || seccomp_confine_keeper() < 0)
        return 100;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const long *a = wanted[i].arguments;
        errno = 0;
        if (syscall(wanted[i].number, a[0], a[1], a[2], a[3]) != -1 || errno != EPERM)
            return (int)i + 1;
    }
    _cleanup_close_ int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    char byte;
    return fd >= 0 && read(fd, &byte, 1) == 1 ? 0 : 101;
}

static void a_shim_may_keep_its_guest_and_nothing_else(void **state)
{
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* no filter is installed beside a sanitizer */
#endif
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(judge_from_inside());
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    int first = WEXITSTATUS(status);
    if (first > 0 && first <= (int)(sizeof wanted / sizeof wanted[0]))
        fail_msg("a shim may %s", wanted[first - 1].name);
    assert_int_equal(first, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shim_may_keep_its_guest_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

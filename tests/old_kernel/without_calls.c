/* SPDX-License-Identifier: Apache-2.0 */
/*
 * without_calls - runs a program as on a kernel that lacks some system calls.
 *
 * Usage: without_calls CALL[,CALL…] PROGRAM [ARGUMENT…]
 *
 * A filter answers ENOSYS to them; all that the program starts inherits it. As
 * root `no_new_privs` stays off, so that nothing else differs.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int forbid(scmp_filter_ctx filter, char *names)
{
    char *rest = names;
    for (char *name = strsep(&rest, ","); name != NULL; name = strsep(&rest, ",")) {
        int number = seccomp_syscall_resolve_name(name);
        if (number == __NR_SCMP_ERROR) {
            fprintf(stderr, "without_calls: there is no system call %s\n", name);
            return -EINVAL;
        }
        int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), number, 0);
        if (r < 0)
            return r;
    }
    return 0;
}

int main(int argc, char *argv[])
{
    if (argc < 3) {
        fprintf(stderr, "usage: without_calls CALL[,CALL...] PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int r = filter == NULL ? -ENOMEM : forbid(filter, argv[1]);
    if (r >= 0 && geteuid() == 0)
        r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
    if (r >= 0)
        r = seccomp_load(filter);
    if (r < 0) {
        fprintf(stderr, "without_calls: cannot set the filter: %s\n", strerror(-r));
        return 1;
    }
    seccomp_release(filter);
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_seccomp - at build time: compiles seccomp_rules.h into two BPF programs
 * for guests, seccomp_keeper.h into one for their shims, and writes them as C
 * arrays on stdout.
 */
#include <linux/filter.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "launcher/namespace/seccomp_keeper.h"
#include "launcher/namespace/seccomp_rules.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void check(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "gen_seccomp: %s: error %d\n", what, -r);
    exit(1);
}

/* The number of a system call, or -1 when this architecture has none of that name. */
static int resolve(const char *name)
{
    int number = seccomp_syscall_resolve_name(name);
    check(number == __NR_SCMP_ERROR ? -1 : 0, name);
    return number < 0 ? -1 : number;
}

static scmp_filter_ctx new_filter(uint32_t default_action)
{
    scmp_filter_ctx filter = seccomp_init(default_action);
    check(filter == NULL ? -1 : 0, "seccomp_init");
    check(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS)), "bad architecture action");
    check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimize");
    return filter;
}

static void add_all(scmp_filter_ctx filter, uint32_t action, const char *const names[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int number = resolve(names[i]);
        if (number >= 0)
            check(seccomp_rule_add(filter, action, number, 0), names[i]);
    }
}

/* The program as `static const struct sock_filter NAME[]`. */
static void print_filter(scmp_filter_ctx filter, const char *name)
{
    FILE *file = tmpfile();
    check(file == NULL ? -1 : 0, "tmpfile");
    check(seccomp_export_bpf(filter, fileno(file)), "seccomp_export_bpf");
    check(fseek(file, 0, SEEK_SET), "fseek");
    printf("static const struct sock_filter %s[] = {\n", name);
    struct sock_filter line;
    while (fread(&line, sizeof line, 1, file) == 1)
        printf("    {0x%04x, %u, %u, 0x%08x},\n", line.code, line.jt, line.jf, line.k);
    printf("};\n");
    fclose(file);
    seccomp_release(filter);
}

static scmp_filter_ctx allow_filter(void)
{
    scmp_filter_ctx filter = new_filter(SCMP_ACT_ERRNO(ENOSYS));
    add_all(filter, SCMP_ACT_ALLOW, allowed, COUNT(allowed));
    add_all(filter, SCMP_ACT_ERRNO(EPERM), refused, COUNT(refused));
    for (size_t i = 0; i < COUNT(absent); i++)
        resolve(absent[i]);
    for (size_t i = 0; i < COUNT(allowed_values); i++)
        check(seccomp_rule_add(
                  filter, SCMP_ACT_ALLOW, resolve(allowed_values[i].name), 1,
                  SCMP_CMP(allowed_values[i].argument, SCMP_CMP_MASKED_EQ, 0xFFFFFFFF, allowed_values[i].value)),
              allowed_values[i].name);
    return filter;
}

/* call: "socket" or "socketpair", whose family and protocol are the arguments 0 and 2. */
static void deny_families(scmp_filter_ctx filter, const char *call)
{
    const int last = allowed_families[COUNT(allowed_families) - 1];
    const int number = resolve(call);
    size_t next = 0;
    for (int family = 0; family <= last; family++) {
        if (family == allowed_families[next])
            next++;
        else
            check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 1,
                                   SCMP_CMP(0, SCMP_CMP_MASKED_EQ, 0xFFFFFFFF, (uint64_t)family)),
                  call);
    }
    /* Compared as 64 bits: what the kernel would cut off is refused as well. */
    check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 1, SCMP_CMP(0, SCMP_CMP_GT, (uint64_t)last, 0)),
          call);
    check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 2, SCMP_CMP(0, SCMP_CMP_EQ, AF_NETLINK, 0),
                           SCMP_CMP(2, SCMP_CMP_GE, denied_netlink_first, 0)),
          call);
}

static scmp_filter_ctx deny_filter(void)
{
    scmp_filter_ctx filter = new_filter(SCMP_ACT_ALLOW);
    for (size_t i = 0; i < COUNT(denied_values); i++)
        check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), resolve(denied_values[i].name), 1,
                               SCMP_CMP(denied_values[i].argument, SCMP_CMP_MASKED_EQ, denied_values[i].mask,
                                        denied_values[i].value)),
              denied_values[i].name);
    deny_families(filter, "socket");
    deny_families(filter, "socketpair");
    return filter;
}

static scmp_filter_ctx keeper_filter(void)
{
    scmp_filter_ctx filter = new_filter(SCMP_ACT_ERRNO(EPERM));
    add_all(filter, SCMP_ACT_ALLOW, keeper_allowed, COUNT(keeper_allowed));
    /* A snapshot shares the blocks of what it is a copy of, where the file system can. */
    const struct scmp_arg_cmp clones = SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, FICLONE);
    check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, resolve("ioctl"), 1, clones), "ioctl");
    return filter;
}

int main(void)
{
    printf("/* Written by gen_seccomp from seccomp_rules.h. */\n");
    print_filter(allow_filter(), "filter_allow");
    print_filter(deny_filter(), "filter_deny");
    print_filter(keeper_filter(), "filter_keeper");
    return 0;
}

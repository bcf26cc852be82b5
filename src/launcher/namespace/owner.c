/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: some things the kernel counts by user namespace and uid,
 * and then again by who made the namespace, up to that user's limits: inotify,
 * queued signals, POSIX message queues, namespaces. Were the maker root, one
 * guest could take what the host's services and all other guests may have of
 * them. So as root the shim makes it under the guest's own first uid, which is
 * nobody else's. It is the effective uid that counts; the real one remains, and
 * with it the permitted capabilities.
 *
 * Who makes a namespace has all power over it without a capability; that is not
 * the shim then. CAP_KILL is what it needs instead, to end its guest and for
 * the guest to end with it: the kernel asks the dying parent's credentials
 * whether it may send what PR_SET_PDEATHSIG promised.
 */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launcher/namespace/internal.h"

static const uid_t unchanged = (uid_t)-1;

/* What another effective uid took: entry to a control group, and namespaces where the host gives them to root alone. */
static int raise_capabilities(struct __user_cap_data_struct data[2])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted;
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int owner_assume(uint32_t slot)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    if ((data[0].permitted & 1u << CAP_KILL) == 0)
        return -EPERM; /* nobody could end the guest */
    /* The saved one as well: for a kernel before 5.16 the child then enters groups of v1 as itself, and not as a
     * stranger. */
    if (setresuid(unchanged, idmap_base(slot), idmap_base(slot)) < 0)
        return -errno;
    int r = raise_capabilities(data);
    if (r < 0)
        owner_leave();
    return r;
}

void owner_leave(void)
{
    if (setresuid(unchanged, 0, 0) < 0)
        abort(); /* cannot be: it is the real one */
}

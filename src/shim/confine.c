/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/shim.h"

/*
 * From here on the shim only moves bytes, ends its own guest (for which owning
 * the guest's user namespace is enough) and removes what it made: it needs no
 * capability, and never gets one again. What other system calls its launcher
 * knows it to be without is refused as well.
 */
int shim_confine(const struct era_launcher *launcher)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {0};
    if (syscall(SYS_capset, &header, none) < 0)
        return -errno;
    return launcher->confine != NULL ? launcher->confine() : 0;
}

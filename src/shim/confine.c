/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/shim.h"

/*
 * From here on the shim only moves bytes, ends its own guest and removes what
 * it made. To end it, owning the guest's user namespace is enough, and where
 * another uid owns that, CAP_KILL: it needs no other capability, and never gets
 * one again. What other system calls its launcher knows it to be without is
 * refused as well.
 */
int shim_confine(const struct era_launcher *launcher, const struct era_guest *guest)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    const uint32_t kept = guest->foreign ? 1u << CAP_KILL : 0;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct data[2] = {{.effective = kept, .permitted = kept}};
    if (syscall(SYS_capset, &header, data) < 0)
        return -errno;
    return launcher->confine != NULL ? launcher->confine() : 0;
}

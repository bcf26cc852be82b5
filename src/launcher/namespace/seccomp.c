/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "launcher/namespace/internal.h"
#include "seccomp_filter.h"

static int install(const struct sock_filter *filter, size_t count)
{
    const struct sock_fprog program = {.len = (unsigned short)count, .filter = (struct sock_filter *)(uintptr_t)filter};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? -errno : 0;
}

int seccomp_confine_keeper(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return 0; /* a sanitizer looks around by calls of its own */
#else
    return install(filter_keeper, sizeof filter_keeper / sizeof filter_keeper[0]);
#endif
}

int seccomp_install(void)
{
    /* The one that lets prctl through must not come before the other is in; both let it. */
    int r = install(filter_deny, sizeof filter_deny / sizeof filter_deny[0]);
    if (r >= 0)
        r = install(filter_allow, sizeof filter_allow / sizeof filter_allow[0]);
    return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/resource.h>

#include "sandbox/sandbox.h"

enum { NOFILE_SOFT = 1024, NOFILE_HARD = 65536 };

int rlimits_set(uint32_t pids)
{
    const struct {
        int resource;
        rlim_t soft, hard;
    } limits[] = {
        {RLIMIT_CORE, 0, 0},
        {RLIMIT_NOFILE, NOFILE_SOFT, NOFILE_HARD},
        {RLIMIT_NPROC, pids + 1, pids + 1}, /* and init */
        {RLIMIT_STACK, 8u << 20, RLIM_INFINITY},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct rlimit now;
        if (getrlimit((unsigned)limits[i].resource, &now) < 0)
            return -errno;
        struct rlimit wanted = {.rlim_cur = limits[i].soft, .rlim_max = limits[i].hard};
        if (wanted.rlim_max > now.rlim_max)
            wanted.rlim_max = now.rlim_max;
        if (wanted.rlim_cur > wanted.rlim_max)
            wanted.rlim_cur = wanted.rlim_max;
        if (setrlimit((unsigned)limits[i].resource, &wanted) < 0)
            return -errno;
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/fault.h"

#include <time.h>

static int64_t read_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t era_clock_realtime_ns(void)
{
    return read_ns(CLOCK_REALTIME) + ERA_FAULT_CLOCK_NS;
}

int64_t era_clock_monotonic_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

void era_clock_format(int64_t realtime_ns, char ret_text[ERA_TIME_MAX])
{
    time_t seconds = (time_t)(realtime_ns / 1000000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    if (strftime(ret_text, ERA_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        ret_text[0] = '\0';
}

/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - the two clocks, and how times are written. libc only, thread-safe. */
#ifndef ERA_BASE_CLOCK_H
#define ERA_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

int64_t era_clock_realtime_ns(void);  /* since the Unix epoch; can jump */
int64_t era_clock_monotonic_ns(void); /* since boot; never goes back */

enum { ERA_TIME_MAX = sizeof "2025-10-23T12:34:05Z" };

/* RFC 3339 in UTC, whole seconds: "2025-10-23T12:34:05Z". */
void era_clock_format(int64_t realtime_ns, char ret_text[ERA_TIME_MAX]);

#endif

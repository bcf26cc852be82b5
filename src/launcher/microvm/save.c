/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "launcher/microvm/internal.h"

enum { ANSWER_MS = 10000 };

static int64_t deadline(void)
{
    return era_clock_monotonic_ns() + (int64_t)ANSWER_MS * 1000000;
}

int machine_stop(struct qemu *qemu, struct era_error *err)
{
    return monitor_ask(qemu, "stop", NULL, deadline(), err);
}

int machine_go_on(struct qemu *qemu, struct era_error *err)
{
    return monitor_ask(qemu, "cont", NULL, deadline(), err);
}

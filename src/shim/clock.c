/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a guest with a kernel of its own has a clock of its own.
 * It is told what time it is when it has started, when it goes on after a
 * pause, when somebody set the host's clock or the host has slept (which the
 * kernel tells: timerfd_create(2), TFD_TIMER_CANCEL_ON_SET), and now and then,
 * because clocks drift.
 *
 * What is said arrives late, by how much nobody knows but that it is no more
 * than it takes until the answer. So it is said again until that was short.
 */
#include <errno.h>
#include <sys/timerfd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "shim/shim.h"

enum {
    ROUNDS = 32,
    GOOD_US = 6000, /* a round that takes no longer leaves the guest's clock behind by less than that */
    PERIOD_S = 600,
};

/* The timer is cancelled when the clock is set, and fires when this long nothing was said. */
static void wait_for_change(const struct shim *shim)
{
    const struct itimerspec when = {.it_value.tv_sec = era_clock_realtime_ns() / 1000000000 + PERIOD_S};
    (void)timerfd_settime(shim->clock_timer.fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, NULL);
}

int shim_clock_start(struct shim *shim)
{
    shim->clock_timer = (struct source){.kind = SOURCE_CLOCK, .fd = -EBADF};
    if (!shim->guest->own_clock)
        return 0;
    shim->clock_timer.fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (shim->clock_timer.fd < 0)
        return -errno;
    wait_for_change(shim); /* before it is said: what is set meanwhile is seen */
    shim_clock_tell(shim);
    return 0;
}

static void say(struct shim *shim)
{
    shim->clock_said_ns = era_clock_monotonic_ns();
    if (era_clock_append(&shim->to_guest, era_clock_realtime_ns()) >= 0)
        shim->clocks_owed++;
}

void shim_clock_tell(struct shim *shim)
{
    if (!shim->guest->own_clock || shim->paused_since_ns != 0)
        return;
    shim->clock_rounds = ROUNDS;
    if (shim->clocks_owed == 0)
        say(shim);
    else
        shim->clock_said_ns = 0; /* the answer that is to come is no good one */
}

void shim_clock_answered(struct shim *shim)
{
    shim->clocks_owed--;
    bool good = era_clock_monotonic_ns() - shim->clock_said_ns <= (int64_t)GOOD_US * 1000;
    shim->clock_rounds = good || shim->stills_owed > 0 ? 0 : shim->clock_rounds - 1; /* it is told when it goes on */
    if (shim->clock_rounds > 0)
        say(shim);
}

void shim_clock_ready(struct shim *shim)
{
    uint64_t expirations;
    (void)era_read_full(shim->clock_timer.fd, &expirations, sizeof expirations); /* ECANCELED: it was set */
    wait_for_change(shim);
    shim_clock_tell(shim);
}

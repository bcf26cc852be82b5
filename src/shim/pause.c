/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a guest that stands still is one whose init has said all
 * that it had to say (HOLD, STILL) and whose processors are stopped then. So
 * nothing is half said when it is saved, and a copy of it can be talked to from
 * the start of a frame. Nothing is sent to a guest behind HOLD, for it would go
 * on with the first that it hears; what is to be said waits behind GO_ON, and so
 * does the time of its runs.
 *
 * The shim does nothing else meanwhile: each step is bounded, and a guest that
 * does not do its part in time is left running: it is told to go on, which it
 * hears behind HOLD, and the STILL that it owes is not taken for a later one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "shim/shim.h"

enum {
    STILL_TIMEOUT_MS = 10000,
    CLOCK_TIMEOUT_MS = 10000,
};

static int not_supported(const struct shim *shim, const char *what, struct era_error *err)
{
    return era_error_set(err, ENOTSUP, "not_supported",
                         "%s is not supported by the %s launcher; use --launcher microvm", what,
                         era_launcher_name(shim->launcher->kind));
}

/* What the guest said so far. 1: it owes nothing of this kind, and a STILL was its last word; 0; -EPROTO. */
static int take_words(struct shim *shim, const unsigned *owed)
{
    for (;;) {
        struct era_frame frame;
        ssize_t taken = era_frame_decode(era_buffer_data(&shim->from_guest), era_buffer_len(&shim->from_guest), &frame);
        if (taken == 0)
            return *owed == 0;
        if (taken < 0 || !shim_take_guest_frame(shim, &frame))
            return -EPROTO;
        era_buffer_consume(&shim->from_guest, (size_t)taken);
        if (owed == &shim->stills_owed && *owed == 0)
            return era_buffer_len(&shim->from_guest) == 0 ? 1 : -EPROTO;
    }
}

static int await_words(struct shim *shim, struct era_buffer *unheard, const unsigned *owed, int timeout_ms)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)timeout_ms * 1000000;
    int r = 0;
    while (r == 0) {
        int fd = shim->guest->control_fd;
        int unsent = era_buffer_flush(unheard, fd);
        struct pollfd fds[] = {{.fd = fd, .events = (short)(POLLIN | (unsent == -EAGAIN ? POLLOUT : 0))},
                               {.fd = shim->guest->pid_fd, .events = POLLIN}};
        int64_t left_ms = (deadline_ns - era_clock_monotonic_ns()) / 1000000;
        int n = left_ms <= 0 ? 0 : poll(fds, 2, (int)left_ms);
        if (n == 0)
            return -ETIMEDOUT;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || fds[1].revents != 0)
            return -EPIPE;
        ssize_t got = (fds[0].revents & ~POLLOUT) != 0 ? era_buffer_fill(&shim->from_guest, fd, 64 * 1024) : -EAGAIN;
        r = got == 0 ? -EPIPE : got < 0 && got != -EAGAIN ? (int)got : take_words(shim, owed);
    }
    if (r == -EPROTO)
        shim_guest_hostile(shim, "a word out of place while it is to hold still or to go on");
    return r < 0 ? r : 0;
}

int shim_await_clock(struct shim *shim)
{
    return await_words(shim, &shim->to_guest, &shim->clocks_owed, CLOCK_TIMEOUT_MS);
}

/* GO_ON is said behind what the guest has yet to hear, and before all that waited. */
static int go_on(struct shim *shim, struct era_buffer *unheard, int64_t realtime_ns)
{
    struct era_buffer *waiting = &shim->to_guest;
    if (era_go_on_append(unheard, realtime_ns) < 0 ||
        era_buffer_append(unheard, era_buffer_data(waiting), era_buffer_len(waiting)) < 0) {
        era_buffer_clear(unheard);
        return -ENOMEM;
    }
    era_buffer_clear(waiting);
    *waiting = *unheard;
    return 0;
}

static int hold(struct shim *shim, struct era_error *err)
{
    int r = era_frame_append(&shim->to_guest, ERA_FRAME_HOLD, 0, NULL, 0) < 0 ? -ENOMEM : 0;
    if (r < 0)
        return era_error_oom(err);
    shim->stills_owed++;
    struct era_buffer unheard = shim->to_guest;
    shim->to_guest = (struct era_buffer){0};
    r = await_words(shim, &unheard, &shim->stills_owed, STILL_TIMEOUT_MS);
    if (r == -ETIMEDOUT) {
        (void)go_on(shim, &unheard, 0); /* it did not stand still: its clock is right */
        return era_error_set(err, ETIMEDOUT, "vm_busy", "the guest does not answer in time");
    }
    era_buffer_clear(&unheard);
    return r < 0 ? era_error_set(err, -r, "vm_busy", "the guest cannot be made to stand still") : 0;
}

int shim_pause(struct shim *shim, struct era_error *err)
{
    if (shim->guest->ops->pause == NULL)
        return not_supported(shim, "pause", err);
    if (shim->paused_since_ns != 0)
        return 0;
    if (shim->stop_deadline_ns != 0)
        return era_error_set(err, EBUSY, "vm_busy", "the VM is being stopped");
    int r = hold(shim, err);
    if (r < 0)
        return r;
    r = shim->guest->ops->pause(shim->guest, err);
    if (r < 0) {
        (void)go_on(shim, &(struct era_buffer){0}, 0);
        return r;
    }
    shim->paused_since_ns = era_clock_monotonic_ns();
    return 0;
}

int shim_resume(struct shim *shim, struct era_error *err)
{
    if (shim->guest->ops->resume == NULL)
        return not_supported(shim, "resume", err);
    if (shim->paused_since_ns == 0)
        return 0;
    int r = shim->guest->ops->resume(shim->guest, err);
    if (r < 0)
        return r;
    int64_t slept_ns = era_clock_monotonic_ns() - shim->paused_since_ns;
    for (struct run *run = shim->runs; run != NULL; run = run->next)
        if (run->deadline_ns != 0)
            run->deadline_ns += slept_ns;
    shim->paused_since_ns = 0;
    if (go_on(shim, &(struct era_buffer){0}, era_clock_realtime_ns()) < 0)
        return era_error_oom(err);
    shim_clock_tell(shim);
    (void)shim_await_clock(shim); /* who answers later hears it later */
    return 0;
}

int shim_snapshot(struct shim *shim, const char *path, struct era_error *err)
{
    const struct era_guest_ops *ops = shim->guest->ops;
    if (ops->save == NULL)
        return not_supported(shim, "snapshot", err);
    _cleanup_close_ int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dirfd < 0)
        return era_error_errno(err, errno, "cannot open the snapshot's folder");
    int r = ops->save(shim->guest, dirfd, ERA_SAVE_BEFORE, err);
    if (r < 0)
        return r;
    ERA_POINT("still.copied");
    bool ran = shim->paused_since_ns == 0;
    if ((r = shim_pause(shim, err)) < 0)
        return r;
    ERA_POINT("still.held");
    r = ops->save(shim->guest, dirfd, ERA_SAVE_STILL, err);
    ERA_POINT("still.saved");
    if (ran) {
        int resumed = shim_resume(shim, r < 0 ? NULL : err);
        r = r < 0 ? r : resumed;
    }
    ERA_POINT("still.over");
    return r < 0 ? r : ops->save(shim->guest, dirfd, ERA_SAVE_AFTER, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a copy who it is. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "launcher/microvm/internal.h"
#include "wire/message.h"

enum { ANSWER_MS = 30000 };

static void write_digits(const uint8_t *bytes, size_t count, char *to)
{
    for (size_t i = 0; i < count; i++)
        snprintf(to + 2 * i, 3, "%02x", bytes[i]);
}

static int fill(const struct era_guest_config *config, struct era_identity *identity)
{
    uint8_t random[16 + 6];
    if (getrandom(identity->seed, sizeof identity->seed, 0) != (ssize_t)sizeof identity->seed ||
        getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return -EIO;
    era_str_copy(identity->id, sizeof identity->id, config->id);
    write_digits(random, 16, identity->machine_id);
    memcpy(identity->mac, random + 16, sizeof identity->mac);
    identity->mac[0] = (uint8_t)((identity->mac[0] & 0xFC) | 0x02); /* given by nobody, of one station */
    identity->network = config->network == ERA_NETWORK_ALLOW_ALL;
    identity->volume = config->volume_path != NULL;
    identity->pids = config->pids;
    for (char *const *item = config->env; item != NULL && *item != NULL; item++)
        if (era_strv_add(&identity->env, *item) < 0)
            return -ENOMEM;
    identity->realtime_ns = era_clock_realtime_ns();
    return 0;
}

/* READY, or why not. */
static int await_ready(struct qemu *qemu, struct era_error *err)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)ANSWER_MS * 1000000;
    struct era_buffer in = {0};
    struct era_frame frame;
    ssize_t taken = 0;
    while (taken == 0) {
        struct pollfd poller = {.fd = qemu->control_fd, .events = POLLIN};
        int64_t left_ms = (deadline_ns - era_clock_monotonic_ns()) / 1000000;
        int n = left_ms <= 0 ? 0 : poll(&poller, 1, (int)left_ms);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || era_buffer_fill(&in, qemu->control_fd, 4096) <= 0)
            break;
        taken = era_frame_decode(era_buffer_data(&in), era_buffer_len(&in), &frame);
    }
    struct era_error told;
    int r = 0;
    if (taken > 0 && frame.type == ERA_FRAME_ERROR && era_error_decode(&frame, &told) >= 0)
        r = era_error_set(err, EIO, "vm_start_failed", "%s", told.message);
    else if (taken <= 0 || frame.type != ERA_FRAME_READY || frame.len != 0 || frame.stream != 0 ||
             (size_t)taken != era_buffer_len(&in))
        r = qemu_fail(qemu, taken < 0 ? -EBADMSG : -ETIMEDOUT, "the guest's answer", err);
    era_buffer_clear(&in);
    return r;
}

static int send_frame(struct qemu *qemu, struct era_buffer *frame, struct era_error *err)
{
    int r = era_write_full(qemu->control_fd, era_buffer_data(frame), era_buffer_len(frame));
    era_buffer_clear(frame);
    return r < 0 ? qemu_fail(qemu, r, "the guest's identity", err) : 0;
}

int identity_tell(struct qemu *qemu, const struct era_guest_config *config, struct era_error *err)
{
    struct era_buffer out = {0};
    _cleanup_(era_identity_clear) struct era_identity identity = {0};
    int r = fill(config, &identity);
    if (r >= 0)
        r = era_message_append(&out, ERA_FRAME_IDENTITY, 0, era_identity_encode, &identity);
    if (r < 0)
        return era_error_errno(err, -r, "cannot say who the guest is");
    r = send_frame(qemu, &out, err);
    if (r >= 0) /* not before: who it is is the first that a machine hears that was in use when it was saved */
        r = machine_go_on(qemu, err);
    return r < 0 ? r : await_ready(qemu, err);
}

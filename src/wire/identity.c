/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "wire/field.h"
#include "wire/message.h"

static void write_bytes(struct era_writer *w, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        era_write_u8(w, bytes[i]);
}

static void read_bytes(struct era_reader *r, uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = era_read_u8(r);
}

static bool read_bool(struct era_reader *r)
{
    uint8_t value = era_read_u8(r);
    if (value > 1)
        r->failed = true;
    return value == 1;
}

int era_identity_encode(struct era_buffer *to, const struct era_identity *identity)
{
    struct era_writer w = {.to = to};
    write_bytes(&w, identity->seed, sizeof identity->seed);
    era_write_u64(&w, (uint64_t)identity->realtime_ns);
    era_write_str(&w, identity->id);
    era_write_str(&w, identity->machine_id);
    write_bytes(&w, identity->mac, sizeof identity->mac);
    era_write_u8(&w, identity->network);
    era_write_u8(&w, identity->volume);
    era_write_u32(&w, identity->pids);
    era_write_strv(&w, &identity->env);
    return w.failed ? -ENOMEM : 0;
}

int era_identity_decode(const struct era_frame *frame, struct era_identity *ret_identity)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    struct era_identity identity = {0};
    read_bytes(&r, identity.seed, sizeof identity.seed);
    identity.realtime_ns = (int64_t)era_read_u64(&r);
    era_str_copy(identity.id, sizeof identity.id, era_read_str(&r, sizeof identity.id));
    era_str_copy(identity.machine_id, sizeof identity.machine_id, era_read_str(&r, sizeof identity.machine_id));
    read_bytes(&r, identity.mac, sizeof identity.mac);
    identity.network = read_bool(&r);
    identity.volume = read_bool(&r);
    identity.pids = era_read_u32(&r);
    int result = era_read_strv(&r, 2 * ERA_ENV_MAX, &identity.env);
    if (result >= 0)
        result = era_reader_finish(&r);
    if (result >= 0 && (!era_vm_id_valid(identity.id) || strlen(identity.machine_id) != ERA_MACHINE_ID_MAX - 1 ||
                        identity.realtime_ns < 0 || identity.pids < ERA_PIDS_MIN || identity.pids > ERA_PIDS_MAX))
        result = -EBADMSG;
    if (result < 0) {
        era_identity_clear(&identity);
        return result;
    }
    *ret_identity = identity;
    return 0;
}

void era_identity_clear(struct era_identity *identity)
{
    explicit_bzero(identity->seed, sizeof identity->seed);
    era_strv_clear(&identity->env);
}

int era_clock_append(struct era_buffer *to, int64_t realtime_ns)
{
    struct era_buffer payload = {0};
    struct era_writer w = {.to = &payload};
    era_write_u64(&w, (uint64_t)realtime_ns);
    int r = w.failed ? -ENOMEM : 0;
    if (r >= 0)
        r = era_frame_append(to, ERA_FRAME_CLOCK, 0, era_buffer_data(&payload), era_buffer_len(&payload));
    era_buffer_clear(&payload);
    return r;
}

int era_clock_decode(const struct era_frame *frame, int64_t *ret_realtime_ns)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    int64_t realtime_ns = (int64_t)era_read_u64(&r);
    if (era_reader_finish(&r) < 0 || realtime_ns < 0)
        return -EBADMSG;
    *ret_realtime_ns = realtime_ns;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/frame.h"

#include <errno.h>
#include <string.h>

static uint32_t get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_le32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

ssize_t era_frame_decode(const void *data, size_t len, struct era_frame *ret_frame)
{
    const uint8_t *p = data;
    if (len < ERA_FRAME_HEADER_SIZE)
        return 0;
    uint32_t payload = get_le32(p);
    uint32_t type = (uint32_t)p[4] | (uint32_t)p[5] << 8;
    if (payload > ERA_FRAME_PAYLOAD_MAX || type == 0 || type >= ERA_FRAME_TYPE_COUNT || p[6] != 0 || p[7] != 0)
        return -EBADMSG;
    if (len - ERA_FRAME_HEADER_SIZE < payload)
        return 0;
    *ret_frame = (struct era_frame){
        .type = (enum era_frame_type)type,
        .stream = get_le32(p + 8),
        .payload = p + ERA_FRAME_HEADER_SIZE,
        .len = payload,
    };
    return (ssize_t)ERA_FRAME_HEADER_SIZE + (ssize_t)payload;
}

int era_frame_append(struct era_buffer *to, enum era_frame_type type, uint32_t stream, const void *payload, size_t len)
{
    if (len > ERA_FRAME_PAYLOAD_MAX)
        return -EMSGSIZE;
    uint8_t *room = era_buffer_reserve(to, ERA_FRAME_HEADER_SIZE + len);
    if (room == NULL)
        return -ENOMEM;
    put_le32(room, (uint32_t)len);
    put_le32(room + 4, (uint32_t)type);
    put_le32(room + 8, stream);
    if (len > 0)
        memcpy(room + ERA_FRAME_HEADER_SIZE, payload, len);
    era_buffer_commit(to, ERA_FRAME_HEADER_SIZE + len);
    return 0;
}

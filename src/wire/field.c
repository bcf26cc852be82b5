/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/field.h"

#include <errno.h>
#include <string.h>

static void write_le(struct era_writer *w, uint64_t value, size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    if (era_buffer_append(w->to, bytes, size) < 0)
        w->failed = true;
}

void era_write_u8(struct era_writer *w, uint8_t value)
{
    write_le(w, value, 1);
}

void era_write_u16(struct era_writer *w, uint16_t value)
{
    write_le(w, value, 2);
}

void era_write_u32(struct era_writer *w, uint32_t value)
{
    write_le(w, value, 4);
}

void era_write_u64(struct era_writer *w, uint64_t value)
{
    write_le(w, value, 8);
}

void era_write_str(struct era_writer *w, const char *text)
{
    size_t len = strlen(text);
    era_write_u32(w, (uint32_t)len);
    if (era_buffer_append(w->to, text, len + 1) < 0)
        w->failed = true;
}

void era_write_strv(struct era_writer *w, const struct era_strv *list)
{
    era_write_u32(w, (uint32_t)list->count);
    for (size_t i = 0; i < list->count; i++)
        era_write_str(w, list->items[i]);
}

struct era_reader era_reader(const void *payload, size_t len)
{
    return (struct era_reader){.at = payload, .end = (const uint8_t *)payload + len};
}

static uint64_t read_le(struct era_reader *r, size_t size)
{
    if (r->failed || (size_t)(r->end - r->at) < size) {
        r->failed = true;
        return 0;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)r->at[i] << (8 * i);
    r->at += size;
    return value;
}

uint8_t era_read_u8(struct era_reader *r)
{
    return (uint8_t)read_le(r, 1);
}

uint16_t era_read_u16(struct era_reader *r)
{
    return (uint16_t)read_le(r, 2);
}

uint32_t era_read_u32(struct era_reader *r)
{
    return (uint32_t)read_le(r, 4);
}

uint64_t era_read_u64(struct era_reader *r)
{
    return read_le(r, 8);
}

const char *era_read_str(struct era_reader *r, size_t max)
{
    uint32_t len = era_read_u32(r);
    if (r->failed || len >= max || (size_t)(r->end - r->at) <= len ||
        memchr(r->at, '\0', (size_t)len + 1) != r->at + len) {
        r->failed = true;
        return "";
    }
    const char *text = (const char *)r->at;
    r->at += (size_t)len + 1;
    return text;
}

int era_read_strv(struct era_reader *r, size_t max_count, struct era_strv *ret_list)
{
    struct era_strv list = {0};
    uint32_t count = era_read_u32(r);
    if (count > max_count)
        r->failed = true;
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        const char *text = era_read_str(r, SIZE_MAX);
        if (!r->failed && era_strv_add(&list, text) < 0) {
            era_strv_clear(&list);
            return -ENOMEM;
        }
    }
    if (r->failed)
        era_strv_clear(&list);
    *ret_list = list;
    return 0;
}

int era_reader_finish(const struct era_reader *r)
{
    return r->failed || r->at != r->end ? -EBADMSG : 0;
}

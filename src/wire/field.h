/* SPDX-License-Identifier: Apache-2.0 */
/*
 * field.h - the fields of a payload: little-endian numbers, and strings as
 * u32 length, bytes, NUL, so that a reader can borrow them in place.
 *
 * Readers and writers remember their first failure: a whole message is read
 * or written, then checked once by era_reader_finish() / era_writer_failed().
 */
#ifndef ERA_WIRE_FIELD_H
#define ERA_WIRE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/str.h"

struct era_writer {
    struct era_buffer *to; /* borrowed */
    bool failed;           /* out of memory */
};

void era_write_u8(struct era_writer *w, uint8_t value);
void era_write_u16(struct era_writer *w, uint16_t value);
void era_write_u32(struct era_writer *w, uint32_t value);
void era_write_u64(struct era_writer *w, uint64_t value);
void era_write_str(struct era_writer *w, const char *text);
void era_write_strv(struct era_writer *w, const struct era_strv *list);

struct era_reader {
    const uint8_t *at; /* borrowed */
    const uint8_t *end;
    bool failed; /* the payload is not what it should be */
};

struct era_reader era_reader(const void *payload, size_t len);
uint8_t era_read_u8(struct era_reader *r);
uint16_t era_read_u16(struct era_reader *r);
uint32_t era_read_u32(struct era_reader *r);
uint64_t era_read_u64(struct era_reader *r);

/* At most max bytes with the NUL, none inside; "" after a failure. Borrowed. */
const char *era_read_str(struct era_reader *r, size_t max);

/* At most max_count strings, copied; an empty list after a failure. Returns 0 or -ENOMEM. */
int era_read_strv(struct era_reader *r, size_t max_count, struct era_strv *ret_list);

/* 0 when all was read and nothing is left over, else -EBADMSG. */
int era_reader_finish(const struct era_reader *r);

#endif

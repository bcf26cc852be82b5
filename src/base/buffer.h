/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer.h - a queue of bytes between a descriptor and a parser.
 *
 * Grows as needed and gives its memory back when it runs empty, so that an
 * idle process holds none. A zeroed object is an empty buffer. Not thread-safe.
 */
#ifndef ERA_BASE_BUFFER_H
#define ERA_BASE_BUFFER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct era_buffer {
    uint8_t *data; /* owned */
    size_t start;  /* first byte not consumed */
    size_t end;    /* one past the last byte */
    size_t capacity;
};

static inline size_t era_buffer_len(const struct era_buffer *buffer)
{
    return buffer->end - buffer->start;
}

static inline const uint8_t *era_buffer_data(const struct era_buffer *buffer)
{
    return buffer->data != NULL ? buffer->data + buffer->start : NULL; /* NULL + 0 is undefined */
}

/* Room for len more bytes at the end, or NULL; era_buffer_commit() says how many were written there. */
uint8_t *era_buffer_reserve(struct era_buffer *buffer, size_t len);
void era_buffer_commit(struct era_buffer *buffer, size_t len);

int era_buffer_append(struct era_buffer *buffer, const void *data, size_t len); /* -ENOMEM */
void era_buffer_consume(struct era_buffer *buffer, size_t len);                 /* frees when empty */
void era_buffer_clear(struct era_buffer *buffer);

/* One read(2) of at most max bytes: the count, 0 at the end, -EAGAIN, -errno. */
ssize_t era_buffer_fill(struct era_buffer *buffer, int fd, size_t max);

/*
 * Writes until empty or the descriptor would block: 0 when empty, -EAGAIN, -errno.
 * For sockets MSG_NOSIGNAL is used; for other descriptors SIGPIPE must be ignored.
 */
int era_buffer_flush(struct era_buffer *buffer, int fd);

#endif

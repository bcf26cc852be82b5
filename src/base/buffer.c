/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

uint8_t *era_buffer_reserve(struct era_buffer *buffer, size_t len)
{
    if (buffer->capacity - buffer->end >= len)
        return buffer->data + buffer->end;
    size_t used = era_buffer_len(buffer);
    if (buffer->start > 0) {
        memmove(buffer->data, buffer->data + buffer->start, used);
        buffer->start = 0;
        buffer->end = used;
    }
    if (buffer->capacity - used < len) {
        size_t capacity = buffer->capacity == 0 ? 1024 : buffer->capacity;
        while (capacity - used < len)
            capacity *= 2;
        uint8_t *grown = realloc(buffer->data, capacity);
        if (grown == NULL)
            return NULL;
        buffer->data = grown;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->end;
}

void era_buffer_commit(struct era_buffer *buffer, size_t len)
{
    buffer->end += len;
}

int era_buffer_append(struct era_buffer *buffer, const void *data, size_t len)
{
    if (len == 0)
        return 0;
    uint8_t *room = era_buffer_reserve(buffer, len);
    if (room == NULL)
        return -ENOMEM;
    memcpy(room, data, len);
    era_buffer_commit(buffer, len);
    return 0;
}

void era_buffer_consume(struct era_buffer *buffer, size_t len)
{
    buffer->start += len;
    if (buffer->start == buffer->end)
        era_buffer_clear(buffer);
}

void era_buffer_clear(struct era_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct era_buffer){0};
}

ssize_t era_buffer_fill(struct era_buffer *buffer, int fd, size_t max)
{
    uint8_t *room = era_buffer_reserve(buffer, max);
    if (room == NULL)
        return -ENOMEM;
    ssize_t n;
    do
        n = read(fd, room, max);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        era_buffer_commit(buffer, (size_t)n);
    int error = errno;
    if (era_buffer_len(buffer) == 0)
        era_buffer_clear(buffer);
    return n < 0 ? -error : n;
}

int era_buffer_flush(struct era_buffer *buffer, int fd)
{
    while (era_buffer_len(buffer) > 0) {
        ssize_t n = send(fd, era_buffer_data(buffer), era_buffer_len(buffer), MSG_NOSIGNAL);
        if (n < 0 && errno == ENOTSOCK)
            n = write(fd, era_buffer_data(buffer), era_buffer_len(buffer));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
        era_buffer_consume(buffer, (size_t)n);
    }
    return 0;
}

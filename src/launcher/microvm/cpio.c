/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/microvm/cpio.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { HEADER_SIZE = 110, ALIGNMENT = 4 };

/* Names and contents each begin at a multiple of four, counted from the archive's start. */
static int pad(struct era_buffer *to)
{
    static const char zeros[ALIGNMENT];
    size_t over = era_buffer_len(to) % ALIGNMENT;
    return over == 0 ? 0 : era_buffer_append(to, zeros, ALIGNMENT - over);
}

static int append(struct era_buffer *to, uint32_t inode, const char *name, mode_t mode, const void *data, size_t len)
{
    char header[HEADER_SIZE + 1];
    size_t name_size = strlen(name) + 1;
    unsigned links = inode == 0 ? 1 : (mode & 0170000) == 0040000 ? 2 : 1;
    if (len > UINT32_MAX || name_size > UINT16_MAX)
        return -EFBIG;
    /* magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check */
    snprintf(header, sizeof header, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", inode, (unsigned)mode,
             0u, 0u, links, 0u, (unsigned)len, 0u, 0u, 0u, 0u, (unsigned)name_size, 0u);
    int r = era_buffer_append(to, header, HEADER_SIZE);
    if (r >= 0)
        r = era_buffer_append(to, name, name_size);
    if (r >= 0)
        r = pad(to);
    if (r >= 0 && len > 0)
        r = era_buffer_append(to, data, len);
    return r < 0 ? r : pad(to);
}

int cpio_append(struct era_buffer *to, const char *name, mode_t mode, const void *data, size_t len)
{
    /* The place in the archive is a number that no other entry has. */
    return append(to, (uint32_t)(era_buffer_len(to) / ALIGNMENT) + 1, name, mode, data, len);
}

int cpio_finish(struct era_buffer *to)
{
    return append(to, 0, "TRAILER!!!", 0, NULL, 0);
}

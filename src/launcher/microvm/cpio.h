/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpio.h - writing the archive that a kernel unpacks into its first root: the
 * format "newc" of Documentation/driver-api/early-userspace/buffer-format.rst.
 * Pure: 0 or -ENOMEM, -EFBIG.
 */
#ifndef ERA_LAUNCHER_MICROVM_CPIO_H
#define ERA_LAUNCHER_MICROVM_CPIO_H

#include <stddef.h>
#include <sys/types.h>

#include "base/buffer.h"

/* name: without a leading slash. mode: with its type, S_IFDIR or S_IFREG. Owned by root, of the year 1970. */
int cpio_append(struct era_buffer *to, const char *name, mode_t mode, const void *data, size_t len);
/* Ends the archive. */
int cpio_finish(struct era_buffer *to);

#endif

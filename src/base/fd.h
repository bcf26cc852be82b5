/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fd.h - file descriptors and files by directory descriptor.
 *
 * Functions return 0 or a count, or -errno. Descriptors they make are CLOEXEC.
 * Nothing here logs or keeps state; all of it is thread-safe. libc only.
 */
#ifndef ERA_BASE_FD_H
#define ERA_BASE_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads until len bytes or the end; returns the bytes read. Restarts on EINTR. */
ssize_t era_read_full(int fd, void *buffer, size_t len);

/* Writes all of it, restarting on EINTR; for blocking descriptors. */
int era_write_full(int fd, const void *data, size_t len);

int era_pwrite_full(int fd, const void *data, size_t len, int64_t at);

/* The content of a file into another, which is empty; what is a hole stays one. Shares blocks where that is possible.
 */
int era_copy_sparse(int from_fd, int to_fd);

/*
 * Opens `path` below dirfd; no component, the last included, may be a symlink
 * or leave dirfd (openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
 * RESOLVE_NO_MAGICLINKS). Where the kernel lacks openat2 the path is walked
 * one component at a time with O_NOFOLLOW, to the same effect.
 */
int era_open_beneath(int dirfd, const char *path, int flags, mode_t mode);

/* Makes a directory if absent; -EEXIST only when something else has the name. */
int era_ensure_dir_at(int dirfd, const char *name, mode_t mode);

/*
 * Reads a regular file of at most max bytes into fresh memory, with a NUL
 * appended that *ret_len does not count. -EFBIG when longer. free() it.
 */
int era_read_file_at(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len);

/* Replaces a file whole: written beside under a temporary name, then renamed. */
int era_write_file_atomic_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode);

/*
 * Removes a file or a whole tree without following links and without
 * recursing on the stack; crosses no mount point. An absent name is success,
 * and several may remove the same tree at once. -ENOTEMPTY: somebody puts
 * something into it meanwhile.
 */
int era_remove_tree_at(int dirfd, const char *name);

/*
 * Closes every descriptor from 3 on that is not among the `count` ones kept
 * (at most 16; negative ones are passed over). Async-signal-safe.
 */
void era_close_all_but(const int keep[], size_t count);

/* Puts or removes O_NONBLOCK. */
int era_set_nonblock(int fd, bool nonblock);

#endif

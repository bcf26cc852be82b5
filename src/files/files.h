/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files.h - a file or directory tree to and from a tree stream (wire/tree.h).
 *
 * The same code serves both ends: era-init inside the guest, and the service
 * on the host, where the stream comes from a hostile guest. Nothing is ever
 * followed: every step goes from a directory descriptor to a plain name, and a
 * link is copied as a link. Objects belong to one thread; nothing logs.
 */
#ifndef ERA_FILES_FILES_H
#define ERA_FILES_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/error.h"

/* ---- reading a tree ----------------------------------------------------- */

struct era_tree_source;

/*
 * path: a regular file, directory or symlink, relative to dirfd or absolute; its
 * parents may be links, it itself is not followed. FIFOs, sockets and devices
 * below it are left out. max_bytes: of all contents together, 0 for no limit.
 * Errors: file_not_found, not_a_file, file_too_large, system_error.
 */
int era_tree_source_open(int dirfd, const char *path, uint64_t max_bytes, struct era_tree_source **ret_source,
                         struct era_error *err);

/* Fills the buffer with the next bytes of the stream: the count, 0 at its end, -errno. */
ssize_t era_tree_source_read(struct era_tree_source *source, void *buffer, size_t len, struct era_error *err);
void era_tree_source_free(struct era_tree_source *source);
ERA_DEFINE_CLEANUP(struct era_tree_source, era_tree_source_free)

/* ---- writing a tree ----------------------------------------------------- */

struct era_tree_sink;

/*
 * path: what the root of the tree becomes. When a directory is there already
 * the root goes into it by the name `basename` (as cp does). Its parent must exist.
 * inside_links_only: leave out links that point out of the tree.
 * Errors: file_not_found (the parent), system_error.
 */
int era_tree_sink_open(int dirfd, const char *path, const char *basename, bool inside_links_only,
                       struct era_tree_sink **ret_sink, struct era_error *err);

/* The tree may hold so many bytes from here on, each entry counting for 512 more; beyond that: file_too_large. */
void era_tree_sink_limit(struct era_tree_sink *sink, uint64_t max_bytes);

/* Takes bytes in pieces of any size. A file appears under its name when it is whole. Errors: tree_corrupt,
 * system_error. */
int era_tree_sink_feed(struct era_tree_sink *sink, const void *data, size_t len, struct era_error *err);

/* tree_truncated when the end of the tree was not reached. */
int era_tree_sink_finish(struct era_tree_sink *sink, struct era_error *err);

/* How many links were left out. */
size_t era_tree_sink_skipped(const struct era_tree_sink *sink);

/* Removes a file that is not whole. */
void era_tree_sink_free(struct era_tree_sink *sink);
ERA_DEFINE_CLEANUP(struct era_tree_sink, era_tree_sink_free)

#endif

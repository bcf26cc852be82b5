/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.h - files on their way in or out: a stream of entries.
 *
 * An entry is a header of 16 bytes, its name, its link target or content:
 *
 *     0      1      2            4              8             16
 *     | kind | zero | name length | mode         | size        | name | content …
 *
 * Numbers are little-endian. Names are relative paths below the root of the
 * copy, whose own entry comes first and has the empty name; a directory comes
 * before what it holds. The last entry is ERA_TREE_END, so that a stream which
 * was cut short is told from one that is whole.
 *
 * The reader treats its input as hostile: a name is refused unless every
 * component is a plain file name (no "", ".", "..", NUL or leading '/').
 */
#ifndef ERA_WIRE_TREE_H
#define ERA_WIRE_TREE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum era_tree_kind {
    ERA_TREE_END = 1,
    ERA_TREE_FILE,    /* size bytes of content follow */
    ERA_TREE_FOLDER,  /* size is 0 */
    ERA_TREE_SYMLINK, /* size bytes of target follow, at most ERA_TREE_NAME_MAX */
};

enum {
    ERA_TREE_HEADER_SIZE = 16,
    ERA_TREE_NAME_MAX = 4095, /* bytes */
    ERA_TREE_ENTRY_MAX = ERA_TREE_HEADER_SIZE + ERA_TREE_NAME_MAX,
};

struct era_tree_entry {
    enum era_tree_kind kind;
    uint32_t mode; /* permission bits, 0..0777 */
    uint64_t size; /* bytes that follow */
    char name[ERA_TREE_NAME_MAX + 1];
};

/* Writes header and name: the bytes written, or -ENAMETOOLONG. */
ssize_t era_tree_encode(const struct era_tree_entry *entry, uint8_t to[ERA_TREE_ENTRY_MAX]);

/* The bytes that header and name take, 0 when more are needed, -EBADMSG. */
ssize_t era_tree_decode(const void *data, size_t len, struct era_tree_entry *ret_entry);

/*
 * Whether a link, found at `name` in the tree, stays in it: relative, with ".." only at the front
 * and not above the root. What its target goes down through can be a link again: that one was
 * judged where it stands, so that several of them lead out no more than one does, in a tree of
 * which every link was judged. The root itself is beside nothing of the tree: never as a link.
 */
_Bool era_tree_link_inside(const char *name, const char *target);

#endif

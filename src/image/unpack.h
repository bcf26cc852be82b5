/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.h - era-unpack: the program that takes archives of strangers apart.
 *
 * Theory of operation
 *
 * It is a process of its own because it parses what may be hostile, as root or
 * nearly so. Before it looks at the first byte it goes through the stages of
 * unpack_sandbox.c: namespaces of its own with no network; a new root, in
 * which nothing is but the one working directory it was started for; no
 * capability beyond those that owners and modes need; limits; no new
 * privileges; a seccomp allow-list without execve, sockets or clone. Archives
 * come in as descriptors that were open before.
 *
 * Inside, the tree of the image is `rootfs/` below that new root, not the root
 * itself: no library of ours that opens an absolute path (character set
 * tables, locales) can be made to read a file of the image. Paths of entries
 * are resolved by unpack_tree.c one component at a time from the descriptor
 * of `rootfs`: legitimate images have entries below symlinks (`lib/x` where
 * `lib` is a link to `usr/lib`), so a link among the parents is followed, but
 * by us, with the image's root as "/" and as the top that ".." stays below.
 * The last component is never followed.
 *
 * Output is lines on stdout: `size N`, `entries N`, `digest sha256:…`, and on
 * failure `error CODE ERRNO MESSAGE`, with exit status 1.
 */
#ifndef ERA_IMAGE_UNPACK_H
#define ERA_IMAGE_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/error.h"

struct archive;
struct archive_entry;

/* ---- unpack_hash.c ------------------------------------------------------ */

enum {
    ERA_DIGEST_MAX = sizeof "sha256:" + 64,
    ERA_INTEGRITY_MAX = sizeof "sha512-" + 88,
};

/* A SHA-256 or SHA-512 under way. */
struct era_hash;
struct era_hash *era_hash_new(bool sha512); /* NULL: out of memory */
void era_hash_free(struct era_hash *hash);
ERA_DEFINE_CLEANUP(struct era_hash, era_hash_free)
void era_hash_update(struct era_hash *hash, const void *data, size_t len);
void era_hash_digest(struct era_hash *hash, char ret_text[ERA_DIGEST_MAX]);       /* "sha256:<hex>"; ends it */
void era_hash_integrity(struct era_hash *hash, char ret_text[ERA_INTEGRITY_MAX]); /* "sha512-<base64>"; ends it */

/* Hashes what is left of a file. -errno. */
int era_hash_fd(struct era_hash *hash, int fd);

/* ---- unpack_marks.c ----------------------------------------------------- */

/* A set of 64-bit keys; all zero is an empty one. */
struct era_marks {
    uint64_t *slots;
    size_t capacity;
    size_t count;
};

int era_marks_add(struct era_marks *marks, uint64_t key); /* -ENOMEM */
bool era_marks_has(const struct era_marks *marks, uint64_t key);
void era_marks_clear(struct era_marks *marks);

/* ---- unpack_tree.c ------------------------------------------------------ */

enum {
    ERA_TREE_DEPTH_MAX = 128, /* directories within each other */
    ERA_TREE_LINKS_MAX = 40,  /* symlinks followed for one path, as in the kernel */
};

/* A tree under construction. */
struct era_tree {
    int root_fd; /* owned */
    uint64_t bytes_left;
    uint64_t entries_left;
    struct era_marks marks; /* the paths that the layer at hand has made */
};

/* Where an entry goes: a directory, open, and a name in it. */
struct era_place {
    int dir_fd;     /* owned, O_PATH */
    uint64_t key;   /* of the directory's path with all links resolved, for era_tree.marks */
    char name[256]; /* "" is the root itself */
};

void era_tree_close(struct era_tree *tree);
void era_place_close(struct era_place *place);

/*
 * Whether a path is one that an entry may have: at most 4095 bytes, components
 * of at most 255, none of them "..", no more than ERA_TREE_DEPTH_MAX. Leading
 * slashes and "." components mean nothing. Pure. err: image_corrupt.
 */
int era_tree_check_path(const char *path, struct era_error *err);

/*
 * Finds the place of a path that era_tree_check_path() accepts. create:
 * missing parents are made (0755) and marked. Otherwise -ENOENT when one is
 * missing; err stays as it was then.
 */
int era_tree_find(struct era_tree *tree, const char *path, bool create, struct era_place *ret_place,
                  struct era_error *err);

/* Removes what is at a place; an absent name is success. The root itself is refused. */
int era_tree_clear(const struct era_place *place, struct era_error *err);

/*
 * Removes `name` from the directory of a place, or with NULL all that is in
 * that directory, but for what is marked.
 */
int era_tree_purge(struct era_tree *tree, const struct era_place *place, const char *name, struct era_error *err);

int era_tree_mark(struct era_tree *tree, const struct era_place *place, struct era_error *err);

/* Takes from the budgets; image_corrupt when they are spent. */
int era_tree_spend(struct era_tree *tree, uint64_t entries, uint64_t bytes, struct era_error *err);

/* ---- unpack_whiteout.c -------------------------------------------------- */

enum era_whiteout {
    ERA_WHITEOUT_NONE,   /* an ordinary entry */
    ERA_WHITEOUT_REMOVE, /* hides ret_name of the lower layers */
    ERA_WHITEOUT_OPAQUE, /* hides all that the lower layers have in its directory */
    ERA_WHITEOUT_IGNORE, /* bookkeeping of AUFS */
    ERA_WHITEOUT_BAD,    /* none that an image may have */
};

/* What a path means by the OCI image specification, "Whiteouts". ret_name: points into path. Pure. */
enum era_whiteout era_whiteout_of(const char *path, const char **ret_name);

int era_whiteout_apply(struct era_tree *tree, enum era_whiteout kind, const char *path, const char *name,
                       struct era_error *err);

/* ---- unpack_entry.c ----------------------------------------------------- */

/* Ownership and modes of what is unpacked. */
enum era_owner_policy {
    ERA_OWNER_AS_WRITTEN,
    ERA_OWNER_ROOT,    /* 0:0, and 0755 or 0644 */
    ERA_OWNER_PRIVATE, /* 0:0, and 0700 or 0600 */
};

/*
 * Puts one entry into the tree under `path`, which takes the place of what is
 * there. Devices, FIFOs and sockets are left out. reader gives the data.
 */
int era_entry_apply(struct era_tree *tree, struct archive *reader, struct archive_entry *entry, const char *path,
                    enum era_owner_policy policy, struct era_error *err);

/* Makes a hard link at a place to what `target`, a path of the same tree, names. path: for messages. */
int era_entry_link(struct era_tree *tree, const char *target, const struct era_place *place, const char *path,
                   struct era_error *err);

/* "cannot WHAT PATH: …", or disk_full. */
int era_entry_system_error(struct era_error *err, int errnum, const char *what, const char *path);

/* ---- unpack_stream.c ---------------------------------------------------- */

/* A tar file, perhaps compressed by gzip or zstd, hashed before and after. */
struct era_stream;

/* fd: borrowed, read from where it stands. max_bytes: of the tar file. */
int era_stream_open(int fd, uint64_t max_bytes, struct era_stream **ret_stream, struct era_error *err);
void era_stream_close(struct era_stream *stream);
ERA_DEFINE_CLEANUP(struct era_stream, era_stream_close)
struct archive *era_stream_reader(struct era_stream *stream);

/* 1 and an entry, borrowed until the next call; 0 at the end. image_corrupt. */
int era_stream_next(struct era_stream *stream, struct archive_entry **ret_entry, struct era_error *err);

/* Reads what follows the end of the archive, and gives both digests; either may be NULL. */
int era_stream_finish(struct era_stream *stream, char ret_blob[ERA_DIGEST_MAX], char ret_tar[ERA_DIGEST_MAX],
                      struct era_error *err);

/* ---- unpack_layer.c, unpack_package.c, unpack_archive.c, unpack_finish.c -- */

struct era_layer {
    int fd;
    char digest[ERA_DIGEST_MAX];  /* of the blob, or "" */
    char diff_id[ERA_DIGEST_MAX]; /* of the tar file in it, or "" */
};

/* Unpacks one layer over what is there. image_corrupt, disk_full, system_error. */
int era_unpack_layer(struct era_tree *tree, const struct era_layer *layer, struct era_error *err);

/*
 * Unpacks an npm package whose integrity matches. rules: "from=to" takes the
 * file `from` of the package, "from/=to/" a folder; what no rule names stays out.
 */
int era_unpack_package(struct era_tree *tree, int fd, const char *integrity, char *const rules[], size_t count,
                       struct era_error *err);

/* Unpacks an archive that contains an image (not a layer): plain files only, links among them made hard. */
int era_unpack_archive(struct era_tree *tree, int fd, struct era_error *err);

/*
 * A last touch, from the words of argv (ends with NULL): "file PATH TEXT",
 * "link PATH TARGET", "folder PATH" (an empty one), "remove PATH". What is at
 * PATH goes. Returns the words used.
 */
int era_unpack_edit(struct era_tree *tree, char *const argv[], struct era_error *err);

/* Disk space that a tree takes, each inode once, and the number of names in it. */
int era_unpack_measure(const struct era_tree *tree, uint64_t *ret_bytes, uint64_t *ret_entries, struct era_error *err);

/* ---- unpack_sandbox.c --------------------------------------------------- */

/*
 * Enters the sandbox; after it "/" is work_dir, or (work_dir NULL) the file
 * system is out of reach as far as no descriptor opens it. Once a process.
 */
int era_sandbox_enter(const char *work_dir, struct era_error *err);

/* ---- unpack.c ----------------------------------------------------------- */

/* The program: returns its exit status. */
int era_unpack_main(int argc, char *argv[]);

#endif

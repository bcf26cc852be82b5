/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - root file systems for VMs.
 *
 * An image is a folder below `images/`, named by its reference with every byte
 * outside [A-Za-z0-9._-] written as %XX:
 *     images/agent%2Fpython%3A3.11/rootfs/      the tree, owned as unpacked
 *     images/agent%2Fpython%3A3.11/image.json   reference, digest, what it was made from, environment
 * It appears whole, by one rename, or not at all. What is unfinished lives in
 * `images/.work-*`, whose maker holds a lock on it; what nobody holds is
 * removed by the next image command.
 *
 * A VM that runs on an image holds a shared lock (flock) on its image.json, by
 * the descriptor that era_image_open() gave it. An image that is replaced while in
 * use moves to `images/.old-*` and goes when its last user has gone.
 *
 * Archives and layers are hostile: they are unpacked by a program of their own,
 * era-unpack, inside the image's own root.
 */
#ifndef ERA_IMAGE_IMAGE_H
#define ERA_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"

/* The images of one state directory. */
struct era_image_store;

struct era_image_info {
    char *reference;
    char *digest; /* "sha256:…" of what it was made from: an OCI manifest, or the list of packages */
    char *source; /* "debian", "registry", "archive" */
    uint64_t size_bytes;
    int64_t created_at_ns;
    struct era_strv env; /* the image's own variables, "PATH=…" among them when it sets one */
};

void era_image_info_free(struct era_image_info *info); /* frees the object as well */
ERA_DEFINE_CLEANUP(struct era_image_info, era_image_info_free)

typedef void (*era_image_progress_fn)(void *userdata, const char *line);

/*
 * state_dir: absolute path; `images/` in it is made when absent.
 * helper_dir: where era-unpack lies, absolute. progress may be NULL.
 */
int era_image_store_open(const char *state_dir, const char *helper_dir, struct era_image_store **ret_images,
                         struct era_error *err);
void era_image_store_close(struct era_image_store *images);
ERA_DEFINE_CLEANUP(struct era_image_store, era_image_store_close)
void era_image_store_set_progress(struct era_image_store *images, era_image_progress_fn fn, void *userdata);

/* Once fd (borrowed; 0 or less: none) can be read, what is being made is given up and removed: "interrupted". */
void era_image_store_set_cancel(struct era_image_store *images, int fd);

/*
 * Builds "agent/python:3.11" or "agent/node:20" from signed Debian packages
 * (and Node's own package, its integrity checked). language: "python", "node".
 * An image that is there already is returned as it is, unless rebuild.
 * Two builders of one image: the second waits for the first and takes its result.
 * Errors: invalid_argument, tool_missing (ENOENT: which, and how to get it),
 * image_build_failed, integrity_mismatch, disk_full.
 */
int era_image_store_build(struct era_image_store *images, const char *language, bool rebuild,
                          struct era_image_info **ret_info, struct era_error *err);

/* Fetches from an OCI registry by skopeo. Errors: invalid_argument, tool_missing, image_pull_failed, image_corrupt. */
int era_image_store_pull(struct era_image_store *images, const char *reference, struct era_image_info **ret_info,
                         struct era_error *err);

/*
 * An OCI layout (folder, or tar of one) or a `docker save` archive. name: NULL for
 * the reference written in it. Errors: file_not_found, not_a_file,
 * image_corrupt (the archive is none, or is hostile), invalid_argument.
 */
int era_image_store_import(struct era_image_store *images, const char *path, const char *name,
                           struct era_image_info **ret_info, struct era_error *err);

/* ret_infos: malloc'ed array of owned objects; ordered by reference. A folder that is no whole image is left out. */
int era_image_store_list(struct era_image_store *images, struct era_image_info ***ret_infos, size_t *ret_count,
                         struct era_error *err);

/* Removes what killed makers left, and what nobody uses any more; never fails. The others that change images do it too.
 */
void era_image_sweep(struct era_image_store *images);

/* image_not_found (ENOENT), image_in_use (EBUSY: a running VM holds it). */
int era_image_store_remove(struct era_image_store *images, const char *reference, struct era_error *err);

/*
 * Finds an image and opens its root: ret_root_fd is an O_PATH directory;
 * ret_lock_fd holds the shared lock for as long as any copy of it is open.
 * ret_info may be NULL. Errors: image_not_found, image_corrupt.
 */
int era_image_store_get(struct era_image_store *images, const char *reference, int *ret_root_fd, int *ret_lock_fd,
                        struct era_image_info **ret_info, struct era_error *err);

/*
 * The image as one file, "…/rootfs.erofs", made when it is not there yet. The
 * caller holds the image's lock. free() the path.
 * Errors: image_not_found, tool_missing, image_build_failed, disk_full.
 */
int era_image_store_flatten(struct era_image_store *images, const char *reference, char **ret_path,
                            struct era_error *err);

/*
 * The folder with a kernel for guests (`vmlinuz`, `version`, `modules/NN` in the
 * order of loading), fetched when it is not there yet. free() the path, which may be NULL.
 * Errors: tool_missing, image_build_failed, disk_full.
 */
int era_image_store_kernel(struct era_image_store *images, bool rebuild, char **ret_path, struct era_error *err);
bool era_image_store_has_kernel(const struct era_image_store *images);

#endif

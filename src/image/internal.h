/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - what the files of the image module share.
 *
 * Names in `images/`
 *     agent%2Fpython%3A3.11/   an image, whole
 *     .lock-<name>             held (flock) while an image of that name is made; removed by its holder
 *     .work-<unique>/          unfinished; its maker, and the tools it runs, hold a lock on the folder itself
 *     .old-<unique>/           replaced or removed while in use
 * What starts with a dot and is not locked belongs to nobody: sweep removes it.
 */
#ifndef ERA_IMAGE_INTERNAL_H
#define ERA_IMAGE_INTERNAL_H

#include <stdarg.h>

#include "base/process.h"
#include "image/image.h"

enum {
    ERA_IMAGE_NAME_MAX = 256,          /* a folder's name, with the NUL */
    ERA_IMAGE_DIGEST_MAX = 7 + 64 + 1, /* "sha256:<hex>" */
    ERA_IMAGE_JSON_LIMIT = 4 << 20,    /* bytes of a manifest, an index, a configuration: as registries limit them */
    ERA_IMAGE_JSON_DEPTH = 32,
    ERA_IMAGE_ENV_LIMIT = 256, /* variables that an image may set */
};

struct era_image_store {
    char *dir; /* "<state_dir>/images" */
    char *helper_dir;
    int fd;        /* dir */
    int cancel_fd; /* borrowed; 0 or less: none */
    era_image_progress_fn progress;
    void *userdata;
};

/* ---- name.c: pure ------------------------------------------------------- */

/* Whether this module takes it: letters, digits and ._-/:@, an alphanumeric first. err: invalid_argument. */
int era_image_reference_check(const char *reference, struct era_error *err);
int era_image_name_encode(const char *reference, char ret_name[ERA_IMAGE_NAME_MAX]); /* -ENAMETOOLONG */

/* "sha256:" and 64 lower-case hexadecimal digits. */
bool era_image_digest_valid(const char *text);

/* ---- info.c: pure ------------------------------------------------------- */

int era_image_info_parse(const char *json, size_t len, struct era_image_info **ret_info, struct era_error *err);
int era_image_info_format(const struct era_image_info *info, char **ret_json); /* -ENOMEM; free() it */

/* Whether a variable of an image may reach a guest: "NAME=text" of bounded length, UTF-8. */
bool era_image_env_valid(const char *key_value);

/* ---- store.c ------------------------------------------------------------ */

/* printf for progress; cheap without a listener. */
void era_image_progress(struct era_image_store *images, const char *format, ...) ERA_PRINTF(2, 3);

/* Reads images/<name>/image.json and checks that it is the image of that name. image_not_found, image_corrupt. */
int era_image_load(struct era_image_store *images, const char *name, int *ret_dir_fd, int *ret_json_fd,
                   struct era_image_info **ret_info, struct era_error *err);

/* ---- work.c ------------------------------------------------------------- */

/* A folder for unfinished things. Its lock, fd, lives as long as any process that has it. */
struct era_image_work {
    struct era_image_store *images; /* borrowed */
    int fd;
    char name[64];
    char *path; /* absolute */
};

int era_image_work_new(struct era_image_store *images, struct era_image_work **ret_work, struct era_error *err);
void era_image_work_free(struct era_image_work *work); /* removes what is left of it */
ERA_DEFINE_CLEANUP(struct era_image_work, era_image_work_free)

/*
 * Makes the work's `rootfs` the image that info describes: written out to the
 * disk, then moved into place in one step. The caller holds the name's lock.
 */
int era_image_work_commit(struct era_image_work *work, const struct era_image_info *info, struct era_error *err);

/* Removes an entry of images/, by era-unpack where its files belong to ids of a user namespace. */
int era_image_remove_entry(struct era_image_store *images, const char *name, struct era_error *err);

/* The lock on a name: waits. ret_waited: somebody else had it meanwhile. */
struct era_image_lock {
    int dir_fd; /* borrowed */
    int fd;
    char name[ERA_IMAGE_NAME_MAX + 8];
};
int era_image_lock_take(struct era_image_store *images, const char *name, struct era_image_lock *ret_lock,
                        bool *ret_waited, struct era_error *err);
void era_image_lock_drop(struct era_image_lock *lock);

/* ---- helper.c: era-unpack ----------------------------------------------- */

struct era_image_helper_result {
    uint64_t size_bytes;
    char digest[ERA_IMAGE_DIGEST_MAX]; /* "" when it gave none */
};

/*
 * Runs `era-unpack ARGS…`. fds become 3, 4, … for it. failure: the code that
 * a crash of it gets. ret_result may be NULL.
 * Errors: its own (image_corrupt, integrity_mismatch, disk_full, …), tool_missing.
 */
int era_image_helper_run(struct era_image_store *images, const struct era_strv *args, const int *fds, size_t fd_count,
                         const char *failure, struct era_image_helper_result *ret_result, struct era_error *err);

/* Removes images/<name> as root of a user namespace. */
int era_image_helper_remove(struct era_image_store *images, const char *name, struct era_error *err);

/* "sha256:…" of a few bytes. */
int era_image_helper_hash(struct era_image_store *images, const char *data, size_t len,
                          char ret_digest[ERA_IMAGE_DIGEST_MAX], struct era_error *err);

/* ---- tool.c: programs of others ----------------------------------------- */

/* An argument vector of name and args, whose strings stay borrowed; free() it. NULL: out of memory. */
const char **era_image_argv(const char *name, const struct era_strv *args);

struct era_image_tool {
    const char *name;
    const char *package;            /* where Debian has it */
    const char *path;               /* folders to look in, or NULL: the caller's PATH, then the system's */
    const char *const *inherit;     /* variables it gets from us, beside the proxies */
    const char *const *environment; /* and "NAME=value" that it gets when we have none of that name */
};

extern const struct era_image_tool era_image_mmdebstrap;
extern const struct era_image_tool era_image_npm;
extern const struct era_image_tool era_image_skopeo;

/*
 * Runs a tool in the work's folder. spec gives argv[1…] as args, own_namespaces, on_line and so on.
 * failure: the code when it fails. Errors: tool_missing, `failure`.
 */
int era_image_tool_run(const struct era_image_tool *tool, const struct era_image_work *work,
                       const struct era_strv *args, const struct era_process_spec *options, const char *failure,
                       struct era_error *err);

/* ---- module.c: pure ----------------------------------------------------- */

/* The names that a kernel module depends on: "virtio_ring,virtio", or NULL when it does not say. Borrowed. */
const char *era_image_module_depends(const char *data, size_t len);

/* ---- recipe.c: tables --------------------------------------------------- */

/* A file that is fetched by npm. */
struct era_image_pin {
    const char *package;
    const char *version;
    const char *integrity; /* "sha512-…" */
    const char *rules[8];  /* for era-unpack package; ends with NULL */
};

struct era_image_recipe {
    const char *language;
    const char *reference;
    const char *packages;             /* of Debian, comma-separated */
    const struct era_image_pin *pins; /* ends with .package == NULL; or NULL */
    const char *const *edits;         /* for era-unpack finish; ends with NULL */
    const char *const *env;           /* ends with NULL */
};

const struct era_image_recipe *era_image_recipe_find(const char *language); /* NULL: none */
extern const char *const era_image_debian_options[];                        /* of mmdebstrap, for every recipe */
extern const char era_image_debian_suite[];

/* ---- oci.c, oci_index.c: pure ------------------------------------------- */

struct era_oci_blob {
    char digest[ERA_IMAGE_DIGEST_MAX];
    uint64_t size;
};

enum { ERA_OCI_LAYERS_LIMIT = 128 };

/* What an image says of itself. All zero is an empty one. */
struct era_oci_image {
    struct era_oci_blob config;
    size_t layer_count;
    struct era_oci_blob layers[ERA_OCI_LAYERS_LIMIT];
    char diff_ids[ERA_OCI_LAYERS_LIMIT][ERA_IMAGE_DIGEST_MAX];
    struct era_strv paths; /* of a docker archive: the layers' files, in place of `layers` */
    struct era_strv env;
};

void era_oci_image_clear(struct era_oci_image *image);

/* What registries call the architecture that we run on. */
const char *era_oci_architecture(void);

/*
 * An OCI index or a docker manifest list: finds the manifest for an
 * architecture, or (ret_is_index) the index to look into next.
 * ret_name: the reference that it is annotated with, or "".
 * Errors: image_corrupt; invalid_argument (none for this architecture, or several images).
 */
int era_oci_parse_index(const char *json, size_t len, const char *architecture, struct era_oci_blob *ret_manifest,
                        bool *ret_is_index, char ret_name[ERA_IMAGE_NAME_MAX], struct era_error *err);

/* Fills config and layers. image_corrupt. */
int era_oci_parse_manifest(const char *json, size_t len, struct era_oci_image *image, struct era_error *err);

/* Comes after the manifest: fills diff_ids, as many as there are layers, and env. image_corrupt, invalid_argument. */
int era_oci_parse_config(const char *json, size_t len, const char *architecture, struct era_oci_image *image,
                         struct era_error *err);

/*
 * manifest.json of `docker save`: fills paths and layer_count. ret_config: the
 * path of the configuration; free() it. ret_name: its first tag, or "".
 */
int era_oci_parse_docker(const char *json, size_t len, struct era_oci_image *image, char **ret_config,
                         char ret_name[ERA_IMAGE_NAME_MAX], struct era_error *err);

/* ---- layout.c ----------------------------------------------------------- */

/*
 * Unpacks the image in an OCI layout, or in the files of a `docker save`
 * archive, into work's rootfs. name: the reference to give it, or "" and then
 * the one written in it. The info is complete but for its source.
 * Errors: image_corrupt, invalid_argument, disk_full.
 */
int era_image_unpack_layout(struct era_image_work *work, int layout_fd, const char *name,
                            struct era_image_info **ret_info, struct era_error *err);

#endif

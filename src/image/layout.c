/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of an image, as an OCI layout or as `docker save` writes them.
 * Nothing is parsed before its digest was found right; no link is followed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "image/internal.h"

enum { INDEX_DEPTH_LIMIT = 4 };

struct layout {
    struct era_image_work *work;
    int fd; /* borrowed */
    struct era_oci_image image;
    char digest[ERA_IMAGE_DIGEST_MAX];
    char name[ERA_IMAGE_NAME_MAX];
};

static int open_file(const struct layout *layout, const char *path, int *ret_fd, uint64_t *ret_size,
                     struct era_error *err)
{
    _cleanup_close_ int fd = era_open_beneath(layout->fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    struct stat st;
    if (fd < 0)
        return era_error_set(err, EBADMSG, "image_corrupt", "the image has no file %.150s (%s)", path, strerror(-fd));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return era_error_set(err, EBADMSG, "image_corrupt", "%.200s in the image is no plain file", path);
    *ret_fd = era_take_fd(&fd);
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int read_json(const struct layout *layout, const char *path, char **ret_text, size_t *ret_len,
                     struct era_error *err)
{
    _cleanup_close_ int fd = -EBADF;
    uint64_t size = 0;
    int r = open_file(layout, path, &fd, &size, err);
    if (r < 0)
        return r;
    if (size > ERA_IMAGE_JSON_LIMIT)
        return era_error_set(err, EBADMSG, "image_corrupt", "%.200s in the image is too large", path);
    _cleanup_free_ char *text = malloc((size_t)size + 1);
    if (text == NULL)
        return era_error_oom(err);
    ssize_t len = era_read_full(fd, text, (size_t)size);
    if (len < 0)
        return era_error_errno(err, (int)-len, "cannot read %.200s of the image", path);
    text[len] = '\0';
    *ret_text = era_take_ptr(text);
    *ret_len = (size_t)len;
    return 0;
}

static void blob_path(const struct era_oci_blob *blob, char to[96])
{
    snprintf(to, 96, "blobs/sha256/%s", blob->digest + strlen("sha256:"));
}

/* Hashes text and compares. digest: "sha256:…". */
static int check_digest(const struct layout *layout, const char *text, size_t len, const char *digest,
                        struct era_error *err)
{
    char got[ERA_IMAGE_DIGEST_MAX];
    int r = era_image_helper_hash(layout->work->images, text, len, got, err);
    if (r >= 0 && !era_str_eq(got, digest))
        r = era_error_set(err, EBADMSG, "image_corrupt", "a part of the image is %s, but must be %s", got, digest);
    return r;
}

static int read_blob(const struct layout *layout, const struct era_oci_blob *blob, char **ret_text, size_t *ret_len,
                     struct era_error *err)
{
    char path[96];
    blob_path(blob, path);
    _cleanup_free_ char *text = NULL;
    int r = read_json(layout, path, &text, ret_len, err);
    if (r >= 0 && *ret_len != blob->size)
        r = era_error_set(err, EBADMSG, "image_corrupt", "%s in the image is not of the size that it should be", path);
    if (r >= 0)
        r = check_digest(layout, text, *ret_len, blob->digest, err);
    if (r >= 0)
        *ret_text = era_take_ptr(text);
    return r;
}

static bool has_file(const struct layout *layout, const char *name)
{
    struct stat st;
    return fstatat(layout->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* From index.json, perhaps by way of further indexes, to the manifest and the configuration. */
static int read_oci(struct layout *layout, struct era_error *err)
{
    _cleanup_free_ char *index = NULL;
    size_t len = 0;
    int r = read_json(layout, "index.json", &index, &len, err);
    struct era_oci_blob blob = {0};
    bool is_index = true;
    for (unsigned depth = 0; r >= 0 && is_index; depth++) {
        if (depth == INDEX_DEPTH_LIMIT)
            return era_error_set(err, EBADMSG, "image_corrupt", "the image's indexes nest too deep");
        char name[ERA_IMAGE_NAME_MAX];
        r = era_oci_parse_index(index, len, era_oci_architecture(), &blob, &is_index, name, err);
        if (r < 0)
            return r;
        if (layout->name[0] == '\0')
            era_str_copy(layout->name, sizeof layout->name, name);
        free(era_take_ptr(index));
        r = read_blob(layout, &blob, &index, &len, err);
    }
    if (r >= 0)
        r = era_oci_parse_manifest(index, len, &layout->image, err);
    if (r < 0)
        return r;
    era_str_copy(layout->digest, sizeof layout->digest, blob.digest);
    _cleanup_free_ char *config = NULL;
    r = read_blob(layout, &layout->image.config, &config, &len, err);
    return r < 0 ? r : era_oci_parse_config(config, len, era_oci_architecture(), &layout->image, err);
}

static int read_docker(struct layout *layout, struct era_error *err)
{
    _cleanup_free_ char *manifest = NULL;
    _cleanup_free_ char *path = NULL;
    _cleanup_free_ char *config = NULL;
    size_t len = 0;
    char name[ERA_IMAGE_NAME_MAX];
    int r = read_json(layout, "manifest.json", &manifest, &len, err);
    if (r >= 0)
        r = era_oci_parse_docker(manifest, len, &layout->image, &path, name, err);
    if (r >= 0)
        r = read_json(layout, path, &config, &len, err);
    /* There is no manifest to have a digest: docker itself calls the image by that of its configuration. */
    if (r >= 0)
        r = era_image_helper_hash(layout->work->images, config, len, layout->digest, err);
    if (r < 0)
        return r;
    /* Most tools name the file after its digest. */
    const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    if (strspn(base, "0123456789abcdef") == 64 && !era_str_starts_with(base, layout->digest + strlen("sha256:")))
        return era_error_set(err, EBADMSG, "image_corrupt", "the configuration %.100s is %s", base, layout->digest);
    if (layout->name[0] == '\0')
        era_str_copy(layout->name, sizeof layout->name, name);
    return era_oci_parse_config(config, len, era_oci_architecture(), &layout->image, err);
}

/* Newer `docker save` archives are both; then manifest.json knows the tag as people say it. */
static void read_docker_name(struct layout *layout)
{
    _cleanup_free_ char *manifest = NULL;
    _cleanup_free_ char *path = NULL;
    size_t len = 0;
    char name[ERA_IMAGE_NAME_MAX];
    _cleanup_free_ struct era_oci_image *image = calloc(1, sizeof *image);
    if (image == NULL || read_json(layout, "manifest.json", &manifest, &len, NULL) < 0)
        return;
    if (era_oci_parse_docker(manifest, len, image, &path, name, NULL) >= 0)
        era_str_copy(layout->name, sizeof layout->name, name);
    era_oci_image_clear(image);
}

/* Opens a layer and writes what era-unpack shall know of it: "FD,DIGEST,DIFF_ID". */
static int open_layer(const struct layout *layout, size_t i, int *ret_fd, struct era_strv *args, struct era_error *err)
{
    const struct era_oci_image *image = &layout->image;
    bool by_path = image->paths.count > 0;
    char path[96];
    uint64_t size = 0;
    if (!by_path)
        blob_path(&image->layers[i], path);
    int r = open_file(layout, by_path ? image->paths.items[i] : path, ret_fd, &size, err);
    if (r < 0)
        return r;
    if (!by_path && size != image->layers[i].size)
        return era_error_set(err, EBADMSG, "image_corrupt", "layer %zu is not of the size that it should be", i + 1);
    char word[256];
    snprintf(word, sizeof word, "%zu,%s,%s", 3 + i, by_path ? "" : image->layers[i].digest, image->diff_ids[i]);
    return era_strv_add(args, word) < 0 ? era_error_oom(err) : 0;
}

static int unpack_layers(const struct layout *layout, struct era_image_helper_result *ret_result, struct era_error *err)
{
    int fds[ERA_OCI_LAYERS_LIMIT];
    size_t opened = 0;
    struct era_strv args = {0};
    int r = era_strv_add(&args, "layers");
    if (r >= 0)
        r = era_strv_add(&args, layout->work->path);
    if (r < 0)
        era_error_oom(err);
    for (size_t i = 0; r >= 0 && i < layout->image.layer_count; i++) {
        fds[i] = -EBADF;
        r = open_layer(layout, i, &fds[i], &args, err);
        opened = i + 1;
    }
    if (r >= 0)
        r = era_image_helper_run(layout->work->images, &args, fds, opened, "image_corrupt", ret_result, err);
    for (size_t i = 0; i < opened; i++)
        era_closep(&fds[i]);
    era_strv_clear(&args);
    return r;
}

static int describe(struct layout *layout, uint64_t size_bytes, struct era_image_info **ret_info)
{
    _cleanup_(era_image_info_freep) struct era_image_info *info = calloc(1, sizeof *info);
    if (info == NULL)
        return -ENOMEM;
    info->reference = strdup(layout->name);
    info->digest = strdup(layout->digest);
    if (info->reference == NULL || info->digest == NULL)
        return -ENOMEM;
    info->size_bytes = size_bytes;
    info->created_at_ns = era_clock_realtime_ns();
    info->env = layout->image.env;
    layout->image.env = (struct era_strv){0};
    *ret_info = era_take_ptr(info);
    return 0;
}

static int unpack(struct layout *layout, struct era_image_info **ret_info, struct era_error *err)
{
    bool is_oci = has_file(layout, "index.json");
    if (!is_oci && !has_file(layout, "manifest.json"))
        return era_error_set(err, EBADMSG, "image_corrupt",
                             "this is neither an OCI layout (index.json) nor a `docker save` archive (manifest.json)");
    if (is_oci && layout->name[0] == '\0')
        read_docker_name(layout);
    int r = is_oci ? read_oci(layout, err) : read_docker(layout, err);
    if (r < 0)
        return r;
    if (layout->name[0] == '\0')
        return era_error_invalid(err, "name", "the archive does not say what the image is called: give it a name");
    struct era_image_helper_result result = {0};
    r = unpack_layers(layout, &result, err);
    if (r < 0)
        return r;
    return describe(layout, result.size_bytes, ret_info) < 0 ? era_error_oom(err) : 0;
}

int era_image_unpack_layout(struct era_image_work *work, int layout_fd, const char *name,
                            struct era_image_info **ret_info, struct era_error *err)
{
    _cleanup_free_ struct layout *layout = calloc(1, sizeof *layout); /* too large for a stack */
    if (layout == NULL)
        return era_error_oom(err);
    layout->work = work;
    layout->fd = layout_fd;
    if (!era_str_copy(layout->name, sizeof layout->name, name))
        return era_error_invalid(err, "name", "the name is too long");
    int r = unpack(layout, ret_info, err);
    era_oci_image_clear(&layout->image);
    return r;
}

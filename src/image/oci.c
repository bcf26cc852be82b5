/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and configurations. OCI image specification, manifest.md and config.md; docker's are alike. Pure. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "image/internal.h"

void era_oci_image_clear(struct era_oci_image *image)
{
    era_strv_clear(&image->paths);
    era_strv_clear(&image->env);
    memset(image, 0, sizeof *image);
}

static int parse(const char *json, size_t len, const char *what, json_t **ret_value, struct era_error *err)
{
    char reason[160] = "";
    int r = era_json_parse(json, len, ERA_IMAGE_JSON_DEPTH, ret_value, reason, sizeof reason);
    if (r == -ENOMEM)
        return era_error_oom(err);
    return r < 0 ? era_error_set(err, EBADMSG, "image_corrupt", "the %s cannot be read: %s", what, reason) : 0;
}

static int parse_blob(const json_t *descriptor, struct era_oci_blob *ret_blob, struct era_error *err)
{
    const char *digest = era_json_string(descriptor, "digest");
    if (digest == NULL || !era_image_digest_valid(digest) || era_json_u64(descriptor, "size", &ret_blob->size) < 0)
        return era_error_set(err, EBADMSG, "image_corrupt",
                             "the manifest has an entry without a sha256 digest and a size");
    era_str_copy(ret_blob->digest, sizeof ret_blob->digest, digest);
    return 0;
}

static bool is_one_of(const char *text, const char *const *list)
{
    for (; text != NULL && *list != NULL; list++)
        if (era_str_eq(text, *list))
            return true;
    return false;
}

static const char *const config_types[] = {"application/vnd.oci.image.config.v1+json",
                                           "application/vnd.docker.container.image.v1+json", NULL};

/* Not among them: layers to be fetched from elsewhere, and encrypted ones. */
static const char *const layer_types[] = {"application/vnd.oci.image.layer.v1.tar",
                                          "application/vnd.oci.image.layer.v1.tar+gzip",
                                          "application/vnd.oci.image.layer.v1.tar+zstd",
                                          "application/vnd.docker.image.rootfs.diff.tar",
                                          "application/vnd.docker.image.rootfs.diff.tar.gzip",
                                          "application/vnd.docker.image.rootfs.diff.tar.zstd",
                                          NULL};

int era_oci_parse_manifest(const char *json, size_t len, struct era_oci_image *image, struct era_error *err)
{
    _cleanup_json_ json_t *manifest = NULL;
    int r = parse(json, len, "manifest", &manifest, err);
    if (r < 0)
        return r;
    const json_t *config = era_json_object(manifest, "config");
    const json_t *layers = era_json_array(manifest, "layers");
    uint64_t version = 0;
    if (config == NULL || layers == NULL || era_json_u64(manifest, "schemaVersion", &version) < 0 || version != 2)
        return era_error_set(err, EBADMSG, "image_corrupt", "the manifest is not of the second version's form");
    if (!is_one_of(era_json_string(config, "mediaType"), config_types))
        return era_error_set(err, EBADMSG, "image_corrupt", "the manifest describes something else than an image");
    if (json_array_size(layers) > ERA_OCI_LAYERS_LIMIT)
        return era_error_set(err, EBADMSG, "image_corrupt", "the image has more than %d layers",
                             (int)ERA_OCI_LAYERS_LIMIT);
    r = parse_blob(config, &image->config, err);
    image->layer_count = json_array_size(layers);
    for (size_t i = 0; r >= 0 && i < image->layer_count; i++) {
        const json_t *layer = json_array_get(layers, i);
        const char *type = era_json_string(layer, "mediaType");
        if (!is_one_of(type, layer_types))
            return era_error_set(err, EBADMSG, "image_corrupt", "the image has a layer of a kind that is not known: %s",
                                 type != NULL ? type : "none given");
        r = parse_blob(layer, &image->layers[i], err);
    }
    return r;
}

static int parse_diff_ids(const json_t *diff_ids, struct era_oci_image *image, struct era_error *err)
{
    if (diff_ids == NULL || json_array_size(diff_ids) != image->layer_count)
        return era_error_set(err, EBADMSG, "image_corrupt",
                             "the configuration and the manifest disagree on the number of layers");
    for (size_t i = 0; i < image->layer_count; i++) {
        const char *diff_id = json_string_value(json_array_get(diff_ids, i));
        if (diff_id == NULL || !era_image_digest_valid(diff_id))
            return era_error_set(err, EBADMSG, "image_corrupt",
                                 "the configuration has a layer without a sha256 digest");
        era_str_copy(image->diff_ids[i], sizeof image->diff_ids[i], diff_id);
    }
    return 0;
}

/* The variables that an image wants set; null and absent are none. */
static int parse_env(const json_t *env, struct era_oci_image *image, struct era_error *err)
{
    if (json_array_size(env) > ERA_IMAGE_ENV_LIMIT)
        return era_error_set(err, EBADMSG, "image_corrupt", "the image sets more than %d variables",
                             (int)ERA_IMAGE_ENV_LIMIT);
    for (size_t i = 0; i < json_array_size(env); i++) {
        const char *variable = json_string_value(json_array_get(env, i));
        if (variable == NULL || !era_image_env_valid(variable))
            return era_error_set(err, EBADMSG, "image_corrupt", "the image sets a variable that is none");
        if (era_strv_add(&image->env, variable) < 0)
            return era_error_oom(err);
    }
    return 0;
}

int era_oci_parse_config(const char *json, size_t len, const char *architecture, struct era_oci_image *image,
                         struct era_error *err)
{
    _cleanup_json_ json_t *config = NULL;
    int r = parse(json, len, "configuration", &config, err);
    if (r < 0)
        return r;
    const char *os = era_json_string(config, "os");
    const char *arch = era_json_string(config, "architecture");
    if (os == NULL || arch == NULL)
        return era_error_set(err, EBADMSG, "image_corrupt",
                             "the configuration does not say what the image is made for");
    if (!era_str_eq(os, "linux") || !era_str_eq(arch, architecture))
        return era_error_invalid(err, "image", "the image is made for %.40s on %.40s, this machine is linux on %s", os,
                                 arch, architecture);
    r = parse_diff_ids(era_json_array(era_json_object(config, "rootfs"), "diff_ids"), image, err);
    if (r < 0)
        return r;
    return parse_env(era_json_array(era_json_object(config, "config"), "Env"), image, err);
}

static int parse_paths(const json_t *layers, struct era_oci_image *image, struct era_error *err)
{
    if (layers == NULL || json_array_size(layers) > ERA_OCI_LAYERS_LIMIT)
        return era_error_set(err, EBADMSG, "image_corrupt", "manifest.json has no layers, or more than %d",
                             (int)ERA_OCI_LAYERS_LIMIT);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const char *path = json_string_value(json_array_get(layers, i));
        if (path == NULL || path[0] == '\0')
            return era_error_set(err, EBADMSG, "image_corrupt", "manifest.json has a layer without a path");
        if (era_strv_add(&image->paths, path) < 0)
            return era_error_oom(err);
    }
    image->layer_count = image->paths.count;
    return 0;
}

int era_oci_parse_docker(const char *json, size_t len, struct era_oci_image *image, char **ret_config,
                         char ret_name[ERA_IMAGE_NAME_MAX], struct era_error *err)
{
    _cleanup_json_ json_t *list = NULL;
    int r = parse(json, len, "manifest.json", &list, err);
    if (r < 0)
        return r;
    if (json_array_size(list) > 1)
        return era_error_invalid(err, "image", "the archive holds several images: save one of them alone");
    const json_t *entry = json_array_get(list, 0);
    const char *config = era_json_string(entry, "Config");
    if (config == NULL || config[0] == '\0')
        return era_error_set(err, EBADMSG, "image_corrupt", "manifest.json names no configuration");
    r = parse_paths(era_json_array(entry, "Layers"), image, err);
    if (r < 0)
        return r;
    const char *tag = json_string_value(json_array_get(era_json_array(entry, "RepoTags"), 0));
    bool usable = tag != NULL && era_image_reference_check(tag, NULL) == 0;
    era_str_copy(ret_name, ERA_IMAGE_NAME_MAX, usable ? tag : "");
    char *copied = strdup(config);
    if (copied == NULL)
        return era_error_oom(err);
    *ret_config = copied;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON that images are described by. The first byte says which: i, m, c, d, j. */
#include "base/json.h"
#include "fuzz/fuzz.h"
#include "image/internal.h"

static void check_blob(const struct era_oci_blob *blob)
{
    FUZZ_ASSERT(era_image_digest_valid(blob->digest));
}

static void check_image(const struct era_oci_image *image)
{
    FUZZ_ASSERT(image->layer_count <= ERA_OCI_LAYERS_LIMIT);
    for (size_t i = 0; i < image->env.count; i++)
        FUZZ_ASSERT(era_image_env_valid(image->env.items[i]));
}

static void check_name(const char *name)
{
    FUZZ_ASSERT(name[0] == '\0' || era_image_reference_check(name, NULL) == 0);
}

static void run(char kind, const char *text, size_t len, struct era_oci_image *image)
{
    struct era_error err = {0};
    char name[ERA_IMAGE_NAME_MAX] = "";
    struct era_oci_blob blob = {{0}, 0};
    bool is_index = false;
    _cleanup_free_ char *config = NULL;
    _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
    switch (kind) {
    case 'i':
        if (era_oci_parse_index(text, len, "amd64", &blob, &is_index, name, &err) >= 0)
            check_blob(&blob);
        break;
    case 'm':
        if (era_oci_parse_manifest(text, len, image, &err) >= 0) {
            check_blob(&image->config);
            for (size_t i = 0; i < image->layer_count; i++)
                check_blob(&image->layers[i]);
        }
        break;
    case 'c':
        image->layer_count = 1;
        if (era_oci_parse_config(text, len, "amd64", image, &err) >= 0)
            FUZZ_ASSERT(era_image_digest_valid(image->diff_ids[0]));
        break;
    case 'd':
        if (era_oci_parse_docker(text, len, image, &config, name, &err) >= 0)
            FUZZ_ASSERT(config != NULL && image->paths.count == image->layer_count);
        break;
    default:
        if (era_image_info_parse(text, len, &info, &err) >= 0)
            FUZZ_ASSERT(era_image_reference_check(info->reference, NULL) == 0);
        break;
    }
    check_name(name);
    check_image(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* Exactly as long as it is, and without a NUL after it. */
    char *text = malloc(size);
    struct era_oci_image *image = calloc(1, sizeof *image);
    FUZZ_ASSERT(text != NULL && image != NULL);
    memcpy(text, data + 1, size - 1);
    run((char)data[0], text, size - 1, image);
    era_oci_image_clear(image);
    free(image);
    free(text);
    return 0;
}

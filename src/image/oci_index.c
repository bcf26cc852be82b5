/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the images in an index is ours. OCI image specification, image-index.md. Pure. */
#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "image/internal.h"

const char *era_oci_architecture(void)
{
#if defined(__x86_64__)
    return "amd64";
#elif defined(__aarch64__)
    return "arm64";
#elif defined(__riscv) && __riscv_xlen == 64
    return "riscv64";
#else
#error "how do registries call this architecture?"
#endif
}

enum kind { KIND_OTHER, KIND_MANIFEST, KIND_INDEX };

static enum kind kind_of(const json_t *descriptor)
{
    static const struct {
        const char *media_type;
        enum kind kind;
    } kinds[] = {
        {"application/vnd.oci.image.manifest.v1+json", KIND_MANIFEST},
        {"application/vnd.docker.distribution.manifest.v2+json", KIND_MANIFEST},
        {"application/vnd.oci.image.index.v1+json", KIND_INDEX},
        {"application/vnd.docker.distribution.manifest.list.v2+json", KIND_INDEX},
    };
    const char *media_type = era_json_string(descriptor, "mediaType");
    for (size_t i = 0; media_type != NULL && i < sizeof kinds / sizeof *kinds; i++)
        if (era_str_eq(media_type, kinds[i].media_type))
            return kinds[i].kind;
    return KIND_OTHER;
}

/* 2: made for the architecture; 1: it does not say; 0: for another. */
static int fitness_of(const json_t *descriptor, const char *architecture)
{
    const json_t *platform = era_json_object(descriptor, "platform");
    if (platform == NULL)
        return 1;
    const char *os = era_json_string(platform, "os");
    const char *arch = era_json_string(platform, "architecture");
    return os != NULL && arch != NULL && era_str_eq(os, "linux") && era_str_eq(arch, architecture) ? 2 : 0;
}

static void name_of(const json_t *descriptor, char ret_name[ERA_IMAGE_NAME_MAX])
{
    static const char *const keys[] = {"io.containerd.image.name", "org.opencontainers.image.ref.name"};
    const json_t *annotations = era_json_object(descriptor, "annotations");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *name = era_json_string(annotations, keys[i]);
        /* Often it is no more than a tag, which would name nothing. */
        if (name != NULL && strpbrk(name, "/:") != NULL && era_image_reference_check(name, NULL) == 0) {
            era_str_copy(ret_name, ERA_IMAGE_NAME_MAX, name);
            return;
        }
    }
    ret_name[0] = '\0';
}

static int choose(const json_t *manifests, const char *architecture, const json_t **ret_best, struct era_error *err)
{
    const json_t *best = NULL;
    int best_fitness = 0;
    bool several = false;
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(manifests); i++) {
        const json_t *descriptor = json_array_get(manifests, i);
        if (kind_of(descriptor) == KIND_OTHER)
            continue;
        count++;
        int fitness = fitness_of(descriptor, architecture);
        if (fitness > best_fitness) {
            best = descriptor;
            best_fitness = fitness;
            several = false;
        } else if (best != NULL && fitness == best_fitness) {
            const char *one = era_json_string(best, "digest");
            const char *two = era_json_string(descriptor, "digest");
            several = several || one == NULL || two == NULL || !era_str_eq(one, two);
        }
    }
    if (count == 0)
        return era_error_set(err, EBADMSG, "image_corrupt", "the index lists no image");
    if (best == NULL)
        return era_error_invalid(err, "image", "the image is not made for this machine's architecture, %s",
                                 architecture);
    /* Of several for one platform (variants), the first is the most general; of several that say nothing, none. */
    if (several && best_fitness == 1)
        return era_error_invalid(err, "image", "the archive holds several images: give one of them alone");
    *ret_best = best;
    return 0;
}

int era_oci_parse_index(const char *json, size_t len, const char *architecture, struct era_oci_blob *ret_manifest,
                        bool *ret_is_index, char ret_name[ERA_IMAGE_NAME_MAX], struct era_error *err)
{
    _cleanup_json_ json_t *index = NULL;
    char reason[160] = "";
    int r = era_json_parse(json, len, ERA_IMAGE_JSON_DEPTH, &index, reason, sizeof reason);
    if (r == -ENOMEM)
        return era_error_oom(err);
    if (r < 0)
        return era_error_set(err, EBADMSG, "image_corrupt", "the index cannot be read: %s", reason);
    const json_t *best = NULL;
    r = choose(era_json_array(index, "manifests"), architecture, &best, err);
    if (r < 0)
        return r;
    struct era_oci_blob blob = {0};
    const char *digest = era_json_string(best, "digest");
    if (digest == NULL || !era_image_digest_valid(digest) || era_json_u64(best, "size", &blob.size) < 0)
        return era_error_set(err, EBADMSG, "image_corrupt",
                             "the index has an entry without a sha256 digest and a size");
    era_str_copy(blob.digest, sizeof blob.digest, digest);
    *ret_manifest = blob;
    *ret_is_index = kind_of(best) == KIND_INDEX;
    name_of(best, ret_name);
    return 0;
}

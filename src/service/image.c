/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "service/service.h"

struct era_image {
    struct era_image_info *info; /* owned */
};

struct era_image_list {
    struct era_image *images; /* owned */
    size_t count;
};

/* Wraps what the image module found; takes info over. */
static int wrap(struct era_image_info *info, struct era_image **ret_image, struct era_error *err)
{
    struct era_image *image = malloc(sizeof *image);
    if (image == NULL) {
        era_image_info_free(info);
        return era_error_oom(err);
    }
    image->info = info;
    *ret_image = image;
    return 0;
}

int era_image_build(struct era *era, const char *language, bool rebuild, struct era_image **ret_image,
                    struct era_error *err)
{
    enum era_language parsed;
    if (era_language_parse(language, &parsed) < 0)
        return era_error_invalid(err, "language", "unknown language; it is python or node");
    struct era_image_info *info = NULL;
    int r = service_images(era, err);
    if (r >= 0)
        r = era_image_store_build(era->images, era_language_name(parsed), rebuild, &info, err);
    /* Guests' kernel as well, which has its own bugs mended; where nobody uses one, none is fetched. */
    if (r >= 0 && rebuild && era_image_store_has_kernel(era->images))
        r = era_image_store_kernel(era->images, true, NULL, err);
    if (r < 0)
        era_image_info_free(info);
    return r < 0 ? r : wrap(info, ret_image, err);
}

int era_image_pull(struct era *era, const char *reference, struct era_image **ret_image, struct era_error *err)
{
    if (!era_reference_valid(reference))
        return era_error_invalid(err, "image", "this is no image reference");
    struct era_image_info *info = NULL;
    int r = service_images(era, err);
    if (r >= 0)
        r = era_image_store_pull(era->images, reference, &info, err);
    return r < 0 ? r : wrap(info, ret_image, err);
}

int era_image_import(struct era *era, const char *path, const char *name, struct era_image **ret_image,
                     struct era_error *err)
{
    if (name != NULL && !era_reference_valid(name))
        return era_error_invalid(err, "name", "this is no image reference");
    struct era_image_info *info = NULL;
    int r = service_images(era, err);
    if (r >= 0)
        r = era_image_store_import(era->images, path, name, &info, err);
    return r < 0 ? r : wrap(info, ret_image, err);
}

/* Also refused while a VM, running or not, is to start from it again. */
int era_image_remove(struct era *era, const char *reference, struct era_error *err)
{
    if (!era_reference_valid(reference))
        return era_error_invalid(err, "image", "this is no image reference");
    _cleanup_free_ struct era_vm_record *records = NULL;
    size_t count = 0;
    int r = era_store_vm_list(era->store, &records, &count, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++) {
        if (r >= 0 && era_str_eq(records[i].ask.image, reference))
            r = era_error_set(err, EBUSY, "image_in_use", "the VM %s was made from it; clean that first",
                              records[i].id);
        era_vm_record_clear(&records[i]);
    }
    if (r >= 0)
        r = service_images(era, err);
    return r < 0 ? r : era_image_store_remove(era->images, reference, err);
}

int era_image_list(struct era *era, struct era_image_list **ret_list, struct era_error *err)
{
    int r = service_images(era, err);
    if (r < 0)
        return r;
    _cleanup_free_ struct era_image_info **infos = NULL;
    size_t count = 0;
    r = era_image_store_list(era->images, &infos, &count, err);
    if (r < 0)
        return r;
    struct era_image_list *list = calloc(1, sizeof *list);
    if (list != NULL)
        list->images = calloc(count + 1, sizeof *list->images);
    if (list == NULL || list->images == NULL) {
        for (size_t i = 0; i < count; i++)
            era_image_info_free(infos[i]);
        free(list);
        return era_error_oom(err);
    }
    for (size_t i = 0; i < count; i++)
        list->images[i].info = infos[i];
    list->count = count;
    *ret_list = list;
    return 0;
}

size_t era_image_list_count(const struct era_image_list *list)
{
    return list->count;
}

const struct era_image *era_image_list_at(const struct era_image_list *list, size_t index)
{
    return index < list->count ? &list->images[index] : NULL;
}

void era_image_list_free(struct era_image_list *list)
{
    if (list == NULL)
        return;
    for (size_t i = 0; i < list->count; i++)
        era_image_info_free(list->images[i].info);
    free(list->images);
    free(list);
}

void era_image_free(struct era_image *image)
{
    if (image == NULL)
        return;
    era_image_info_free(image->info);
    free(image);
}

const char *era_image_reference(const struct era_image *image)
{
    return image->info->reference;
}

const char *era_image_digest(const struct era_image *image)
{
    return image->info->digest;
}

const char *era_image_source(const struct era_image *image)
{
    return image->info->source;
}

uint64_t era_image_size_bytes(const struct era_image *image)
{
    return image->info->size_bytes;
}

int64_t era_image_created_at_ns(const struct era_image *image)
{
    return image->info->created_at_ns;
}

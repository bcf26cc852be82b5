/* SPDX-License-Identifier: Apache-2.0 */
/* A driver for the tests of whole programs: image_tool STATE_DIR HELPER_DIR VERB ARGUMENT… */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "image/image.h"

static void print_line(void *userdata, const char *line)
{
    fprintf(stderr, "%s\n", line);
}

static void print_info(const struct era_image_info *info)
{
    printf("%s %s %s %llu", info->reference, info->digest, info->source, (unsigned long long)info->size_bytes);
    for (size_t i = 0; i < info->env.count; i++)
        printf(" %s", info->env.items[i]);
    printf("\n");
}

static int list(struct era_image_store *images, struct era_error *err)
{
    struct era_image_info **infos = NULL;
    size_t count = 0;
    int r = era_image_store_list(images, &infos, &count, err);
    for (size_t i = 0; r >= 0 && i < count; i++) {
        print_info(infos[i]);
        era_image_info_free(infos[i]);
    }
    free(infos);
    return r;
}

/* Holds an image, as a VM does, until stdin ends. */
static int hold(struct era_image_store *images, const char *reference, struct era_error *err)
{
    int root = -1;
    int lock = -1;
    _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
    int r = era_image_store_get(images, reference, &root, &lock, &info, err);
    if (r < 0)
        return r;
    print_info(info);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    close(root);
    close(lock);
    return 0;
}

int main(int argc, char *argv[])
{
    struct era_error err = {0};
    _cleanup_(era_image_store_closep) struct era_image_store *images = NULL;
    if (argc < 4 || era_image_store_open(argv[1], argv[2], &images, &err) < 0) {
        era_log_error(&err);
        return 2;
    }
    era_image_store_set_progress(images, print_line, NULL);
    const char *verb = argv[3];
    const char *argument = argc > 4 ? argv[4] : "";
    _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
    int r = 0;
    if (strcmp(verb, "build") == 0)
        r = era_image_store_build(images, argument, argc > 5, &info, &err);
    else if (strcmp(verb, "pull") == 0)
        r = era_image_store_pull(images, argument, &info, &err);
    else if (strcmp(verb, "import") == 0)
        r = era_image_store_import(images, argument, argc > 5 ? argv[5] : NULL, &info, &err);
    else if (strcmp(verb, "remove") == 0)
        r = era_image_store_remove(images, argument, &err);
    else if (strcmp(verb, "list") == 0)
        r = list(images, &err);
    else if (strcmp(verb, "hold") == 0)
        r = hold(images, argument, &err);
    else
        return 2;
    if (r < 0) {
        era_log_error(&err);
        return 1;
    }
    if (info != NULL)
        print_info(info);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of whole programs: holds an image, as a VM does, until stdin ends. image_hold STATE_DIR REFERENCE */
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "image/image.h"

int main(int argc, char *argv[])
{
    struct era_error err = {0};
    _cleanup_(era_image_store_closep) struct era_image_store *images = NULL;
    _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
    _cleanup_close_ int root = -EBADF;
    _cleanup_close_ int lock = -EBADF;
    if (argc != 3)
        return 2;
    if (era_image_store_open(argv[1], "/nonexistent", &images, &err) < 0 ||
        era_image_store_get(images, argv[2], &root, &lock, &info, &err) < 0) {
        era_log_error(&err);
        return 1;
    }
    printf("%s\n", info->digest);
    for (size_t i = 0; i < info->env.count; i++)
        printf("%s\n", info->env.items[i]);
    printf("held\n");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return faccessat(root, ".", F_OK, 0) == 0 ? 0 : 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* An image as one compressed, read-only file system, for guests with a kernel of their own: made once. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/internal.h"

static const char failed[] = "image_build_failed";
static const char file[] = "rootfs.erofs";

static const char *const none[] = {NULL};

static const struct era_image_tool mkfs_erofs = {
    .name = "mkfs.erofs",
    .package = "erofs-utils",
    .path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    .inherit = none,
    .environment = none,
};

/* Times are the tree's own; the name of the file system is not drawn at random, so that like makes like. */
static int make(struct era_image_work *work, const char *rootfs, struct era_error *err)
{
    const char *words[] = {"-zlz4", "-d0", "-U00000000-0000-0000-0000-000000000000", file, rootfs, NULL};
    struct era_strv args = {0};
    int r = 0;
    for (size_t i = 0; r >= 0 && words[i] != NULL; i++)
        r = era_strv_add(&args, words[i]);
    struct era_process_spec options = {.own_namespaces = true};
    r = r < 0 ? era_error_oom(err) : era_image_tool_run(&mkfs_erofs, work, &args, &options, failed, err);
    era_strv_clear(&args);
    return r;
}

static int flatten_locked(struct era_image_store *images, const char *name, int image_fd, struct era_error *err)
{
    _cleanup_(era_image_work_freep) struct era_image_work *work = NULL;
    int r = era_image_work_new(images, &work, err);
    if (r < 0)
        return r;
    _cleanup_free_ char *rootfs = era_str_printf("%s/%s/rootfs", images->dir, name);
    if (rootfs == NULL)
        return era_error_oom(err);
    r = make(work, rootfs, err);
    if (r < 0)
        return r;
    /* Readable to all: it is what every guest of the image sees. */
    _cleanup_close_ int fd = era_open_beneath(work->fd, file, O_RDONLY, 0);
    if (fd < 0 || fchmod(fd, 0644) < 0 || fsync(fd) < 0 || renameat(work->fd, file, image_fd, file) < 0)
        return era_error_errno(err, fd < 0 ? -fd : errno, "cannot store the image's file system");
    return 0;
}

int era_image_store_flatten(struct era_image_store *images, const char *reference, char **ret_path,
                            struct era_error *err)
{
    char name[ERA_IMAGE_NAME_MAX];
    int r = era_image_name_encode(reference, name);
    if (r < 0)
        return era_error_errno(err, -r, "%s", reference);
    _cleanup_close_ int dir = era_open_beneath(images->fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0)
        return era_error_set(err, ENOENT, "image_not_found", "there is no such image");
    if (faccessat(dir, file, R_OK, 0) < 0) {
        struct era_image_lock lock = {.fd = -EBADF};
        bool waited = false;
        era_image_progress(images, "%s: packing its file system", reference);
        r = era_image_lock_take(images, name, &lock, &waited, err);
        if (r >= 0 && faccessat(dir, file, R_OK, 0) < 0)
            r = flatten_locked(images, name, dir, err);
        era_image_lock_drop(&lock);
    }
    if (r < 0)
        return r;
    *ret_path = era_str_printf("%s/%s/%s", images->dir, name, file);
    return *ret_path == NULL ? era_error_oom(err) : 0;
}

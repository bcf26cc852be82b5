/* SPDX-License-Identifier: Apache-2.0 */
/* Removing an image that nobody uses, whole or damaged. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "image/internal.h"

/* The image's exclusive lock. -EWOULDBLOCK while a VM holds it; a damaged image without a file to lock needs none. */
static int lock_exclusive(int dir, int *ret_fd)
{
    int fd = era_open_beneath(dir, "image.json", O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0) {
        *ret_fd = -EBADF;
        return 0;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    *ret_fd = fd;
    return 0;
}

static int remove_locked(struct era_image_store *images, const char *reference, const char *name, struct era_error *err)
{
    _cleanup_close_ int dir = era_open_beneath(images->fd, name, O_PATH | O_DIRECTORY, 0);
    if (dir == -ENOENT || dir == -ENOTDIR)
        return era_error_set(err, ENOENT, "image_not_found", "there is no image %s", reference);
    if (dir < 0)
        return era_error_errno(err, -dir, "cannot open the image %s", reference);
    _cleanup_close_ int json = -EBADF;
    int r = lock_exclusive(dir, &json);
    if (r == -EWOULDBLOCK)
        return era_error_set(err, EBUSY, "image_in_use", "a running VM uses the image %s: stop it first", reference);
    if (r < 0)
        return era_error_errno(err, -r, "cannot lock the image %s", reference);

    /* Out of sight in one step; what a crash leaves of it the next sweep takes. */
    _cleanup_(era_image_work_freep) struct era_image_work *work = NULL;
    r = era_image_work_new(images, &work, err);
    if (r < 0)
        return r;
    if (renameat(images->fd, name, work->fd, "image") < 0)
        return era_error_errno(err, errno, "cannot remove the image %s", reference);
    if (fsync(images->fd) < 0)
        return era_error_errno(err, errno, "cannot remove the image %s", reference);
    ERA_POINT("remove.moved");
    r = era_image_remove_entry(images, work->name, err);
    ERA_POINT("remove.removed");
    return r;
}

int era_image_store_remove(struct era_image_store *images, const char *reference, struct era_error *err)
{
    int r = era_image_reference_check(reference, err);
    if (r < 0)
        return r;
    era_image_sweep(images);
    char name[ERA_IMAGE_NAME_MAX];
    (void)era_image_name_encode(reference, name); /* checked just now */
    /* Under the name's lock nobody puts another image in its place. */
    struct era_image_lock lock;
    bool waited = false;
    r = era_image_lock_take(images, name, &lock, &waited, err);
    if (r < 0)
        return r;
    r = remove_locked(images, reference, name, err);
    era_image_lock_drop(&lock);
    return r;
}

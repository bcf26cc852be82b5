/* SPDX-License-Identifier: Apache-2.0 */
/* Importing what somebody saved: an OCI layout, a tar file of one, or a `docker save` archive. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "image/internal.h"

/* Takes the archive apart into work's layout/, and opens that. */
static int open_archive(struct era_image_work *work, int archive, int *ret_layout, struct era_error *err)
{
    era_image_progress(work->images, "reading the archive");
    struct era_strv args = {0};
    int r = era_strv_add(&args, "archive");
    if (r >= 0)
        r = era_strv_add(&args, work->path);
    if (r >= 0)
        r = era_strv_add(&args, "3");
    r = r < 0 ? era_error_oom(err) : era_image_helper_run(work->images, &args, &archive, 1, "image_corrupt", NULL, err);
    era_strv_clear(&args);
    if (r < 0)
        return r;
    int layout = era_open_beneath(work->fd, "layout", O_RDONLY | O_DIRECTORY, 0);
    if (layout < 0)
        return era_error_errno(err, -layout, "cannot open what the archive held");
    *ret_layout = layout;
    return 0;
}

static int open_source(const char *path, int *ret_fd, bool *ret_is_directory, struct era_error *err)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return era_error_set(err, ENOENT, "file_not_found", "there is no file %.300s", path);
    if (fd < 0)
        return era_error_errno(err, errno, "cannot open %.300s", path);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return era_error_errno(err, errno, "cannot look at %.300s", path);
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return era_error_set(err, EINVAL, "not_a_file", "%.300s is neither a file nor a folder", path);
    *ret_is_directory = S_ISDIR(st.st_mode);
    *ret_fd = era_take_fd(&fd);
    return 0;
}

static int commit(struct era_image_work *work, const struct era_image_info *info, struct era_error *err)
{
    char name[ERA_IMAGE_NAME_MAX];
    int r = era_image_reference_check(info->reference, err);
    if (r < 0)
        return r;
    (void)era_image_name_encode(info->reference, name); /* checked just now */
    struct era_image_lock lock;
    bool waited = false;
    r = era_image_lock_take(work->images, name, &lock, &waited, err);
    if (r < 0)
        return r;
    r = era_image_work_commit(work, info, err);
    era_image_lock_drop(&lock);
    return r;
}

int era_image_store_import(struct era_image_store *images, const char *path, const char *name,
                           struct era_image_info **ret_info, struct era_error *err)
{
    int r = name != NULL ? era_image_reference_check(name, err) : 0;
    if (r < 0)
        return r;
    _cleanup_close_ int source = -EBADF;
    bool is_directory = false;
    r = open_source(path, &source, &is_directory, err);
    if (r < 0)
        return r;
    era_image_sweep(images);
    _cleanup_(era_image_work_freep) struct era_image_work *work = NULL;
    r = era_image_work_new(images, &work, err);
    if (r < 0)
        return r;
    _cleanup_close_ int opened = -EBADF;
    if (!is_directory)
        r = open_archive(work, source, &opened, err);
    if (r < 0)
        return r;
    ERA_POINT("image.archive");
    _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
    r = era_image_unpack_layout(work, is_directory ? source : opened, name != NULL ? name : "", &info, err);
    if (r < 0)
        return r;
    ERA_POINT("image.unpacked");
    info->source = strdup("archive");
    if (info->source == NULL)
        return era_error_oom(err);
    r = commit(work, info, err);
    if (r < 0)
        return r;
    *ret_info = era_take_ptr(info);
    return 0;
}

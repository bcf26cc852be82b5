/* SPDX-License-Identifier: Apache-2.0 */
/* The images that are there: opening, listing, removing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/internal.h"

enum { INFO_LIMIT = 1 << 20 };

int era_image_store_open(const char *state_dir, const char *helper_dir, struct era_image_store **ret_images,
                         struct era_error *err)
{
    _cleanup_(era_image_store_closep) struct era_image_store *images = calloc(1, sizeof *images);
    if (images == NULL)
        return era_error_oom(err);
    images->fd = -EBADF;
    images->dir = era_str_printf("%s/images", state_dir);
    images->helper_dir = strdup(helper_dir);
    if (images->dir == NULL || images->helper_dir == NULL)
        return era_error_oom(err);
    int r = era_ensure_dir_at(AT_FDCWD, images->dir, 0700);
    if (r < 0)
        return era_error_errno(err, -r, "cannot make %s", images->dir);
    images->fd = open(images->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (images->fd < 0)
        return era_error_errno(err, errno, "cannot open %s", images->dir);
    *ret_images = era_take_ptr(images);
    return 0;
}

void era_image_store_close(struct era_image_store *images)
{
    if (images == NULL)
        return;
    era_closep(&images->fd);
    free(images->dir);
    free(images->helper_dir);
    free(images);
}

void era_image_store_set_progress(struct era_image_store *images, era_image_progress_fn fn, void *userdata)
{
    images->progress = fn;
    images->userdata = userdata;
}

void era_image_store_set_cancel(struct era_image_store *images, int fd)
{
    images->cancel_fd = fd;
}

void era_image_progress(struct era_image_store *images, const char *format, ...)
{
    if (images->progress == NULL)
        return;
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    images->progress(images->userdata, line);
}

static int corrupt(struct era_error *err, const struct era_image_store *images, const char *name, const char *why)
{
    return era_error_set(err, EBADMSG, "image_corrupt", "%s/%s %s: remove it and make the image anew", images->dir,
                         name, why);
}

/* Opens one of images/ and reads its json, from the descriptor that may become its lock. */
int era_image_load(struct era_image_store *images, const char *name, int *ret_dir_fd, int *ret_json_fd,
                   struct era_image_info **ret_info, struct era_error *err)
{
    _cleanup_close_ int dir = era_open_beneath(images->fd, name, O_PATH | O_DIRECTORY, 0);
    if (dir == -ENOENT || dir == -ENOTDIR)
        return era_error_set(err, ENOENT, "image_not_found", "there is no such image");
    if (dir < 0)
        return era_error_errno(err, -dir, "cannot open %s/%s", images->dir, name);
    _cleanup_close_ int json = era_open_beneath(dir, "image.json", O_RDONLY | O_NONBLOCK, 0);
    if (json == -ENOENT)
        return corrupt(err, images, name, "has no image.json");
    if (json < 0)
        return era_error_errno(err, -json, "cannot open %s/%s/image.json", images->dir, name);

    struct stat st;
    if (fstat(json, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > INFO_LIMIT)
        return corrupt(err, images, name, "has an image.json that is no small file");
    _cleanup_free_ char *text = malloc((size_t)st.st_size + 1);
    if (text == NULL)
        return era_error_oom(err);
    ssize_t len = era_read_full(json, text, (size_t)st.st_size);
    if (len < 0)
        return era_error_errno(err, (int)-len, "cannot read %s/%s/image.json", images->dir, name);
    _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
    int r = era_image_info_parse(text, (size_t)len, &info, err);
    if (r < 0) {
        era_error_prefix(err, "%s/%s", images->dir, name);
        return r;
    }
    char expected[ERA_IMAGE_NAME_MAX];
    if (era_image_name_encode(info->reference, expected) < 0 || !era_str_eq(expected, name))
        return corrupt(err, images, name, "is the folder of another image");
    *ret_dir_fd = era_take_fd(&dir);
    *ret_json_fd = era_take_fd(&json);
    *ret_info = era_take_ptr(info);
    return 0;
}

/* Waits for the lock, then tells whether the image is still the one of that name. */
static int lock_shared(const struct era_image_store *images, const char *name, int json)
{
    while (flock(json, LOCK_SH) < 0)
        if (errno != EINTR)
            return -errno;
    char path[ERA_IMAGE_NAME_MAX + 16];
    snprintf(path, sizeof path, "%s/image.json", name);
    struct stat held;
    struct stat named;
    if (fstat(json, &held) < 0 || fstatat(images->fd, path, &named, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    return held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

int era_image_store_get(struct era_image_store *images, const char *reference, int *ret_root_fd, int *ret_lock_fd,
                        struct era_image_info **ret_info, struct era_error *err)
{
    char name[ERA_IMAGE_NAME_MAX];
    int r = era_image_reference_check(reference, err);
    if (r < 0)
        return r;
    (void)era_image_name_encode(reference, name); /* checked just now */
    for (;;) {
        _cleanup_close_ int dir = -EBADF;
        _cleanup_close_ int json = -EBADF;
        _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
        struct era_error why = {0};
        r = era_image_load(images, name, &dir, &json, &info, &why);
        if (era_error_is(&why, "image_not_found"))
            return era_error_set(err, ENOENT, "image_not_found", "there is no image %s: build, pull or import it first",
                                 reference);
        if (r < 0) {
            if (err != NULL)
                *err = why;
            return r;
        }
        r = lock_shared(images, name, json);
        if (r < 0)
            return era_error_errno(err, -r, "cannot lock the image %s", reference);
        if (r == 0)
            continue; /* replaced in between: the new one then */
        int root = era_open_beneath(dir, "rootfs", O_PATH | O_DIRECTORY, 0);
        if (root < 0)
            return corrupt(err, images, name, "has no rootfs");
        *ret_root_fd = root;
        *ret_lock_fd = era_take_fd(&json);
        if (ret_info != NULL)
            *ret_info = era_take_ptr(info);
        return 0;
    }
}

static int by_reference(const void *a, const void *b)
{
    const struct era_image_info *const *one = a;
    const struct era_image_info *const *two = b;
    return strcmp((*one)->reference, (*two)->reference);
}

struct infos {
    struct era_image_info **items;
    size_t count;
};

static void infos_clear(struct infos *infos)
{
    for (size_t i = 0; i < infos->count; i++)
        era_image_info_free(infos->items[i]);
    free(infos->items);
}

static int list_directory(struct era_image_store *images, DIR *dir, struct infos *infos, struct era_error *err)
{
    struct dirent *entry;
    while ((errno = 0, entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        _cleanup_close_ int fd = -EBADF;
        _cleanup_close_ int json = -EBADF;
        _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
        int r = era_image_load(images, entry->d_name, &fd, &json, &info, NULL);
        if (r == -ENOMEM)
            return era_error_oom(err);
        if (r < 0)
            continue;
        struct era_image_info **grown = reallocarray(infos->items, infos->count + 1, sizeof *grown);
        if (grown == NULL)
            return era_error_oom(err);
        infos->items = grown;
        infos->items[infos->count++] = era_take_ptr(info);
    }
    return errno != 0 ? era_error_errno(err, errno, "cannot read %s", images->dir) : 0;
}

int era_image_store_list(struct era_image_store *images, struct era_image_info ***ret_infos, size_t *ret_count,
                         struct era_error *err)
{
    era_image_sweep(images);
    int fd = openat(images->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        int error = errno;
        era_closep(&fd);
        return era_error_errno(err, error, "cannot read %s", images->dir);
    }
    _cleanup_(infos_clear) struct infos infos = {0};
    int r = list_directory(images, dir, &infos, err);
    closedir(dir);
    if (r < 0)
        return r;
    if (infos.count > 0)
        qsort(infos.items, infos.count, sizeof *infos.items, by_reference);
    *ret_infos = infos.items;
    *ret_count = infos.count;
    infos = (struct infos){0};
    return 0;
}

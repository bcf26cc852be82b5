/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks and unfinished folders: see internal.h for the names.
 *
 * A lock by name can be lost between opening and locking: whoever removed the
 * name held the lock until then. So after every flock the name is looked at
 * again, and must still be the inode that is locked.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "image/internal.h"

enum { LOCK_INTERVAL_MS = 50 };

static bool is_still(int dir_fd, const char *name, int fd)
{
    struct stat held;
    struct stat named;
    return fstat(fd, &held) == 0 && fstatat(dir_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

static int lock(int fd, int operation)
{
    while (flock(fd, operation) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* The kernel waits for a lock or for a descriptor, not for both: so we look for the one between two waits for the
 * other. */
static int lock_patiently(const struct era_image_store *images, int fd)
{
    struct pollfd cancel = {.fd = images->cancel_fd > 0 ? images->cancel_fd : -1, .events = POLLIN};
    for (;;) {
        int r = lock(fd, LOCK_EX | LOCK_NB);
        if (r != -EWOULDBLOCK)
            return r;
        if (poll(&cancel, 1, LOCK_INTERVAL_MS) > 0)
            return -ECANCELED;
    }
}

static int unique_name(const char *prefix, char *to, size_t size)
{
    static atomic_uint counter;
    return era_str_format(to, size, "%s%lld-%d-%u", prefix, (long long)era_clock_realtime_ns(), (int)getpid(),
                          atomic_fetch_add(&counter, 1));
}

int era_image_lock_take(struct era_image_store *images, const char *name, struct era_image_lock *ret_lock,
                        bool *ret_waited, struct era_error *err)
{
    struct era_image_lock taken = {.dir_fd = images->fd, .fd = -EBADF};
    bool waited = false;
    /* A name of 255 bytes leaves no room for the prefix; its end tells names apart as well as all of it does. */
    size_t len = strlen(name);
    size_t skip = len > 240 ? len - 240 : 0;
    int r = era_str_format(taken.name, sizeof taken.name, ".lock-%s", name + skip);
    while (r >= 0) {
        _cleanup_close_ int fd = openat(images->fd, taken.name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            return era_error_errno(err, errno, "cannot make the lock %s/%s", images->dir, taken.name);
        r = lock(fd, LOCK_EX | LOCK_NB);
        if (r == -EWOULDBLOCK) {
            if (!waited)
                era_image_progress(images, "waiting for another process that makes the same image");
            waited = true;
            r = lock_patiently(images, fd);
        }
        if (r >= 0 && is_still(images->fd, taken.name, fd)) {
            taken.fd = era_take_fd(&fd);
            ERA_POINT("image.locked");
            *ret_lock = taken;
            *ret_waited = waited;
            return 0;
        }
    }
    if (r == -ECANCELED)
        return era_error_set(err, ECANCELED, "interrupted", "interrupted");
    return era_error_errno(err, -r, "cannot take the lock %s/%s", images->dir, taken.name);
}

void era_image_lock_drop(struct era_image_lock *held)
{
    if (held->fd < 0)
        return;
    unlinkat(held->dir_fd, held->name, 0);
    era_closep(&held->fd);
}

/* Makes a folder and locks it; -EAGAIN when a sweeper was quicker than the lock. */
static int make_locked(int dir_fd, const char *name, int *ret_fd)
{
    if (mkdirat(dir_fd, name, 0700) < 0)
        return -errno;
    _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? -errno : lock(fd, LOCK_EX | LOCK_NB);
    if (r == -ENOENT || r == -EWOULDBLOCK || (r >= 0 && !is_still(dir_fd, name, fd)))
        return -EAGAIN;
    if (r < 0)
        return r;
    *ret_fd = era_take_fd(&fd);
    return 0;
}

int era_image_work_new(struct era_image_store *images, struct era_image_work **ret_work, struct era_error *err)
{
    _cleanup_free_ struct era_image_work *work = calloc(1, sizeof *work);
    if (work == NULL)
        return era_error_oom(err);
    work->images = images;
    int r;
    do {
        r = unique_name(".work-", work->name, sizeof work->name);
        if (r >= 0)
            r = make_locked(images->fd, work->name, &work->fd);
    } while (r == -EAGAIN);
    if (r == -ENOSPC || r == -EDQUOT)
        return era_error_set(err, -r, "disk_full", "the disk that holds %s is full", images->dir);
    if (r < 0)
        return era_error_errno(err, -r, "cannot make a folder in %s", images->dir);
    work->path = era_str_printf("%s/%s", images->dir, work->name);
    if (work->path == NULL) {
        unlinkat(images->fd, work->name, AT_REMOVEDIR);
        era_closep(&work->fd);
        return era_error_oom(err);
    }
    *ret_work = era_take_ptr(work);
    ERA_POINT("image.work");
    return 0;
}

void era_image_work_free(struct era_image_work *work)
{
    if (work == NULL)
        return;
    int saved = errno;
    (void)era_image_remove_entry(work->images, work->name, NULL);
    era_closep(&work->fd);
    free(work->path);
    free(work);
    errno = saved;
}

int era_image_remove_entry(struct era_image_store *images, const char *name, struct era_error *err)
{
    int r = era_remove_tree_at(images->fd, name);
    if (r >= 0 || geteuid() == 0)
        return r < 0 ? era_error_errno(err, -r, "cannot remove %s/%s", images->dir, name) : 0;
    return era_image_helper_remove(images, name, err); /* files of ids that only a user namespace gives us */
}

/* Whether nobody holds an image (its json) that lies in the folder; true when none does. */
static bool image_is_free(int dir_fd, const char *json, int *ret_fd)
{
    *ret_fd = openat(dir_fd, json, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return *ret_fd < 0 || lock(*ret_fd, LOCK_EX | LOCK_NB) >= 0;
}

static void sweep_one(struct era_image_store *images, const char *name)
{
    _cleanup_close_ int fd = openat(images->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || lock(fd, LOCK_EX | LOCK_NB) < 0 || !is_still(images->fd, name, fd))
        return;
    _cleanup_close_ int old = -EBADF;
    _cleanup_close_ int exchanged = -EBADF;
    if (image_is_free(fd, "image.json", &old) && image_is_free(fd, "image/image.json", &exchanged))
        (void)era_image_remove_entry(images, name, NULL);
}

void era_image_sweep(struct era_image_store *images)
{
    int fd = openat(images->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        era_closep(&fd);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (era_str_starts_with(entry->d_name, ".work-") || era_str_starts_with(entry->d_name, ".old-"))
            sweep_one(images, entry->d_name);
        if (!era_str_starts_with(entry->d_name, ".lock-"))
            continue;
        struct era_image_lock held = {.dir_fd = images->fd};
        held.fd = openat(images->fd, entry->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (held.fd >= 0 && lock(held.fd, LOCK_EX | LOCK_NB) >= 0 && is_still(images->fd, entry->d_name, held.fd) &&
            era_str_copy(held.name, sizeof held.name, entry->d_name))
            era_image_lock_drop(&held);
        era_closep(&held.fd);
    }
    closedir(dir);
}

/* image/rootfs and image/image.json, on disk. */
static int assemble(struct era_image_work *work, const struct era_image_info *info)
{
    _cleanup_free_ char *json = NULL;
    int r = era_image_info_format(info, &json);
    if (r >= 0)
        r = era_ensure_dir_at(work->fd, "image", 0755);
    if (r < 0)
        return r;
    _cleanup_close_ int dir = openat(work->fd, "image", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0 || renameat(work->fd, "rootfs", dir, "rootfs") < 0)
        return -errno;
    _cleanup_close_ int fd = openat(dir, "image.json", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    r = era_write_full(fd, json, strlen(json));
    /* The tree itself was written out by era-unpack when it measured it. */
    if (r >= 0 && (fsync(fd) < 0 || fsync(dir) < 0))
        r = -errno;
    return r;
}

/* What has the name is swapped with ours; where the file system cannot, it steps aside first. */
static int put_in_place(struct era_image_work *work, const char *name)
{
    struct era_image_store *images = work->images;
    if (renameat2(work->fd, "image", images->fd, name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno == EEXIST && renameat2(work->fd, "image", images->fd, name, RENAME_EXCHANGE) == 0)
        return 0;
    if (errno != EEXIST && errno != EINVAL && errno != ENOSYS)
        return -errno;
    char old[64];
    int r = unique_name(".old-", old, sizeof old);
    if (r >= 0 && renameat(images->fd, name, images->fd, old) < 0 && errno != ENOENT)
        r = -errno;
    if (r >= 0 && renameat(work->fd, "image", images->fd, name) < 0)
        r = -errno;
    return r;
}

int era_image_work_commit(struct era_image_work *work, const struct era_image_info *info, struct era_error *err)
{
    struct era_image_store *images = work->images;
    char name[ERA_IMAGE_NAME_MAX];
    int r = era_image_name_encode(info->reference, name);
    if (r >= 0)
        r = assemble(work, info);
    ERA_POINT("image.assembled");
    if (r >= 0)
        r = put_in_place(work, name);
    ERA_POINT("image.placed");
    if (r >= 0 && fsync(images->fd) < 0)
        r = -errno;
    if (r == -ENOSPC || r == -EDQUOT)
        return era_error_set(err, -r, "disk_full", "the disk that holds %s is full", images->dir);
    if (r < 0)
        return era_error_errno(err, -r, "cannot store the image %s", info->reference);

    ERA_POINT("image.synced");
    /* What it took the place of goes, or waits as .old-* for its users. */
    _cleanup_close_ int held = -EBADF;
    char old[64];
    if (!image_is_free(work->fd, "image/image.json", &held) && unique_name(".old-", old, sizeof old) >= 0)
        (void)renameat(work->fd, "image", images->fd, old);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume is a sparse file with ext4 in it, on a loop device that the kernel
 * takes down by itself with the last mount (LO_FLAGS_AUTOCLEAR); or a folder,
 * where nobody may mount a file system. The guest gets files, never the device.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "launcher/namespace/internal.h"

enum { LOOP_TRIES = 64 };

int volume_lock(const struct era_guest_config *config, int *ret_lock_fd, struct era_error *err)
{
    int flags = config->volume_kind == ERA_VOLUME_FOLDER ? O_RDONLY | O_DIRECTORY : O_RDWR;
    _cleanup_close_ int fd = open(config->volume_path, flags | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return era_error_set(err, errno, "vm_start_failed", "cannot open the volume: %s", strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return era_error_set(err, EBUSY, "volume_busy", "another VM has the volume mounted");
    *ret_lock_fd = era_take_fd(&fd);
    return 0;
}

/* Opens /dev/loopN, also where nobody made its node. */
static int open_loop(int number)
{
    char path[32];
    snprintf(path, sizeof path, "/dev/loop%d", number);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 || errno != ENOENT)
        return fd < 0 ? -errno : fd;
    enum { LOOP_MAJOR = 7 }; /* Documentation/admin-guide/devices.txt */
    if (mknod(path, S_IFBLK | 0600, (dev_t)(LOOP_MAJOR << 8 | (number & 0xFF) | (number & ~0xFF) << 12)) < 0 &&
        errno != EEXIST)
        return -errno;
    fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* A loop device on the file: its descriptor, and its number. */
static int attach_loop(int file_fd, int *ret_number)
{
    _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return -errno;
    for (int i = 0; i < LOOP_TRIES; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return -errno;
        _cleanup_close_ int loop = open_loop(number);
        if (loop < 0)
            return loop;
        const struct loop_config config = {.fd = (uint32_t)file_fd, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
        if (ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
            *ret_number = number;
            return era_take_fd(&loop);
        }
        if (errno != EBUSY) /* another took it in between */
            return -errno;
    }
    return -EBUSY;
}

static int mount_ext4(int file_fd)
{
    int number = -1;
    _cleanup_close_ int loop = attach_loop(file_fd, &number);
    if (loop < 0)
        return loop;
    char path[32];
    snprintf(path, sizeof path, "/dev/loop%d", number);
    const struct mount_option options[] = {{"source", path}, {"errors", "remount-ro"}, {NULL, NULL}};
    int fd = mount_new("ext4", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (fd >= 0)
        (void)unlinkat(fd, "lost+found", AT_REMOVEDIR); /* the checker makes it again when it needs it */
    return fd;
}

int volume_build(const struct era_guest_config *config, int volume_fd, int userns_fd, struct guest_mounts *mounts,
                 struct era_error *err)
{
    const char *what = "mount";
    if (config->volume_kind == ERA_VOLUME_EXT4)
        mounts->volume_fd = mount_ext4(volume_fd);
    else
        mounts->volume_fd = mount_clone(AT_FDCWD, config->volume_path, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    int r = mounts->volume_fd;
    if (r >= 0 && userns_fd >= 0) {
        what = "idmapped mount";
        r = mount_idmap(mounts->volume_fd, userns_fd);
    }
    if (r < 0)
        return era_error_set(err, -r, "vm_start_failed", "cannot mount the volume: %s: %s", what, strerror(-r));
    return 0;
}

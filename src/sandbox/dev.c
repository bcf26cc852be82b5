/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev is ours: a tmpfs with a few of the host's harmless devices bound in,
 * each checked to be what its name says, and pseudo terminals of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sandbox/sandbox.h"

/* Numbers of Documentation/admin-guide/devices.txt. */
static const struct {
    const char *name;
    unsigned major;
    unsigned minor;
} devices[] = {
    {"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
};

static const struct {
    const char *name;
    const char *target;
} links[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
};

static int bind_device(int dev_fd, const char *name, dev_t number)
{
    char path[32];
    snprintf(path, sizeof path, "/dev/%s", name);
    _cleanup_close_ int device = mount_clone(AT_FDCWD, path, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    if (device < 0)
        return device;
    struct stat st;
    if (fstat(device, &st) < 0)
        return -errno;
    if (!S_ISCHR(st.st_mode) || st.st_rdev != number)
        return -ENODEV;
    _cleanup_close_ int file = openat(dev_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file < 0)
        return -errno;
    return mount_attach(device, dev_fd, name);
}

/* A quarter of the memory: with the half that / may hold, files leave a quarter to those who delete them. */
static int mount_shm(int dev_fd, uint32_t mem_mib)
{
    char size[32];
    char inodes[32];
    snprintf(size, sizeof size, "%um", mem_mib / 4);
    snprintf(inodes, sizeof inodes, "%u", mem_mib * 32);
    const struct mount_option options[] = {{"size", size}, {"nr_inodes", inodes}, {"mode", "1777"}, {NULL, NULL}};
    _cleanup_close_ int shm = mount_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (shm < 0)
        return shm;
    return mkdirat(dev_fd, "shm", 01777) < 0 ? -errno : mount_attach(shm, dev_fd, "shm");
}

static int mount_pts(int dev_fd)
{
    /* Terminals of all guests are taken from one number, 3072 by default: none may take them all. */
    /* The group of terminals is tty, 5 in Debian; a guest of one uid has no such group. */
    const struct mount_option with_group[] = {{"newinstance", NULL}, {"ptmxmode", "0666"}, {"mode", "0620"},
                                              {"max", "64"},         {"gid", "5"},         {NULL, NULL}};
    const struct mount_option without_group[] = {
        {"newinstance", NULL}, {"ptmxmode", "0666"}, {"mode", "0600"}, {"max", "64"}, {NULL, NULL}};
    int pts = mount_new("devpts", with_group, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    if (pts == -EINVAL)
        pts = mount_new("devpts", without_group, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    _cleanup_close_ int fd = pts;
    if (fd < 0)
        return fd;
    return mkdirat(dev_fd, "pts", 0755) < 0 ? -errno : mount_attach(fd, dev_fd, "pts");
}

int dev_mount(int root_fd, uint32_t mem_mib)
{
    const struct mount_option options[] = {{"size", "256k"}, {"nr_inodes", "256"}, {"mode", "0755"}, {NULL, NULL}};
    _cleanup_close_ int dev = mount_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    if (dev < 0)
        return dev;
    int r = mount_point_at(root_fd, "dev", 0755);
    if (r >= 0)
        r = mount_attach(dev, root_fd, "dev"); /* attached first: only then can others go on top of it */
    for (size_t i = 0; r >= 0 && i < sizeof devices / sizeof devices[0]; i++)
        r = bind_device(dev, devices[i].name, makedev(devices[i].major, devices[i].minor));
    for (size_t i = 0; r >= 0 && i < sizeof links / sizeof links[0]; i++)
        r = symlinkat(links[i].target, dev, links[i].name) < 0 ? -errno : 0;
    if (r >= 0)
        r = mount_shm(dev, mem_mib);
    if (r >= 0)
        r = mount_pts(dev);
    return r;
}

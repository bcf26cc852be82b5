/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "sandbox/sandbox.h"

/* The calls themselves: older C libraries have no names for them. */
static int sys_fsopen(const char *type, unsigned flags)
{
    return (int)syscall(SYS_fsopen, type, flags);
}

static int sys_fsconfig(int fd, unsigned command, const char *key, const char *value, int aux)
{
    return (int)syscall(SYS_fsconfig, fd, command, key, value, aux);
}

static int set_attributes(int mount_fd, struct mount_attr *attr)
{
    return syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH, attr, sizeof *attr) < 0 ? -errno : 0;
}

int mount_new(const char *type, const struct mount_option options[], unsigned attributes)
{
    _cleanup_close_ int fs = sys_fsopen(type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return -errno;
    for (const struct mount_option *option = options; option != NULL && option->key != NULL; option++) {
        unsigned command = option->value != NULL ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
        if (sys_fsconfig(fs, command, option->key, option->value, 0) < 0)
            return -errno;
    }
    if (sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    int fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    return fd < 0 ? -errno : fd;
}

int mount_clone(int dirfd, const char *path, unsigned attributes)
{
    _cleanup_close_ int fd = (int)syscall(SYS_open_tree, dirfd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct mount_attr attr = {.attr_set = attributes};
    int r = attributes != 0 ? set_attributes(fd, &attr) : 0; /* a copy has those of its original */
    return r < 0 ? r : era_take_fd(&fd);
}

int mount_idmap(int mount_fd, int userns_fd)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns_fd};
    return set_attributes(mount_fd, &attr);
}

int mount_attach(int mount_fd, int dirfd, const char *name)
{
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH;
    return syscall(SYS_move_mount, mount_fd, "", dirfd, name, flags) < 0 ? -errno : 0;
}

int mount_point_at(int dirfd, const char *name, mode_t mode)
{
    int r = era_ensure_dir_at(dirfd, name, mode);
    if (r != -EEXIST)
        return r;
    if (unlinkat(dirfd, name, 0) < 0)
        return -errno;
    return mkdirat(dirfd, name, mode) < 0 ? -errno : 0;
}

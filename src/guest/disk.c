/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "guest/machine.h"
#include "sandbox/sandbox.h"

enum { DISK_NAME_MAX = 32 };

static bool has_serial(const struct machine *machine, const char *name, const char *serial)
{
    char path[128];
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    if (era_str_format(path, sizeof path, "block/%s/serial", name) < 0 ||
        era_read_file_at(machine->sys_fd, path, 64, &text, &len) < 0)
        return false;
    text[strcspn(text, "\n")] = '\0';
    return era_str_eq(text, serial);
}

/* The name of the disk with this serial number: "vda". */
static int find(const struct machine *machine, const char *serial, char ret_name[DISK_NAME_MAX])
{
    int fd = openat(machine->sys_fd, "block", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL)
        return -errno;
    int r = -ENODEV;
    for (struct dirent *entry; r < 0 && (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.' && has_serial(machine, entry->d_name, serial) &&
            era_str_copy(ret_name, DISK_NAME_MAX, entry->d_name))
            r = 0;
    closedir(dir);
    return r;
}

int machine_find_disk(const struct machine *machine, const char *serial, char ret_path[64])
{
    char name[DISK_NAME_MAX];
    int r = find(machine, serial, name);
    return r < 0 ? r : era_str_format(ret_path, 64, "/proc/self/fd/%d/%s", machine->dev_fd, name);
}

static int write_driver(const struct machine *machine, const char *file, const char *device)
{
    char path[64];
    snprintf(path, sizeof path, "bus/virtio/drivers/virtio_blk/%s", file);
    _cleanup_close_ int fd = openat(machine->sys_fd, path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : era_write_full(fd, device, strlen(device));
}

/* Has the driver look at the disk anew: its size is another one than when the template booted. */
static int rediscover(const struct machine *machine, const char *name)
{
    char path[128];
    char target[256];
    if (era_str_format(path, sizeof path, "block/%s/device", name) < 0)
        return -EINVAL;
    ssize_t n = readlinkat(machine->sys_fd, path, target, sizeof target - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    const char *device = strrchr(target, '/') != NULL ? strrchr(target, '/') + 1 : target;
    int r = write_driver(machine, "unbind", device);
    return r < 0 ? r : write_driver(machine, "bind", device);
}

int machine_mount_volume(struct machine *machine)
{
    char path[64];
    char name[DISK_NAME_MAX];
    int r = find(machine, DISK_VOLUME, name);
    if (r >= 0)
        r = rediscover(machine, name);
    if (r >= 0)
        r = machine_find_disk(machine, DISK_VOLUME, path);
    if (r < 0)
        return r;
    const struct mount_option options[] = {{"source", path}, {"errors", "remount-ro"}, {NULL, NULL}};
    _cleanup_close_ int mount_fd = mount_new("ext4", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (mount_fd < 0)
        return mount_fd;
    (void)unlinkat(mount_fd, "lost+found", AT_REMOVEDIR); /* the checker makes it again when it needs it */
    /* What a mount is made with is a path only; what can be written out has to be open. */
    machine->volume_fd = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return machine->volume_fd < 0 ? -errno : tree_make_workspace(machine->root_fd, mount_fd);
}

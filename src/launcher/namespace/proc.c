/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fresh /proc of the guest's pid namespace. What tells of the host, or acts
 * on it, is covered: files by /dev/null, directories by an empty read-only
 * tmpfs; /proc/sys and its like are made read-only. Everything is reached from
 * the descriptor of the new mount, whose type was checked, and never by a path
 * that the image could have bent.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "launcher/namespace/internal.h"

static const char *const hidden[] = {
    "acpi",          "asound",       "config.gz",     "kallsyms",   "kcore",         "keys",        "kmsg",
    "key-users",     "kpagecgroup",  "kpagecount",    "kpageflags", "latency_stats", "modules",     "sched_debug",
    "scsi",          "slabinfo",     "sysrq-trigger", "timer_list", "timer_stats",   "vmallocinfo", "driver",
    "dynamic_debug", "interrupts",   "iomem",         "ioports",    "mtrr",          "pressure",    "swaps",
    "buddyinfo",     "pagetypeinfo", "zoneinfo",      "tty",
};

static const char *const read_only[] = {"bus", "fs", "irq", "sys"};

/* Puts an empty, unchangeable thing on top of proc_fd/name; a name that this kernel lacks is passed over. */
static int hide(int proc_fd, const char *name)
{
    struct stat st;
    if (fstatat(proc_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    unsigned attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    const struct mount_option options[] = {{"size", "4k"}, {"nr_inodes", "2"}, {"mode", "0555"}, {NULL, NULL}};
    _cleanup_close_ int cover = S_ISDIR(st.st_mode) ? mount_new("tmpfs", options, attributes | MOUNT_ATTR_NODEV)
                                                    : mount_clone(AT_FDCWD, "/dev/null", attributes);
    return cover < 0 ? cover : mount_attach(cover, proc_fd, name);
}

static int make_read_only(int proc_fd, const char *name)
{
    _cleanup_close_ int part =
        mount_clone(proc_fd, name, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (part < 0)
        return part == -ENOENT ? 0 : part;
    return mount_attach(part, proc_fd, name);
}

int proc_mount(int root_fd)
{
    _cleanup_close_ int proc = mount_new("proc", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (proc < 0)
        return proc;
    struct statfs fs;
    if (fstatfs(proc, &fs) < 0)
        return -errno;
    if (fs.f_type != PROC_SUPER_MAGIC)
        return -EMEDIUMTYPE;
    int r = mount_point_at(root_fd, "proc", 0555);
    if (r >= 0)
        r = mount_attach(proc, root_fd, "proc");
    for (size_t i = 0; r >= 0 && i < sizeof hidden / sizeof hidden[0]; i++)
        r = hide(proc, hidden[i]);
    for (size_t i = 0; r >= 0 && i < sizeof read_only / sizeof read_only[0]; i++)
        r = make_read_only(proc, read_only[i]);
    return r;
}

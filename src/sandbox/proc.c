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
#include "sandbox/sandbox.h"

static const char *const hidden[] = {
    "acpi",          "asound",       "config.gz",     "kallsyms",   "kcore",         "keys",        "kmsg",
    "key-users",     "kpagecgroup",  "kpagecount",    "kpageflags", "latency_stats", "modules",     "sched_debug",
    "scsi",          "slabinfo",     "sysrq-trigger", "timer_list", "timer_stats",   "vmallocinfo", "driver",
    "dynamic_debug", "interrupts",   "iomem",         "ioports",    "mtrr",          "pressure",    "swaps",
    "buddyinfo",     "pagetypeinfo", "zoneinfo",      "tty",
};

static const char *const read_only[] = {"bus", "fs", "irq", "sys"};

/* A new mount that is empty and cannot be changed: /dev/null for files, a file system of its own for directories. */
static int new_cover(bool directory)
{
    const unsigned attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    const struct mount_option options[] = {{"size", "4k"}, {"nr_inodes", "2"}, {"mode", "0555"}, {NULL, NULL}};
    return directory ? mount_new("tmpfs", options, attributes | MOUNT_ATTR_NODEV)
                     : mount_clone(AT_FDCWD, "/dev/null", attributes);
}

/*
 * Covers proc_fd/name; a name that this kernel lacks is passed over. `covered`
 * has, for files and for directories, a name that is covered already: its cover
 * is copied, attributes and all, which is a fraction of the work of a new one.
 */
static int hide(int proc_fd, const char *name, const char *covered[2])
{
    struct stat st;
    if (fstatat(proc_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    bool directory = S_ISDIR(st.st_mode);
    _cleanup_close_ int cover =
        covered[directory] != NULL ? mount_clone(proc_fd, covered[directory], 0) : new_cover(directory);
    if (cover < 0)
        return cover;
    covered[directory] = name;
    return mount_attach(cover, proc_fd, name);
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
    const char *covered[2] = {NULL, NULL};
    for (size_t i = 0; r >= 0 && i < sizeof hidden / sizeof hidden[0]; i++)
        r = hide(proc, hidden[i], covered);
    for (size_t i = 0; r >= 0 && i < sizeof read_only / sizeof read_only[0]; i++)
        r = make_read_only(proc, read_only[i]);
    return r;
}

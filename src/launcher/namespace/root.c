/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: on a scratch tmpfs lie the upper and the work directory
 * of an overlay whose lower layer is the image. What the guest writes is thus
 * memory, charged to its control group by the kernel, and bounded twice: by
 * the size of the tmpfs and by the group.
 *
 * As root the image is shown through an idmapped mount, so that uid 0 of the
 * image is the guest's root and nothing needs to be chowned. The overlay
 * belongs to the initial user namespace then, and keeps its marks in trusted.*
 * attributes, which a guest cannot forge. Without root the overlay is the
 * guest's own and uses user.* attributes, which tmpfs has since Linux 6.6. On
 * an older kernel the overlay does without marks: a folder that the image has
 * cannot be removed or replaced then, which the kernel refuses (EIO) and never
 * gets wrong; all else works. Nothing of the boundary depends on these marks.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "launcher/namespace/internal.h"

static int fail(struct era_error *err, int r, const char *what)
{
    return era_error_set(err, -r, "vm_start_failed", "cannot make the guest's root: %s: %s", what, strerror(-r));
}

static int build_scratch(const struct era_guest_config *config)
{
    char size[32];
    char inodes[32];
    snprintf(size, sizeof size, "%um", config->mem_mib / 2);
    snprintf(inodes, sizeof inodes, "%u", config->mem_mib * 128);
    const struct mount_option options[] = {
        {"size", size}, {"nr_inodes", inodes}, {"mode", "0755"}, {"source", "era"}, {NULL, NULL}};
    return mount_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

/* Makes upper, work and lower on the scratch; the upper is what the guest sees as its root. */
static int make_layers(int scratch_fd, uid_t root_uid)
{
    if (mkdirat(scratch_fd, "upper", 0755) < 0 || mkdirat(scratch_fd, "work", 0755) < 0 ||
        mkdirat(scratch_fd, "lower", 0755) < 0)
        return -errno;
    return fchownat(scratch_fd, "upper", root_uid, root_uid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int build_overlay(bool privileged)
{
    const struct mount_option options[] = {
        {"lowerdir", "lower"}, {"upperdir", "upper"},
        {"workdir", "work"},   {"source", "era"},
        {"xino", "off"},       {privileged ? "redirect_dir" : "userxattr", privileged ? "nofollow" : NULL},
        {NULL, NULL},
    };
    return mount_new("overlay", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

/* The scratch is in place and the working directory is on it. */
static int assemble(const struct era_guest_config *config, int userns_fd, int scratch_fd, struct guest_mounts *mounts,
                    struct era_error *err)
{
    bool privileged = userns_fd >= 0;
    int r = make_layers(scratch_fd, privileged ? idmap_base(config->uid_slot) : 0);
    if (r < 0)
        return fail(err, r, "layers");
    _cleanup_close_ int lower =
        mount_clone(AT_FDCWD, config->image_path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (lower < 0)
        return fail(err, lower, config->image_path);
    if (privileged && (r = mount_idmap(lower, userns_fd)) < 0)
        return fail(err, r, "idmapped mount of the image (needs a file system that has them)");
    if ((r = mount_attach(lower, scratch_fd, "lower")) < 0)
        return fail(err, r, "lower layer");
    mounts->root_fd = build_overlay(privileged);
    const char *what = privileged ? "overlay of an idmapped image (needs Linux 5.19)" : "overlay";
    return mounts->root_fd < 0 ? fail(err, mounts->root_fd, what) : 0;
}

int root_build(const struct era_guest_config *config, int userns_fd, struct guest_mounts *mounts, struct era_error *err)
{
    mounts->init_fd =
        mount_clone(AT_FDCWD, config->init_path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (mounts->init_fd < 0)
        return fail(err, mounts->init_fd, config->init_path);
    _cleanup_close_ int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int scratch = build_scratch(config);
    if (home < 0 || scratch < 0)
        return fail(err, home < 0 ? -errno : scratch, "scratch");
    int r = mount_attach(scratch, AT_FDCWD, "mnt");
    if (r < 0)
        return fail(err, r, "scratch");
    r = fchdir(scratch) < 0 ? fail(err, -errno, "scratch") : assemble(config, userns_fd, scratch, mounts, err);
    if (fchdir(home) < 0 && r >= 0)
        r = fail(err, -errno, "working directory");
    return r;
}

void root_forget_scratch(void)
{
    (void)umount2("mnt", MNT_DETACH);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a guest with a kernel of its own gets Debian's kernel
 * for clouds, unpacked from its signed package and installed nowhere. What is
 * kept of it, images/.kernel/, is `vmlinuz`, `version`, and the few modules
 * that the guest needs before it has a root, as `modules/00`, `modules/01`, …
 * in the order in which they can be loaded. depmod, which would write
 * modules.dep, is not run: each module says itself what it depends on.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/internal.h"

static const char failed[] = "image_build_failed";
static const char package[] = "linux-image-cloud-amd64";
static const char folder[] = ".kernel";

enum { MODULE_SIZE_MAX = 16 << 20, KERNEL_SIZE_MAX = 256 << 20 };

/* Where each lies below lib/modules/<version>/kernel; what they depend on is found by name among these. */
static const char *const modules[] = {
    "drivers/virtio/virtio.ko",    "drivers/virtio/virtio_ring.ko",  "drivers/virtio/virtio_mmio.ko",
    "drivers/block/virtio_blk.ko", "drivers/char/virtio_console.ko", "net/core/failover.ko",
    "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko",      "lib/libcrc32c.ko",
    "fs/erofs/erofs.ko",           "fs/overlayfs/overlay.ko",
};

enum { MODULES = sizeof modules / sizeof modules[0] };

/* Those that are wanted for themselves. */
static const char *const wanted[] = {"virtio_mmio", "virtio_console", "virtio_blk", "virtio_net", "erofs", "overlay"};

static bool is_module(const char *path, const char *name, size_t len)
{
    const char *base = strrchr(path, '/') + 1;
    return strncmp(base, name, len) == 0 && era_str_eq(base + len, ".ko");
}

static int find_module(const char *name, size_t len)
{
    for (int i = 0; i < MODULES; i++)
        if (is_module(modules[i], name, len))
            return i;
    return -ENOENT;
}

struct module {
    char *data; /* owned; NULL: it is not needed, or built into this kernel */
    size_t len;
    bool needed;
    bool written;
};

static int write_new(int dirfd, const char *name, const void *data, size_t len)
{
    _cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int r = fd < 0 ? -errno : era_write_full(fd, data, len);
    return r >= 0 && fsync(fd) < 0 ? -errno : r;
}

/* Goes through what a module depends on: -ENOENT for one that is not in the list; `see` may stop it by an error. */
static int each_dependency(struct module all[MODULES], int index, int (*see)(struct module *other))
{
    const char *depends = all[index].data == NULL ? NULL : era_image_module_depends(all[index].data, all[index].len);
    int r = 0;
    while (r >= 0 && depends != NULL && *depends != '\0') {
        size_t n = strcspn(depends, ",");
        int other = find_module(depends, n);
        r = other < 0 ? other : see(&all[other]);
        depends += n + (depends[n] == ',');
    }
    return r;
}

static int see_needed(struct module *other)
{
    other->needed = true;
    return 0;
}

static int see_written(struct module *other)
{
    return other->written ? 0 : -EAGAIN;
}

/* Reads those that are needed, and with each of them what it depends on. */
static int read_modules(int from_fd, struct module all[MODULES])
{
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        all[find_module(wanted[i], strlen(wanted[i]))].needed = true;
    for (int pass = 0; pass < MODULES; pass++)
        for (int i = 0; i < MODULES; i++) {
            if (!all[i].needed || all[i].data != NULL)
                continue;
            int r = era_read_file_at(from_fd, modules[i], MODULE_SIZE_MAX, &all[i].data, &all[i].len);
            if (r == -ENOENT) /* built into this kernel */
                r = all[i].written = true;
            if (r >= 0)
                r = each_dependency(all, i, see_needed);
            if (r < 0)
                return r;
        }
    return 0;
}

/* Each after all that it depends on. */
static int write_modules(int to_fd, struct module all[MODULES])
{
    int count = 0;
    for (int pass = 0; pass < MODULES; pass++)
        for (int i = 0; i < MODULES; i++) {
            if (!all[i].needed || all[i].written)
                continue;
            int r = each_dependency(all, i, see_written);
            if (r == -EAGAIN)
                continue;
            char name[16];
            snprintf(name, sizeof name, "%02d", count++);
            r = r < 0 ? r : write_new(to_fd, name, all[i].data, all[i].len);
            if (r < 0)
                return r;
            all[i].written = true;
        }
    for (int i = 0; i < MODULES; i++)
        if (all[i].needed && !all[i].written)
            return -ELOOP;
    return 0;
}

static int copy_modules(struct era_image_work *work, const char *version, int to_fd)
{
    _cleanup_free_ char *path = era_str_printf("root/lib/modules/%s/kernel", version);
    if (path == NULL)
        return -ENOMEM;
    if (mkdirat(to_fd, "modules", 0755) < 0)
        return -errno;
    _cleanup_close_ int from = era_open_beneath(work->fd, path, O_RDONLY | O_DIRECTORY, 0);
    _cleanup_close_ int to = era_open_beneath(to_fd, "modules", O_RDONLY | O_DIRECTORY, 0);
    struct module all[MODULES] = {0};
    int r = from < 0 ? from : to < 0 ? to : read_modules(from, all);
    if (r >= 0)
        r = write_modules(to, all);
    for (int i = 0; i < MODULES; i++)
        free(all[i].data);
    return r;
}

/* The version of the one kernel in root/boot. free() it. */
static char *find_version(const struct era_image_work *work)
{
    static const char prefix[] = "vmlinuz-";
    int fd = era_open_beneath(work->fd, "root/boot", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    char *version = NULL;
    for (struct dirent *entry; dir != NULL && version == NULL && (entry = readdir(dir)) != NULL;)
        if (era_str_starts_with(entry->d_name, prefix))
            version = strdup(entry->d_name + strlen(prefix));
    if (dir != NULL)
        closedir(dir);
    return version;
}

/* What is kept of root/, in kernel/. */
static int keep(struct era_image_work *work)
{
    _cleanup_free_ char *version = find_version(work);
    _cleanup_free_ char *path = version == NULL ? NULL : era_str_printf("root/boot/vmlinuz-%s", version);
    _cleanup_free_ char *data = NULL;
    size_t len = 0;
    if (path == NULL)
        return -ENOENT;
    if (mkdirat(work->fd, "kernel", 0755) < 0)
        return -errno;
    _cleanup_close_ int to = era_open_beneath(work->fd, "kernel", O_RDONLY | O_DIRECTORY, 0);
    int r = to < 0 ? to : era_read_file_at(work->fd, path, KERNEL_SIZE_MAX, &data, &len);
    if (r >= 0)
        r = write_new(to, "vmlinuz", data, len);
    if (r >= 0)
        r = copy_modules(work, version, to);
    if (r >= 0)
        r = write_new(to, "version", version, strlen(version));
    return r;
}

/* "extract": the packages' files and nothing that they would run. Firmware, documentation and tools are left out. */
static int unpack(struct era_image_work *work, struct era_error *err)
{
    static const char *const more[] = {"--variant=extract", "--dpkgopt=path-exclude=/usr/share/*", NULL};
    struct era_strv args = {0};
    int r = 0;
    for (const char *const *option = era_image_debian_options; r >= 0 && *option != NULL; option++)
        if (!era_str_starts_with(*option, "--variant=") && !era_str_starts_with(*option, "--hook-dir="))
            r = era_strv_add(&args, *option);
    for (size_t i = 0; r >= 0 && more[i] != NULL; i++)
        r = era_strv_add(&args, more[i]);
    _cleanup_free_ char *include = era_str_printf("--include=%s", package);
    if (r >= 0)
        r = include == NULL ? -ENOMEM : era_strv_add(&args, include);
    if (r >= 0)
        r = era_strv_add(&args, era_image_debian_suite);
    if (r >= 0)
        r = era_strv_add(&args, "root");
    struct era_process_spec options = {.own_namespaces = true, .need_id_range = true};
    r = r < 0 ? era_error_oom(err) : era_image_tool_run(&era_image_mmdebstrap, work, &args, &options, failed, err);
    era_strv_clear(&args);
    return r;
}

static int fetch_locked(struct era_image_store *images, struct era_error *err)
{
    _cleanup_(era_image_work_freep) struct era_image_work *work = NULL;
    era_image_progress(images, "kernel: downloading and unpacking %s", package);
    int r = era_image_work_new(images, &work, err);
    if (r >= 0)
        r = unpack(work, err);
    if (r < 0)
        return r;
    r = keep(work);
    if (r < 0)
        return era_error_set(err, -r, r == -ENOSPC ? "disk_full" : failed, "%s: %s", package, strerror(-r));
    /* Whoever uses the old one has it open, or has read it. */
    (void)era_remove_tree_at(images->fd, folder);
    if (renameat(work->fd, "kernel", images->fd, folder) < 0 || fsync(images->fd) < 0)
        return era_error_errno(err, errno, "cannot store the kernel in %s", images->dir);
    era_image_progress(images, "kernel: done");
    return 0;
}

bool era_image_store_has_kernel(const struct era_image_store *images)
{
    return faccessat(images->fd, ".kernel/version", R_OK, 0) == 0;
}

int era_image_store_kernel(struct era_image_store *images, bool rebuild, char **ret_path, struct era_error *err)
{
    struct era_image_lock lock = {.fd = -EBADF};
    bool waited = false;
    int r = 0;
    if (rebuild || !era_image_store_has_kernel(images)) {
        r = era_image_lock_take(images, folder + 1, &lock, &waited, err);
        if (r >= 0 && !(era_image_store_has_kernel(images) && (waited || !rebuild)))
            r = fetch_locked(images, err);
        era_image_lock_drop(&lock);
    }
    if (r < 0 || ret_path == NULL)
        return r;
    *ret_path = era_str_printf("%s/%s", images->dir, folder);
    return *ret_path == NULL ? era_error_oom(err) : 0;
}

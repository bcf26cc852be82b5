/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest's kernel starts from: era-init, and the modules that it needs before it has a root. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "launcher/microvm/cpio.h"
#include "launcher/microvm/internal.h"

enum { FILE_MAX = 64 << 20, MODULES_MAX = 32 };

static int append_file(struct era_buffer *to, const char *name, int dirfd, const char *path, mode_t mode)
{
    _cleanup_free_ char *data = NULL;
    size_t len = 0;
    int r = era_read_file_at(dirfd, path, FILE_MAX, &data, &len);
    return r < 0 ? r : cpio_append(to, name, S_IFREG | mode, data, len);
}

/* modules/00, modules/01, …; a kernel of the user's own may have all built in, and no such folder. */
static int append_modules(struct era_buffer *to, int kernel_fd)
{
    if (kernel_fd < 0)
        return 0;
    int r = cpio_append(to, "modules", S_IFDIR | 0700, NULL, 0);
    for (int i = 0; r >= 0 && i < MODULES_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "modules/%02d", i);
        r = append_file(to, name, kernel_fd, name, 0600);
        if (r == -ENOENT || r == -ENOTDIR)
            return 0;
    }
    return r;
}

int initramfs_make(const char *init_path, int kernel_fd)
{
    static const char *const folders[] = {"dev", "proc", "sys", "scratch"};
    struct era_buffer archive = {0};
    int r = append_file(&archive, "init", AT_FDCWD, init_path, 0755);
    for (size_t i = 0; r >= 0 && i < sizeof folders / sizeof folders[0]; i++)
        r = cpio_append(&archive, folders[i], S_IFDIR | 0755, NULL, 0);
    if (r >= 0)
        r = append_modules(&archive, kernel_fd);
    if (r >= 0)
        r = cpio_finish(&archive);
    _cleanup_close_ int fd = memfd_create("initramfs", MFD_CLOEXEC);
    if (r >= 0)
        r = fd < 0 ? -errno : era_write_full(fd, era_buffer_data(&archive), era_buffer_len(&archive));
    era_buffer_clear(&archive);
    return r < 0 ? r : era_take_fd(&fd);
}

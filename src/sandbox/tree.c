/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "sandbox/sandbox.h"

int tree_make_workspace(int root_fd, int volume_fd)
{
    int r = mount_point_at(root_fd, "workspace", 0755);
    if (r < 0)
        return r;
    _cleanup_close_ int workspace = openat(root_fd, "workspace", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (workspace < 0)
        return -errno;
    r = mount_point_at(workspace, "in", 0755);
    if (r >= 0)
        r = mount_point_at(workspace, "out", 0755);
    if (r < 0 || volume_fd < 0)
        return r;
    r = mount_point_at(workspace, "persist", 0755);
    return r < 0 ? r : mount_attach(volume_fd, workspace, "persist");
}

int tree_write_resolver(int root_fd)
{
    static const char text[] = "nameserver " SANDBOX_RESOLVER "\n";
    int r = mount_point_at(root_fd, "etc", 0755);
    if (r < 0)
        return r;
    _cleanup_close_ int etc = openat(root_fd, "etc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (etc < 0)
        return -errno;
    if (unlinkat(etc, "resolv.conf", 0) < 0 && errno != ENOENT)
        return -errno;
    _cleanup_close_ int fd = openat(etc, "resolv.conf", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : era_write_full(fd, text, sizeof text - 1);
}

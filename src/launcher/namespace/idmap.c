/* SPDX-License-Identifier: Apache-2.0 */
#include "base/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "launcher/namespace/internal.h"

/* 4096 slots of 65536 from here end at 0x70000000; systemd's containers end at 0x6FFFFFFF, users far below. */
static const uid_t first_base = 0x60000000;

uid_t idmap_base(uint32_t slot)
{
    return first_base + slot * UIDS_PER_GUEST;
}

static int write_map(pid_t child, const char *file, uid_t base)
{
    char path[64];
    char line[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)child, file);
    int len = snprintf(line, sizeof line, "0 %u %u\n", base, UIDS_PER_GUEST);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : era_write_full(fd, line, (size_t)len);
}

int idmap_write(pid_t child, uint32_t slot, bool privileged, struct era_error *err)
{
    if (!privileged)
        return era_idmap_write(child, false, err);
    int r = write_map(child, "uid_map", idmap_base(slot));
    if (r >= 0)
        r = write_map(child, "gid_map", idmap_base(slot));
    if (r < 0)
        return era_error_set(err, -r, "launcher_unavailable", "cannot map the guest's uids: %s", strerror(-r));
    return 0;
}

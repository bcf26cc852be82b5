/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - what the root of a process that nobody trusts is made of, and
 * what such a process may still do. Used by launchers, on the host, and by
 * era-init in a kernel of its own, so that a guest looks alike under each.
 *
 * Functions return 0, a descriptor, or -errno; they allocate nothing and may
 * be called after clone. Paths are resolved from descriptors and never by
 * names that an image could have bent.
 */
#ifndef ERA_SANDBOX_SANDBOX_H
#define ERA_SANDBOX_SANDBOX_H

#include <stdint.h>
#include <sys/types.h>

/* ---- mount.c: the mount API --------------------------------------------- */

struct mount_option {
    const char *key; /* NULL ends a list */
    const char *value;
};

/* A new file system, detached. */
int mount_new(const char *type, const struct mount_option options[], unsigned attributes);
/* A copy of an existing mount or of a part of one, detached, with these attributes besides its own and none of what
 * lies below. */
int mount_clone(int dirfd, const char *path, unsigned attributes);
/* Shows the mount with the ids of a user namespace. */
int mount_idmap(int mount_fd, int userns_fd);
/* Puts a detached mount on dirfd/name; a link there is not followed. */
int mount_attach(int mount_fd, int dirfd, const char *name);
/* Makes dirfd/name a directory that is none of the image's tricks: a link or file in its place is removed. */
int mount_point_at(int dirfd, const char *name, mode_t mode);

/* ---- dev.c, proc.c, tree.c: parts of a guest's root --------------------- */

/* /dev, with devices of the caller's /dev. */
int dev_mount(int root_fd, uint32_t mem_mib);
/* /proc of the caller's pid namespace. */
int proc_mount(int root_fd);

/* The address inside at which the host's resolver answers: of the range for benchmarks (RFC 2544), never routed. */
#define SANDBOX_RESOLVER "198.18.0.53"

/* /etc/resolv.conf, for a guest with a network. */
int tree_write_resolver(int root_fd);
/* /workspace with in, out and, when there is a volume, persist. volume_fd: a detached mount, or -EBADF. */
int tree_make_workspace(int root_fd, int volume_fd);

/* ---- caps.c, rlimits.c: of the calling process -------------------------- */

/* Leaves what root needs inside a container, for good. */
int caps_drop(void);
/* Limits of each process of a guest with so many; hard limits of the caller are never raised. */
int rlimits_set(uint32_t pids);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - inside the namespace launcher.
 *
 * Theory of operation. The parent (the shim) lends what needs the host's
 * privileges: control groups, the ranges of uids, and, when it is root, the
 * mounts (the image as the lower layer of an overlay, shown with the guest's
 * uids by an idmapped mount; the volume). They reach the child as detached
 * mounts, over a socket. The child, born into namespaces of its own, makes the
 * rest by the table of steps in child.c, and becomes era-init.
 *
 * Without root the child makes the mounts itself, in its user namespace: the
 * same functions, called on the other side.
 */
#ifndef ERA_LAUNCHER_NAMESPACE_INTERNAL_H
#define ERA_LAUNCHER_NAMESPACE_INTERNAL_H

#include <ifaddrs.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "launcher/launcher.h"
#include "sandbox/sandbox.h"

/* Detached mounts; -EBADF where there is none. */
struct guest_mounts {
    int root_fd;   /* the guest's root: an overlay */
    int init_fd;   /* era-init, as a file of a read-only mount */
    int volume_fd; /* what becomes /workspace/persist */
};

enum { GUEST_MOUNT_FDS = 3 };

/* ---- idmap.c ------------------------------------------------------------ */

#define UIDS_PER_GUEST 65536u

/* The first host uid of a slot: above what distributions and other managers give out. */
uid_t idmap_base(uint32_t slot);

/* Maps 0.. of the child's user namespace: to the slot's range by root, else to the caller (and his subuids). */
int idmap_write(pid_t child, uint32_t slot, bool privileged, struct era_error *err);

/* ---- owner.c ------------------------------------------------------------ */

/* As root: from here to owner_leave() what is made is made by the first uid of a slot's range. 0 or -errno. */
int owner_assume(uint32_t slot);
void owner_leave(void);

/* ---- root.c, volume.c --------------------------------------------------- */

/* The overlay. `userns_fd` < 0: in the child, unprivileged. The working directory must be the VM's own folder. */
int root_build(const struct era_guest_config *config, int userns_fd, struct guest_mounts *mounts,
               struct era_error *err);

/* In the parent, once the guest may go on: takes away what the overlay was built on, and holds by itself. Not
 * before, since the kernel waits for all processors then. */
void root_forget_scratch(void);

/* Opens and locks the volume; the mount goes to mounts->volume_fd. ret_lock_fd holds it for this VM. */
int volume_lock(const struct era_guest_config *config, int *ret_lock_fd, struct era_error *err);
int volume_build(const struct era_guest_config *config, int volume_fd, int userns_fd, struct guest_mounts *mounts,
                 struct era_error *err);

/* ---- network.c, seccomp.c: steps of the child, 0 or -errno -------------- */

int network_raise_loopback(void);
/*
 * What a guest with a network may not reach: the clouds' metadata, and the
 * host by any of its addresses, as getifaddrs() listed them there. Those that
 * the host is given later are not covered.
 */
int network_forbid(const struct ifaddrs *host);
int seccomp_install(void);

/* For the shim, once its guest runs: what it needs to keep it, and nothing else. 0 or -errno. */
int seccomp_confine_keeper(void);

/* ---- cgroup_hierarchy.c, cgroup_delegated.c, cgroup.c ------------------- */

enum cgroup_controller { CGROUP_MEMORY, CGROUP_CPU, CGROUP_PIDS, CGROUP_CONTROLLERS };

/* Where a controller of this host lives. */
struct cgroup_place {
    bool v2;
    char path[256]; /* of the directory that our groups go into, without the VM; "": there is none */
};

struct cgroup_hierarchy {
    struct cgroup_place places[CGROUP_CONTROLLERS];
    char v2_mount[256]; /* where the v2 tree with controllers is mounted; "": nowhere */
    bool undelegated;   /* the caller is not root, and no part of that tree with all controllers is his */
};

void cgroup_find(struct cgroup_hierarchy *ret_hierarchy);
const char *cgroup_controller_name(enum cgroup_controller controller);
/* Whether the v2 group at this path has the controller for its children. */
bool cgroup_v2_has(const char *path, const char *controller);
/* What to add to a refusal: how the caller gets a limit that this host cannot enforce for him. */
const char *cgroup_advice(const struct cgroup_hierarchy *hierarchy);

/* The name of the group that the processes of a group of ours move to, so that it may have children with limits. */
#define CGROUP_CALLERS "agent-callers"

/*
 * The part of a v2 tree that an ordinary user may manage, as a path. The mount
 * is described by its root within the tree and its mount point. -ENOENT: there is none.
 */
int cgroup_find_delegated(const char *mount_root, const char *mount_point, char to[256]);
/* Hands a controller down from a v2 group to its children, and makes room for that. */
int cgroup_hand_down(const char *group, const char *controller);
/* Removes the groups of this VM wherever they are in a v2 tree: their maker may have sat elsewhere than we. */
void cgroup_sweep_tree(const char *mount_point, const char *id);

struct cgroup {
    struct cgroup_hierarchy hierarchy;
    char id[ERA_VM_ID_MAX];
    bool made[CGROUP_CONTROLLERS];
};

/* Makes the groups and sets the limits; what cannot be is an error, or named in unenforced. */
int cgroup_create(const struct era_guest_config *config, struct cgroup *ret_cgroup, char unenforced[ERA_UNENFORCED_MAX],
                  struct era_error *err);

/*
 * How a child gets into its groups. Moving a process by its pid makes the
 * kernel wait for all processors (the write side of cgroup_threadgroup_rwsem:
 * a grace period of RCU, 10 ms and more), two ways do not: to be born in a
 * group of v2 (clone3, CLONE_INTO_CGROUP, Linux 5.7), and for a process of one
 * thread to write itself, "0", into `tasks` of v1 (cgroup_procs_write_start()
 * in kernel/cgroup/cgroup.c, Linux 5.5; right but slower on older ones).
 */
struct cgroup_entry {
    int birth_fd;                      /* owned: the group of v2; -EBADF without */
    int tasks_fds[CGROUP_CONTROLLERS]; /* owned: `tasks` of v1; -EBADF without */
};

extern const struct cgroup_entry cgroup_entry_none;
int cgroup_entry_open(const struct cgroup *cgroup, struct cgroup_entry *ret_entry, struct era_error *err);
void cgroup_entry_close(struct cgroup_entry *entry);
/*
 * As clone(2), 0 in the child, with a pidfd: right into the groups of v2. ret_outside: the kernel cannot, and the
 * parent calls cgroup_attach().
 */
pid_t cgroup_clone(const struct cgroup_entry *entry, unsigned long flags, int *ret_pid_fd, bool *ret_outside);
/* By the child, as its first step: into its groups of v1. */
int cgroup_enter(const struct cgroup_entry *entry);
/* By the parent, with the wait: into all of them, for a child of one thread that was not born in them. */
int cgroup_attach(const struct cgroup_entry *entry, pid_t pid);
/* Lets its processes have all processors that are free (0), or as many as before. */
void cgroup_hurry(const struct cgroup *cgroup, uint32_t cpu_count);
uint64_t cgroup_oom_kills(const struct cgroup *cgroup);
void cgroup_remove(struct cgroup *cgroup);
/* Waits for the processes of a group to end, and removes it. */
void cgroup_remove_at(const char *path);
void cgroup_sweep(const char *id);

/* ---- keeper.c ----------------------------------------------------------- */

/* Where a helper's descriptors stand, so that they can be named in its arguments. */
enum { KEEPER_NETNS = 3, KEEPER_READY, KEEPER_WIRE };

/* All borrowed. */
struct net_helper {
    const char *path;
    const char *const *argv; /* writes its pid to KEEPER_READY when all is set up */
    int wire_fd;             /* becomes KEEPER_WIRE; or -EBADF */
    bool inside;             /* in the guest's network namespace */
};

/* Starts a helper for the network of `child`; ret_pid_fd: a pidfd whose kill ends it. It dies with us as well. */
int keeper_start(pid_t child, const struct net_helper *helper, int *ret_pid_fd, struct era_error *err);

/* ---- pasta.c ------------------------------------------------------------ */

/* Connects the child's network; ret_fd: a pidfd whose kill ends the helper, which dies with us as well. */
int pasta_start(pid_t child, int *ret_pid_fd, struct era_error *err);

/* ---- kernel.c ----------------------------------------------------------- */

enum { KERNEL_WHY_MAX = 200 };

/* 0 when the kernel has every system call that a guest cannot be made without; else which it lacks. */
int kernel_check_calls(char why[KERNEL_WHY_MAX]);
/* Whether uname(2) gives an older version; distributions bring parts of newer ones, so this explains and decides
 * nothing. */
bool kernel_is_before(unsigned major, unsigned minor);
/* Why the kernel refused a user namespace, as far as its settings tell, and how to change that. */
const char *kernel_why_no_namespaces(void);

struct kernel_trial {
    int mount_error;     /* as an ordinary user: why no overlay can be made, as an errno; 0: it can */
    bool no_user_xattrs; /* tmpfs has no user.* attributes (before Linux 6.6): see root.c */
};

/* Makes the namespaces of a guest, in a child that ends at once. */
int kernel_try_namespaces(struct kernel_trial *ret_trial);

/* ---- probe.c ------------------------------------------------------------ */

int namespace_probe(const char *templates_path, struct era_check checks[], int max, bool *ret_usable);

/* ---- child.c ------------------------------------------------------------ */

/* What a step that failed tells the parent. */
struct child_failure {
    int32_t errnum;
    char step[48];
};

struct child_plan {
    const struct era_guest_config *config;
    const struct cgroup_entry *cgroups;
    bool privileged;
    int sync_fd;    /* to the parent: go, mounts, and how it ended */
    int control_fd; /* becomes descriptor 3 of era-init */
    int parent_sync_fd;
    int parent_control_fd;
    struct ifaddrs *host_addresses;
};

/* In the new process: never returns. */
_Noreturn void child_main(const struct child_plan *plan);

#endif

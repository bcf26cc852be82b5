/* SPDX-License-Identifier: Apache-2.0 */
/*
 * template.h - machines that were booted once, to be copied.
 *
 * A template is a folder below `templates/`, named by a hash of its key:
 *     <name>/memory     the machine's memory, sparse
 *     <name>/state      the state of its devices, as QEMU writes it
 *     <name>/manifest   the key, and how the two files were when they were whole
 *     <name>.lock       flock: held by who makes it
 * Who runs on a template holds a shared lock (flock) on its folder.
 * It is made as .new-<name> and appears by one rename. What does not agree
 * with its manifest is made anew and never used.
 */
#ifndef ERA_LAUNCHER_MICROVM_TEMPLATE_H
#define ERA_LAUNCHER_MICROVM_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

#include "launcher/microvm/internal.h"

struct template_key {
    char text[1024];
    char name[20];
};

uint64_t template_hash(const void *data, size_t len);
/* -errno: a file of it is not there, or the text does not fit. */
int template_key(const struct era_guest_config *config, const struct machine_spec *spec, const char *kernel_file,
                 struct template_key *ret_key);

/* The same with the kernel that config names; filled err. */
int template_key_of(const struct era_guest_config *config, const struct machine_spec *spec,
                    struct template_key *ret_key, struct era_error *err);

/* Whether the kernel is one of the user's own: a file, and not the folder with Debian's. */
bool template_kernel_is_own(const struct era_guest_config *config);

/* A template in use; all owned. */
struct template
{
    int lock_fd;
    int memory_fd; /* read only */
    int state_fd;  /* read only */
};

void template_close(struct template *template);

/* manifest.c: writes what is in the folder; opens it when it is what was written. -EBADMSG: it is not. */
/* manifest_sync() brings the files to the disk first, where they are to outlive a host that loses its power. */
int manifest_sync(int dirfd);
int manifest_write(int dirfd, const struct template_key *key);
int manifest_check(int dirfd, const struct template_key *key, struct template *ret_template);

/* Opens the template of this machine, which is made when it is not there, within the bounds of cgroup (or NULL). */
int template_open(const struct era_guest_config *config, const struct machine_spec *spec, const struct cgroup *cgroup,
                  struct template *ret_template, struct era_error *err);

/* ---- save.c ------------------------------------------------------------- */

/* Files of a QEMU's /proc/PID, by which its memory is read. All owned; -EBADF: it cannot be, and so not be saved. */
struct saved_process {
    int maps_fd;
    int pagemap_fd;
    int memory_fd;
};

/* While we still may: they are of QEMU's uid, and the shim gives up its capabilities. */
void saved_process_open(struct saved_process *process, pid_t pid);
void saved_process_close(struct saved_process *process);

/* What of a machine is saved beside the state of its devices. */
struct saved_parts {
    int memory_fd; /* borrowed, as the next: what its memory is a private mapping of */
    int volume_fd; /* or -EBADF */
    const struct saved_process *process;
    const struct template_key *key;
};

/* One step of saving a machine that runs: see era_guest_ops.save. */
int snapshot_save(struct qemu *qemu, const struct saved_parts *parts, int dirfd, enum era_save_step step,
                  struct era_error *err);
/* Opens what was saved so. snapshot_corrupt: it is not what was written, or of another QEMU, kernel, processor. */
int snapshot_open(const char *path, const struct template_key *key, struct template *ret_template,
                  struct era_error *err);

/* ---- kvm.c -------------------------------------------------------------- */

enum { KVM_REASON_MAX = 300 };

enum kvm_verdict { KVM_UNTRIED, KVM_USABLE, KVM_UNUSABLE };

/* What is known of KVM since this host booted. templates_fd may be -EBADF. */
enum kvm_verdict kvm_verdict_read(int templates_fd, char ret_reason[KVM_REASON_MAX]);

/* Whether a machine boots under KVM here; tried when it is not known, which takes a few seconds. */
bool kvm_usable(const struct era_guest_config *config, const struct machine_spec *spec, const struct cgroup *cgroup);

/* ---- probe.c ------------------------------------------------------------ */

int microvm_probe(const char *templates_path, struct era_check checks[], int max, bool *ret_usable);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - inside the microvm launcher.
 *
 * Theory of operation. A guest is a QEMU process with a machine of the type
 * "microvm": memory, processors, and four devices: the image as a disk, the
 * volume as a disk, the control port, and a network card if there is a network.
 * Its kernel starts era-init from an initramfs that we write.
 *
 * Booting takes seconds, so it is done once: the booted machine is saved as a
 * *template* (template.c), its memory a file and the state of its devices
 * another. A VM is a *clone*: its memory is the file, mapped privately, so that
 * all clones share what none has changed. Which VM it is, it learns by the
 * IDENTITY frame.
 *
 * QEMU runs in a jail (jail.c), for it has to be taken for hostile once its
 * guest runs: it has no file system, no network, no capability, an unprivileged
 * uid, and the descriptors that it was given. Whatever it opens for writing by
 * name, its memory among it, is handed to it by us, or not (opens.c).
 */
#ifndef ERA_LAUNCHER_MICROVM_INTERNAL_H
#define ERA_LAUNCHER_MICROVM_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"
#include "launcher/launcher.h"
#include "launcher/microvm/qmp.h"

/* ---- initramfs.c -------------------------------------------------------- */

/* A memfd with the archive; -errno. kernel_fd: the kernel's folder; negative: all that it needs is built in. */
int initramfs_make(const char *init_path, int kernel_fd);

/* ---- args.c: pure ------------------------------------------------------- */

/* Where the descriptors of a QEMU stand. */
enum {
    QEMU_CONTROL = 3, /* a stream socket: frames */
    QEMU_MONITOR,     /* a stream socket: QMP */
    QEMU_IMAGE,       /* the image's file, read only */
    QEMU_VOLUME,      /* the volume's file */
    QEMU_NETWORK,     /* a stream socket: Ethernet frames */
    QEMU_FDS,
};

/* Names that a QEMU opens, which only mean something to opens.c and jail.c. */
#define QEMU_MEMORY_PATH    "/memory"
#define QEMU_KERNEL_PATH    "/kernel"
#define QEMU_INITRAMFS_PATH "/initramfs"
#define QEMU_KVM_PATH       "/dev/kvm"

struct machine_spec {
    uint32_t cpu_count;
    uint32_t mem_mib;
    uint32_t tsc_khz; /* of the processor's clock, which an emulated machine cannot measure; 0: it measures */
    bool kvm;
    bool clone;       /* goes on from a saved state, with private memory; else it boots, with shared memory */
    bool snapshot;    /* a clone of a machine that was saved while it was in use: its state is of devices alone */
    bool network;     /* has a card */
    bool volume;      /* the volume's disk is QEMU_VOLUME; else an empty one stands in its place */
    const char *warm; /* program to be loaded once while booting; NULL: none */
};

/* The whole command line of a QEMU. -ENOMEM. */
int machine_args(const struct machine_spec *spec, struct era_strv *ret_args);

struct qemu_pair {
    const char *key; /* NULL ends a list */
    const char *value;
};

/* "-flag first,key=value,…": the one place where an option is written; no value can begin another. -ENOMEM. */
int qemu_option(struct era_strv *args, const char *flag, const char *first, const struct qemu_pair pairs[]);

/* ---- jail.c ------------------------------------------------------------- */

struct ifaddrs;
struct cgroup;
struct cgroup_entry;

struct jail_plan {
    const struct cgroup_entry *cgroups;
    char *const *argv;
    const char *qemu_path;
    int fds[QEMU_FDS]; /* by QEMU_…; -EBADF: not there. Borrowed */
    int kernel_fd;     /* of a machine that boots; else -EBADF */
    int initramfs_fd;
    int words_fd; /* becomes its stdout and stderr */
    int sync_fd;
    int parent_sync_fd; /* its other end, which the new process must not hold: its closing tells that the parent died */
    struct ifaddrs *host_addresses; /* what the network may not reach */
    bool network;
    bool privileged;
    bool namespaces; /* else what can be had without: no_new_privs and filters */
};

/* In the new process: never returns. */
_Noreturn void jail_main(const struct jail_plan *plan);

/* ---- opens.c ------------------------------------------------------------ */

/* Has the calling process ask before it opens anything for writing. Returns the descriptor that hears it; -errno. */
int opens_watch(void);

/*
 * Answers a new QEMU: gives it memory_fd (and /dev/kvm, when kvm) under their
 * names and refuses everything else, until it has its memory; what it asks for
 * later is refused by the kernel. 0, -ETIMEDOUT, -EPIPE when it died.
 */
int opens_answer(int listener_fd, pid_t pid, int pid_fd, int memory_fd, bool kvm);

/* ---- identity.c --------------------------------------------------------- */

struct qemu;

/* Tells the guest who it is and what time it is; it has said READY when this returns. */
int identity_tell(struct qemu *qemu, const struct era_guest_config *config, struct era_error *err);

/* ---- passt.c ------------------------------------------------------------ */

/* Connects a machine's card, the other end of wire_fd, to the network namespace of child. */
int passt_start(pid_t child, int wire_fd, int *ret_pid_fd, struct era_error *err);

/* ---- qemu.c: a QEMU in its jail ----------------------------------------- */

struct qemu {
    pid_t pid;
    int pid_fd;     /* owned, as the next two */
    int control_fd; /* frames to and from era-init */
    int monitor_fd;
    int words_fd; /* what it says on stderr; a pipe, so that it cannot fill a disk */
    struct era_buffer monitor_in;
    uint32_t monitor_asked; /* the id of the command that was sent last */
};

struct qemu_files {
    int memory_fd;
    int image_fd;
    int volume_fd;    /* or -EBADF */
    int network_fd;   /* or -EBADF */
    int kernel_fd;    /* or -EBADF */
    int initramfs_fd; /* or -EBADF */
};

/* Called between the birth of a QEMU and its exec, with its pid: it has its namespaces and bounds, and waits. */
typedef int (*qemu_lend_fn)(void *userdata, pid_t pid, struct era_error *err);

struct qemu_start {
    const struct era_guest_config *config;
    const struct machine_spec *spec;
    const struct qemu_files *files; /* borrowed */
    const struct cgroup *cgroup;    /* borrowed: its bounds; NULL: none */
    qemu_lend_fn lend;              /* or NULL */
    void *userdata;
};

int qemu_start(const struct qemu_start *start, struct qemu *ret_qemu, bool *ret_jailed, struct era_error *err);
void qemu_kill(const struct qemu *qemu);
/* Kills it, waits for its end, closes all. Harmless on one that was never started. */
void qemu_end(struct qemu *qemu);
/* Fails with what QEMU said last, or with what r stands for. */
int qemu_fail(const struct qemu *qemu, int r, const char *what, struct era_error *err);
/* Where QEMU is; NULL when it is not there. */
const char *qemu_find(void);

/* ---- boot.c ------------------------------------------------------------- */

/* How often this processor's clock ticks; 0: it has none that is known. Takes a twentieth of a second. */
uint32_t boot_tsc_khz(void);
/* Tells QEMU how a state is saved and loaded here. */
int boot_prepare_saving(struct qemu *qemu, int64_t deadline_ns, struct era_error *err);
/* Starts a machine, waits until era-init is ready, saves it, ends it. */
int boot_and_save(const struct qemu_start *start, int state_fd, struct era_error *err);

/* ---- save.c: a machine that runs, saved as it is ------------------------- */

int machine_stop(struct qemu *qemu, struct era_error *err);
int machine_go_on(struct qemu *qemu, struct era_error *err);

/* ---- monitor.c ---------------------------------------------------------- */

/*
 * What is asked is answered by its id: the answer to what nobody waits for any more, because it came too late, is
 * passed over.
 */

/* Sends a command, and does not wait for its answer. */
int monitor_send(struct qemu *qemu, const char *command, const struct qmp_member members[]);
/* Sends a command with a descriptor, and waits for its answer. */
int monitor_pass(struct qemu *qemu, const char *command, const struct qmp_member members[], int fd, int64_t deadline_ns,
                 struct era_error *err);
/* Hands it a descriptor, which it then knows by this name: for "fd:NAME". */
int monitor_give(struct qemu *qemu, const char *name, int fd, int64_t deadline_ns, struct era_error *err);
/* The next line, or -ETIMEDOUT, -EPIPE (it died), -EBADMSG. deadline: monotonic. */
int monitor_read(struct qemu *qemu, int64_t deadline_ns, struct qmp_line *ret_line);
/* Sends a command and waits for its answer. What it refuses is an error vm_start_failed. */
int monitor_ask(struct qemu *qemu, const char *command, const struct qmp_member members[], int64_t deadline_ns,
                struct era_error *err);
/* Waits for an event of this name; status: what its data must say, or NULL. */
int monitor_await(struct qemu *qemu, const char *event, const char *status, int64_t deadline_ns, struct era_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launcher.h - the interface of what makes a guest: one implementation a
 * folder. A launcher turns a configuration into a running guest whose first
 * process is era-init, and hands back two descriptors: one to talk to it, one
 * that tells its death. Called by the shim alone, which is single-threaded.
 */
#ifndef ERA_LAUNCHER_LAUNCHER_H
#define ERA_LAUNCHER_LAUNCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/vm.h"

/* What a guest is to be; all of it borrowed for the time of the call. */
struct era_guest_config {
    const char *id;          /* also its hostname */
    const char *image_path;  /* absolute: the root file system */
    const char *volume_path; /* absolute: image file or folder; NULL without a volume */
    const char *init_path;   /* absolute: era-init */
    /* of a guest with a kernel of its own; NULL when nobody made them */
    const char *image_file;         /* absolute: the root file system as one file */
    const char *image_digest;       /* "sha256:…" */
    const char *kernel_path;        /* absolute: the folder that era_image_store_kernel() made, or a kernel */
    const char *templates_path;     /* absolute: a folder for booted machines */
    uint64_t template_budget_bytes; /* of all of them together */
    const char *snapshot_path;      /* absolute: a folder in which a guest was saved, to go on from; NULL: a new one */
    void (*progress)(void *userdata, const char *line); /* what takes long; NULL: nobody hears it */
    void *progress_userdata;
    int caller_fd;    /* hangs up when nobody waits for the guest any more; -EBADF: there is none such */
    char *const *env; /* init's own environment, and so every command's; NULL: empty */
    enum era_volume_kind volume_kind;
    enum era_network network;
    uint32_t cpu_count;
    uint32_t mem_mib;
    uint32_t pids;
    uint32_t uid_slot; /* 0..ERA_UID_SLOTS-1: its own range of uids */
    bool best_effort;  /* go on where a limit cannot be enforced */
};

struct era_guest;

/*
 * A guest is saved in three steps, since only in the second it has to stand still: what can be done before, what
 * must be done then, and what may wait.
 */
enum era_save_step { ERA_SAVE_BEFORE, ERA_SAVE_STILL, ERA_SAVE_AFTER };

struct era_guest_ops {
    /* Ends the guest at once; harmless when it is dead. */
    void (*kill)(struct era_guest *guest);
    /*
     * Lifts the bound on processors, so that what was told to end does, and puts it back. Who has used up his share,
     * and more than that within the kernel, else waits for the next; init with him. NULL: init shares no bound.
     */
    void (*hurry)(struct era_guest *guest, bool on);
    /* How many processes the kernel ended for want of memory so far; 0 where nobody counts. */
    uint64_t (*oom_kills)(const struct era_guest *guest);
    /* Gives back what the host lent: control groups, helpers. The guest must be dead. */
    void (*free)(struct era_guest *guest);
    /* The guest stands still, and goes on. NULL: this launcher cannot, which is the error not_supported. */
    int (*pause)(struct era_guest *guest, struct era_error *err);
    int (*resume)(struct era_guest *guest, struct era_error *err);
    /* Saves it in the folder dirfd, so that era_guest_config.snapshot_path can lead there; NULL as above. disk_full. */
    int (*save)(struct era_guest *guest, int dirfd, enum era_save_step step, struct era_error *err);
};

/* The head of every launcher's own object. */
struct era_guest {
    const struct era_guest_ops *ops;
    int control_fd; /* owned: a stream of frames to era-init */
    int pid_fd;     /* owned: readable once the guest is dead */
    bool foreign;   /* of another uid than the caller's, who needs CAP_KILL to end it */
    char unenforced[ERA_UNENFORCED_MAX];
    bool ready;     /* it has said READY; else that is still to come */
    bool own_clock; /* which its kernel keeps, and it has to be told what time it is */
};

/* What doctor says of one thing that matters here. */
struct era_check {
    char name[32];
    char state[8]; /* "ok", "warn", "missing" */
    char detail[200];
};

struct era_launcher {
    enum era_launcher_kind kind;

    /*
     * Makes a guest. Errors: launcher_unavailable (what this host lacks),
     * limit_unenforceable (which, and how to go on without), volume_busy,
     * network_unavailable, vm_start_failed (which step, and why), and of a snapshot
     * snapshot_corrupt, not_supported.
     */
    int (*start)(const struct era_guest_config *config, struct era_guest **ret_guest, struct era_error *err);

    /*
     * The caller's process keeps a running guest from here on and does nothing
     * else: it needs no new privileges any more. 0 or -errno.
     */
    int (*confine)(void);

    /* Removes what a guest of this id left on the host when its shim was killed. */
    void (*sweep)(const char *id);

    /* Whether a guest of it was seen to work here at full speed; may take seconds the first time. NULL: never asked. */
    bool (*proven)(const struct era_guest_config *config);

    /*
     * Writes its checks (at most max) and says whether a guest could be started here. Returns their count.
     * templates_path: where verdicts are kept, or NULL.
     */
    int (*probe)(const char *templates_path, struct era_check checks[], int max, bool *ret_usable);
};

extern const struct era_launcher era_namespace_launcher;
extern const struct era_launcher era_microvm_launcher;

/* The one that `kind` names; for auto microvm when KVM is usable, else namespace. */
int era_launcher_choose(enum era_launcher_kind kind, const struct era_guest_config *config,
                        const struct era_launcher **ret_launcher, struct era_error *err);

/* What auto picks here, and why. */
struct era_choice {
    const char *name; /* "": none */
    const char *reason;
};

/* All checks of all launchers. Returns their count. */
int era_launcher_probe(const char *templates_path, struct era_check checks[], int max, struct era_choice *ret_choice);

#endif

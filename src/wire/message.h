/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message.h - the payloads that have a structure of their own.
 *
 * `_encode` appends the payload to a buffer: 0 or -ENOMEM. `_decode` checks
 * every length, enumeration and limit: 0, -EBADMSG, or -ENOMEM; what it hands
 * out is copied, and freed by `_clear`. Pure.
 */
#ifndef ERA_WIRE_MESSAGE_H
#define ERA_WIRE_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "vm/vm.h"
#include "wire/frame.h"

/* ERA_FRAME_LAUNCH: everything a shim must know to make its guest. */
struct era_launch {
    char id[ERA_VM_ID_MAX];
    enum era_launcher_kind launcher;
    enum era_network network;
    enum era_volume_kind volume_kind;
    uint32_t cpu_count;
    uint32_t mem_mib;
    uint32_t disk_mib;
    uint32_t pids;
    uint32_t uid_slot;
    bool best_effort;
    char image_path[ERA_PATH_MAX];  /* absolute */
    char volume_path[ERA_PATH_MAX]; /* absolute, or "" */
    /* of a guest with a kernel of its own; "" when nobody made them: see struct era_guest_config */
    char image_file[ERA_PATH_MAX];
    char image_digest[ERA_DIGEST_MAX];
    char kernel_path[ERA_PATH_MAX];
    char templates_path[ERA_PATH_MAX];
    uint32_t template_budget_mib;     /* of all of them together */
    char snapshot_path[ERA_PATH_MAX]; /* absolute: what the guest goes on from; or "" */
    struct era_strv env;              /* owned; what every command of the VM finds in its environment */
};

void era_launch_clear(struct era_launch *launch);
int era_launch_encode(struct era_buffer *to, const struct era_launch *launch);
int era_launch_decode(const struct era_frame *frame, struct era_launch *ret_launch);

/* ERA_FRAME_LAUNCHED: what became of it. */
struct era_launched {
    enum era_launcher_kind launcher;
    char unenforced[ERA_UNENFORCED_MAX]; /* "" or "memory,cpu" */
};

int era_launched_encode(struct era_buffer *to, const struct era_launched *launched);
int era_launched_decode(const struct era_frame *frame, struct era_launched *ret_launched);

/* ERA_FRAME_IDENTITY: what tells a guest that was copied from a booted one from all other copies. */
enum { ERA_IDENTITY_SEED = 64, ERA_MACHINE_ID_MAX = 33 };

struct era_identity {
    uint8_t seed[ERA_IDENTITY_SEED];     /* random bytes of the host's */
    int64_t realtime_ns;                 /* the host's clock, when it was sent */
    char id[ERA_VM_ID_MAX];              /* also the hostname */
    char machine_id[ERA_MACHINE_ID_MAX]; /* 32 hexadecimal digits */
    uint8_t mac[6];
    bool network; /* there is a network card to be configured */
    bool volume;  /* there is a volume to be mounted */
    uint32_t pids;
    struct era_strv env; /* owned; what every command of the VM finds in its environment */
};

int era_identity_encode(struct era_buffer *to, const struct era_identity *identity);
int era_identity_decode(const struct era_frame *frame, struct era_identity *ret_identity);
void era_identity_clear(struct era_identity *identity);

/* ERA_FRAME_CLOCK */
int era_clock_append(struct era_buffer *to, int64_t realtime_ns);
int era_clock_decode(const struct era_frame *frame, int64_t *ret_realtime_ns);

/* ERA_FRAME_RUN */
enum era_run_kind {
    ERA_RUN_COMMAND, /* argv, or argv[0] as a shell command line */
    ERA_RUN_PUT,     /* stdin is a tree stream (tree.h), unpacked at argv[0] */
    ERA_RUN_GET,     /* stdout is a tree stream of argv[0] */
    ERA_RUN_OPEN,    /* the same, links followed; of a folder only its own entries, and none with its content */
    ERA_RUN_REMOVE,  /* argv[0] is removed, with all that is in it */
};

enum {
    ERA_RUN_SHELL = 1 << 0,          /* argv[0] is a command line for /bin/sh -c */
    ERA_RUN_TTY = 1 << 1,            /* on a terminal of its own; stderr goes with stdout */
    ERA_RUN_STDIN = 1 << 2,          /* stdin frames follow; else stdin is empty */
    ERA_RUN_LIVE = 1 << 3,           /* the client wants the output itself */
    ERA_RUN_LOG = 1 << 4,            /* the shim keeps the output in files */
    ERA_RUN_KILL_ON_HANGUP = 1 << 5, /* the run ends with its client */
    ERA_RUN_HOLD = 1 << 6,           /* made ready, but started by GO only; ends with its client until then */
    ERA_RUN_FLAGS_ALL = (1 << 7) - 1,
};

struct era_run_request {
    char id[ERA_RUN_ID_MAX]; /* of a run that is held: whatever is well-formed; GO brings its own */
    enum era_run_kind kind;
    uint32_t flags;
    uint32_t timeout_ms; /* 0: none */
    uint64_t output_cap; /* bytes of log a stream */
    uint16_t cols;
    uint16_t rows;
    char workdir[ERA_PATH_MAX];
    struct era_strv argv; /* 1..ERA_ARGV_MAX */
    struct era_strv env;
};

int era_run_request_encode(struct era_buffer *to, const struct era_run_request *request);
int era_run_request_decode(const struct era_frame *frame, struct era_run_request *ret_request);
void era_run_request_clear(struct era_run_request *request);

/* ERA_FRAME_GO of a client. */
int era_go_append(struct era_buffer *to, const char *run_id);
int era_go_decode(const struct era_frame *frame, char ret_run_id[ERA_RUN_ID_MAX]);

/* ERA_FRAME_ENDED: what init saw. errnum != 0: the command could not be started, or the files not be moved. */
struct era_run_ended {
    int32_t wait_status;
    uint64_t cpu_us;       /* ..INT64_MAX, as JSON and the store have no more */
    uint64_t peak_mem_kib; /* ..INT64_MAX */
    uint64_t oom_kills;    /* processes that a kernel of the guest's own ended for want of memory meanwhile */
    int32_t errnum;
    char message[256]; /* what failed, from the guest: untrusted text */
};

int era_run_ended_encode(struct era_buffer *to, const struct era_run_ended *ended);
int era_run_ended_decode(const struct era_frame *frame, struct era_run_ended *ret_ended);

/* ERA_FRAME_EXIT, and the file `result` of a run: see era_run_outcome in vm.h. */
int era_outcome_encode(struct era_buffer *to, const struct era_run_outcome *outcome);
int era_outcome_decode(const struct era_frame *frame, struct era_run_outcome *ret_outcome);

/* ERA_FRAME_ERROR */
int era_error_encode(struct era_buffer *to, const struct era_error *err);
int era_error_decode(const struct era_frame *frame, struct era_error *ret_err);

/* ERA_FRAME_WINDOW */
struct era_window {
    uint8_t channel; /* 0..2 */
    uint32_t bytes;  /* 1..ERA_WINDOW_INITIAL */
};

int era_window_decode(const struct era_frame *frame, struct era_window *ret_window);

/* ERA_FRAME_RESIZE */
int era_resize_decode(const struct era_frame *frame, uint16_t *ret_cols, uint16_t *ret_rows);

/* ERA_FRAME_SIGNAL, ERA_FRAME_SHUTDOWN, ERA_FRAME_STOP: one u32. */
int era_u32_decode(const struct era_frame *frame, uint32_t *ret_value);

/* ERA_FRAME_GO_ON: the host's clock, which the guest's stood still behind. */
int era_go_on_append(struct era_buffer *to, int64_t realtime_ns);
int era_go_on_decode(const struct era_frame *frame, int64_t *ret_realtime_ns);

/* Whole frames of the small kinds, appended: 0 or -ENOMEM. */
int era_window_append(struct era_buffer *to, uint32_t stream, uint8_t channel, uint32_t bytes);
int era_resize_append(struct era_buffer *to, uint32_t stream, uint16_t cols, uint16_t rows);
int era_u32_append(struct era_buffer *to, enum era_frame_type type, uint32_t stream, uint32_t value);

/* A whole frame around what `encode` writes: era_message_append(to, ERA_FRAME_EXIT, 0, era_outcome_encode, &outcome).
 */
#define era_message_append(to, type, stream, encode, message)                                                          \
    ({                                                                                                                 \
        struct era_buffer payload_ = {0};                                                                              \
        int r_ = encode(&payload_, message);                                                                           \
        if (r_ >= 0)                                                                                                   \
            r_ = era_frame_append(to, type, stream, era_buffer_data(&payload_), era_buffer_len(&payload_));            \
        era_buffer_clear(&payload_);                                                                                   \
        r_;                                                                                                            \
    })

#endif

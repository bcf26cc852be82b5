/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim.h - inside era-shim, the keeper of one VM.
 *
 * Theory of operation: one process, one thread, one epoll loop between the
 * guest (one connection) and clients (one run each). The shim decides what
 * only it may decide: deadlines, verdicts, how much output is kept, how many
 * runs there are. It holds the VM's lock for as long as it lives; its guest
 * dies with it. It is started by the service, in the VM's folder.
 */
#ifndef ERA_SHIM_SHIM_H
#define ERA_SHIM_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "launcher/launcher.h"
#include "wire/frame.h"
#include "wire/message.h"

enum {
    SHIM_FD_LAUNCH = 3, /* the service, until it commits */
    SHIM_FD_LOCK = 4,   /* shim.lock, locked; only held */
    SHIM_FD_IMAGE = 5,  /* the image's shared lock; only held */
};

enum {
    RUNS_MAX = 128,        /* at once */
    RUNS_KEPT = 100,       /* logs of finished ones */
    KILL_GRACE_MS = 800,   /* for a guest to end a run that timed out; then all of it ends */
    STOP_SLACK_MS = 500,   /* beyond the grace of a stop */
    CLIENTS_MAX = 256,     /* at once; one with nothing under way gives way to the next */
    BACKLOG_MAX = 1 << 20, /* bytes for the guest; beyond that nobody is read who could add to them */
};

enum source_kind {
    SOURCE_LISTEN,
    SOURCE_GUEST,
    SOURCE_GUEST_DEATH,
    SOURCE_TIMER,
    SOURCE_CLOCK,
    SOURCE_OWNER,
    SOURCE_CLIENT
};

/* What epoll hands back; the first member of what it is part of. */
struct source {
    enum source_kind kind;
    int fd;
};

/* ---- log.c -------------------------------------------------------------- */

/*
 * One stream's log: the first half of the cap goes to the file as it comes,
 * what follows to a ring beside it, and the ring to the file at the end.
 */
struct run_log {
    int fd;      /* owned; -EBADF: nothing is kept */
    int ring_fd; /* owned; -EBADF until it is needed */
    uint64_t total;
    uint64_t head_max;
    uint64_t ring_max;
    uint64_t lost;      /* bytes of the head that the disk refused */
    uint64_t ring_from; /* the place in the stream behind the last that the ring could not take */
};

int log_open(struct run_log *log, int dirfd, const char *name, uint64_t cap);
void log_write(struct run_log *log, int dirfd, const char *ring_name, const void *data, size_t len);
/* Completes the file; returns how many bytes are not in it. */
uint64_t log_finish(struct run_log *log, int dirfd, const char *ring_name);
void log_close(struct run_log *log);

/* ---- run.c -------------------------------------------------------------- */

struct client;

struct run {
    uint32_t stream;
    char id[ERA_RUN_ID_MAX];
    enum era_run_kind kind;
    uint32_t flags;
    struct client *client; /* NULL when it hung up */
    int dirfd;             /* owned: out/runs/<id>; -EBADF without logs */
    struct run_log logs[2];
    uint32_t unread[2];    /* bytes that the client has not given room back for */
    uint32_t window[2];    /* bytes that the guest may still send */
    uint32_t input_window; /* bytes that the client may still send */
    int64_t started_ns;    /* monotonic */
    int64_t deadline_ns;   /* 0: none */
    uint32_t timeout_ms;   /* 0: none */
    uint64_t cap;          /* of each log */
    bool held;             /* made ready, and waits for GO */
    bool timed_out;
    bool stopped;       /* ended by SIGKILL on behalf of its client */
    bool in_company;    /* another run was there at some time */
    uint64_t oom_kills; /* of the guest when it began */
    struct run *next;
};

/* ---- client.c ----------------------------------------------------------- */

enum client_state { CLIENT_NEW, CLIENT_RUNNING, CLIENT_STOPPING, CLIENT_DONE, CLIENT_STATES };

struct client {
    struct source source;
    enum client_state state;
    uint32_t events; /* that it is watched for */
    struct era_buffer in;
    struct era_buffer out;
    struct run *run; /* borrowed; NULL without */
    struct client *next;
};

struct shim {
    struct era_launch launch;
    const struct era_launcher *launcher;
    struct era_guest *guest; /* owned */
    int epoll_fd;
    struct source listen;
    bool deaf; /* no more clients for now */
    struct source guest_source;
    struct source guest_death;
    struct source timer;
    struct source clock_timer; /* fd -EBADF: the guest has the host's clock */
    struct source owner;       /* of a VM that is bound to its creator; fd -EBADF: of none */
    uint32_t guest_events;     /* that its connection is watched for */
    struct era_buffer from_guest;
    struct era_buffer to_guest;
    struct run *runs;
    struct client *clients;
    uint32_t next_stream;
    unsigned logs_kept;
    bool hurried;             /* the guest's bound on processors is lifted */
    int64_t stop_deadline_ns; /* 0: not stopping */
    int64_t paused_since_ns;  /* monotonic; 0: it runs */
    unsigned stills_owed;     /* STILL that the guest was asked for and has not said */
    unsigned clocks_owed;     /* READY likewise, its answer to CLOCK */
    int clock_rounds;         /* how often it may be told what time it is, until it has answered soon */
    int64_t clock_said_ns;    /* when it was told last; monotonic */
    int runs_dir;             /* out/runs */
    int out_dir;              /* out */
};

/* launch.c: the service's order carried out; the process ends when it came to nothing. */
void shim_launch(struct shim *shim);

/* loop.c */
int shim_watch(struct shim *shim, struct source *source, uint32_t events);
void shim_rewatch(struct shim *shim, struct source *source, uint32_t events);
/* Whether the guest does not listen. A well-behaved one always does, and what waits for it is gone in a moment. */
bool shim_congested(const struct shim *shim);
_Noreturn void shim_loop(struct shim *shim);

/* loop.c: false: the guest may not say this. */
bool shim_take_guest_frame(struct shim *shim, const struct era_frame *frame);
/* It broke the protocol: the end of it. */
void shim_guest_hostile(struct shim *shim, const char *what);

/* clock.c: a guest that has a clock of its own is told what time it is; for others nothing is done. */
int shim_clock_start(struct shim *shim);
void shim_clock_tell(struct shim *shim);
void shim_clock_answered(struct shim *shim);
void shim_clock_ready(struct shim *shim); /* its timer */

/* pause.c. Waits until the guest has heard what time it is: 0, -ETIMEDOUT, -errno. Nothing else is done meanwhile. */
int shim_await_clock(struct shim *shim);
/* 0 also when it is so already. */
int shim_pause(struct shim *shim, struct era_error *err);
int shim_resume(struct shim *shim, struct era_error *err);
/* Saves the guest in a folder, an absolute path; it runs, or stands still, afterwards as before. */
int shim_snapshot(struct shim *shim, const char *path, struct era_error *err);

/* run.c */
struct run *run_begin(struct shim *shim, struct client *client, const struct era_frame *frame, struct era_error *err);
/* Lets a run start that was held, under this name; its logs are opened. */
int run_go(struct shim *shim, struct run *run, const char *id, struct era_error *err);
struct run *run_find(struct shim *shim, uint32_t stream);
void run_output(struct shim *shim, struct run *run, int channel, const void *data, size_t len);
void run_ended(struct shim *shim, struct run *run, const struct era_run_ended *ended);
void run_lost(struct shim *shim, struct run *run);
void run_detach(struct shim *shim, struct run *run);
void run_time_out(struct shim *shim, struct run *run, int64_t now_ns);

/* files.c: what stays of runs in out/ */
int runs_open(struct shim *shim, struct run *run, uint64_t cap);
void runs_close(struct shim *shim, struct run *run, struct era_run_outcome *outcome);
int runs_prepare(struct shim *shim);

/* client.c */
void client_accept(struct shim *shim);
void client_ready(struct shim *shim, struct client *client, uint32_t events);
void client_flush(struct shim *shim, struct client *client);
void client_finish(struct shim *shim, struct client *client); /* flushes what it can, then closes when its peer does */
void client_free(struct shim *shim, struct client *client);

/* confine.c: gives up what is not needed once the guest runs. */
int shim_confine(const struct era_launcher *launcher, const struct era_guest *guest);

#endif

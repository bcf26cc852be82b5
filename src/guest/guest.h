/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.h - inside era-init.
 *
 * Theory of operation: PID 1 of the guest, one thread, one epoll loop. It
 * speaks frames (wire/) over one descriptor with the shim and trusts nothing
 * but it. For each run it forks a *leader*, which is the subreaper of the
 * command and so the ancestor of everything that the command starts, also of
 * what double-forks or calls setsid. The leader reports how the command ended.
 * Killing a run means: stop the leader, kill its descendants until none is
 * left, let the leader go on and report. Should a guest have killed the leader,
 * what was orphaned to init belongs to no living run and is killed with it.
 */
#ifndef ERA_GUEST_GUEST_H
#define ERA_GUEST_GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "wire/frame.h"
#include "wire/message.h"

enum { CHANNEL_STDIN = 0, CHANNEL_STDOUT = 1, CHANNEL_STDERR = 2, CHANNELS = 3 };

enum source_kind {
    SOURCE_LINK,   /* the shim */
    SOURCE_SIGNAL, /* children */
    SOURCE_TICK,   /* the next look at a run that is being killed, or the end of a shutdown's grace */
    SOURCE_INPUT,  /* the write end of a command's stdin */
    SOURCE_OUTPUT, /* the read end of its stdout or stderr */
    SOURCE_STATUS, /* the leader's reports */
    SOURCE_SINK,   /* output of what a finished run left in the background: read and dropped */
};

/* What epoll hands back. */
struct source {
    enum source_kind kind;
    int channel;
    int fd; /* owned; -EBADF when closed */
    bool watched;
    struct run *run; /* NULL for those of init itself */
};

struct run {
    uint32_t stream;
    pid_t leader; /* 0 once reaped */
    pid_t command;
    struct source channels[CHANNELS];
    struct source status;
    int go_fd; /* owned: a byte lets the command start; -EBADF once it may */
    bool tty;
    uint32_t window[CHANNELS]; /* bytes that may still be sent for stdout and stderr */
    struct era_buffer input;   /* stdin that the command has not taken yet */
    bool input_end;
    bool hears;       /* the command leads its group, which takes signals */
    uint64_t pending; /* signals that came before that: bit signo - 1 */
    bool killing;
    bool killed;                /* it was, or is being */
    int64_t killing_since_ns;   /* monotonic */
    uint64_t oom_kills;         /* of the machine, when it began */
    bool reported;              /* the leader told the end, and is about to go */
    bool over;                  /* the command ended; output that it left is still to be sent */
    size_t remaining[CHANNELS]; /* bytes of it */
    struct era_run_ended ended;
    struct run *next;
};

/* A kernel of the guest's own, which init has set up and holds. */
struct machine {
    int sys_fd;    /* /sys; no command sees it */
    int dev_fd;    /* devtmpfs; no command sees it */
    int cgroup_fd; /* the group of all commands */
    int root_fd;
    int volume_fd;     /* /workspace/persist; -EBADF without */
    int machine_id_fd; /* /etc/machine-id, until it is known; else -EBADF */
    bool identified;   /* knows which VM it is */
    bool frozen;       /* no command of it runs */
};

/* How a process ended that belonged to nobody when it was reaped: it may be a command whose pid is still to be read. */
struct orphan {
    pid_t pid; /* 0: none */
    int wait_status;
    uint64_t cpu_us;
    uint64_t peak_mem_kib;
};

enum { ORPHANS_KEPT = 16 };

struct survey;
struct guest {
    struct machine *machine; /* NULL: the kernel is the host's */
    int epoll_fd;
    struct source link;
    struct source signals;
    struct source tick;
    int proc_fd;           /* /proc, opened before anything of the user's ran */
    struct era_buffer in;  /* from the shim */
    struct era_buffer out; /* to the shim */
    struct run *runs;
    struct orphan orphans[ORPHANS_KEPT]; /* a ring */
    unsigned next_orphan;
    bool shutting_down;
};

/*
 * What a leader, or a command that is about to start or could not, writes to the status pipe; one write, so it
 * is atomic. The leader's STARTED and the command's READY come in either order.
 */
enum report_kind { REPORT_STARTED, REPORT_READY, REPORT_FAILED, REPORT_ENDED };

struct report {
    enum report_kind kind;
    int32_t value; /* pid, errno, wait status */
    uint64_t cpu_us;
    uint64_t peak_mem_kib;
    char message[192];
};

/* init.c: watches (for EPOLLIN; SOURCE_INPUT for EPOLLOUT) or stops watching a source; either may be so already. */
int guest_watch(struct guest *guest, struct source *source);
void guest_unwatch(struct guest *guest, struct source *source);
void guest_close_source(struct guest *guest, struct source *source);
/* Arms the tick; 0 disarms it. */
void guest_set_tick(struct guest *guest, unsigned milliseconds);

/* run.c */
void run_kill(struct guest *guest, struct run *run);
/* One more pass over a run that is being killed; whether another is needed. */
bool run_kill_on(struct guest *guest, struct run *run, const struct survey *survey);
void run_start(struct guest *guest, uint32_t stream, const struct era_run_request *request);
void run_fail(struct guest *guest, uint32_t stream, int errnum, const char *message);
struct run *run_find(const struct guest *guest, uint32_t stream);
void run_take_input(struct guest *guest, struct run *run, const void *data, size_t len);
void run_end_input(struct guest *guest, struct run *run);
void run_flush_input(struct guest *guest, struct run *run);
void run_pump_output(struct guest *guest, struct run *run, int channel);
void run_read_reports(struct guest *guest, struct run *run);
void run_reaped(struct guest *guest, pid_t pid, int wait_status, uint64_t cpu_us, uint64_t peak_mem_kib);
void run_give_window(struct guest *guest, struct run *run, int channel, uint32_t bytes);
void run_drop_all(struct guest *guest); /* their processes go on, in the background */
void run_go(struct run *run);
void run_signal(struct run *run, int signo); /* to the command's group; as soon as there is one */
void run_drop_sink(struct guest *guest, struct source *source);

/* stdio.c. theirs: what the command gets; ours: what init keeps, non-blocking; -EBADF where there is none. */
struct stdio {
    int ours[CHANNELS];
    int theirs[CHANNELS];
    int status[2]; /* a pipe for the leader's reports */
    int go[2];     /* a pipe that holds the command back; of a run that is not held: -EBADF */
};

int stdio_open(const struct era_run_request *request, struct stdio *stdio); /* what it opened is closed by the caller */
void stdio_close(struct stdio *stdio);

/* command.c: forks leader and command. */
pid_t command_fork(const struct guest *guest, const struct era_run_request *request, const struct stdio *stdio);

/* worker.c: what a command of another kind than ERA_RUN_COMMAND does instead of exec. */
_Noreturn void worker_run(const struct era_run_request *request, int status_fd);

/* kill.c: the processes of the guest, as they were; one survey does for all runs that are being killed. */
struct survey {
    struct process *list; /* owned */
    size_t count;
    int64_t last_pid; /* that was given before */
};

int survey_take(const struct guest *guest, struct survey *ret_survey); /* -errno */
void survey_clear(struct survey *survey);
/* One pass over the descendants of a run; returns how many are left, or, should one be born meanwhile, might be. */
int kill_pass(const struct guest *guest, const struct run *run, const struct survey *survey);
/* The same with the rest of the guest stopped meanwhile. */
int kill_pass_standing_still(const struct guest *guest, const struct run *run);

/* report.c: by leader, command and worker. */
void report_write(int status_fd, const struct report *report);
_Noreturn void report_failure(int status_fd, int errnum, const char *what, int exit_code);

/*
 * boot.c: the first process of a kernel of its own, started from the initramfs
 * with these arguments: "mem_mib=N", and "warm=PROGRAM" for an interpreter that
 * is loaded once. Makes the guest's root and enters it; returns the descriptor
 * that leads to the shim. Does not return when it cannot.
 */
int boot_machine(char *const argv[], struct machine *ret_machine);
/* Tells the shim by ERROR why there will be no guest, and ends. */
_Noreturn void boot_fail(int control_fd, const char *what, int r);

/* identity.c: takes on what the frame says. 0, -EBADMSG, or why not; what: the step that failed. */
int machine_identify(struct machine *machine, const struct era_frame *frame, const char **what);

int machine_set_clock(int64_t realtime_ns);

/* machine.c. All accept NULL. */
uint64_t machine_oom_kills(const struct machine *machine); /* since it booted */
int machine_confine(const struct machine *machine);        /* the calling process, which is to become a command */
void machine_freeze(struct machine *machine, bool freeze); /* all commands; or lets them go on */
void machine_save(const struct machine *machine);          /* what commands wrote to the volume leaves the machine */
_Noreturn void machine_end(const struct machine *machine); /* ends the guest */

/* The main loop; control_fd: the shim; machine: NULL in the host's kernel. Returns never. */
_Noreturn void era_init_main(int control_fd, struct machine *machine);

#endif

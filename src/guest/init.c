/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "guest/guest.h"

enum { KILL_INTERVAL_MS = 2, REAPED_AT_ONCE = 64 };

int guest_watch(struct guest *guest, struct source *source)
{
    if (source->watched || source->fd < 0)
        return 0;
    struct epoll_event event = {.events = source->kind == SOURCE_INPUT ? EPOLLOUT : EPOLLIN, .data.ptr = source};
    if (epoll_ctl(guest->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0)
        return -errno;
    source->watched = true;
    return 0;
}

void guest_unwatch(struct guest *guest, struct source *source)
{
    if (source->watched)
        epoll_ctl(guest->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->watched = false;
}

void guest_close_source(struct guest *guest, struct source *source)
{
    guest_unwatch(guest, source);
    era_closep(&source->fd);
}

void guest_set_tick(struct guest *guest, unsigned milliseconds)
{
    const struct itimerspec when = {
        .it_value = {.tv_sec = milliseconds / 1000, .tv_nsec = (long)(milliseconds % 1000) * 1000000},
    };
    timerfd_settime(guest->tick.fd, 0, &when, NULL);
}

/* ---- children ----------------------------------------------------------- */

/* A few at a time: orphans may die faster than they are reaped, and others wait to be heard, too. */
static void reap_children(struct guest *guest)
{
    struct signalfd_siginfo info;
    while (read(guest->signals.fd, &info, sizeof info) > 0)
        ;
    for (int i = 0; i < REAPED_AT_ONCE; i++) {
        int wait_status;
        struct rusage usage;
        pid_t pid = wait4(-1, &wait_status, WNOHANG, &usage);
        if (pid < 0 && errno == ECHILD && guest->shutting_down)
            machine_end(guest->machine);
        if (pid <= 0)
            return;
        uint64_t cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                          (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
        run_reaped(guest, pid, wait_status, cpu_us, (uint64_t)usage.ru_maxrss);
    }
    (void)kill(getpid(), SIGCHLD);
}

static void tick(struct guest *guest)
{
    uint64_t expirations;
    (void)read(guest->tick.fd, &expirations, sizeof expirations);
    if (guest->shutting_down)
        machine_end(guest->machine);
    _cleanup_(survey_clear) struct survey survey = {0};
    bool again = false;
    for (struct run *run = guest->runs, *next; run != NULL; run = next) {
        next = run->next; /* the run may end here */
        if (!run->killing)
            continue;
        bool known = survey.list != NULL || survey_take(guest, &survey) >= 0;
        if (!known || run_kill_on(guest, run, &survey))
            again = true;
    }
    if (again)
        guest_set_tick(guest, KILL_INTERVAL_MS);
}

static void shut_down(struct guest *guest, uint32_t grace_ms)
{
    guest->shutting_down = true;
    ERA_POINT("init.stopping");
    if (grace_ms == 0)
        machine_end(guest->machine);
    kill(-1, SIGTERM);
    kill(-1, SIGCONT);
    guest_set_tick(guest, grace_ms);
    reap_children(guest);
}

/* ---- frames ------------------------------------------------------------- */

static void start(struct guest *guest, const struct era_frame *frame)
{
    struct era_run_request request;
    int r = era_run_request_decode(frame, &request);
    if (r == -ENOMEM) {
        run_fail(guest, frame->stream, ENOMEM, "out of memory");
        return;
    }
    bool anonymous = guest->machine != NULL && !guest->machine->identified;
    if (r < 0 || anonymous || run_find(guest, frame->stream) != NULL)
        _exit(1);
    ERA_POINT("inside.taken");
    run_start(guest, frame->stream, &request);
    ERA_POINT("inside.started");
    era_run_request_clear(&request);
}

static void resize(struct run *run, const struct era_frame *frame)
{
    struct winsize size = {0};
    if (era_resize_decode(frame, &size.ws_col, &size.ws_row) < 0)
        _exit(1);
    if (run->tty && run->channels[CHANNEL_STDOUT].fd >= 0)
        ioctl(run->channels[CHANNEL_STDOUT].fd, TIOCSWINSZ, &size);
}

static void send_signal(struct run *run, const struct era_frame *frame)
{
    uint32_t signo;
    if (era_u32_decode(frame, &signo) < 0 || signo == 0 || signo >= NSIG)
        _exit(1);
    run_signal(run, (int)signo);
}

static void give_window(struct guest *guest, struct run *run, const struct era_frame *frame)
{
    struct era_window window;
    if (era_window_decode(frame, &window) < 0 || window.channel == CHANNEL_STDIN)
        _exit(1);
    run_give_window(guest, run, window.channel, window.bytes);
}

/* A frame for a run that ended meanwhile is no mistake: both ends speak at once. */
static void handle_run_frame(struct guest *guest, const struct era_frame *frame)
{
    struct run *run = run_find(guest, frame->stream);
    if (run == NULL)
        return;
    if (frame->type == ERA_FRAME_STDIN)
        run_take_input(guest, run, frame->payload, frame->len);
    else if (frame->type == ERA_FRAME_STDIN_END)
        run_end_input(guest, run);
    else if (frame->type == ERA_FRAME_RESIZE)
        resize(run, frame);
    else if (frame->type == ERA_FRAME_SIGNAL)
        send_signal(run, frame);
    else if (frame->type == ERA_FRAME_GO)
        run_go(run);
    else if (frame->type == ERA_FRAME_KILL)
        run_kill(guest, run);
    else if (frame->type == ERA_FRAME_WINDOW)
        give_window(guest, run, frame);
    else
        _exit(1);
}

/* Answered by READY, or by ERROR and the end. */
static void identify(struct guest *guest, const struct era_frame *frame)
{
    const char *what = NULL;
    run_drop_all(guest); /* of the machine that this is a copy of, whose clients it does not have */
    int r = guest->machine != NULL ? machine_identify(guest->machine, frame, &what) : -EBADMSG;
    if (r < 0 && what != NULL)
        boot_fail(guest->link.fd, what, r);
    if (r < 0 || era_frame_append(&guest->out, ERA_FRAME_READY, 0, NULL, 0) < 0)
        _exit(1);
}

static void set_clock(struct guest *guest, const struct era_frame *frame)
{
    int64_t realtime_ns;
    if (guest->machine == NULL || era_clock_decode(frame, &realtime_ns) < 0 || machine_set_clock(realtime_ns) < 0 ||
        era_frame_append(&guest->out, ERA_FRAME_READY, 0, NULL, 0) < 0)
        _exit(1);
}

/*
 * Says STILL behind all that it has to say, and then nothing before the next frame: whoever saves the machine now,
 * saves it with nothing half said. Does not handle anything else meanwhile. Commands stand still until that frame is
 * dealt with: of a copy it is IDENTITY, and none may draw random numbers that its like draws elsewhere.
 */
static void hold(struct guest *guest)
{
    machine_freeze(guest->machine, true);
    int fd = guest->link.fd;
    bool failed = era_frame_append(&guest->out, ERA_FRAME_STILL, 0, NULL, 0) < 0 || era_set_nonblock(fd, false) < 0;
    if (!failed)
        failed = era_buffer_flush(&guest->out, fd) < 0;
    /* The next may be here already, behind HOLD: when this is late, and the shim did not wait so long. */
    bool told = era_buffer_len(&guest->in) > ERA_FRAME_HEADER_SIZE;
    ssize_t n = failed ? -1 : told ? 1 : era_buffer_fill(&guest->in, fd, 64 * 1024);
    if (n <= 0)
        machine_end(guest->machine);
    (void)era_set_nonblock(fd, true);
}

static void go_on(struct guest *guest, const struct era_frame *frame)
{
    int64_t realtime_ns;
    if (guest->machine == NULL || era_go_on_decode(frame, &realtime_ns) < 0)
        _exit(1);
    if (realtime_ns > 0)
        (void)machine_set_clock(realtime_ns);
}

static void handle_frame(struct guest *guest, const struct era_frame *frame)
{
    uint32_t grace_ms;
    if (frame->type == ERA_FRAME_RUN) {
        start(guest, frame);
    } else if (frame->type == ERA_FRAME_IDENTITY) {
        identify(guest, frame);
    } else if (frame->type == ERA_FRAME_CLOCK) {
        set_clock(guest, frame);
    } else if (frame->type == ERA_FRAME_HOLD) {
        hold(guest);
    } else if (frame->type == ERA_FRAME_GO_ON) {
        go_on(guest, frame);
    } else if (frame->type == ERA_FRAME_SHUTDOWN) {
        if (era_u32_decode(frame, &grace_ms) < 0)
            _exit(1);
        shut_down(guest, grace_ms);
    } else {
        handle_run_frame(guest, frame);
    }
}

/* Without the shim there is no reason to live: the guest ends with its init. */
static void read_link(struct guest *guest)
{
    ssize_t n = era_buffer_fill(&guest->in, guest->link.fd, 64 * 1024);
    if (n == -EAGAIN)
        return;
    if (n <= 0)
        machine_end(guest->machine);
    for (;;) {
        struct era_frame frame;
        ssize_t taken = era_frame_decode(era_buffer_data(&guest->in), era_buffer_len(&guest->in), &frame);
        if (taken < 0)
            _exit(1);
        if (taken == 0)
            return;
        handle_frame(guest, &frame);
        if (frame.type != ERA_FRAME_HOLD)
            machine_freeze(guest->machine, false);
        era_buffer_consume(&guest->in, (size_t)taken);
    }
}

static void flush_link(struct guest *guest)
{
    int r = era_buffer_flush(&guest->out, guest->link.fd);
    if (r < 0 && r != -EAGAIN)
        _exit(0);
    static bool wants_room;
    if ((r == -EAGAIN) == wants_room)
        return;
    wants_room = r == -EAGAIN;
    struct epoll_event event = {.events = EPOLLIN | (wants_room ? EPOLLOUT : 0), .data.ptr = &guest->link};
    epoll_ctl(guest->epoll_fd, EPOLL_CTL_MOD, guest->link.fd, &event);
}

/* ---- main --------------------------------------------------------------- */

static void drain_sink(struct guest *guest, struct source *source)
{
    static char rubbish[16 * 1024];
    ssize_t n = read(source->fd, rubbish, sizeof rubbish);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        run_drop_sink(guest, source);
}

static void dispatch(struct guest *guest, struct source *source)
{
    switch (source->kind) {
    case SOURCE_LINK:
        read_link(guest);
        break;
    case SOURCE_SIGNAL:
        reap_children(guest);
        break;
    case SOURCE_TICK:
        tick(guest);
        break;
    case SOURCE_INPUT:
        run_flush_input(guest, source->run);
        break;
    case SOURCE_OUTPUT:
        run_pump_output(guest, source->run, source->channel);
        break;
    case SOURCE_STATUS:
        run_read_reports(guest, source->run);
        break;
    case SOURCE_SINK:
        drain_sink(guest, source);
        break;
    }
}

static int set_up(struct guest *guest, int control_fd)
{
    (void)prctl(PR_SET_NAME, "era-init");
    if (prctl(PR_SET_DUMPABLE, 0) < 0) /* no command reads or traces PID 1 */
        return -errno;
    signal(SIGPIPE, SIG_IGN);
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &children, NULL) < 0)
        return -errno;

    guest->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    guest->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    guest->link = (struct source){.kind = SOURCE_LINK, .fd = control_fd};
    guest->signals = (struct source){.kind = SOURCE_SIGNAL, .fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK)};
    guest->tick =
        (struct source){.kind = SOURCE_TICK, .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)};
    if (guest->epoll_fd < 0 || guest->proc_fd < 0 || guest->signals.fd < 0 || guest->tick.fd < 0)
        return -errno;
    if (fcntl(control_fd, F_SETFD, FD_CLOEXEC) < 0 || era_set_nonblock(control_fd, true) < 0)
        return -errno;
    int r = guest_watch(guest, &guest->link);
    if (r >= 0)
        r = guest_watch(guest, &guest->signals);
    if (r >= 0)
        r = guest_watch(guest, &guest->tick);
    return r;
}

_Noreturn void era_init_main(int control_fd, struct machine *machine)
{
    ERA_POINT("init.begun");
    struct guest guest = {.machine = machine};
    if (set_up(&guest, control_fd) < 0 || era_frame_append(&guest.out, ERA_FRAME_READY, 0, NULL, 0) < 0)
        _exit(1);
    ERA_POINT("init.ready");
    for (;;) {
        flush_link(&guest);
        /* One event at a time: handling it may free what a second one points to. */
        struct epoll_event event;
        int n = epoll_wait(guest.epoll_fd, &event, 1, -1);
        if (n < 0 && errno != EINTR)
            _exit(1);
        if (n > 0)
            dispatch(&guest, event.data.ptr);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/str.h"
#include "guest/guest.h"

#define STAND_STILL_AFTER_NS INT64_C(100000000) /* time for many to die that hold much, with nobody else disturbed */

struct run *run_find(const struct guest *guest, uint32_t stream)
{
    for (struct run *run = guest->runs; run != NULL; run = run->next)
        if (run->stream == stream)
            return run;
    return NULL;
}

static void send_ended(struct guest *guest, uint32_t stream, const struct era_run_ended *ended)
{
    if (era_message_append(&guest->out, ERA_FRAME_ENDED, stream, era_run_ended_encode, ended) < 0)
        _exit(1);
}

void run_fail(struct guest *guest, uint32_t stream, int errnum, const char *message)
{
    struct era_run_ended ended = {.wait_status = 126 << 8, .errnum = errnum};
    era_str_copy(ended.message, sizeof ended.message, message);
    send_ended(guest, stream, &ended);
}

/* ---- beginning ---------------------------------------------------------- */

static struct run *adopt(struct guest *guest, uint32_t stream, bool tty, struct stdio *stdio)
{
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL)
        return NULL;
    run->stream = stream;
    run->tty = tty;
    for (int i = 0; i < CHANNELS; i++) {
        run->channels[i] = (struct source){
            .kind = i == CHANNEL_STDIN ? SOURCE_INPUT : SOURCE_OUTPUT,
            .channel = i,
            .fd = era_take_fd(&stdio->ours[i]),
            .run = run,
        };
        run->window[i] = ERA_WINDOW_INITIAL;
    }
    run->status = (struct source){.kind = SOURCE_STATUS, .fd = era_take_fd(&stdio->status[0]), .run = run};
    run->go_fd = era_take_fd(&stdio->go[1]);
    run->next = guest->runs;
    guest->runs = run;
    return run;
}

void run_start(struct guest *guest, uint32_t stream, const struct era_run_request *request)
{
    struct stdio stdio = {.ours = {-EBADF, -EBADF, -EBADF},
                          .theirs = {-EBADF, -EBADF, -EBADF},
                          .status = {-EBADF, -EBADF},
                          .go = {-EBADF, -EBADF}};
    int r = stdio_open(request, &stdio);
    pid_t leader = 0;
    if (r >= 0)
        leader = command_fork(guest, request, &stdio);
    if (r < 0 || leader < 0) {
        run_fail(guest, stream, r < 0 ? -r : -leader, r < 0 ? "cannot open pipes for the command" : "cannot fork");
        stdio_close(&stdio);
        return;
    }
    struct run *run = adopt(guest, stream, (request->flags & ERA_RUN_TTY) != 0, &stdio);
    stdio_close(&stdio);
    if (run == NULL)
        _exit(1);
    run->leader = leader;
    run->oom_kills = machine_oom_kills(guest->machine);
    if (guest_watch(guest, &run->status) < 0 || guest_watch(guest, &run->channels[CHANNEL_STDOUT]) < 0 ||
        (!run->tty && guest_watch(guest, &run->channels[CHANNEL_STDERR]) < 0))
        _exit(1);
}

void run_go(struct run *run)
{
    if (run->go_fd >= 0)
        (void)era_write_full(run->go_fd, "", 1);
    era_closep(&run->go_fd);
}

/* ---- input -------------------------------------------------------------- */

void run_take_input(struct guest *guest, struct run *run, const void *data, size_t len)
{
    if (run->channels[CHANNEL_STDIN].fd < 0) {
        /* Nobody reads it: dropped, and the window given back. */
        (void)era_window_append(&guest->out, run->stream, CHANNEL_STDIN, (uint32_t)len);
        return;
    }
    if (era_buffer_len(&run->input) + len > ERA_WINDOW_INITIAL || era_buffer_append(&run->input, data, len) < 0)
        _exit(1); /* the shim broke the window, or memory is out */
    run_flush_input(guest, run);
}

void run_end_input(struct guest *guest, struct run *run)
{
    run->input_end = true;
    run_flush_input(guest, run);
}

void run_flush_input(struct guest *guest, struct run *run)
{
    struct source *input = &run->channels[CHANNEL_STDIN];
    if (input->fd < 0)
        return;
    size_t before = era_buffer_len(&run->input);
    int r = era_buffer_flush(&run->input, input->fd);
    size_t taken = before - era_buffer_len(&run->input);
    if (r < 0 && r != -EAGAIN) {
        taken = before; /* the reader is gone */
        era_buffer_clear(&run->input);
        guest_close_source(guest, input);
    }
    if (taken > 0)
        (void)era_window_append(&guest->out, run->stream, CHANNEL_STDIN, (uint32_t)taken);
    if (r == -EAGAIN) {
        (void)guest_watch(guest, input);
        return;
    }
    guest_unwatch(guest, input);
    if (run->input_end && input->fd >= 0) {
        if (run->tty) { /* a terminal has no end: the character that says so */
            (void)write(input->fd, "\x04", 1);
            run->input_end = false;
        } else {
            guest_close_source(guest, input);
        }
    }
}

/* ---- output ------------------------------------------------------------- */

/* What a finished run left running keeps its pipe: a sink reads it from now on. */
static void turn_into_sink(struct guest *guest, struct source *output)
{
    if (output->fd < 0)
        return;
    guest_unwatch(guest, output);
    struct source *sink = malloc(sizeof *sink);
    if (sink == NULL) {
        guest_close_source(guest, output);
        return;
    }
    *sink = (struct source){.kind = SOURCE_SINK, .fd = era_take_fd(&output->fd)};
    if (guest_watch(guest, sink) < 0)
        run_drop_sink(guest, sink);
}

void run_drop_sink(struct guest *guest, struct source *source)
{
    guest_close_source(guest, source);
    free(source);
}

/* Closes what it has, but the output of what goes on, and forgets it. */
static void forget(struct guest *guest, struct run *run)
{
    guest_close_source(guest, &run->channels[CHANNEL_STDIN]);
    turn_into_sink(guest, &run->channels[CHANNEL_STDOUT]);
    turn_into_sink(guest, &run->channels[CHANNEL_STDERR]);
    guest_close_source(guest, &run->status);
    era_closep(&run->go_fd);
    era_buffer_clear(&run->input);
    for (struct run **link = &guest->runs; *link != NULL; link = &(*link)->next)
        if (*link == run) {
            *link = run->next;
            break;
        }
    free(run);
}

void run_drop_all(struct guest *guest)
{
    while (guest->runs != NULL)
        forget(guest, guest->runs);
}

static void finish_when_drained(struct guest *guest, struct run *run)
{
    if (!run->over || run->remaining[CHANNEL_STDOUT] > 0 || run->remaining[CHANNEL_STDERR] > 0)
        return;
    run->ended.oom_kills = machine_oom_kills(guest->machine) - run->oom_kills;
    machine_save(guest->machine);
    send_ended(guest, run->stream, &run->ended);
    if (run->tty)
        guest_close_source(guest, &run->channels[CHANNEL_STDOUT]);
    forget(guest, run);
}

void run_pump_output(struct guest *guest, struct run *run, int channel)
{
    struct source *output = &run->channels[channel];
    static uint8_t buffer[ERA_FRAME_DATA_MAX];
    size_t room = run->window[channel] < sizeof buffer ? run->window[channel] : sizeof buffer;
    if (run->over && run->remaining[channel] < room)
        room = run->remaining[channel];
    if (output->fd < 0 || room == 0) {
        guest_unwatch(guest, output);
        return;
    }
    ssize_t n = read(output->fd, buffer, room);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* the end; a terminal says EIO */
        guest_close_source(guest, output);
        run->remaining[channel] = 0;
        finish_when_drained(guest, run);
        return;
    }
    run->window[channel] -= (uint32_t)n;
    if (run->over)
        run->remaining[channel] -= (size_t)n;
    enum era_frame_type type = channel == CHANNEL_STDOUT ? ERA_FRAME_STDOUT : ERA_FRAME_STDERR;
    if (era_frame_append(&guest->out, type, run->stream, buffer, (size_t)n) < 0)
        _exit(1);
    finish_when_drained(guest, run);
}

void run_give_window(struct guest *guest, struct run *run, int channel, uint32_t bytes)
{
    if (bytes > ERA_WINDOW_INITIAL - run->window[channel])
        _exit(1);
    run->window[channel] += bytes;
    if (run->channels[channel].fd >= 0)
        (void)guest_watch(guest, &run->channels[channel]);
}

/* ---- end ---------------------------------------------------------------- */

/* The command is gone: what it wrote is in the pipes, and is sent before the end is told. */
static void command_over(struct guest *guest, struct run *run)
{
    run->over = true;
    ERA_POINT("inside.over");
    for (int i = CHANNEL_STDOUT; i <= CHANNEL_STDERR; i++) {
        int left = 0;
        if (run->channels[i].fd >= 0 && run->tty)
            left = INT32_MAX; /* until the terminal hangs up, which it does with its session */
        else if (run->channels[i].fd >= 0 && ioctl(run->channels[i].fd, FIONREAD, &left) < 0)
            left = 0;
        run->remaining[i] = (size_t)left;
        if (left > 0)
            (void)guest_watch(guest, &run->channels[i]);
    }
    finish_when_drained(guest, run);
}

void run_signal(struct run *run, int signo)
{
    if (!run->hears)
        run->pending |= UINT64_C(1) << (signo - 1);
    else if (!run->over)
        kill(-run->command, signo); /* the command leads a session, and so a group */
}

static void begin_to_hear(struct run *run, pid_t command)
{
    run->command = command;
    run->hears = true;
    for (int signo = 1; signo < NSIG; signo++)
        if ((run->pending & UINT64_C(1) << (signo - 1)) != 0)
            run_signal(run, signo);
}

static void take_report(struct run *run, const struct report *report)
{
    switch (report->kind) {
    case REPORT_READY:
        begin_to_hear(run, report->value);
        break;
    case REPORT_STARTED:
        run->command = report->value;
        break;
    case REPORT_FAILED:
        run->ended.errnum = report->value;
        era_str_copy(run->ended.message, sizeof run->ended.message, report->message);
        break;
    case REPORT_ENDED:
        run->ended.wait_status = report->value;
        run->ended.cpu_us = report->cpu_us;
        run->ended.peak_mem_kib = report->peak_mem_kib;
        run->reported = true;
        break;
    }
}

/* The command ended before its pid was read, and init has reaped it: 0, or -ENOENT. */
static int recall_orphan(struct guest *guest, struct run *run)
{
    for (size_t i = 0; i < ORPHANS_KEPT; i++) {
        struct orphan *orphan = &guest->orphans[i];
        if (run->command == 0 || orphan->pid != run->command)
            continue;
        run->ended.wait_status = orphan->wait_status;
        run->ended.cpu_us = orphan->cpu_us;
        run->ended.peak_mem_kib = orphan->peak_mem_kib;
        orphan->pid = 0;
        return 0;
    }
    return -ENOENT;
}

/* The leader is gone without a word: the guest killed it. The command may live on as a child of init. */
static void leader_lost(struct guest *guest, struct run *run)
{
    guest_close_source(guest, &run->status);
    if (run->reported || (run->command > 0 && kill(run->command, 0) == 0))
        return; /* it is known how the command ended, or will be */
    if (recall_orphan(guest, run) < 0)
        run->ended.wait_status = SIGKILL;
    run->reported = true;
    if (!run->killing)
        command_over(guest, run);
}

void run_kill(struct guest *guest, struct run *run)
{
    if (run->over || run->killing)
        return;
    run->killing = run->killed = true;
    run->killing_since_ns = era_clock_monotonic_ns();
    if (run->leader != 0)
        kill(run->leader, SIGSTOP); /* what its death orphans would escape the passes */
    /* Most stay in its group: that goes at one stroke, and leaves the passes the processor to read /proc with. */
    if (run->hears && !run->reported)
        kill(-run->command, SIGKILL);
    guest_set_tick(guest, 1); /* not at once: a hundred that end together need one look at /proc, and not one each */
}

bool run_kill_on(struct guest *guest, struct run *run, const struct survey *survey)
{
    bool patient = era_clock_monotonic_ns() - run->killing_since_ns < STAND_STILL_AFTER_NS;
    int left = patient ? kill_pass(guest, run, survey) : kill_pass_standing_still(guest, run);
    if (left != 0)
        return true;
    run->killing = false;
    if (run->reported) {
        command_over(guest, run);
    } else if (run->leader != 0) {
        kill(run->leader, SIGCONT); /* it reaps, reports and goes */
    }
    return false;
}

void run_read_reports(struct guest *guest, struct run *run)
{
    for (;;) {
        struct report report;
        ssize_t n = read(run->status.fd, &report, sizeof report);
        if (n < 0)
            return;
        if (n != (ssize_t)sizeof report) {
            leader_lost(guest, run);
            return;
        }
        report.message[sizeof report.message - 1] = '\0';
        take_report(run, &report);
        if (report.kind == REPORT_STARTED && run->killed && !run->killing)
            run_kill(guest, run); /* the passes were over before the leader had forked it */
        if (run->reported) {
            /* A run that is being killed ends when its last descendant has: see run_kill_on(). */
            guest_close_source(guest, &run->status);
            if (!run->killing)
                command_over(guest, run);
            return;
        }
    }
}

void run_reaped(struct guest *guest, pid_t pid, int wait_status, uint64_t cpu_us, uint64_t peak_mem_kib)
{
    for (struct run *run = guest->runs; run != NULL; run = run->next) {
        if (run->leader == pid) {
            run->leader = 0; /* its last report is in the pipe, or there is none */
            return;
        }
        if (run->command == pid && !run->reported) {
            run->ended.wait_status = wait_status;
            run->ended.cpu_us = cpu_us;
            run->ended.peak_mem_kib = peak_mem_kib;
            run->reported = true;
            if (!run->killing)
                command_over(guest, run);
            return;
        }
    }
    guest->orphans[guest->next_orphan++ % ORPHANS_KEPT] =
        (struct orphan){.pid = pid, .wait_status = wait_status, .cpu_us = cpu_us, .peak_mem_kib = peak_mem_kib};
}

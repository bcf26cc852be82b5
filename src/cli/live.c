/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: one poll loop over the runs, our stdin and our signals.
 * Output goes out as it comes, by blocking writes: who does not read us holds
 * the command back, as a pipe would. Input waits until the run has room for it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

enum {
    INPUT_SIZE = 16 * 1024,
    LINE_SIZE = 64 * 1024, /* a longer line of one among several VMs is broken */
};

struct loop {
    struct live_run *runs;
    size_t count;
    const struct live_options *options;
    bool input_open;
    size_t input_len;
    size_t input_sent;
    int ended_by; /* the signal that asked us to end, or 0 */
    char input[INPUT_SIZE];
};

/* ---- output ------------------------------------------------------------- */

/* All of it, also to a pipe or terminal that somebody who shares it has made non-blocking. */
static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd poller = {.fd = fd, .events = POLLOUT};
            (void)poll(&poller, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return -errno;
        } else if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* Writes out the line that was collected, which ends here if it has not ended before. */
static int end_line(struct live_run *live, int fd)
{
    struct era_buffer *line = &live->lines[fd];
    size_t len = era_buffer_len(line);
    if (len == 0)
        return 0;
    if (era_buffer_data(line)[len - 1] != '\n' && era_buffer_append(line, "\n", 1) < 0)
        return -ENOMEM;
    int r = write_all(fd, live->prefix, strlen(live->prefix));
    if (r >= 0)
        r = write_all(fd, (const char *)era_buffer_data(line), era_buffer_len(line));
    era_buffer_clear(line);
    return r;
}

/* Line by line: what several commands print comes in pieces, and in between of each other's. */
static int write_prefixed(struct live_run *live, int fd, const char *data, size_t len)
{
    int r = 0;
    while (r >= 0 && len > 0) {
        size_t room = LINE_SIZE - era_buffer_len(&live->lines[fd]);
        size_t n = len < room ? len : room;
        const char *newline = memchr(data, '\n', n);
        if (newline != NULL)
            n = (size_t)(newline - data) + 1;
        if (era_buffer_append(&live->lines[fd], data, n) < 0)
            return -ENOMEM;
        if (newline != NULL || n == room)
            r = end_line(live, fd);
        data += n;
        len -= n;
    }
    return r;
}

static int write_event(struct live_run *live, const struct era_event *event)
{
    int fd = event->type == ERA_EVENT_STDOUT ? STDOUT_FILENO : STDERR_FILENO;
    if (live->prefix != NULL)
        return write_prefixed(live, fd, event->data, event->len);
    return write_all(fd, event->data, event->len);
}

/* Who read us is gone: the command gets what a command gets then. */
static void lose_reader(struct live_run *live)
{
    (void)era_run_signal(live->run, SIGKILL);
    live->status = 128 + SIGPIPE;
}

static int drain(struct live_run *live, struct era_error *err)
{
    for (;;) {
        struct era_event event;
        int r = era_run_next(live->run, &event, err);
        if (r <= 0)
            return r;
        if (event.type == ERA_EVENT_EXIT) {
            live->ended = true;
            (void)end_line(live, STDOUT_FILENO);
            (void)end_line(live, STDERR_FILENO);
            if (live->status != 128 + SIGPIPE)
                live->status = era_result_exit_code(era_run_result(live->run));
            return 0;
        }
        if (event.type == ERA_EVENT_STDIN)
            continue;
        if (live->status != 128 + SIGPIPE && write_event(live, &event) < 0)
            lose_reader(live);
    }
}

/* ---- input and signals -------------------------------------------------- */

static void send_input(struct loop *loop)
{
    struct era_run *run = loop->runs[0].run;
    while (loop->input_sent < loop->input_len) {
        ssize_t n = era_run_write(run, loop->input + loop->input_sent, loop->input_len - loop->input_sent);
        if (n <= 0)
            return;
        loop->input_sent += (size_t)n;
    }
    loop->input_len = loop->input_sent = 0;
}

static void read_input(struct loop *loop)
{
    ssize_t n = read(STDIN_FILENO, loop->input, sizeof loop->input);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        loop->input_open = false;
        (void)era_run_close_stdin(loop->runs[0].run);
        return;
    }
    loop->input_len = (size_t)n;
    send_input(loop);
}

static void pass_signal(struct loop *loop, int signo)
{
    uint16_t cols;
    uint16_t rows;
    if (signo == SIGWINCH) {
        terminal_size(&cols, &rows);
        if (loop->options->terminal)
            (void)era_run_resize(loop->runs[0].run, cols, rows);
        return;
    }
    /* Asked twice, we do not ask any more. A terminal that hangs up takes its command with it. */
    bool insist = loop->ended_by != 0 || signo == SIGHUP;
    loop->ended_by = signo;
    for (size_t i = 0; i < loop->count; i++)
        if (!loop->runs[i].ended)
            (void)era_run_signal(loop->runs[i].run, insist ? SIGKILL : signo);
}

static void take_signals(struct loop *loop)
{
    struct signalfd_siginfo info;
    while (read(loop->options->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        pass_signal(loop, (int)info.ssi_signo);
}

/* ---- the loop ----------------------------------------------------------- */

static size_t fill_polls(const struct loop *loop, struct pollfd *polls)
{
    polls[0] = (struct pollfd){.fd = loop->options->signal_fd, .events = POLLIN};
    bool wants_input = loop->input_open && loop->input_len == 0 && !loop->runs[0].ended;
    polls[1] = (struct pollfd){.fd = wants_input ? STDIN_FILENO : -1, .events = POLLIN};
    size_t open = 0;
    for (size_t i = 0; i < loop->count; i++) {
        bool live = !loop->runs[i].ended;
        polls[2 + i] = (struct pollfd){.fd = live ? era_run_fd(loop->runs[i].run) : -1};
        if (live)
            polls[2 + i].events = era_run_poll_events(loop->runs[i].run);
        open += live;
    }
    return open;
}

static int turn(struct loop *loop, struct pollfd *polls, struct era_error *err)
{
    if (poll(polls, 2 + loop->count, -1) < 0)
        return errno == EINTR ? 0 : era_error_errno(err, errno, "cannot wait");
    if (polls[0].revents != 0)
        take_signals(loop);
    if (polls[1].revents != 0)
        read_input(loop);
    for (size_t i = 0; i < loop->count; i++) {
        int r = polls[2 + i].revents != 0 ? drain(&loop->runs[i], err) : 0;
        if (r < 0)
            return r;
    }
    if (loop->input_len > 0 && !loop->runs[0].ended)
        send_input(loop);
    return 0;
}

int live_loop(struct live_run runs[], size_t count, const struct live_options *options, struct era_error *err)
{
    struct loop *loop = calloc(1, sizeof *loop);
    struct pollfd *polls = calloc(count + 2, sizeof *polls);
    int r = loop == NULL || polls == NULL ? era_error_oom(err) : 0;
    if (loop != NULL)
        *loop = (struct loop){.runs = runs, .count = count, .options = options, .input_open = options->forward_stdin};
    while (r >= 0 && loop != NULL && polls != NULL && fill_polls(loop, polls) > 0)
        r = turn(loop, polls, err);
    int worst = 0;
    for (size_t i = 0; i < count; i++) {
        if (runs[i].status > worst)
            worst = runs[i].status;
        era_buffer_clear(&runs[i].lines[STDOUT_FILENO]);
        era_buffer_clear(&runs[i].lines[STDERR_FILENO]);
    }
    free(loop);
    free(polls);
    return r < 0 ? r : worst;
}

void live_tell_lost(const struct invocation *invocation, const struct live_run runs[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!runs[i].ended || !era_str_eq(era_result_verdict(era_run_result(runs[i].run)), "vm_lost"))
            continue;
        struct era_error err = {0};
        (void)era_error_set(&err, EPIPE, "vm_lost",
                            "VM %s ended while the command ran; the next command starts it again", runs[i].vm_id);
        (void)output_error(invocation, &err);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Booting a machine to the point where era-init waits, and saving it there. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "launcher/microvm/internal.h"
#include "wire/message.h"

enum { EMULATED_BOOT_MS = 120000, KVM_BOOT_MS = 4000, SAVE_MS = 60000, MEASURE_MS = 50, WORD_MS = 15000 };

#if defined(__x86_64__)
struct instant {
    int64_t ns;
    uint64_t ticks;
};

/* Both clocks at once: of several looks the one that nothing came between. */
static struct instant look(void)
{
    struct instant best = {0};
    int64_t shortest_ns = INT64_MAX;
    for (int i = 0; i < 16; i++) {
        int64_t before_ns = era_clock_monotonic_ns();
        uint64_t ticks = __builtin_ia32_rdtsc();
        int64_t took_ns = era_clock_monotonic_ns() - before_ns;
        if (took_ns < shortest_ns)
            best = (struct instant){.ns = before_ns + took_ns / 2, .ticks = ticks};
        shortest_ns = took_ns < shortest_ns ? took_ns : shortest_ns;
    }
    return best;
}
#endif

uint32_t boot_tsc_khz(void)
{
#if defined(__x86_64__)
    struct instant from = look();
    (void)poll(NULL, 0, MEASURE_MS);
    struct instant to = look();
    return to.ns <= from.ns ? 0 : (uint32_t)((to.ticks - from.ticks) * 1000000 / (uint64_t)(to.ns - from.ns));
#else
    return 0;
#endif
}

/* READY: 1; what else comes is an error. 0: more is needed. */
static int take_frame(struct qemu *qemu, struct era_buffer *in, struct era_error *err)
{
    struct era_frame frame;
    ssize_t n = era_buffer_fill(in, qemu->control_fd, 4096);
    ssize_t taken = n <= 0 ? -EPIPE : era_frame_decode(era_buffer_data(in), era_buffer_len(in), &frame);
    if (taken == 0 || n == -EAGAIN)
        return 0;
    if (taken > 0 && frame.type == ERA_FRAME_READY)
        return 1;
    struct era_error told;
    if (taken > 0 && frame.type == ERA_FRAME_ERROR && era_error_decode(&frame, &told) >= 0)
        return era_error_set(err, EIO, "vm_start_failed", "%s", told.message);
    return qemu_fail(qemu, -EPIPE, "booting", err);
}

/* A machine that boots has no reason to stop: it is over when QEMU says so, and not when the time is. */
static int take_event(struct qemu *qemu, struct era_error *err)
{
    static const char *const ends[] = {"STOP", "SHUTDOWN", "RESET", "GUEST_PANICKED"};
    struct qmp_line line = {0};
    int r = monitor_read(qemu, era_clock_monotonic_ns() + 1000000000, &line);
    if (r < 0)
        return qemu_fail(qemu, r, "booting", err);
    for (size_t i = 0; line.kind == QMP_EVENT && i < sizeof ends / sizeof ends[0]; i++)
        if (strcmp(line.word, ends[i]) == 0)
            return era_error_set(err, EIO, "vm_start_failed", "the guest's kernel does not come up here (%s %s)",
                                 line.word, line.text);
    return 0;
}

/* Who asked gives up when he hears nothing for long: see LAUNCH_TIMEOUT_MS of service/shim.c. */
static void say_still_booting(const struct era_guest_config *config)
{
    if (config->progress != NULL)
        config->progress(config->progress_userdata, "still booting");
}

static int await_ready(struct qemu *qemu, const struct era_guest_config *config, int timeout_ms, struct era_error *err)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)timeout_ms * 1000000;
    struct era_buffer in = {0};
    int r = 0;
    while (r == 0) {
        struct pollfd fds[] = {{.fd = qemu->control_fd, .events = POLLIN},
                               {.fd = qemu->monitor_fd, .events = POLLIN},
                               {.fd = config->caller_fd, .events = POLLRDHUP}};
        int64_t left_ms = (deadline_ns - era_clock_monotonic_ns()) / 1000000;
        int n = left_ms <= 0 ? 0 : poll(fds, 3, (int)(left_ms < WORD_MS ? left_ms : WORD_MS));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 && left_ms > WORD_MS)
            say_still_booting(config);
        else if (n <= 0)
            r = era_error_set(err, ETIMEDOUT, "vm_start_failed", "the guest's kernel did not come up within %d s",
                              timeout_ms / 1000);
        else if (fds[2].revents != 0)
            r = era_error_set(err, ECANCELED, "run_ended", "nobody waits for the guest any more");
        else if (fds[1].revents != 0)
            r = take_event(qemu, err);
        else
            r = take_frame(qemu, &in, err);
    }
    era_buffer_clear(&in);
    return r < 0 ? r : 0;
}

int boot_prepare_saving(struct qemu *qemu, int64_t deadline_ns, struct era_error *err)
{
    /* The memory is a file of its own, and no part of the state. */
    static const struct qmp_member capabilities[] = {
        {.key = "capabilities",
         .raw =
             "[{\"capability\": \"x-ignore-shared\", \"state\": true}, {\"capability\": \"events\", \"state\": true}]"},
        {.key = NULL}};
    return monitor_ask(qemu, "migrate-set-capabilities", capabilities, deadline_ns, err);
}

/* The machine stands still from here on; its devices' state goes to the file. */
static int save(struct qemu *qemu, int state_fd, struct era_error *err)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)SAVE_MS * 1000000;
    static const struct qmp_member target[] = {{.key = "uri", .text = "fd:state"}, {.key = NULL}};
    int r = boot_prepare_saving(qemu, deadline_ns, err);
    if (r >= 0)
        r = monitor_ask(qemu, "stop", NULL, deadline_ns, err);
    if (r >= 0)
        r = monitor_give(qemu, "state", state_fd, deadline_ns, err);
    if (r >= 0)
        r = monitor_ask(qemu, "migrate", target, deadline_ns, err);
    if (r >= 0)
        r = monitor_await(qemu, "MIGRATION", "completed", deadline_ns, err);
    /* Its answer comes when all before it is done, the state's file closed. */
    return r < 0 ? r : monitor_ask(qemu, "quit", NULL, deadline_ns, err);
}

int boot_and_save(const struct qemu_start *start, int state_fd, struct era_error *err)
{
    struct qemu qemu;
    bool jailed;
    int r = qemu_start(start, &qemu, &jailed, err);
    if (r < 0)
        return r;
    int timeout_ms = start->spec->kvm ? KVM_BOOT_MS : EMULATED_BOOT_MS;
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)timeout_ms * 1000000;
    r = monitor_ask(&qemu, "qmp_capabilities", NULL, deadline_ns, err);
    if (r >= 0)
        r = await_ready(&qemu, start->config, timeout_ms, err);
    ERA_POINT("template.booted");
    if (r >= 0)
        r = save(&qemu, state_fd, err);
    ERA_POINT("template.saved");
    qemu_end(&qemu);
    return r;
}

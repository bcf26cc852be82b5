/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile_init - started in place of era-init by a copy of the programs that
 * has it. The VM's variable HOSTILE says what it does: before it is ready, at
 * a run, or at a stop. As the first process of a kernel of its own it is copied
 * when it has said READY, and hears of the variable by IDENTITY. Frames are those of src/wire/frame.h, written by hand:
 * what is wrong with them could not be said by the real encoder.
 */
#include "hostile_init.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER = 12, FOREVER = 1 << 30 };

enum {
    LAUNCHED = 2,
    READY = 4,
    RUN = 5,
    GO = 6,
    SHUTDOWN = 12,
    STDOUT = 13,
    STDERR = 14,
    ENDED = 15,
    EXIT = 16,
    WINDOW = 17,
    ERROR = 18,
    STOPPED = 20,
    IDENTITY = 21,
    CLOCK = 22,
    HOLD = 28,
};

static uint8_t memory[HEADER + 512 * 1024];
static uint32_t stream; /* of the run under way */
int shim = 3;

static void put(uint8_t *to, uint64_t value, int size)
{
    for (int i = 0; i < size; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

/* Text on the wire is counted: no NUL follows. */
static void put_bytes(uint8_t *to, const char *from, size_t len)
{
    memcpy(to, from, len);
}

/* Everything, or the end of this process: the shim is gone, or has had enough. */
void say(const void *data, size_t len)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t n = write(shim, at, len);
        if (n <= 0)
            _exit(1);
        at += n;
        len -= (size_t)n;
    }
}

static void hear(uint8_t *to, size_t len)
{
    while (len > 0) {
        ssize_t n = read(shim, to, len);
        if (n <= 0)
            _exit(0);
        to += n;
        len -= (size_t)n;
    }
}

/* A header that claims `claimed` bytes, and `len` bytes. */
static void frame(uint32_t claimed, unsigned type, uint32_t of, const void *payload, size_t len)
{
    static uint8_t bytes[sizeof memory];
    put(bytes, claimed, 4);
    put(bytes + 4, type, 4);
    put(bytes + 8, of, 4);
    if (len > 0)
        memcpy(bytes + HEADER, payload, len);
    say(bytes, HEADER + len);
}

static void send_frame(unsigned type, const void *payload, size_t len)
{
    frame((uint32_t)len, type, stream, payload, len);
}

/* Where things are in an ENDED: see era_run_ended_encode(). Before them: status, CPU time, memory, kills. */
enum { ENDED_ERRNUM = 28, ENDED_LENGTH = 32, ENDED_TEXT = 36 };

static void ended(uint32_t wait_status, uint32_t errnum, const char *message)
{
    uint8_t payload[512] = {0};
    size_t len = strlen(message);
    put(payload, wait_status, 4);
    put(payload + ENDED_ERRNUM, errnum, 4);
    put(payload + ENDED_LENGTH, len, 4);
    put_bytes(payload + ENDED_TEXT, message, len);
    send_frame(ENDED, payload, ENDED_TEXT + len + 1);
}

static void window(unsigned channel, uint32_t bytes)
{
    uint8_t payload[5] = {(uint8_t)channel};
    put(payload + 1, bytes, 4);
    send_frame(WINDOW, payload, sizeof payload);
}

/* An entry of src/wire/tree.h, as output. */
static void entry(unsigned kind, const char *name, unsigned mode, uint64_t size, const char *content)
{
    uint8_t bytes[512] = {(uint8_t)kind};
    size_t len = strlen(name);
    put(bytes + 2, len, 2);
    put(bytes + 4, mode, 4);
    put(bytes + 8, size, 8);
    put_bytes(bytes + 16, name, len);
    put_bytes(bytes + 16 + len, content, strlen(content));
    send_frame(STDOUT, bytes, 16 + len + strlen(content));
}

/* ---- what is done at a run ------------------------------------------------ */

static void claim_too_long(void)
{
    frame(0xFFFFFFFF, STDOUT, stream, "x", 1);
}

static void unknown_type(void)
{
    frame(0, 999, stream, NULL, 0);
}

static void type_zero(void)
{
    frame(0, 0, stream, NULL, 0);
}

static void reserved_bits(void)
{
    frame(1, STDOUT | 1 << 16, stream, "x", 1);
}

static void stream_of_nobody(void)
{
    frame(1, STDOUT, stream + 1000, "x", 1);
}

static void stream_zero(void)
{
    frame(1, STDOUT, 0, "x", 1);
}

static void ready_again(void)
{
    frame(0, READY, 0, NULL, 0);
}

static void frames_of_the_shim(void)
{
    send_frame(EXIT, memory, 42);
    send_frame(ERROR, memory, 42);
    send_frame(STOPPED, NULL, 0);
}

static void launched(void)
{
    send_frame(LAUNCHED, memory, 6);
}

static void more_than_a_frame_may_hold(void)
{
    send_frame(STDOUT, memory, 64 * 1024);
}

static void more_than_the_window(void)
{
    for (int i = 0; i < FOREVER; i++)
        send_frame(STDOUT, memory, 32 * 1024);
}

static void empty_output(void)
{
    for (int i = 0; i < FOREVER; i++)
        send_frame(i % 2 == 0 ? STDOUT : STDERR, NULL, 0);
}

static void empty_windows(void)
{
    for (int i = 0; i < FOREVER; i++)
        window(0, 0);
}

static void window_that_overflows(void)
{
    window(0, 256 * 1024);
}

static void window_of_a_gigabyte(void)
{
    window(0, 1u << 30);
}

static void window_of_output(void)
{
    window(1, 1);
}

static void window_cut_short(void)
{
    send_frame(WINDOW, memory, 3);
}

static void status_that_is_none(void)
{
    ended(0x7FFFFFFF, 0, "");
}

static void errno_that_is_none(void)
{
    ended(0, 100000, "");
}

static void end_cut_short(void)
{
    send_frame(ENDED, memory, 7);
}

static void end_without_end_of_text(void)
{
    memset(memory, 'x', 400);
    put(memory, 0, 4);
    memset(memory + 4, 0, ENDED_LENGTH - 4);
    put(memory + ENDED_LENGTH, 200, 4);
    send_frame(ENDED, memory, ENDED_TEXT + 200);
}

static void end_twice(void)
{
    ended(0, 0, "");
    ended(0, 0, "");
}

static void silence(void)
{
}

static void death(void)
{
    _exit(0);
}

/* Each byte is answered with a window; that is never read, and must not pile up. */
static void output_without_reading(void)
{
    for (int i = 0; i < FOREVER; i++)
        send_frame(STDOUT, "x", 1);
}

static void huge_numbers(void)
{
    uint8_t payload[ENDED_TEXT + 1];
    memset(payload, 0xFF, sizeof payload);
    put(payload, 0, 4);
    memset(payload + ENDED_ERRNUM, 0, sizeof payload - ENDED_ERRNUM);
    send_frame(ENDED, payload, sizeof payload);
}

static void odd_words(void)
{
    ended(1 << 8, 5, "\x1b[2J\x1b]0;owned\a \xff\xfe \"quoted\" \\ \n end");
}

static void tree_outside(void)
{
    entry(3, "", 0755, 0, "");
    entry(2, "../escaped", 0644, 1, "x");
    entry(1, "", 0, 0, "");
    ended(0, 0, "");
}

static void tree_absolute(void)
{
    entry(3, "", 0755, 0, "");
    entry(2, "/tmp/era-escaped", 0644, 1, "x");
    ended(0, 0, "");
}

static void tree_through_a_link(void)
{
    entry(3, "", 0755, 0, "");
    entry(4, "link", 0777, 2, "..");
    entry(2, "link/escaped", 0644, 1, "x");
    ended(0, 0, "");
}

static void tree_through_its_own_link(void)
{
    entry(3, "", 0755, 0, "");
    entry(3, "a", 0755, 0, "");
    entry(4, "a/link", 0777, 1, ".");
    entry(2, "a/link/escaped", 0644, 1, "x");
    ended(0, 0, "");
}

static void tree_with_setuid(void)
{
    entry(2, "", 04755, 1, "x");
    ended(0, 0, "");
}

static void tree_cut_short(void)
{
    entry(2, "", 0644, 1000, "x");
    ended(0, 0, "");
}

static void tree_without_end(void)
{
    entry(2, "", 0644, INT64_MAX, "x");
    uint32_t room = 128 * 1024; /* it keeps to the windows: nothing but its content is wrong */
    for (int i = 0; i < FOREVER; i++) {
        for (; room < 1024; room += (uint32_t)memory[1] | (uint32_t)memory[2] << 8 | (uint32_t)memory[3] << 16) {
            uint8_t head[HEADER];
            hear(head, sizeof head);
            hear(memory, head[0]);
            if (head[4] != WINDOW)
                return;
        }
        send_frame(STDOUT, memory, 1024);
        room -= 1024;
    }
}

static const struct {
    const char *name;
    void (*at_run)(void);
} deeds[] = {
    {"claim_too_long", claim_too_long},
    {"unknown_type", unknown_type},
    {"type_zero", type_zero},
    {"reserved_bits", reserved_bits},
    {"stream_of_nobody", stream_of_nobody},
    {"stream_zero", stream_zero},
    {"ready_again", ready_again},
    {"frames_of_the_shim", frames_of_the_shim},
    {"launched", launched},
    {"more_than_a_frame_may_hold", more_than_a_frame_may_hold},
    {"more_than_the_window", more_than_the_window},
    {"empty_output", empty_output},
    {"empty_windows", empty_windows},
    {"window_that_overflows", window_that_overflows},
    {"window_of_a_gigabyte", window_of_a_gigabyte},
    {"window_of_output", window_of_output},
    {"window_cut_short", window_cut_short},
    {"status_that_is_none", status_that_is_none},
    {"errno_that_is_none", errno_that_is_none},
    {"end_cut_short", end_cut_short},
    {"end_without_end_of_text", end_without_end_of_text},
    {"end_twice", end_twice},
    {"silence", silence},
    {"death", death},
    {"output_without_reading", output_without_reading},
    {"huge_numbers", huge_numbers},
    {"odd_words", odd_words},
    {"tree_outside", tree_outside},
    {"tree_absolute", tree_absolute},
    {"tree_through_a_link", tree_through_a_link},
    {"tree_through_its_own_link", tree_through_its_own_link},
    {"tree_with_setuid", tree_with_setuid},
    {"tree_cut_short", tree_cut_short},
    {"tree_without_end", tree_without_end},
};

/* Before it is ready; returns when there is nothing to be done. */
static void begin(const char *deed)
{
    if (strcmp(deed, "never_ready") == 0) {
        pause();
    } else if (strcmp(deed, "half_ready") == 0) {
        say("\0\0\0\0\4", 5);
        pause();
    } else if (strcmp(deed, "gone_at_once") == 0) {
        _exit(0);
    } else if (strcmp(deed, "rubbish") == 0) {
        memset(memory, 0xFF, 64);
        say(memory, 64);
        pause();
    } else if (strcmp(deed, "end_before_ready") == 0) {
        ended(0, 0, "");
        pause();
    } else if (strcmp(deed, "ready_with_freight") == 0) {
        frame(256 * 1024, READY, 0, memory, 256 * 1024);
        pause();
    } else if (strcmp(deed, "ready_of_a_stream") == 0) {
        frame(0, READY, 7, NULL, 0);
        pause();
    }
}

/* Whether the run that came waits for its GO: a flag behind the id and the kind. */
static int is_held(void)
{
    enum { HOLD = 1 << 6 };
    return (memory[4 + memory[0] + 1 + 1] & HOLD) != 0;
}

int main(void)
{
    const char *deed = getenv("HOSTILE");
    if (deed == NULL)
        deed = "";
    signal(SIGPIPE, SIG_IGN);
    if (machine_is_ours())
        shim = machine_open();
    begin(deed);
    send_frame(READY, NULL, 0);
    for (;;) {
        uint8_t head[HEADER];
        hear(head, sizeof head);
        uint32_t len = (uint32_t)head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16;
        hear(memory, len);
        if (head[4] == IDENTITY)
            begin(deed = machine_deed(memory, len));
        if (head[4] == IDENTITY || head[4] == CLOCK)
            frame(0, READY, 0, NULL, 0);
        if (head[4] == HOLD)
            machine_hold(deed);
        if (head[4] != RUN && head[4] != GO) /* a SHUTDOWN, say, that it does not obey */
            continue;
        stream = (uint32_t)head[8] | (uint32_t)head[9] << 8;
        if (head[4] == RUN && is_held())
            continue;
        memset(memory, 'x', sizeof memory);
        for (size_t i = 0; i < sizeof deeds / sizeof deeds[0]; i++)
            if (strcmp(deed, deeds[i].name) == 0)
                deeds[i].at_run();
    }
}

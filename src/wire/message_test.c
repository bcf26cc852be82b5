/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every message is one row of `messages`: a valid payload, and a reading of it that writes what it
 * read anew. Each is then cut at every length, made longer, and broken byte by byte.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include <stdlib.h>

#include "wire/field.h"
#include "wire/message.h"

/* Decodes the frame, and encodes what it got; 0 or the decoder's error. */
typedef int (*again_fn)(const struct era_frame *frame, struct era_buffer *to);

static void keep(void *message)
{
}

/* clear: frees what the decoder allocated; keep: it allocates nothing. */
#define DEFINE_AGAIN(name, type, clear)                                                                                \
    static int name##_again(const struct era_frame *frame, struct era_buffer *to)                                      \
    {                                                                                                                  \
        type message;                                                                                                  \
        int r = name##_decode(frame, &message);                                                                        \
        if (r < 0)                                                                                                     \
            return r;                                                                                                  \
        r = name##_encode(to, &message);                                                                               \
        clear(&message);                                                                                               \
        return r;                                                                                                      \
    }

DEFINE_AGAIN(era_launch, struct era_launch, era_launch_clear)
DEFINE_AGAIN(era_launched, struct era_launched, keep)
DEFINE_AGAIN(era_run_request, struct era_run_request, era_run_request_clear)
DEFINE_AGAIN(era_run_ended, struct era_run_ended, keep)
DEFINE_AGAIN(era_outcome, struct era_run_outcome, keep)
DEFINE_AGAIN(era_error, struct era_error, keep)

/* The small ones are written as whole frames. */
static int unwrap(struct era_buffer *to, struct era_buffer *frames)
{
    int r = era_buffer_append(to, era_buffer_data(frames) + ERA_FRAME_HEADER_SIZE,
                              era_buffer_len(frames) - ERA_FRAME_HEADER_SIZE);
    era_buffer_clear(frames);
    return r;
}

static int era_window_again(const struct era_frame *frame, struct era_buffer *to)
{
    struct era_window window;
    struct era_buffer frames = {0};
    int r = era_window_decode(frame, &window);
    return r < 0 ? r : era_window_append(&frames, 1, window.channel, window.bytes) < 0 ? -ENOMEM : unwrap(to, &frames);
}

static int era_resize_again(const struct era_frame *frame, struct era_buffer *to)
{
    uint16_t cols;
    uint16_t rows;
    struct era_buffer frames = {0};
    int r = era_resize_decode(frame, &cols, &rows);
    return r < 0 ? r : era_resize_append(&frames, 1, cols, rows) < 0 ? -ENOMEM : unwrap(to, &frames);
}

static int era_u32_again(const struct era_frame *frame, struct era_buffer *to)
{
    uint32_t value;
    struct era_buffer frames = {0};
    int r = era_u32_decode(frame, &value);
    return r < 0 ? r : era_u32_append(&frames, ERA_FRAME_SIGNAL, 1, value) < 0 ? -ENOMEM : unwrap(to, &frames);
}

static char *launch_env[] = {(char[]){"A=1"}, (char[]){"EMPTY="}, NULL};
static const struct era_launch launch = {
    .id = "python-1729692845123456789",
    .launcher = ERA_LAUNCHER_MICROVM,
    .network = ERA_NETWORK_ALLOW_ALL,
    .volume_kind = ERA_VOLUME_FOLDER,
    .cpu_count = ERA_CPU_MAX,
    .mem_mib = ERA_MEM_MIB_MAX,
    .disk_mib = ERA_DISK_MIB_MAX,
    .pids = ERA_PIDS_MAX,
    .uid_slot = UINT32_MAX,
    .best_effort = true,
    .image_path = "/var/lib/agent/images/agent_python:3.11",
    .volume_path = "/var/lib/agent/volumes/v",
    .env = {.items = launch_env, .count = 2},
};
static const struct era_launched launched = {.launcher = ERA_LAUNCHER_NAMESPACE, .unenforced = "memory,cpu"};
static const struct era_run_ended ended = {
    .wait_status = 0xFF00, .cpu_us = INT64_MAX, .peak_mem_kib = 77, .errnum = 4095, .message = "a\tb \xFF"};
static const struct era_run_outcome outcome = {.verdict = ERA_VERDICT_VM_LOST,
                                               .exit_code = 255,
                                               .wall_us = UINT64_MAX,
                                               .cpu_us = 1,
                                               .peak_mem_kib = 2,
                                               .dropped = {3, UINT64_MAX}};
static const struct era_error error = {.errnum = 1, .code = "vm_busy", .field = "mem", .message = "it is busy"};

static int encode_run_request(struct era_buffer *to)
{
    char *argv[] = {(char[]){"/bin/echo"}, (char[]){""}, (char[]){"a b\n"}, NULL};
    char *env[] = {(char[]){"A=1"}, (char[]){"B="}, NULL};
    const struct era_run_request request = {
        .id = "r1729692845123456789",
        .kind = ERA_RUN_GET,
        .flags = ERA_RUN_FLAGS_ALL,
        .timeout_ms = ERA_TIMEOUT_MS_MAX,
        .output_cap = ERA_OUTPUT_CAP_MAX,
        .cols = UINT16_MAX,
        .rows = 1,
        .workdir = "/workspace",
        .argv = {.items = argv, .count = 3},
        .env = {.items = env, .count = 2},
    };
    return era_run_request_encode(to, &request);
}

#define DEFINE_ENCODE(name, message)                                                                                   \
    static int encode_##message(struct era_buffer *to)                                                                 \
    {                                                                                                                  \
        return name##_encode(to, &message);                                                                            \
    }

DEFINE_ENCODE(era_launch, launch)
DEFINE_ENCODE(era_launched, launched)
DEFINE_ENCODE(era_run_ended, ended)
DEFINE_ENCODE(era_outcome, outcome)
DEFINE_ENCODE(era_error, error)

static int encode_window(struct era_buffer *to)
{
    struct era_buffer frames = {0};
    int r = era_window_append(&frames, 1, 2, ERA_WINDOW_INITIAL);
    return r < 0 ? r : unwrap(to, &frames);
}

static int encode_resize(struct era_buffer *to)
{
    struct era_buffer frames = {0};
    int r = era_resize_append(&frames, 1, 80, 0xABCD);
    return r < 0 ? r : unwrap(to, &frames);
}

static int encode_u32(struct era_buffer *to)
{
    struct era_buffer frames = {0};
    int r = era_u32_append(&frames, ERA_FRAME_STOP, 1, 0xDEADBEEF);
    return r < 0 ? r : unwrap(to, &frames);
}

static int encode_go(struct era_buffer *to)
{
    struct era_buffer frames = {0};
    int r = era_go_append(&frames, "r1729692845123456789");
    return r < 0 ? r : unwrap(to, &frames);
}

static int era_go_again(const struct era_frame *frame, struct era_buffer *to)
{
    char id[ERA_RUN_ID_MAX];
    struct era_buffer frames = {0};
    int r = era_go_decode(frame, id);
    return r < 0 ? r : era_go_append(&frames, id) < 0 ? -ENOMEM : unwrap(to, &frames);
}

static const struct {
    const char *name;
    int (*encode)(struct era_buffer *to);
    again_fn again;
} messages[] = {
    {"launch", encode_launch, era_launch_again},
    {"launched", encode_launched, era_launched_again},
    {"run request", encode_run_request, era_run_request_again},
    {"ended", encode_ended, era_run_ended_again},
    {"outcome", encode_outcome, era_outcome_again},
    {"error", encode_error, era_error_again},
    {"window", encode_window, era_window_again},
    {"resize", encode_resize, era_resize_again},
    {"u32", encode_u32, era_u32_again},
    {"go", encode_go, era_go_again},
};

enum { MESSAGES = sizeof messages / sizeof *messages };

static struct era_buffer valid_payload(size_t i)
{
    struct era_buffer payload = {0};
    assert_int_equal(messages[i].encode(&payload), 0);
    assert_true(era_buffer_len(&payload) > 0);
    return payload;
}

/* On memory of just that size, so that ASan sees a byte read too far. */
static int again_exact(size_t i, const uint8_t *data, size_t len, struct era_buffer *to)
{
    uint8_t *exact = malloc(len > 0 ? len : 1);
    assert_non_null(exact);
    memcpy(exact, data, len);
    const struct era_frame frame = {.payload = exact, .len = (uint32_t)len};
    int r = messages[i].again(&frame, to);
    free(exact);
    return r;
}

static void messages_come_back_as_they_were(void **state)
{
    for (size_t i = 0; i < MESSAGES; i++) {
        struct era_buffer payload = valid_payload(i);
        struct era_buffer back = {0};
        if (again_exact(i, era_buffer_data(&payload), era_buffer_len(&payload), &back) != 0)
            fail_msg("refused: %s", messages[i].name);
        assert_int_equal(era_buffer_len(&back), era_buffer_len(&payload));
        assert_memory_equal(era_buffer_data(&back), era_buffer_data(&payload), era_buffer_len(&back));
        era_buffer_clear(&back);
        era_buffer_clear(&payload);
    }
}

static void every_part_of_a_message_is_refused(void **state)
{
    for (size_t i = 0; i < MESSAGES; i++) {
        struct era_buffer payload = valid_payload(i);
        for (size_t len = 0; len < era_buffer_len(&payload); len++) {
            struct era_buffer back = {0};
            if (again_exact(i, era_buffer_data(&payload), len, &back) != -EBADMSG)
                fail_msg("taken: %s, cut at %zu", messages[i].name, len);
            assert_int_equal(era_buffer_len(&back), 0);
        }
        era_buffer_clear(&payload);
    }
}

static void a_byte_too_many_is_refused(void **state)
{
    for (size_t i = 0; i < MESSAGES; i++) {
        struct era_buffer payload = valid_payload(i);
        assert_int_equal(era_buffer_append(&payload, "", 1), 0);
        struct era_buffer back = {0};
        if (again_exact(i, era_buffer_data(&payload), era_buffer_len(&payload), &back) != -EBADMSG)
            fail_msg("taken: %s", messages[i].name);
        era_buffer_clear(&payload);
    }
}

/* Whatever one byte becomes: refused, or read as something that is written in just this way. */
static void a_broken_byte_is_refused_or_means_what_it_says(void **state)
{
    static const uint8_t values[] = {0, 1, 2, 0x7F, 0x80, 0xFF};
    for (size_t i = 0; i < MESSAGES; i++) {
        struct era_buffer payload = valid_payload(i);
        size_t len = era_buffer_len(&payload);
        uint8_t *bytes = malloc(len);
        assert_non_null(bytes);
        for (size_t at = 0; at < len; at++) {
            for (size_t v = 0; v < sizeof values; v++) {
                memcpy(bytes, era_buffer_data(&payload), len);
                bytes[at] = values[v];
                struct era_buffer back = {0};
                int r = again_exact(i, bytes, len, &back);
                if (r != -EBADMSG &&
                    (r != 0 || era_buffer_len(&back) != len || memcmp(era_buffer_data(&back), bytes, len) != 0))
                    fail_msg("%s, byte %zu as %u: %d", messages[i].name, at, values[v], r);
                era_buffer_clear(&back);
            }
        }
        free(bytes);
        era_buffer_clear(&payload);
    }
}

/* Encodes one, with `change` made to it, and decodes it. */
#define RESULT_OF_CHANGED(name, type, original, clear, change)                                                         \
    ({                                                                                                                 \
        type changed = original;                                                                                       \
        type read = {0};                                                                                               \
        struct era_buffer payload = {0};                                                                               \
        change;                                                                                                        \
        assert_int_equal(name##_encode(&payload, &changed), 0);                                                        \
        const struct era_frame frame = {.payload = era_buffer_data(&payload),                                          \
                                        .len = (uint32_t)era_buffer_len(&payload)};                                    \
        int result = name##_decode(&frame, &read);                                                                     \
        clear(&read);                                                                                                  \
        era_buffer_clear(&payload);                                                                                    \
        result;                                                                                                        \
    })

#define LAUNCH_WITH(change)   RESULT_OF_CHANGED(era_launch, struct era_launch, launch, era_launch_clear, change)
#define LAUNCHED_WITH(change) RESULT_OF_CHANGED(era_launched, struct era_launched, launched, keep, change)
#define ENDED_WITH(change)    RESULT_OF_CHANGED(era_run_ended, struct era_run_ended, ended, keep, change)
#define OUTCOME_WITH(change)  RESULT_OF_CHANGED(era_outcome, struct era_run_outcome, outcome, keep, change)
#define ERROR_WITH(change)    RESULT_OF_CHANGED(era_error, struct era_error, error, keep, change)

static void a_launch_keeps_its_limits(void **state)
{
    assert_int_equal(LAUNCH_WITH(changed.volume_path[0] = '\0'), 0);
    assert_int_equal(LAUNCH_WITH(changed.launcher = (enum era_launcher_kind)(ERA_LAUNCHER_MICROVM + 1)), -EBADMSG);
    assert_int_equal(LAUNCH_WITH(changed.network = (enum era_network)(ERA_NETWORK_ALLOW_ALL + 1)), -EBADMSG);
    assert_int_equal(LAUNCH_WITH(changed.volume_kind = (enum era_volume_kind)(ERA_VOLUME_FOLDER + 1)), -EBADMSG);
    assert_int_equal(LAUNCH_WITH(era_str_copy(changed.id, sizeof changed.id, "python-../../x")), -EBADMSG);
    assert_int_equal(LAUNCH_WITH(changed.id[0] = '\0'), -EBADMSG);
    assert_int_equal(LAUNCHED_WITH(changed.launcher = (enum era_launcher_kind)255), -EBADMSG);
    assert_int_equal(LAUNCHED_WITH(changed.unenforced[0] = '\0'), 0);
}

static void an_end_keeps_its_limits(void **state)
{
    assert_int_equal(ENDED_WITH(changed.errnum = 4096), -EBADMSG);
    assert_int_equal(ENDED_WITH(changed.errnum = -1), -EBADMSG);
    assert_int_equal(ENDED_WITH(changed.errnum = 0), 0);
    assert_int_equal(ENDED_WITH(changed.wait_status = 0x10000), -EBADMSG);
    assert_int_equal(ENDED_WITH(changed.wait_status = -1), -EBADMSG);
    assert_int_equal(ENDED_WITH(changed.cpu_us = UINT64_MAX), -EBADMSG);
    assert_int_equal(ENDED_WITH(changed.peak_mem_kib = UINT64_MAX), -EBADMSG);
    assert_int_equal(ENDED_WITH(memset(changed.message, 'x', sizeof changed.message - 1)), 0);
    assert_int_equal(OUTCOME_WITH(changed.verdict = ERA_VERDICT_NONE), -EBADMSG);
    assert_int_equal(OUTCOME_WITH(changed.verdict = (enum era_verdict)(ERA_VERDICT_VM_LOST + 1)), -EBADMSG);
    assert_int_equal(OUTCOME_WITH(changed.exit_code = 0), 0);
}

static void an_error_is_one(void **state)
{
    assert_int_equal(ERROR_WITH(changed.errnum = 0), -EBADMSG);
    assert_int_equal(ERROR_WITH(changed.errnum = -5), -EBADMSG);
    assert_int_equal(ERROR_WITH(changed.errnum = 4096), -EBADMSG);
    assert_int_equal(ERROR_WITH(changed.errnum = 4095), 0);
}

static void texts_too_long_are_refused(void **state)
{
    struct era_buffer payload = {0};
    struct era_writer w = {.to = &payload};
    char text[ERA_UNENFORCED_MAX + 1];
    memset(text, 'a', sizeof text);
    text[ERA_UNENFORCED_MAX] = '\0'; /* would need one byte more than there is */
    era_write_u8(&w, ERA_LAUNCHER_AUTO);
    era_write_str(&w, text);
    struct era_frame frame = {.payload = era_buffer_data(&payload), .len = (uint32_t)era_buffer_len(&payload)};
    struct era_launched read;
    assert_int_equal(era_launched_decode(&frame, &read), -EBADMSG);
    era_buffer_clear(&payload);

    text[ERA_UNENFORCED_MAX - 1] = '\0';
    era_write_u8(&w, ERA_LAUNCHER_AUTO);
    era_write_str(&w, text);
    frame = (struct era_frame){.payload = era_buffer_data(&payload), .len = (uint32_t)era_buffer_len(&payload)};
    assert_int_equal(era_launched_decode(&frame, &read), 0);
    assert_string_equal(read.unenforced, text);
    era_buffer_clear(&payload);
}

static int run_request_result(struct era_run_request changed, size_t argc, size_t envc)
{
    struct era_buffer payload = {0};
    for (size_t i = 0; i < argc; i++)
        assert_int_equal(era_strv_add(&changed.argv, "x"), 0);
    for (size_t i = 0; i < envc; i++)
        assert_int_equal(era_strv_add(&changed.env, "A=1"), 0);
    assert_int_equal(era_run_request_encode(&payload, &changed), 0);
    era_run_request_clear(&changed);
    const struct era_frame frame = {.payload = era_buffer_data(&payload), .len = (uint32_t)era_buffer_len(&payload)};
    struct era_run_request read = {.flags = 4711};
    int r = era_run_request_decode(&frame, &read);
    if (r == 0) {
        assert_int_equal(read.argv.count, argc);
        assert_int_equal(read.env.count, envc);
        era_run_request_clear(&read);
    } else {
        assert_int_equal(read.flags, 4711); /* written on success only */
    }
    era_buffer_clear(&payload);
    return r;
}

static void a_run_request_keeps_its_limits(void **state)
{
    const struct era_run_request plain = {.id = "r1", .workdir = "/"};
    assert_int_equal(run_request_result(plain, 1, 0), 0);
    assert_int_equal(run_request_result(plain, ERA_ARGV_MAX, 3 * ERA_ENV_MAX), 0);
    assert_int_equal(run_request_result(plain, 0, 0), -EBADMSG);
    assert_int_equal(run_request_result(plain, ERA_ARGV_MAX + 1, 0), -EBADMSG);
    assert_int_equal(run_request_result(plain, 1, 3 * ERA_ENV_MAX + 1), -EBADMSG);

    struct era_run_request changed = plain;
    changed.flags = ERA_RUN_FLAGS_ALL + 1;
    assert_int_equal(run_request_result(changed, 1, 0), -EBADMSG);
    changed = plain;
    changed.timeout_ms = ERA_TIMEOUT_MS_MAX + 1;
    assert_int_equal(run_request_result(changed, 1, 0), -EBADMSG);
    changed = plain;
    changed.output_cap = (uint64_t)ERA_OUTPUT_CAP_MAX + 1;
    assert_int_equal(run_request_result(changed, 1, 0), -EBADMSG);
    changed = plain;
    changed.kind = (enum era_run_kind)(ERA_RUN_REMOVE + 1);
    assert_int_equal(run_request_result(changed, 1, 0), -EBADMSG);
    static const char *const ids[] = {"", "r", "1", "r1/../x", "r123456789012345678901"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        changed = plain;
        era_str_copy(changed.id, sizeof changed.id, ids[i]);
        assert_int_equal(run_request_result(changed, 1, 0), -EBADMSG);
    }
    static const char *const workdirs[] = {"", "relative", "./x"};
    for (size_t i = 0; i < sizeof workdirs / sizeof *workdirs; i++) {
        changed = plain;
        era_str_copy(changed.workdir, sizeof changed.workdir, workdirs[i]);
        assert_int_equal(run_request_result(changed, 1, 0), -EBADMSG);
    }
}

static void a_window_keeps_its_limits(void **state)
{
    struct era_window window = {.bytes = 4711};
    const struct era_frame channel = {.payload = (const uint8_t *)"\x03\x01\0\0\0", .len = 5};
    const struct era_frame bytes = {.payload = (const uint8_t *)"\x01\x01\0\x04\0", .len = 5};
    _Static_assert(ERA_WINDOW_INITIAL == 0x40000, "the frame with one byte too many");
    assert_int_equal(era_window_decode(&channel, &window), -EBADMSG);
    assert_int_equal(era_window_decode(&bytes, &window), -EBADMSG);
    const struct era_frame nothing = {.payload = (const uint8_t *)"\x01\0\0\0\0", .len = 5};
    assert_int_equal(era_window_decode(&nothing, &window), -EBADMSG);
    assert_int_equal(window.bytes, 4711);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_back_as_they_were),
        cmocka_unit_test(every_part_of_a_message_is_refused),
        cmocka_unit_test(a_byte_too_many_is_refused),
        cmocka_unit_test(a_broken_byte_is_refused_or_means_what_it_says),
        cmocka_unit_test(a_launch_keeps_its_limits),
        cmocka_unit_test(an_end_keeps_its_limits),
        cmocka_unit_test(an_error_is_one),
        cmocka_unit_test(texts_too_long_are_refused),
        cmocka_unit_test(a_run_request_keeps_its_limits),
        cmocka_unit_test(a_window_keeps_its_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

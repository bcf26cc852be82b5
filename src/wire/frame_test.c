/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include <stdlib.h>

#include "wire/field.h"
#include "wire/frame.h"

static void frames_come_back_as_they_were(void **state)
{
    static const size_t sizes[] = {0, 1, 11, 12, 13, ERA_FRAME_DATA_MAX, ERA_FRAME_PAYLOAD_MAX};
    uint8_t *payload = malloc(ERA_FRAME_PAYLOAD_MAX);
    assert_non_null(payload);
    for (size_t i = 0; i < ERA_FRAME_PAYLOAD_MAX; i++)
        payload[i] = (uint8_t)(i * 7);
    for (int type = 1; type < ERA_FRAME_TYPE_COUNT; type++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct era_buffer buffer = {0};
            uint32_t stream = 0xFFFFFFFFu - (uint32_t)type;
            assert_int_equal(era_frame_append(&buffer, (enum era_frame_type)type, stream, payload, sizes[i]), 0);
            assert_int_equal(era_buffer_len(&buffer), ERA_FRAME_HEADER_SIZE + sizes[i]);
            struct era_frame frame;
            ssize_t n = era_frame_decode(era_buffer_data(&buffer), era_buffer_len(&buffer), &frame);
            assert_int_equal(n, ERA_FRAME_HEADER_SIZE + sizes[i]);
            assert_int_equal(frame.type, type);
            assert_int_equal(frame.stream, stream);
            assert_int_equal(frame.len, sizes[i]);
            assert_memory_equal(frame.payload, payload, sizes[i]);
            era_buffer_clear(&buffer);
        }
    }
    free(payload);
}

static void headers_are_laid_out_as_documented(void **state)
{
    struct era_buffer buffer = {0};
    assert_int_equal(era_frame_append(&buffer, ERA_FRAME_STDIN, 0x01020304, "ab", 2), 0);
    static const uint8_t expected[] = {2, 0, 0, 0, ERA_FRAME_STDIN, 0, 0, 0, 4, 3, 2, 1, 'a', 'b'};
    assert_int_equal(era_buffer_len(&buffer), sizeof expected);
    assert_memory_equal(era_buffer_data(&buffer), expected, sizeof expected);
    era_buffer_clear(&buffer);
}

/* On memory of just that size, so that ASan sees a byte read too far. */
static ssize_t decode_exact(const uint8_t *data, size_t len, struct era_frame *ret_frame)
{
    uint8_t *exact = malloc(len > 0 ? len : 1);
    assert_non_null(exact);
    memcpy(exact, data, len);
    ssize_t n = era_frame_decode(exact, len, ret_frame);
    free(exact);
    return n;
}

static void a_part_of_a_frame_waits_for_more(void **state)
{
    struct era_buffer buffer = {0};
    assert_int_equal(era_frame_append(&buffer, ERA_FRAME_STDOUT, 1, "hello", 5), 0);
    for (size_t len = 0; len < era_buffer_len(&buffer); len++) {
        struct era_frame frame = {.len = 4711};
        assert_int_equal(decode_exact(era_buffer_data(&buffer), len, &frame), 0);
        assert_int_equal(frame.len, 4711);
    }
    era_buffer_clear(&buffer);
}

static void what_follows_a_frame_is_left_alone(void **state)
{
    struct era_buffer buffer = {0};
    assert_int_equal(era_frame_append(&buffer, ERA_FRAME_READY, 0, NULL, 0), 0);
    assert_int_equal(era_frame_append(&buffer, ERA_FRAME_STDOUT, 3, "x", 1), 0);
    assert_int_equal(era_buffer_append(&buffer, "\xFF\xFF\xFF\xFF", 4), 0);
    struct era_frame frame;
    ssize_t n = era_frame_decode(era_buffer_data(&buffer), era_buffer_len(&buffer), &frame);
    assert_int_equal(n, ERA_FRAME_HEADER_SIZE);
    assert_int_equal(frame.type, ERA_FRAME_READY);
    era_buffer_consume(&buffer, (size_t)n);
    n = era_frame_decode(era_buffer_data(&buffer), era_buffer_len(&buffer), &frame);
    assert_int_equal(n, ERA_FRAME_HEADER_SIZE + 1);
    assert_int_equal(frame.stream, 3);
    era_buffer_consume(&buffer, (size_t)n);
    assert_int_equal(era_buffer_len(&buffer), 4);
    era_buffer_clear(&buffer);
}

static void hostile_headers_are_refused_before_their_payload_comes(void **state)
{
    static const struct {
        const char *what;
        uint8_t header[ERA_FRAME_HEADER_SIZE];
    } cases[] = {
        {"no type", {0, 0, 0, 0, 0, 0, 0, 0}},
        {"the first type that is none", {0, 0, 0, 0, ERA_FRAME_TYPE_COUNT, 0, 0, 0}},
        {"a type whose low byte is one", {0, 0, 0, 0, ERA_FRAME_STDIN, 1, 0, 0}},
        {"the greatest type", {0, 0, 0, 0, 0xFF, 0xFF, 0, 0}},
        {"a byte that should be zero", {0, 0, 0, 0, ERA_FRAME_STDIN, 0, 1, 0}},
        {"the other byte that should be zero", {0, 0, 0, 0, ERA_FRAME_STDIN, 0, 0, 0x80}},
        {"one byte too many", {1, 0, 4, 0, ERA_FRAME_STDIN, 0, 0, 0}},
        {"the greatest length", {0xFF, 0xFF, 0xFF, 0xFF, ERA_FRAME_STDIN, 0, 0, 0}},
        {"a length that is negative as an int", {0, 0, 0, 0x80, ERA_FRAME_STDIN, 0, 0, 0}},
    };
    _Static_assert(ERA_FRAME_PAYLOAD_MAX == 0x40000, "the case of one byte too many");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct era_frame frame = {.len = 4711};
        if (decode_exact(cases[i].header, ERA_FRAME_HEADER_SIZE, &frame) != -EBADMSG || frame.len != 4711)
            fail_msg("taken: %s", cases[i].what);
    }
}

static void a_payload_too_long_is_not_written(void **state)
{
    uint8_t *payload = calloc(1, ERA_FRAME_PAYLOAD_MAX + 1);
    assert_non_null(payload);
    struct era_buffer buffer = {0};
    assert_int_equal(era_frame_append(&buffer, ERA_FRAME_STDIN, 0, payload, ERA_FRAME_PAYLOAD_MAX + 1), -EMSGSIZE);
    assert_int_equal(era_buffer_len(&buffer), 0);
    era_buffer_clear(&buffer);
    free(payload);
}

static void fields_come_back_as_they_were(void **state)
{
    struct era_buffer buffer = {0};
    struct era_writer w = {.to = &buffer};
    char *items[] = {(char[]){""}, (char[]){"two\nlines"}, NULL};
    const struct era_strv list = {.items = items, .count = 2};
    era_write_u8(&w, 0xAB);
    era_write_u16(&w, 0xABCD);
    era_write_u32(&w, 0xABCDEF01);
    era_write_u64(&w, UINT64_MAX - 1);
    era_write_str(&w, "text");
    era_write_strv(&w, &list);
    assert_false(w.failed);

    struct era_reader r = era_reader(era_buffer_data(&buffer), era_buffer_len(&buffer));
    assert_int_equal(era_read_u8(&r), 0xAB);
    assert_int_equal(era_read_u16(&r), 0xABCD);
    assert_int_equal(era_read_u32(&r), 0xABCDEF01);
    assert_true(era_read_u64(&r) == UINT64_MAX - 1);
    assert_string_equal(era_read_str(&r, 5), "text");
    struct era_strv back;
    assert_int_equal(era_read_strv(&r, 2, &back), 0);
    assert_int_equal(back.count, 2);
    assert_string_equal(back.items[0], "");
    assert_string_equal(back.items[1], "two\nlines");
    assert_null(back.items[2]);
    assert_int_equal(era_reader_finish(&r), 0);
    era_strv_clear(&back);
    era_buffer_clear(&buffer);
}

static void hostile_strings_are_refused(void **state)
{
    static const struct {
        const char *what;
        const char *bytes;
        size_t len;
    } cases[] = {
        {"nothing", "", 0},
        {"half a length", "\x01\0", 2},
        {"a length without bytes", "\x01\0\0\0", 4},
        {"no NUL", "\x02\0\0\0ab", 6},
        {"something else in the NUL's place", "\x02\0\0\0abc", 7},
        {"a NUL inside", "\x02\0\0\0a\0", 7},
        {"one byte longer than may be", "\x04\0\0\0abcd", 9},
        {"the greatest length",
         "\xFF\xFF\xFF\xFF"
         "abc",
         8},
        {"longer than the rest", "\x03\0\0\0a", 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *exact = malloc(cases[i].len + 1);
        assert_non_null(exact);
        memcpy(exact, cases[i].bytes, cases[i].len);
        struct era_reader r = era_reader(exact, cases[i].len);
        const char *text = era_read_str(&r, 4);
        if (!r.failed || text[0] != '\0' || era_reader_finish(&r) != -EBADMSG)
            fail_msg("taken: %s", cases[i].what);
        assert_int_equal(era_read_u8(&r), 0);
        free(exact);
    }
}

static void hostile_lists_are_refused_and_cost_nothing(void **state)
{
    struct era_strv list = {.count = 4711};
    struct era_reader r = era_reader("\xFF\xFF\xFF\xFF", 4);
    assert_int_equal(era_read_strv(&r, 1024, &list), 0);
    assert_int_equal(list.count, 0);
    assert_null(list.items);
    assert_true(r.failed);

    /* more of them promised than there are: what was copied is freed */
    static const char short_list[] = "\x03\0\0\0\x01\0\0\0a\0\x01\0\0\0b";
    r = era_reader(short_list, sizeof short_list);
    assert_int_equal(era_read_strv(&r, 1024, &list), 0);
    assert_int_equal(list.count, 0);
    assert_null(list.items);
    assert_true(r.failed);
}

static void the_first_failure_stays(void **state)
{
    struct era_reader r = era_reader("\x01\x02", 2);
    assert_int_equal(era_read_u32(&r), 0);
    assert_int_equal(era_read_u8(&r), 0);
    assert_int_equal(era_reader_finish(&r), -EBADMSG);
    r = era_reader("\x01\x02", 2);
    assert_int_equal(era_read_u8(&r), 1);
    assert_int_equal(era_reader_finish(&r), -EBADMSG); /* one byte is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back_as_they_were),
        cmocka_unit_test(headers_are_laid_out_as_documented),
        cmocka_unit_test(a_part_of_a_frame_waits_for_more),
        cmocka_unit_test(what_follows_a_frame_is_left_alone),
        cmocka_unit_test(hostile_headers_are_refused_before_their_payload_comes),
        cmocka_unit_test(a_payload_too_long_is_not_written),
        cmocka_unit_test(fields_come_back_as_they_were),
        cmocka_unit_test(hostile_strings_are_refused),
        cmocka_unit_test(hostile_lists_are_refused_and_cost_nothing),
        cmocka_unit_test(the_first_failure_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

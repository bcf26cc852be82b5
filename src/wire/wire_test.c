/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants some of the above first. */
#include <cmocka.h>

#include "wire/message.h"
#include "wire/tree.h"

static struct era_frame decoded(const struct era_buffer *buffer)
{
    struct era_frame frame;
    assert_int_equal(era_frame_decode(era_buffer_data(buffer), era_buffer_len(buffer), &frame), era_buffer_len(buffer));
    return frame;
}

static void a_frame_comes_back_and_none_of_its_beginnings_does(void **state)
{
    (void)state;
    struct era_buffer buffer = {0};
    assert_int_equal(era_frame_append(&buffer, ERA_FRAME_STDOUT, 7, "hello", 5), 0);
    struct era_frame frame;
    for (size_t len = 0; len < era_buffer_len(&buffer); len++)
        assert_int_equal(era_frame_decode(era_buffer_data(&buffer), len, &frame), 0);
    frame = decoded(&buffer);
    assert_int_equal(frame.type, ERA_FRAME_STDOUT);
    assert_int_equal(frame.stream, 7);
    assert_memory_equal(frame.payload, "hello", 5);
    era_buffer_clear(&buffer);
}

static void what_can_never_be_a_frame_is_refused_at_once(void **state)
{
    (void)state;
    static const uint8_t bad[][12] = {
        {1, 0, 4, 0, 1},          /* a payload beyond the limit */
        {0, 0, 0, 0, 0},          /* type 0 */
        {0, 0, 0, 0, 200},        /* an unknown type */
        {0, 0, 0, 0, 1, 0, 1, 0}, /* reserved bytes */
    };
    struct era_frame frame;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(era_frame_decode(bad[i], sizeof bad[i], &frame), -EBADMSG);
}

static void a_run_request_comes_back_whole_or_not_at_all(void **state)
{
    (void)state;
    struct era_run_request request = {.id = "r12", .flags = ERA_RUN_SHELL, .timeout_ms = 5, .workdir = "/w"};
    assert_int_equal(era_strv_add(&request.argv, "echo hi"), 0);
    assert_int_equal(era_strv_add(&request.env, "A=b"), 0);
    struct era_buffer buffer = {0};
    assert_int_equal(era_message_append(&buffer, ERA_FRAME_RUN, 0, era_run_request_encode, &request), 0);
    struct era_frame frame = decoded(&buffer);
    struct era_run_request back;
    assert_int_equal(era_run_request_decode(&frame, &back), 0);
    assert_string_equal(back.argv.items[0], "echo hi");
    assert_string_equal(back.env.items[0], "A=b");
    assert_string_equal(back.workdir, "/w");
    era_run_request_clear(&back);
    for (uint32_t len = 0; len < frame.len; len++) {
        struct era_frame cut = {.type = ERA_FRAME_RUN, .payload = frame.payload, .len = len};
        assert_int_equal(era_run_request_decode(&cut, &back), -EBADMSG);
    }
    era_run_request_clear(&request);
    era_buffer_clear(&buffer);
}

static void an_outcome_comes_back_and_must_have_a_verdict(void **state)
{
    (void)state;
    const struct era_run_outcome outcome = {
        .verdict = ERA_VERDICT_TIMED_OUT, .exit_code = 124, .wall_us = 1, .cpu_us = 2, .dropped = {3, 4}};
    struct era_buffer buffer = {0};
    assert_int_equal(era_outcome_encode(&buffer, &outcome), 0);
    struct era_frame frame = {.payload = era_buffer_data(&buffer), .len = (uint32_t)era_buffer_len(&buffer)};
    struct era_run_outcome back;
    assert_int_equal(era_outcome_decode(&frame, &back), 0);
    assert_memory_equal(&back, &outcome, sizeof back);
    static const uint8_t bad[] = {ERA_VERDICT_NONE, ERA_VERDICT_VM_LOST + 1, 255};
    for (size_t i = 0; i < sizeof bad; i++) {
        buffer.data[buffer.start] = bad[i];
        assert_int_equal(era_outcome_decode(&frame, &back), -EBADMSG);
    }
    era_buffer_clear(&buffer);
}

static void names_that_are_no_plain_paths_are_refused(void **state)
{
    (void)state;
    static const char *const good[] = {"", "a", "a/b.c/..d", "..."};
    static const char *const bad[] = {"/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b"};
    uint8_t bytes[ERA_TREE_ENTRY_MAX];
    struct era_tree_entry back;
    for (size_t i = 0; i < sizeof good / sizeof good[0] + sizeof bad / sizeof bad[0]; i++) {
        size_t goods = sizeof good / sizeof good[0];
        struct era_tree_entry entry = {.kind = ERA_TREE_FOLDER, .mode = 0755};
        era_str_copy(entry.name, sizeof entry.name, i < goods ? good[i] : bad[i - goods]);
        ssize_t n = era_tree_encode(&entry, bytes);
        assert_int_equal(era_tree_decode(bytes, (size_t)n, &back), i < goods ? n : -EBADMSG);
    }
}

static void links_are_inside_when_they_do_not_climb_out(void **state)
{
    (void)state;
    assert_true(era_tree_link_inside("a/b", "../c"));
    assert_false(era_tree_link_inside("a", "b/../c")); /* "b" can be a link */
    assert_false(era_tree_link_inside("a", "../c"));
    assert_false(era_tree_link_inside("a/b", "../../c"));
    assert_false(era_tree_link_inside("a", "/etc"));
    assert_false(era_tree_link_inside("", ".."));
}

static void the_greatest_request_fits_a_frame(void **state)
{
    struct era_run_request request = {.id = "r1", .workdir = "/"};
    char *big = malloc(ERA_RUN_BYTES_MAX);
    assert_non_null(big);
    memset(big, 'x', ERA_RUN_BYTES_MAX);
    /* argv, env and workdir with their NULs are ERA_RUN_BYTES_MAX together */
    const size_t small = ERA_ARGV_MAX - 1 + 3 * ERA_ENV_MAX;
    big[ERA_RUN_BYTES_MAX - 1 - small - 2] = '\0';
    for (size_t i = 0; i < ERA_ARGV_MAX - 1; i++)
        assert_int_equal(era_strv_add(&request.argv, ""), 0);
    assert_int_equal(era_strv_add(&request.argv, big), 0);
    for (size_t i = 0; i < 3 * ERA_ENV_MAX; i++)
        assert_int_equal(era_strv_add(&request.env, ""), 0);
    struct era_buffer frames = {0};
    assert_int_equal(era_message_append(&frames, ERA_FRAME_RUN, 0, era_run_request_encode, &request), 0);
    era_buffer_clear(&frames);
    era_run_request_clear(&request);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_comes_back_and_none_of_its_beginnings_does),
        cmocka_unit_test(what_can_never_be_a_frame_is_refused_at_once),
        cmocka_unit_test(a_run_request_comes_back_whole_or_not_at_all),
        cmocka_unit_test(an_outcome_comes_back_and_must_have_a_verdict),
        cmocka_unit_test(names_that_are_no_plain_paths_are_refused),
        cmocka_unit_test(the_greatest_request_fits_a_frame),
        cmocka_unit_test(links_are_inside_when_they_do_not_climb_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

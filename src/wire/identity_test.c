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

static struct era_identity sample(void)
{
    struct era_identity identity = {
        .seed = {1, 2, 3},
        .realtime_ns = 1795556986474155255,
        .id = "python-12",
        .machine_id = "0123456789abcdef0123456789abcdef",
        .mac = {2, 0, 0, 0, 0, 9},
        .network = true,
        .pids = 64,
    };
    assert_int_equal(era_strv_add(&identity.env, "A=1"), 0);
    return identity;
}

static struct era_frame framed(struct era_buffer *payload, const struct era_identity *identity)
{
    assert_int_equal(era_identity_encode(payload, identity), 0);
    return (struct era_frame){
        .type = ERA_FRAME_IDENTITY, .payload = era_buffer_data(payload), .len = (uint32_t)era_buffer_len(payload)};
}

static void an_identity_comes_back_whole_or_not_at_all(void **state)
{
    (void)state;
    struct era_identity identity = sample();
    struct era_identity again;
    struct era_buffer payload = {0};
    struct era_frame frame = framed(&payload, &identity);
    assert_int_equal(era_identity_decode(&frame, &again), 0);
    assert_memory_equal(again.seed, identity.seed, sizeof identity.seed);
    assert_memory_equal(again.mac, identity.mac, sizeof identity.mac);
    assert_int_equal(again.realtime_ns, identity.realtime_ns);
    assert_string_equal(again.id, identity.id);
    assert_string_equal(again.machine_id, identity.machine_id);
    assert_true(again.network && !again.volume);
    assert_int_equal(again.pids, 64);
    assert_string_equal(again.env.items[0], "A=1");
    era_identity_clear(&again);
    for (uint32_t len = frame.len; len-- > 0;) {
        struct era_frame cut = {.payload = frame.payload, .len = len};
        assert_int_equal(era_identity_decode(&cut, &again), -EBADMSG);
    }
    era_buffer_clear(&payload);
    era_identity_clear(&identity);
}

static void what_no_host_would_say_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct era_identity identity = sample();
        struct era_identity again;
        struct era_buffer payload = {0};
        if (i == 0)
            era_str_copy(identity.id, sizeof identity.id, "../x");
        else if (i == 1)
            identity.machine_id[5] = '\0';
        else if (i == 2)
            identity.pids = 0;
        else
            identity.realtime_ns = -1;
        struct era_frame frame = framed(&payload, &identity);
        assert_int_equal(era_identity_decode(&frame, &again), -EBADMSG);
        era_buffer_clear(&payload);
        era_identity_clear(&identity);
    }
}

static void the_time_comes_back(void **state)
{
    (void)state;
    struct era_buffer out = {0};
    struct era_frame frame;
    int64_t realtime_ns = 0;
    assert_int_equal(era_clock_append(&out, 1795556986474155255), 0);
    assert_int_equal(era_frame_decode(era_buffer_data(&out), era_buffer_len(&out), &frame), era_buffer_len(&out));
    assert_int_equal(frame.type, ERA_FRAME_CLOCK);
    assert_int_equal(era_clock_decode(&frame, &realtime_ns), 0);
    assert_int_equal(realtime_ns, 1795556986474155255);
    frame.len--;
    assert_int_equal(era_clock_decode(&frame, &realtime_ns), -EBADMSG);
    era_buffer_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_identity_comes_back_whole_or_not_at_all),
        cmocka_unit_test(the_time_comes_back),
        cmocka_unit_test(what_no_host_would_say_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A QEMU that its guest has taken over says what it likes: the other end of its monitor, played by the test. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka wants some of the above first. */
#include <cmocka.h>

#include "base/clock.h"
#include "launcher/microvm/internal.h"

struct stage {
    struct qemu qemu;
    int theirs; /* the monitor's end that QEMU has */
};

static int set_up(void **state)
{
    static struct stage stage;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    stage = (struct stage){.qemu = {.pid_fd = -EBADF, .control_fd = -EBADF, .monitor_fd = pair[0], .words_fd = -EBADF},
                           .theirs = pair[1]};
    *state = &stage;
    return 0;
}

static int tear_down(void **state)
{
    struct stage *stage = *state;
    qemu_end(&stage->qemu);
    return stage->theirs >= 0 ? close(stage->theirs) : 0;
}

static void says(const struct stage *stage, const char *text)
{
    assert_int_equal(write(stage->theirs, text, strlen(text)), strlen(text));
}

static int64_t in_ms(int ms)
{
    return era_clock_monotonic_ns() + (int64_t)ms * 1000000;
}

/* Asks for something, and yields the error's number; 0: it was granted. */
static int ask(struct stage *stage, int64_t deadline_ns)
{
    struct era_error err = {0};
    int r = monitor_ask(&stage->qemu, "stop", NULL, deadline_ns, &err);
    assert_true(r == 0 || strcmp(err.code, "vm_start_failed") == 0);
    return -r;
}

static void an_answer_counts_by_its_id(void **state)
{
    struct stage *stage = *state;
    says(stage, "{\"QMP\": {}}\n{\"return\": {}, \"id\": 1}\n");
    assert_int_equal(ask(stage, in_ms(10000)), 0);
    says(stage, "{\"error\": {\"desc\": \"no\"}, \"id\": 2}\n");
    assert_int_equal(ask(stage, in_ms(10000)), EIO);
    says(stage, "{\"error\": {\"desc\": \"what?\"}}\n");
    assert_int_equal(ask(stage, in_ms(10000)), EIO);
}

/* The answer to what was given up, and one that nobody asked for. */
static void another_answer_is_passed_over(void **state)
{
    struct stage *stage = *state;
    assert_int_equal(ask(stage, in_ms(0)), ETIMEDOUT);
    says(stage, "{\"return\": {}, \"id\": 1}\n{\"return\": {}}\n{\"return\": {}, \"id\": 7}\n");
    assert_int_equal(ask(stage, in_ms(50)), ETIMEDOUT);
    says(stage, "{\"error\": {}, \"id\": 1}\n{\"error\": {}, \"id\": 2}\n{\"return\": {}, \"id\": 3}\n");
    assert_int_equal(ask(stage, in_ms(10000)), 0);
}

static void an_event_is_awaited_past_answers_to_others(void **state)
{
    struct stage *stage = *state;
    struct era_error err = {0};
    assert_int_equal(monitor_send(&stage->qemu, "migrate", NULL), 0);
    says(stage, "{\"error\": {}, \"id\": 5}\n{\"return\": {}, \"id\": 1}\n"
                "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"active\"}}\n"
                "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\n"
                "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"failed\"}}\n");
    assert_int_equal(monitor_await(&stage->qemu, "MIGRATION", "completed", in_ms(10000), &err), 0);
    assert_true(monitor_await(&stage->qemu, "MIGRATION", "completed", in_ms(10000), &err) < 0);
}

static void silence_ends_in_time(void **state)
{
    struct stage *stage = *state;
    assert_int_equal(ask(stage, in_ms(20)), ETIMEDOUT);
    says(stage, "{\"return\": {}");
    assert_int_equal(ask(stage, in_ms(20)), ETIMEDOUT);
}

/* One that talks all the time is heard no longer than one that is silent. */
static void a_flood_ends_in_time(void **state)
{
    struct stage *stage = *state;
    static const char noise[] = "{\"event\": \"NOISE\"}\n";
    enum { LEN = sizeof noise - 1, TIMES = 1000 };
    static char text[LEN * TIMES + 1];
    for (size_t i = 0; i < TIMES; i++)
        memcpy(text + i * LEN, noise, LEN);
    says(stage, text);
    assert_int_equal(ask(stage, in_ms(20)), ETIMEDOUT);
}

static void nonsense_is_an_error_at_once(void **state)
{
    struct stage *stage = *state;
    says(stage, "nonsense\n");
    assert_int_equal(ask(stage, in_ms(10000)), EBADMSG);
}

static void a_line_without_end_is_an_error(void **state)
{
    struct stage *stage = *state;
    char piece[1024];
    memset(piece, ' ', sizeof piece);
    for (size_t sent = 0; sent <= QMP_LINE_MAX; sent += sizeof piece)
        assert_int_equal(write(stage->theirs, piece, sizeof piece), sizeof piece);
    assert_int_equal(ask(stage, in_ms(10000)), EBADMSG);
}

static void one_that_is_gone_is_an_error_at_once(void **state)
{
    struct stage *stage = *state;
    close(stage->theirs);
    stage->theirs = -EBADF;
    assert_int_equal(ask(stage, in_ms(10000)), EPIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_answer_counts_by_its_id, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_answer_is_passed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_event_is_awaited_past_answers_to_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silence_ends_in_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flood_ends_in_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nonsense_is_an_error_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_line_without_end_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_gone_is_an_error_at_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

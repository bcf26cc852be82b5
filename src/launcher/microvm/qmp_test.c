/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants some of the above first. */
#include <cmocka.h>

#include "launcher/microvm/qmp.h"

static struct qmp_line decoded(const char *text)
{
    struct qmp_line line;
    assert_int_equal(qmp_decode(text, strlen(text), &line), strlen(text));
    return line;
}

/* As QEMU 7.2 writes them. */
static void lines_are_told_apart(void **state)
{
    (void)state;
    assert_int_equal(
        decoded("{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22}}, \"capabilities\": [\"oob\"]}}\r\n").kind,
        QMP_GREETING);
    assert_int_equal(decoded("{\"return\": {}}\r\n").kind, QMP_RETURN);
    assert_int_equal(decoded("{\"return\": {\"id\": 3}}\r\n").id, 0);
    assert_int_equal(decoded("{\"return\": {}, \"id\": 17}\r\n").id, 17);
    struct qmp_line line = decoded("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\r\n");
    assert_int_equal(line.kind, QMP_ERROR);
    assert_string_equal(line.text, "no such thing");
    line = decoded("{\"timestamp\": {\"seconds\": 1, \"microseconds\": -2}, \"event\": \"MIGRATION\", \"data\": "
                   "{\"status\": \"completed\"}}\r\n");
    assert_int_equal(line.kind, QMP_EVENT);
    assert_string_equal(line.word, "MIGRATION");
    assert_string_equal(line.status, "completed");
}

static void a_part_of_a_line_is_no_line(void **state)
{
    (void)state;
    static const char text[] = "{\"event\": \"STOP\"}\n";
    struct qmp_line line;
    for (size_t len = 0; len + 1 < sizeof text; len++)
        assert_int_equal(qmp_decode(text, len, &line), len == sizeof text - 1 ? (int)len : 0);
}

static void what_is_no_object_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"\n",
                                      "[]\n",
                                      "{\n",
                                      "{\"a\"}\n",
                                      "{\"a\":}\n",
                                      "{\"a\": 1,}\n",
                                      "{\"a\": 1} x\n",
                                      "{\"event\": {}}\n",
                                      "{\"event\": \"STOP\", \"return\": {}}\n",
                                      "{\"return\": {}, \"id\": \"7\"}\n",
                                      "{\"return\": {}, \"id\": -7}\n",
                                      "{\"return\": {}, \"id\": 4294967297}\n",
                                      "{\"a\": \"\x01\"}\n",
                                      "{\"a\": \"\\\n"};
    struct qmp_line line;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(qmp_decode(bad[i], strlen(bad[i]), &line), -EBADMSG);
    static char deep[256] = "{\"a\": ";
    memset(deep + strlen(deep), '[', 200);
    deep[sizeof deep - 2] = '\n';
    assert_int_equal(qmp_decode(deep, sizeof deep - 1, &line), -EBADMSG);
    static char endless[QMP_LINE_MAX + 1];
    memset(endless, ' ', sizeof endless);
    assert_int_equal(qmp_decode(endless, sizeof endless, &line), -EBADMSG);
}

/* Every byte in a text, and none of them ends it: what is written reads as one object of these members. */
static void no_text_ends_its_string(void **state)
{
    (void)state;
    char text[256];
    for (int i = 1; i < 256; i++)
        text[i - 1] = (char)i;
    text[255] = '\0';
    const struct qmp_member members[] = {{.key = "status", .text = text}, {.key = "status", .raw = "7"}, {.key = NULL}};
    struct era_buffer out = {0};
    assert_int_equal(qmp_append(&out, "quit", 9, members), 0);
    struct qmp_line line;
    assert_int_equal(qmp_decode((const char *)era_buffer_data(&out), era_buffer_len(&out), &line),
                     era_buffer_len(&out));
    assert_int_equal(line.kind, QMP_OTHER);
    assert_int_equal(line.id, 9);
    /* Of quotes there are those around the names, the command, and the one text. */
    size_t quotes = 0;
    for (size_t i = 0; i < era_buffer_len(&out); i++)
        quotes += era_buffer_data(&out)[i] == '"';
    assert_int_equal(quotes, 2 * 7);
    era_buffer_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_told_apart),
        cmocka_unit_test(a_part_of_a_line_is_no_line),
        cmocka_unit_test(what_is_no_object_is_refused),
        cmocka_unit_test(no_text_ends_its_string),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

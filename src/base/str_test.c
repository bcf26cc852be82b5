/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka wants some of the above first. */
#include <cmocka.h>

#include "base/str.h"

/* Wherever a text is cut, what is left is text, and no more than the one character at the cut is lost. */
static void a_text_is_cut_between_characters(void **state)
{
    (void)state;
    static const char text[] = "aé€😀z";
    for (size_t max = 0; max <= sizeof text; max++) {
        size_t whole = era_str_whole(text, max);
        size_t have = max < strlen(text) ? max : strlen(text);
        assert_true(whole <= have && have - whole < 4 && era_str_is_utf8(text, whole));
        assert_true(whole == have || !era_str_is_utf8(text, have));
    }
    assert_int_equal(era_str_whole("", 10), 0);
}

/* What is no text to begin with is cut somewhere inside, too. */
static void what_is_no_text_stays_in_bounds(void **state)
{
    (void)state;
    static const char *const none[] = {"\x80\x80\x80\x80\x80", "\xFF", "a\xF0", "\xC3"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        for (size_t max = 0; max < 8; max++)
            assert_true(era_str_whole(none[i], max) <= strnlen(none[i], max));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_cut_between_characters),
        cmocka_unit_test(what_is_no_text_stays_in_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

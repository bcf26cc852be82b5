/* SPDX-License-Identifier: Apache-2.0 */
/* What is read of a command line, and what is refused: by the real tables of commands.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

enum { WORDS_MAX = 32 };

/* Splits a line at its blanks and reads it, "agent" before it. The words stay until the next call. */
static int parse(const char *line, struct invocation *ret_invocation, struct era_error *err)
{
    static char text[512];
    static char *words[WORDS_MAX];
    char program[] = "agent";
    int count = 0;
    assert_true(era_str_copy(text, sizeof text, line));
    words[count++] = program;
    char *rest = text;
    for (char *word; (word = strsep(&rest, " ")) != NULL && count < WORDS_MAX - 1;)
        if (word[0] != '\0')
            words[count++] = word;
    words[count] = NULL;
    memset(err, 0, sizeof *err);
    return options_parse(count, words, ret_invocation, err);
}

static void commands_are_found_by_group_and_verb(void **state)
{
    static struct invocation invocation;
    struct era_error err;
    assert_int_equal(parse("vm create --language python", &invocation, &err), 0);
    assert_string_equal(invocation.command->group, "vm");
    assert_string_equal(invocation.command->verb, "create");
    assert_int_equal(parse("doctor", &invocation, &err), 0);
    assert_null(invocation.command->group);
    assert_int_equal(parse("--help", &invocation, &err), 0);
    assert_null(invocation.command);
    assert_true(invocation.help);
}

static void a_value_stands_after_a_blank_or_an_equals_sign(void **state)
{
    static struct invocation invocation;
    struct era_error err;
    assert_int_equal(parse("vm create --language=node --mem 512", &invocation, &err), 0);
    assert_string_equal(option_value(&invocation, "language"), "node");
    assert_string_equal(option_value(&invocation, "mem"), "512");
    assert_null(option_value(&invocation, "cpu"));
    assert_false(option_given(&invocation, "persist"));
    assert_int_equal(parse("vm create --language= --persist", &invocation, &err), 0);
    assert_string_equal(option_value(&invocation, "language"), "");
    assert_true(option_given(&invocation, "persist"));
}

static void global_options_stand_before_and_after_the_command(void **state)
{
    static struct invocation invocation;
    struct era_error err;
    assert_int_equal(parse("--state-dir /a vm list --log-level debug", &invocation, &err), 0);
    assert_string_equal(option_value(&invocation, "state-dir"), "/a");
    assert_string_equal(option_value(&invocation, "log-level"), "debug");
    assert_string_equal(invocation.command->verb, "list");
    assert_true(parse("--state-dir /a vm list --state-dir /b", &invocation, &err) < 0);
    assert_string_equal(err.field, "state-dir");
}

static void what_repeats_is_kept_in_order(void **state)
{
    static struct invocation invocation;
    struct era_error err;
    assert_int_equal(parse("vm exec --vm a --vm=b --cmd x", &invocation, &err), 0);
    assert_string_equal(option_nth(&invocation, "vm", 0), "a");
    assert_string_equal(option_nth(&invocation, "vm", 1), "b");
    assert_null(option_nth(&invocation, "vm", 2));
}

static void all_after_two_dashes_is_the_command_of_the_guest(void **state)
{
    static struct invocation invocation;
    struct era_error err;
    assert_int_equal(parse("vm exec --vm a -- ls --all -- x", &invocation, &err), 0);
    const char *const expected[] = {"ls", "--all", "--", "x"};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_string_equal(invocation.argv[i], expected[i]);
    assert_null(invocation.argv[4]);
    assert_false(option_given(&invocation, "all"));
}

/* Each is wrong usage, and names the option or argument that is. */
static void wrong_usage_names_its_field(void **state)
{
    static const struct {
        const char *line, *field;
    } cases[] = {
        {"wm list", "command"},
        {"vm", "command"},
        {"vm lsit", "command"},
        {"vm shell", "vm"},
        {"vm create --language", "language"},
        {"vm create --langauge python", "langauge"},
        {"vm create --language python --persist=yes", "persist"},
        {"vm list extra", "arguments"},
        {"vm cp one", "arguments"},
        {"vm list -x", "-x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct invocation invocation;
        struct era_error err;
        assert_true(parse(cases[i].line, &invocation, &err) < 0);
        assert_string_equal(err.code, "usage");
        if (strcmp(err.field, cases[i].field) != 0)
            fail_msg("\"%s\": field \"%s\", message \"%s\"", cases[i].line, err.field, err.message);
    }
}

static void what_is_nearly_right_is_offered(void **state)
{
    static struct invocation invocation;
    struct era_error err;
    assert_true(parse("vm craete", &invocation, &err) < 0);
    assert_non_null(strstr(err.message, "did you mean vm create?"));
    assert_true(parse("vm create --langauge python", &invocation, &err) < 0);
    assert_non_null(strstr(err.message, "did you mean --language?"));
    assert_true(parse("vm create --nothing-like-it", &invocation, &err) < 0);
    assert_null(strstr(err.message, "did you mean"));
}

static void numbers_are_whole_and_within_bounds(void **state)
{
    static const struct {
        const char *text;
        int64_t value; /* -1: refused */
    } cases[] = {{"1", 1}, {"64", 64},  {"0", -1},   {"65", -1},  {"-1", -1}, {"+1", -1},
                 {"", -1}, {"1.5", -1}, {"0x1", -1}, {"1e3", -1}, {"a", -1},  {"18446744073709551617", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct invocation invocation;
        struct era_error err;
        char line[64];
        assert_true(era_str_format(line, sizeof line, "vm create --language python --cpu=%s", cases[i].text) >= 0);
        assert_int_equal(parse(line, &invocation, &err), 0);
        uint64_t value = 7;
        int r = option_number(&invocation, "cpu", 1, 64, &value, &err);
        assert_int_equal(r < 0, cases[i].value < 0);
        assert_int_equal(value, cases[i].value < 0 ? 7 : cases[i].value);
        if (r < 0)
            assert_string_equal(err.field, "cpu");
    }
}

static void seconds_may_have_decimals(void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } cases[] = {{"30", 30000},  {"0.5", 500}, {"1.25", 1250}, {"604800", 604800000},
                 {"0", -1},      {"0.0", -1},  {"-1", -1},     {"", -1},
                 {"604801", -1}, {"1s", -1},   {"nan", -1},    {"1e2", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct invocation invocation;
        struct era_error err;
        char line[64];
        assert_true(era_str_format(line, sizeof line, "vm run --vm a --cmd b --timeout=%s", cases[i].text) >= 0);
        assert_int_equal(parse(line, &invocation, &err), 0);
        uint32_t timeout_ms = 7;
        int r = option_timeout_ms(&invocation, &timeout_ms, &err);
        if ((r < 0) != (cases[i].ms < 0) || timeout_ms != (cases[i].ms < 0 ? 7 : (uint32_t)cases[i].ms))
            fail_msg("\"%s\": %d, %u ms", cases[i].text, r, timeout_ms);
    }
}

static void a_table_shows_no_byte_that_moves_the_cursor(void **state)
{
    struct table table = {.columns = 2};
    assert_int_equal(table_add(&table, "a\x1b[2Jb\n"), 0);
    assert_int_equal(table_add(&table, "caf\xC3\xA9"), 0);
    assert_int_equal(table_add(&table, "\xFF\xFE"), 0);
    assert_string_equal(table.items[0], "a?[2Jb?");
    assert_string_equal(table.items[1], "caf\xC3\xA9");
    assert_string_equal(table.items[2], "??");
    table_clear(&table);
    assert_int_equal(table.cells, 0);
    assert_int_equal(table.columns, 2);
}

/* What help, manual and completion rely on. */
static void every_option_of_every_command_is_described_and_named_once(void **state)
{
    for (const struct command *command = cli_commands; command->verb != NULL; command++) {
        assert_non_null(command->summary);
        const struct option *option;
        for (size_t i = 0; (option = command_option(command, i)) != NULL; i++) {
            assert_non_null(option->help);
            for (size_t j = 0; j < i; j++)
                assert_string_not_equal(command_option(command, j)->name, option->name);
            for (const struct option *global = cli_global_options; global->name != NULL; global++)
                assert_string_not_equal(global->name, option->name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_found_by_group_and_verb),
        cmocka_unit_test(a_value_stands_after_a_blank_or_an_equals_sign),
        cmocka_unit_test(global_options_stand_before_and_after_the_command),
        cmocka_unit_test(what_repeats_is_kept_in_order),
        cmocka_unit_test(all_after_two_dashes_is_the_command_of_the_guest),
        cmocka_unit_test(wrong_usage_names_its_field),
        cmocka_unit_test(what_is_nearly_right_is_offered),
        cmocka_unit_test(numbers_are_whole_and_within_bounds),
        cmocka_unit_test(seconds_may_have_decimals),
        cmocka_unit_test(a_table_shows_no_byte_that_moves_the_cursor),
        cmocka_unit_test(every_option_of_every_command_is_described_and_named_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

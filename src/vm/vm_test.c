/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include "vm/vm.h"

static void vm_ids_match_their_grammar_and_nothing_else(void **state)
{
    static const char *const good[] = {"python-1", "node-1729692845123456789"};
    static const char *const bad[] = {
        "",         "python-",   "ruby-1", "python-1a", "python-../x", "node-1/", "python-123456789012345678901",
        "Python-1", "python-1\n"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(era_vm_id_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(era_vm_id_valid(bad[i]));
}

static void made_ids_are_valid(void **state)
{
    char id[ERA_VM_ID_MAX];
    era_vm_id_make(ERA_LANGUAGE_NODE, INT64_MAX, id);
    assert_true(era_vm_id_valid(id));
    char run[ERA_RUN_ID_MAX];
    era_run_id_make(INT64_MAX, run);
    assert_true(era_run_id_valid(run));
}

static void references_follow_the_registries_grammar(void **state)
{
    static const char *const good[] = {
        "agent/python:3.11",
        "alpine",
        "localhost:5000/a/b_c__d:latest",
        "registry.example/x:1.2-rc.1",
        "a-b--c/d",
        "x@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    };
    static const char *const bad[] = {
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "..",
        "a/../b",
        "UPPER",
        "a:",
        "a:-x",
        "a b",
        "a___b",
        "a..b",
        "-a",
        "a@sha256:12",
        "a:b:c/",
        "localhost:99999999/a",
        "a\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!era_reference_valid(good[i]))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (era_reference_valid(bad[i]))
            fail_msg("taken: %s", bad[i]);
    char endless[ERA_REFERENCE_MAX + 1];
    memset(endless, 'a', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    assert_false(era_reference_valid(endless));
}

static void volume_names_cannot_be_paths_or_hidden(void **state)
{
    assert_true(era_volume_name_valid("cache-1.x_y"));
    static const char *const bad[] = {"", ".", "..", ".a", "a/b", "A", "-x", "a b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(era_volume_name_valid(bad[i]));
}

static void environment_variables_need_a_name(void **state)
{
    assert_true(era_env_valid("A="));
    assert_true(era_env_valid("_x1=a=b"));
    assert_false(era_env_valid("=x"));
    assert_false(era_env_valid("A"));
    assert_false(era_env_valid("1A=x"));
    assert_false(era_env_valid("A B=x"));
}

static void javascript_means_node(void **state)
{
    enum era_language language = ERA_LANGUAGE_PYTHON;
    assert_int_equal(era_language_parse("js", &language), 0);
    assert_int_equal(language, ERA_LANGUAGE_NODE);
    assert_int_equal(era_language_parse("javascript", &language), 0);
    assert_int_equal(era_language_parse("ruby", &language), -EINVAL);
}

static void wait_statuses_become_shell_exit_codes(void **state)
{
    assert_int_equal(era_exit_code_of_wait(0x0300), 3);
    assert_int_equal(era_exit_code_of_wait(9), 137);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vm_ids_match_their_grammar_and_nothing_else),
        cmocka_unit_test(made_ids_are_valid),
        cmocka_unit_test(references_follow_the_registries_grammar),
        cmocka_unit_test(volume_names_cannot_be_paths_or_hidden),
        cmocka_unit_test(environment_variables_need_a_name),
        cmocka_unit_test(javascript_means_node),
        cmocka_unit_test(wait_statuses_become_shell_exit_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants some of the above first. */
#include <cmocka.h>

#include "launcher/microvm/internal.h"

/* QEMU's reading of an option: up to a comma that stands alone. Returns how many parts there are. */
static size_t count_parts(const char *text)
{
    size_t parts = 1;
    for (; *text != '\0'; text++) {
        if (text[0] == ',' && text[1] == ',')
            text++;
        else if (text[0] == ',')
            parts++;
    }
    return parts;
}

static void no_value_begins_another_option(void **state)
{
    (void)state;
    static const char *const hostile[] = {"a,b=c", ",", ",,", "x,,y,", "=,=", ",driver=file,filename=/etc/shadow"};
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        struct era_strv args = {0};
        const struct qemu_pair pairs[] = {{"k", hostile[i]}, {"last", hostile[i]}, {NULL, NULL}};
        assert_int_equal(qemu_option(&args, "-x", hostile[i], pairs), 0);
        assert_int_equal(args.count, 2);
        assert_int_equal(count_parts(args.items[1]), 3);
        era_strv_clear(&args);
    }
}

static bool has_pair(const struct era_strv *args, const char *flag, const char *value)
{
    for (size_t i = 0; i + 1 < args->count; i++)
        if (era_str_eq(args->items[i], flag) && strstr(args->items[i + 1], value) != NULL)
            return true;
    return false;
}

/* A template must be the machine that its copies are: they differ in where they start from, and in nothing else. */
static void a_clone_is_the_machine_that_was_saved(void **state)
{
    (void)state;
    struct machine_spec spec = {.cpu_count = 2, .mem_mib = 256, .network = true, .warm = "python3"};
    struct era_strv saved = {0};
    struct era_strv copy = {0};
    assert_int_equal(machine_args(&spec, &saved), 0);
    spec.clone = true;
    assert_int_equal(machine_args(&spec, &copy), 0);
    size_t i = 0;
    for (; !era_str_eq(copy.items[i], "-incoming"); i++)
        if (strstr(copy.items[i], "memory-backend-file") == NULL)
            assert_string_equal(copy.items[i], saved.items[i]);
    assert_int_equal(i + 2, copy.count);
    assert_true(has_pair(&saved, "-object", "share=on") && has_pair(&copy, "-object", "share=off"));
    era_strv_clear(&saved);
    era_strv_clear(&copy);
}

static void the_accelerators_differ_in_one_argument(void **state)
{
    (void)state;
    struct machine_spec spec = {.cpu_count = 1, .mem_mib = 64};
    struct era_strv emulated = {0};
    struct era_strv real = {0};
    assert_int_equal(machine_args(&spec, &emulated), 0);
    spec.kvm = true;
    assert_int_equal(machine_args(&spec, &real), 0);
    assert_int_equal(emulated.count, real.count);
    size_t differences = 0;
    for (size_t i = 0; i < real.count; i++)
        differences += !era_str_eq(real.items[i], emulated.items[i]);
    assert_int_equal(differences, 1);
    assert_true(has_pair(&real, "-accel", "kvm") && has_pair(&emulated, "-accel", "tcg"));
    era_strv_clear(&emulated);
    era_strv_clear(&real);
}

static void qemu_denies_itself_what_it_can(void **state)
{
    (void)state;
    const struct machine_spec spec = {.cpu_count = 1, .mem_mib = 64};
    struct era_strv args = {0};
    assert_int_equal(machine_args(&spec, &args), 0);
    assert_true(has_pair(&args, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
    assert_false(has_pair(&args, "-netdev", "")); /* no card without a network */
    era_strv_clear(&args);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_value_begins_another_option),
        cmocka_unit_test(a_clone_is_the_machine_that_was_saved),
        cmocka_unit_test(the_accelerators_differ_in_one_argument),
        cmocka_unit_test(qemu_denies_itself_what_it_can),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Creation under a key, and lists by page. */
#include <errno.h>
#include <stdlib.h>

#include "store/test_support.h"

#define HOUR_NS (INT64_C(3600) * 1000000000)

/* Inserts under a key: 1 when it is new; `id` is the VM's that has the key then. */
static int insert_once(struct fixture *f, const char *key, int64_t created_at_ns, char id[ERA_VM_ID_MAX])
{
    struct era_vm_record record = new_vm(ERA_LANGUAGE_PYTHON, created_at_ns);
    int r = era_store_vm_insert_once(f->store, key, &record, &f->err);
    era_str_copy(id, ERA_VM_ID_MAX, record.id);
    return r;
}

static size_t count_vms(struct fixture *f)
{
    struct era_vm_record *records = NULL;
    size_t count = 0;
    expect_ok(f, era_store_vm_list(f->store, &records, &count, &f->err));
    for (size_t i = 0; i < count; i++)
        era_vm_record_clear(&records[i]);
    free(records);
    return count;
}

static void a_key_has_one_vm(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char first[ERA_VM_ID_MAX];
    char again[ERA_VM_ID_MAX];
    char other[ERA_VM_ID_MAX];
    assert_int_equal(insert_once(f, "a", HOUR_NS, first), 1);
    assert_int_equal(insert_once(f, "a", 2 * HOUR_NS, again), 0);
    assert_string_equal(first, again);
    assert_int_equal(insert_once(f, "b", 2 * HOUR_NS, other), 1);
    assert_string_not_equal(first, other);
    reopen_store(f);
    assert_int_equal(insert_once(f, "a", 3 * HOUR_NS, again), 0);
    assert_string_equal(first, again);
    assert_int_equal(count_vms(f), 2);
}

static void a_key_goes_with_its_vm_and_after_a_day(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char first[ERA_VM_ID_MAX];
    char next[ERA_VM_ID_MAX];
    assert_int_equal(insert_once(f, "a", HOUR_NS, first), 1);
    expect_ok(f, era_store_vm_delete(f->store, first, &f->err));
    assert_int_equal(insert_once(f, "a", 2 * HOUR_NS, first), 1);
    assert_int_equal(insert_once(f, "a", 26 * HOUR_NS, next), 0);
    assert_int_equal(insert_once(f, "a", 26 * HOUR_NS + 1, next), 1);
    assert_string_not_equal(first, next);
    assert_int_equal(count_vms(f), 2);
}

static void a_key_is_text_of_a_bounded_length(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char id[ERA_VM_ID_MAX];
    char longest[ERA_KEY_MAX + 1];
    memset(longest, 'k', sizeof longest);
    longest[ERA_KEY_MAX] = '\0';
    expect_error(f, insert_once(f, longest, 1, id), EINVAL, "invalid_argument");
    expect_error(f, insert_once(f, "", 1, id), EINVAL, "invalid_argument");
    expect_error(f, insert_once(f, "\xff", 1, id), EINVAL, "invalid_argument");
    longest[ERA_KEY_MAX - 1] = '\0';
    assert_int_equal(insert_once(f, longest, 1, id), 1);
}

static void pages_follow_each_other_in_order(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char ids[5][ERA_VM_ID_MAX];
    for (int i = 0; i < 5; i++)
        insert_vm(f, i < 3 ? 7 : 9, ids[i]); /* three of one instant */
    int64_t at_ns = 0;
    char at[ERA_VM_ID_MAX] = "";
    size_t seen = 0;
    for (size_t count = 1; count > 0;) {
        struct era_vm_record *records = NULL;
        expect_ok(f, era_store_vm_page(f->store, at_ns, at, 2, &records, &count, &f->err));
        assert_true(count <= 2);
        for (size_t i = 0; i < count; i++) {
            assert_string_equal(records[i].id, ids[seen++]);
            at_ns = records[i].created_at_ns;
            era_str_copy(at, sizeof at, records[i].id);
            era_vm_record_clear(&records[i]);
        }
        free(records);
    }
    assert_int_equal(seen, 5);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_fixture, drop_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_key_has_one_vm),
        TEST(a_key_goes_with_its_vm_and_after_a_day),
        TEST(a_key_is_text_of_a_bounded_length),
        TEST(pages_follow_each_other_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

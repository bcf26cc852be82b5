/* SPDX-License-Identifier: Apache-2.0 */
/* What store.h promises. What happens to damaged files and rows: damage_test.c. */
#include "store/test_support.h"

#include <sys/stat.h>

static void a_new_database_is_for_its_owner_only(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char id[ERA_VM_ID_MAX];
    insert_vm(f, 1, id);
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char path[128];
        struct stat st;
        assert_int_equal(era_str_format(path, sizeof path, "%s%s", f->path, suffixes[i]), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
}

static void a_vm_comes_back_as_it_was_put_in(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    struct era_volume_record volume = new_volume("cache");
    expect_ok(f, era_store_volume_insert(f->store, &volume, &f->err));

    struct era_vm_record in = new_vm(ERA_LANGUAGE_NODE, 1729692845123456789);
    in.ask.cpu_count = 3;
    in.ask.mem_mib = 777;
    in.ask.disk_mib = 4242;
    in.ask.pids = 99;
    in.ask.network = ERA_NETWORK_ALLOW_ALL;
    in.ask.launcher = ERA_LAUNCHER_MICROVM;
    in.ask.persist = true;
    in.ask.best_effort = true;
    era_str_copy(in.ask.kernel, sizeof in.ask.kernel, "/boot/vmlinuz");
    in.launcher = ERA_LAUNCHER_MICROVM;
    era_str_copy(in.ask.image, sizeof in.ask.image, "localhost:5000/x:1");
    era_str_copy(in.ask.volume, sizeof in.ask.volume, "cache");
    assert_int_equal(era_strv_add(&in.ask.env, "A="), 0);
    assert_int_equal(era_strv_add(&in.ask.env, "B=two\nlines \xff and bytes"), 0);
    expect_ok(f, era_store_vm_insert(f->store, &in, &f->err));
    assert_string_equal(in.id, "node-1729692845123456789");
    assert_int_equal(in.uid_slot, 0);

    reopen_store(f);
    struct era_vm_record out;
    expect_ok(f, era_store_vm_get(f->store, in.id, &out, &f->err));
    assert_string_equal(out.id, in.id);
    assert_int_equal(out.ask.language, in.ask.language);
    assert_int_equal(out.ask.cpu_count, 3);
    assert_int_equal(out.ask.mem_mib, 777);
    assert_int_equal(out.ask.disk_mib, 4242);
    assert_int_equal(out.ask.pids, 99);
    assert_int_equal(out.ask.network, ERA_NETWORK_ALLOW_ALL);
    assert_int_equal(out.ask.launcher, ERA_LAUNCHER_MICROVM);
    assert_true(out.ask.persist);
    assert_true(out.ask.best_effort);
    assert_string_equal(out.ask.kernel, "/boot/vmlinuz");
    assert_string_equal(out.ask.image, in.ask.image);
    assert_string_equal(out.ask.volume, "cache");
    assert_int_equal(out.ask.env.count, 2);
    assert_string_equal(out.ask.env.items[0], "A=");
    assert_string_equal(out.ask.env.items[1], in.ask.env.items[1]);
    assert_int_equal(out.launcher, ERA_LAUNCHER_MICROVM);
    assert_int_equal(out.status, ERA_VM_PROVISIONING);
    assert_string_equal(out.unenforced, "");
    assert_int_equal(out.created_at_ns, in.created_at_ns);
    assert_int_equal(out.last_run_at_ns, 0);
    era_vm_record_clear(&out);
    era_vm_record_clear(&in);
}

static void ids_count_up_until_free_and_slots_fill_gaps(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char ids[4][ERA_VM_ID_MAX];
    for (int i = 0; i < 4; i++)
        insert_vm(f, 1000, ids[i]);
    assert_string_equal(ids[0], "python-1000");
    assert_string_equal(ids[3], "python-1003");

    struct era_vm_record record;
    expect_ok(f, era_store_vm_get(f->store, ids[3], &record, &f->err));
    assert_int_equal(record.uid_slot, 3);
    assert_int_equal(record.created_at_ns, 1000);
    era_vm_record_clear(&record);

    static const int gone[] = {2, 0};
    for (int i = 0; i < 2; i++)
        expect_ok(f, era_store_vm_delete(f->store, ids[gone[i]], &f->err));
    static const uint32_t slots[] = {0, 2, 4};
    for (int i = 0; i < 3; i++) {
        record = new_vm(ERA_LANGUAGE_NODE, 2000);
        expect_ok(f, era_store_vm_insert(f->store, &record, &f->err));
        assert_int_equal(record.uid_slot, slots[i]);
    }
}

static void vms_are_listed_oldest_first(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    struct era_vm_record *records = NULL;
    size_t count = 9;
    expect_ok(f, era_store_vm_list(f->store, &records, &count, &f->err));
    assert_int_equal(count, 0);
    free(records);

    char id[ERA_VM_ID_MAX];
    enum { N = 40 };
    for (int i = 0; i < N; i++)
        insert_vm(f, 1000 + (i * 7) % N * 10, id);
    expect_ok(f, era_store_vm_list(f->store, &records, &count, &f->err));
    assert_int_equal(count, N);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(records[i].created_at_ns, 1000 + (int64_t)i * 10);
        era_vm_record_clear(&records[i]);
    }
    free(records);
}

static void the_last_slot_is_the_end(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char id[ERA_VM_ID_MAX];
    for (int i = 0; i < ERA_UID_SLOTS; i++)
        insert_vm(f, 1 + i, id);
    struct era_vm_record record = new_vm(ERA_LANGUAGE_PYTHON, 7);
    record.uid_slot = 12345;
    expect_error(f, era_store_vm_insert(f->store, &record, &f->err), EAGAIN, "too_many_vms");
    assert_string_equal(record.id, "");
    assert_int_equal(record.uid_slot, 12345);
    expect_ok(f, era_store_vm_delete(f->store, id, &f->err));
    expect_ok(f, era_store_vm_insert(f->store, &record, &f->err));
    assert_int_equal(record.uid_slot, ERA_UID_SLOTS - 1);
}

static void status_and_readiness_are_recorded(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char id[ERA_VM_ID_MAX];
    insert_vm(f, 1, id);
    expect_ok(f, era_store_vm_set_ready(f->store, id, ERA_LAUNCHER_NAMESPACE, "memory,cpu", &f->err));
    struct era_vm_record record;
    expect_ok(f, era_store_vm_get(f->store, id, &record, &f->err));
    assert_int_equal(record.status, ERA_VM_READY);
    assert_int_equal(record.launcher, ERA_LAUNCHER_NAMESPACE);
    assert_int_equal(record.ask.launcher, ERA_LAUNCHER_AUTO);
    assert_string_equal(record.unenforced, "memory,cpu");

    static const enum era_vm_status statuses[] = {ERA_VM_STOPPED, ERA_VM_FAILED, ERA_VM_PROVISIONING, ERA_VM_READY};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        expect_ok(f, era_store_vm_set_status(f->store, id, statuses[i], &f->err));
        expect_ok(f, era_store_vm_get(f->store, id, &record, &f->err));
        assert_int_equal(record.status, statuses[i]);
    }
}

static void what_cannot_be_read_back_is_not_written(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char id[ERA_VM_ID_MAX];
    insert_vm(f, 1, id);
    static const char *const wrong = "invalid_argument";
    expect_error(f, era_store_vm_set_status(f->store, id, ERA_VM_RUNNING, &f->err), EINVAL, wrong);
    expect_error(f, era_store_vm_set_status(f->store, id, (enum era_vm_status)77, &f->err), EINVAL, wrong);
    expect_error(f, era_store_vm_set_ready(f->store, id, ERA_LAUNCHER_AUTO, "", &f->err), EINVAL, wrong);
    expect_error(f, era_store_vm_set_ready(f->store, id, ERA_LAUNCHER_MICROVM, "MEM;", &f->err), EINVAL, wrong);

    struct era_vm_record bad[10];
    for (size_t i = 0; i < 10; i++)
        bad[i] = new_vm(ERA_LANGUAGE_PYTHON, 5);
    bad[0].ask.language = (enum era_language)7;
    bad[1].ask.cpu_count = 0;
    bad[2].ask.mem_mib = ERA_MEM_MIB_MAX + 1;
    bad[3].ask.network = (enum era_network)7;
    bad[4].launcher = (enum era_launcher_kind)7;
    bad[5].status = ERA_VM_RUNNING;
    era_str_copy(bad[6].ask.image, sizeof bad[6].ask.image, "../x");
    era_str_copy(bad[7].ask.volume, sizeof bad[7].ask.volume, "a/b");
    bad[8].created_at_ns = INT64_MAX;
    assert_int_equal(era_strv_add(&bad[9].ask.env, "no value"), 0);
    for (size_t i = 0; i < 10; i++)
        expect_error(f, era_store_vm_insert(f->store, &bad[i], &f->err), EINVAL, wrong);
    era_vm_record_clear(&bad[9]);

    struct era_volume_record volume = new_volume("../x");
    expect_error(f, era_store_volume_insert(f->store, &volume, &f->err), EINVAL, wrong);
    struct era_run_outcome outcome = {.verdict = ERA_VERDICT_NONE};
    expect_error(f, era_store_run_finish(f->store, id, "r1", &outcome, &f->err), EINVAL, wrong);
}

static void an_unknown_vm_is_not_found(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    static const char *const id = "python-1";
    struct era_vm_record record;
    struct era_run_record run = {.vm_id = "python-1", .started_at_ns = 1};
    static const char *const code = "vm_not_found";
    expect_error(f, era_store_vm_get(f->store, id, &record, &f->err), ENOENT, code);
    expect_error(f, era_store_vm_set_status(f->store, id, ERA_VM_READY, &f->err), ENOENT, code);
    expect_error(f, era_store_vm_set_ready(f->store, id, ERA_LAUNCHER_MICROVM, "", &f->err), ENOENT, code);
    expect_error(f, era_store_run_insert(f->store, &run, &f->err), ENOENT, code);
    assert_string_equal(run.id, "");
    expect_ok(f, era_store_vm_delete(f->store, id, &f->err));
    /* An error object is welcome, not needed. */
    assert_int_equal(era_store_vm_get(f->store, id, &record, NULL), -ENOENT);
}

static size_t count_runs(struct fixture *f, const char *vm_id, bool only_open)
{
    struct era_run_record *runs = NULL;
    size_t count = 0;
    expect_ok(f, era_store_run_list(f->store, vm_id, only_open, &runs, &count, &f->err));
    for (size_t i = 1; i < count; i++)
        assert_true(runs[i - 1].started_at_ns >= runs[i].started_at_ns);
    free(runs);
    return count;
}

static void runs_are_recorded_and_finish_once(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char vm[2][ERA_VM_ID_MAX];
    insert_vm(f, 1, vm[0]);
    insert_vm(f, 1, vm[1]);
    struct era_run_record run[3] = {{.started_at_ns = 500}, {.started_at_ns = 500}, {.started_at_ns = 400}};
    static const int owner[] = {0, 0, 1};
    for (int i = 0; i < 3; i++) {
        era_str_copy(run[i].vm_id, sizeof run[i].vm_id, vm[owner[i]]);
        expect_ok(f, era_store_run_insert(f->store, &run[i], &f->err));
    }
    assert_string_equal(run[0].id, "r500");
    assert_string_equal(run[1].id, "r501");
    assert_int_equal(count_runs(f, NULL, false), 3);
    assert_int_equal(count_runs(f, vm[0], true), 2);

    struct era_vm_record record;
    expect_ok(f, era_store_vm_get(f->store, vm[0], &record, &f->err));
    assert_int_equal(record.last_run_at_ns, 500);

    struct era_run_outcome outcome = {.verdict = ERA_VERDICT_OOM_KILLED, .exit_code = 137, .wall_us = 1, .cpu_us = 2};
    outcome.peak_mem_kib = UINT64_MAX; /* more than is stored */
    outcome.dropped[0] = 3;
    outcome.dropped[1] = 4;
    expect_ok(f, era_store_run_finish(f->store, vm[0], run[0].id, &outcome, &f->err));
    outcome.verdict = ERA_VERDICT_EXITED;
    expect_ok(f, era_store_run_finish(f->store, vm[0], run[0].id, &outcome, &f->err));
    expect_ok(f, era_store_run_finish(f->store, vm[0], "r999", &outcome, &f->err));
    assert_int_equal(count_runs(f, vm[0], true), 1);
    assert_int_equal(count_runs(f, NULL, true), 2);

    struct era_run_record *runs = NULL;
    size_t count = 0;
    expect_ok(f, era_store_run_list(f->store, vm[0], false, &runs, &count, &f->err));
    assert_int_equal(count, 2);
    assert_string_equal(runs[0].id, "r501");
    assert_int_equal(runs[0].outcome.verdict, ERA_VERDICT_NONE);
    assert_int_equal(runs[1].outcome.verdict, ERA_VERDICT_OOM_KILLED);
    assert_int_equal(runs[1].outcome.exit_code, 137);
    assert_int_equal(runs[1].outcome.wall_us, 1);
    assert_int_equal(runs[1].outcome.cpu_us, 2);
    assert_int_equal(runs[1].outcome.peak_mem_kib, INT64_MAX);
    assert_int_equal(runs[1].outcome.dropped[0], 3);
    assert_int_equal(runs[1].outcome.dropped[1], 4);
    assert_string_equal(runs[1].vm_id, vm[0]);
    free(runs);

    expect_ok(f, era_store_vm_delete(f->store, vm[0], &f->err));
    assert_int_equal(count_runs(f, NULL, false), 1);
}

static void old_finished_runs_are_forgotten_open_ones_never(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char vm[ERA_VM_ID_MAX];
    insert_vm(f, 1, vm);
    const int64_t base_ns = 1729692845123456789;
    const struct era_run_outcome outcome = {.verdict = ERA_VERDICT_EXITED};
    for (int i = 0; i < ERA_RUNS_KEPT + 50; i++) {
        struct era_run_record run = {.started_at_ns = base_ns + i};
        era_str_copy(run.vm_id, sizeof run.vm_id, vm);
        expect_ok(f, era_store_run_insert(f->store, &run, &f->err));
        if (i != 3) /* that one takes long */
            expect_ok(f, era_store_run_finish(f->store, vm, run.id, &outcome, &f->err));
    }
    assert_int_equal(count_runs(f, vm, false), ERA_RUNS_KEPT + 1);
    assert_int_equal(count_runs(f, vm, true), 1);
}

static void a_volume_belongs_to_one_vm_at_a_time(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    struct era_volume_record volume = new_volume("cache");
    struct era_volume_record out;
    expect_error(f, era_store_volume_get(f->store, "cache", &out, &f->err), ENOENT, "volume_not_found");
    expect_error(f, era_store_volume_delete(f->store, "cache", &f->err), ENOENT, "volume_not_found");
    expect_ok(f, era_store_volume_insert(f->store, &volume, &f->err));
    expect_error(f, era_store_volume_insert(f->store, &volume, &f->err), EEXIST, "volume_exists");

    struct era_vm_record vm = new_vm(ERA_LANGUAGE_PYTHON, 1);
    era_str_copy(vm.ask.volume, sizeof vm.ask.volume, "other");
    expect_error(f, era_store_vm_insert(f->store, &vm, &f->err), ENOENT, "volume_not_found");
    era_str_copy(vm.ask.volume, sizeof vm.ask.volume, "cache");
    expect_ok(f, era_store_vm_insert(f->store, &vm, &f->err));
    assert_string_equal(vm.id, "python-1"); /* the refused one left nothing */
    struct era_vm_record second = new_vm(ERA_LANGUAGE_PYTHON, 2);
    era_str_copy(second.ask.volume, sizeof second.ask.volume, "cache");
    expect_error(f, era_store_vm_insert(f->store, &second, &f->err), EBUSY, "volume_busy");
    expect_error(f, era_store_volume_delete(f->store, "cache", &f->err), EBUSY, "volume_busy");

    expect_ok(f, era_store_volume_get(f->store, "cache", &out, &f->err));
    assert_string_equal(out.vm_id, vm.id);
    assert_int_equal(out.kind, ERA_VOLUME_EXT4);
    assert_int_equal(out.size_mib, 1024);
    assert_int_equal(out.created_at_ns, 5);

    expect_ok(f, era_store_vm_delete(f->store, vm.id, &f->err));
    expect_ok(f, era_store_volume_get(f->store, "cache", &out, &f->err));
    assert_string_equal(out.vm_id, "");
    expect_ok(f, era_store_vm_insert(f->store, &second, &f->err));
    expect_ok(f, era_store_vm_delete(f->store, second.id, &f->err));
    expect_ok(f, era_store_volume_delete(f->store, "cache", &f->err));
}

static void a_new_volume_can_be_born_claimed(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char id[ERA_VM_ID_MAX];
    insert_vm(f, 1, id);
    struct era_volume_record volume = new_volume("b");
    era_str_copy(volume.vm_id, sizeof volume.vm_id, "python-999");
    expect_error(f, era_store_volume_insert(f->store, &volume, &f->err), ENOENT, "vm_not_found");
    era_str_copy(volume.vm_id, sizeof volume.vm_id, id);
    expect_ok(f, era_store_volume_insert(f->store, &volume, &f->err));
    era_str_copy(volume.name, sizeof volume.name, "a");
    expect_error(f, era_store_volume_insert(f->store, &volume, &f->err), EEXIST, "volume_exists");
    volume.vm_id[0] = '\0';
    volume.kind = ERA_VOLUME_FOLDER;
    expect_ok(f, era_store_volume_insert(f->store, &volume, &f->err));

    struct era_vm_record record;
    expect_ok(f, era_store_vm_get(f->store, id, &record, &f->err));
    assert_string_equal(record.ask.volume, "b");

    struct era_volume_record *volumes = NULL;
    size_t count = 0;
    expect_ok(f, era_store_volume_list(f->store, &volumes, &count, &f->err));
    assert_int_equal(count, 2);
    assert_string_equal(volumes[0].name, "a");
    assert_string_equal(volumes[0].vm_id, "");
    assert_int_equal(volumes[0].kind, ERA_VOLUME_FOLDER);
    assert_string_equal(volumes[1].vm_id, id);
    free(volumes);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_fixture, drop_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_database_is_for_its_owner_only),
        TEST(a_vm_comes_back_as_it_was_put_in),
        TEST(ids_count_up_until_free_and_slots_fill_gaps),
        TEST(vms_are_listed_oldest_first),
        TEST(the_last_slot_is_the_end),
        TEST(status_and_readiness_are_recorded),
        TEST(what_cannot_be_read_back_is_not_written),
        TEST(an_unknown_vm_is_not_found),
        TEST(runs_are_recorded_and_finish_once),
        TEST(old_finished_runs_are_forgotten_open_ones_never),
        TEST(a_volume_belongs_to_one_vm_at_a_time),
        TEST(a_new_volume_can_be_born_claimed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

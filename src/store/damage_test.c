/* SPDX-License-Identifier: Apache-2.0 */
/* The store against garbage in its file and in its rows, and against newer and foreign databases. */
#include "store/test_support.h"

#include <sqlite3.h>
#include <sys/stat.h>

/* Runs SQL by a connection that respects nothing. */
static void vandalise(struct fixture *f, const char *sql)
{
    sqlite3 *db = NULL;
    char *message = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    (void)sqlite3_exec(db, "PRAGMA ignore_check_constraints=ON; PRAGMA foreign_keys=OFF", NULL, NULL, NULL);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    sqlite3_free(message);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void expect_open_fails(struct fixture *f, int errnum, const char *code)
{
    struct era_store *store = NULL;
    expect_error(f, era_store_open(f->path, &store, &f->err), errnum, code);
    assert_null(store);
}

static void write_file(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void a_file_of_garbage_is_corrupt_an_empty_one_is_new(void **state)
{
    struct fixture *f = *state;
    char garbage[8192];
    memset(garbage, 'x', sizeof garbage);
    write_file(f->path, garbage, sizeof garbage);
    expect_open_fails(f, EUCLEAN, "state_corrupt");
    memcpy(garbage, "SQLite format 3", 16);
    write_file(f->path, garbage, sizeof garbage);
    expect_open_fails(f, EUCLEAN, "state_corrupt");
    write_file(f->path, "short", 5);
    expect_open_fails(f, EUCLEAN, "state_corrupt");
    write_file(f->path, "", 0);
    open_store(f);
}

static void newer_and_foreign_databases_are_left_alone(void **state)
{
    struct fixture *f = *state;
    vandalise(f, "CREATE TABLE cookies (a)");
    expect_open_fails(f, EUCLEAN, "state_corrupt");
    vandalise(f, "PRAGMA user_version=1");
    expect_open_fails(f, EUCLEAN, "state_corrupt");
    vandalise(f, "PRAGMA user_version=-1");
    expect_open_fails(f, EUCLEAN, "state_corrupt");
    assert_int_equal(unlink(f->path), 0);

    open_store(f);
    char id[ERA_VM_ID_MAX];
    insert_vm(f, 1, id);
    era_store_close(f->store);
    f->store = NULL;
    vandalise(f, "PRAGMA user_version=99");
    expect_open_fails(f, EPROTO, "state_too_new");
    vandalise(f, "DROP TABLE creation_keys; ALTER TABLE vms DROP COLUMN paused; ALTER TABLE vms DROP COLUMN kernel;"
                 "PRAGMA user_version=1"); /* as the first version left it */
    open_store(f);
    struct era_vm_record record;
    expect_ok(f, era_store_vm_get(f->store, id, &record, &f->err));
}

static void a_missing_table_is_corruption(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    era_store_close(f->store);
    f->store = NULL;
    vandalise(f, "DROP TABLE runs; DROP TABLE volumes; DROP TABLE vms");
    open_store(f);
    struct era_vm_record *records = NULL;
    size_t count = 0;
    expect_error(f, era_store_vm_list(f->store, &records, &count, &f->err), EUCLEAN, "state_corrupt");
}

/* Reads all there is; the first failure. */
static int read_everything(struct era_store *store, struct era_error *err)
{
    struct era_vm_record *records = NULL;
    struct era_run_record *runs = NULL;
    struct era_volume_record *volumes = NULL;
    size_t count = 0;
    int r = era_store_vm_list(store, &records, &count, err);
    for (size_t i = 0; r == 0 && i < count; i++)
        era_vm_record_clear(&records[i]);
    if (r == 0)
        r = era_store_run_list(store, NULL, false, &runs, &count, err);
    if (r == 0)
        r = era_store_volume_list(store, &volumes, &count, err);
    free(records);
    free(runs);
    free(volumes);
    return r;
}

/* A VM, a run of it, and its volume. */
static void populate(struct fixture *f)
{
    open_store(f);
    struct era_volume_record volume = new_volume("v");
    expect_ok(f, era_store_volume_insert(f->store, &volume, &f->err));
    struct era_vm_record vm = new_vm(ERA_LANGUAGE_PYTHON, 1);
    era_str_copy(vm.ask.volume, sizeof vm.ask.volume, "v");
    assert_int_equal(era_strv_add(&vm.ask.env, "A=b"), 0);
    expect_ok(f, era_store_vm_insert(f->store, &vm, &f->err));
    struct era_run_record run = {.started_at_ns = 2};
    era_str_copy(run.vm_id, sizeof run.vm_id, vm.id);
    expect_ok(f, era_store_run_insert(f->store, &run, &f->err));
    expect_ok(f, read_everything(f->store, &f->err));
    era_vm_record_clear(&vm);
    era_store_close(f->store);
    f->store = NULL;
}

static void rows_that_make_no_sense_are_corrupt(void **state)
{
    static const char *const damages[] = {
        "UPDATE vms SET id = 'ruby-1'",
        "UPDATE vms SET id = 'node-1'", /* of another language than it says */
        "UPDATE vms SET id = 'python-1/../../x'",
        "UPDATE vms SET id = printf('python-%.*c', 500, '1')",
        "UPDATE vms SET language = 'ruby'",
        "UPDATE vms SET cpu_count = 0",
        "UPDATE vms SET cpu_count = 4294967297",
        "UPDATE vms SET mem_mib = -1",
        "UPDATE vms SET disk_mib = 15",
        "UPDATE vms SET pids = 65537",
        "UPDATE vms SET network = ''",
        "UPDATE vms SET asked_launcher = 'AUTO'",
        "UPDATE vms SET launcher = 'namespace and a long word behind it'",
        "UPDATE vms SET persist = 2",
        "UPDATE vms SET image = '../../etc'",
        "UPDATE vms SET image = 'a' || char(0) || 'b'",
        "UPDATE vms SET env = x'41'",
        "UPDATE vms SET env = x'3D00'",
        "UPDATE vms SET env = x'413D00423D'",
        "UPDATE vms SET env = zeroblob(70000)",
        "UPDATE vms SET env = zeroblob(2000000)",
        "UPDATE vms SET status = 'running'",
        "UPDATE vms SET status = x'00' || 'ready'",
        "UPDATE vms SET uid_slot = 4096",
        "UPDATE vms SET uid_slot = -1",
        "UPDATE vms SET unenforced = 'memory\"'",
        "UPDATE vms SET created_at_ns = 0",
        "UPDATE vms SET created_at_ns = 9223372036854775807",
        "UPDATE vms SET last_run_at_ns = -5",
        "UPDATE runs SET id = '../r1'",
        "UPDATE runs SET vm_id = 'x'",
        "UPDATE runs SET started_at_ns = 0",
        "UPDATE runs SET verdict = ''",
        "UPDATE runs SET verdict = 'won'",
        "UPDATE runs SET exit_code = 256",
        "UPDATE runs SET wall_us = -1",
        "UPDATE volumes SET name = '..'",
        "UPDATE volumes SET kind = 'ntfs'",
        "UPDATE volumes SET kind = ''",
        "UPDATE volumes SET size_mib = 0",
        "UPDATE volumes SET created_at_ns = -1",
        "UPDATE volumes SET vm_id = 'x'",
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        populate(f);
        vandalise(f, damages[i]);
        open_store(f);
        int r = read_everything(f->store, &f->err);
        if (r != -EUCLEAN || !era_error_is(&f->err, "state_corrupt"))
            fail_msg("%s: %d %s", damages[i], r, f->err.message);
        era_store_close(f->store);
        f->store = NULL;
        assert_int_equal(unlink(f->path), 0);
        char side[128];
        (void)era_str_format(side, sizeof side, "%s-wal", f->path);
        (void)unlink(side);
    }
}

static void flipped_bits_never_get_past_the_checks(void **state)
{
    struct fixture *f = *state;
    populate(f);
    vandalise(f, "PRAGMA wal_checkpoint(TRUNCATE)");
    char *data = NULL;
    size_t len = 0;
    assert_int_equal(era_read_file_at(AT_FDCWD, f->path, 1 << 20, &data, &len), 0);
    for (size_t at = 0; at < len; at += at < 512 ? 1 : 61) {
        const char intact = data[at];
        data[at] = (char)((unsigned char)intact ^ (1u << at % 8));
        write_file(f->path, data, len);
        data[at] = intact;
        int r = era_store_open(f->path, &f->store, &f->err);
        if (r == 0)
            r = read_everything(f->store, &f->err);
        if (r < 0 && r != -EUCLEAN && r != -EPROTO && r != -EACCES)
            fail_msg("byte %zu: %d %s %s", at, r, f->err.code, f->err.message);
        era_store_close(f->store);
        f->store = NULL;
    }
    free(data);
}

static void what_cannot_be_a_state_file_is_unusable(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir(f->path, 0700), 0);
    expect_open_fails(f, EISDIR, "state_dir_unusable");
    assert_int_equal(rmdir(f->path), 0);
    assert_int_equal(mkfifo(f->path, 0600), 0);
    expect_open_fails(f, EINVAL, "state_dir_unusable");
    assert_int_equal(unlink(f->path), 0);
    era_str_copy(f->path, sizeof f->path, "/nonexistent/state.db");
    expect_open_fails(f, ENOENT, "state_dir_unusable");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_fixture, drop_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_of_garbage_is_corrupt_an_empty_one_is_new),
        TEST(newer_and_foreign_databases_are_left_alone),
        TEST(a_missing_table_is_corruption),
        TEST(rows_that_make_no_sense_are_corrupt),
        TEST(flipped_bits_never_get_past_the_checks),
        TEST(what_cannot_be_a_state_file_is_unusable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store among other processes, some of them killed, and where it may not or
 * cannot write: directories, full disks, no descriptors left.
 */
#include "store/test_support.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/store_internal.h"

static pid_t start_child(int (*body)(const char *path, int fd), const char *path, int fd)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(body(path, fd));
    return pid;
}

static void expect_exit(pid_t pid, int code)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), code);
}

enum { CHILDREN = 8, VMS_EACH = 20 };

/* Waits for the word go, so that all begin at once. */
static int insert_many(const char *path, int fd)
{
    char go;
    (void)era_read_full(fd, &go, 1);
    struct era_store *store = NULL;
    if (era_store_open(path, &store, NULL) < 0)
        return 1;
    for (int i = 0; i < VMS_EACH; i++) {
        struct era_vm_record record = new_vm(ERA_LANGUAGE_PYTHON, 1000);
        if (era_store_vm_insert(store, &record, NULL) < 0)
            return 2;
    }
    era_store_close(store);
    return 0;
}

static void many_processes_create_and_insert_at_once(void **state)
{
    struct fixture *f = *state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pids[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        pids[i] = start_child(insert_many, f->path, ends[0]);
    assert_int_equal(write(ends[1], "gogogogogogo", CHILDREN), CHILDREN);
    for (int i = 0; i < CHILDREN; i++)
        expect_exit(pids[i], 0);
    close(ends[0]);
    close(ends[1]);

    open_store(f);
    struct era_vm_record *records = NULL;
    size_t count = 0;
    expect_ok(f, era_store_vm_list(f->store, &records, &count, &f->err));
    assert_int_equal(count, CHILDREN * VMS_EACH);
    for (size_t i = 0; i < count; i++) {
        char id[ERA_VM_ID_MAX];
        era_vm_id_make(ERA_LANGUAGE_PYTHON, 1000 + (int64_t)i, id);
        assert_string_equal(records[i].id, id);
        assert_true(records[i].uid_slot < count); /* they are unique: the schema sees to it */
    }
    free(records);
}

/* Inserts until killed; a byte for each VM that was inserted. */
static int insert_forever(const char *path, int fd)
{
    struct era_store *store = NULL;
    if (era_store_open(path, &store, NULL) < 0)
        return 1;
    for (int64_t i = 1;; i++) {
        struct era_vm_record record = new_vm(ERA_LANGUAGE_NODE, i);
        if (era_store_vm_insert(store, &record, NULL) < 0 || write(fd, "+", 1) != 1)
            return 2;
    }
}

static void a_killed_writer_loses_nothing_that_it_was_told(void **state)
{
    struct fixture *f = *state;
    size_t told = 0;
    for (int round = 0; round < 20; round++) {
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        pid_t pid = start_child(insert_forever, f->path, ends[1]);
        close(ends[1]);
        char bytes[64];
        assert_int_equal(era_read_full(ends[0], bytes, (size_t)round + 1), round + 1);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        told += (size_t)round + 1;
        for (ssize_t n; (n = read(ends[0], bytes, sizeof bytes)) > 0;)
            told += (size_t)n;
        close(ends[0]);

        open_store(f);
        struct era_vm_record *records = NULL;
        size_t count = 0;
        expect_ok(f, era_store_vm_list(f->store, &records, &count, &f->err));
        assert_in_range(count, told, told + 1); /* one may have been on its way */
        told = count;
        free(records);
        era_store_close(f->store);
        f->store = NULL;
    }
}

/* Holds the write lock from its first byte out to the first byte in. */
static int hold_lock(const char *path, int fd)
{
    sqlite3 *db = NULL;
    char byte = 0;
    if (sqlite3_open(path, &db) != SQLITE_OK || sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return 1;
    if (write(fd, "", 1) != 1 || read(fd, &byte, 1) < 0)
        return 2;
    return sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK ? 0 : 3;
}

static void a_busy_writer_is_waited_for_and_not_for_ever(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    char id[ERA_VM_ID_MAX];
    insert_vm(f, 1, id);
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t pid = start_child(hold_lock, f->path, ends[1]);
    char byte = 0;
    assert_int_equal(era_read_full(ends[0], &byte, 1), 1);

    sqlite3_busy_timeout(f->store->db, 20); /* the test has no ten seconds */
    expect_error(f, era_store_vm_set_status(f->store, id, ERA_VM_READY, &f->err), EBUSY, "state_busy");
    struct era_vm_record record;
    expect_ok(f, era_store_vm_get(f->store, id, &record, &f->err)); /* who reads does not wait */

    sqlite3_busy_timeout(f->store->db, ERA_STORE_BUSY_MS);
    assert_int_equal(write(ends[0], "", 1), 1);
    expect_ok(f, era_store_vm_set_status(f->store, id, ERA_VM_READY, &f->err));
    expect_exit(pid, 0);
    close(ends[0]);
    close(ends[1]);
}

static void two_handles_of_one_process_see_each_other(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    struct era_store *other = NULL;
    expect_ok(f, era_store_open(f->path, &other, &f->err));
    char id[ERA_VM_ID_MAX];
    insert_vm(f, 1, id);
    expect_ok(f, era_store_vm_set_status(other, id, ERA_VM_FAILED, &f->err));
    era_store_close(other);
    struct era_vm_record record;
    expect_ok(f, era_store_vm_get(f->store, id, &record, &f->err));
    assert_int_equal(record.status, ERA_VM_FAILED);
}

static bool open_gives(const char *path, int errnum, const char *code)
{
    struct era_store *store = NULL;
    struct era_error err = {0};
    int r = era_store_open(path, &store, &err);
    if (r == -errnum && era_error_is(&err, code))
        return true;
    fprintf(stderr, "open: %d %s %s\n", r, err.code, err.message);
    return false;
}

static int open_as_nobody(const char *path, int fd)
{
    if (getuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
        return 1;
    return open_gives(path, EACCES, "state_dir_unusable") ? 0 : 2;
}

static void a_directory_that_cannot_be_written_is_unusable(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(chmod(f->dir, 0555), 0);
    expect_exit(start_child(open_as_nobody, f->path, -1), 0); /* no file */
    assert_int_equal(chmod(f->dir, 0755), 0);
    open_store(f);
    era_store_close(f->store);
    f->store = NULL;
    assert_int_equal(chmod(f->path, 0444), 0);
    assert_int_equal(chmod(f->dir, 0555), 0);
    expect_exit(start_child(open_as_nobody, f->path, -1), 0); /* a file to be read only */
    assert_int_equal(chmod(f->path, 0666), 0);
    char side[128];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(era_str_format(side, sizeof side, "%s%s", f->path, i == 0 ? "-wal" : "-shm"), 0);
        (void)unlink(side);
    }
    if (getuid() == 0) /* the owner of the directory could not have removed them */
        expect_exit(start_child(open_as_nobody, f->path, -1), 0); /* no place for the log */
    assert_int_equal(chmod(f->dir, 0755), 0);
}

/* Inserts until the file may grow no more; then, with room again, once more. */
static int fill_disk(const char *path, int fd)
{
    struct era_store *store = NULL;
    struct era_error err = {0};
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    if (era_store_open(path, &store, &err) < 0 || getrlimit(RLIMIT_FSIZE, &limit) < 0)
        return 1;
    struct rlimit small = {.rlim_cur = 128 << 10, .rlim_max = limit.rlim_max};
    if (setrlimit(RLIMIT_FSIZE, &small) < 0)
        return 2;
    int r = 0;
    int done = 0;
    for (; r == 0 && done < 1000; done++) {
        struct era_vm_record record = new_vm(ERA_LANGUAGE_PYTHON, done + 1);
        r = era_store_vm_insert(store, &record, &err);
    }
    if (r != -ENOSPC || !era_error_is(&err, "disk_full")) {
        fprintf(stderr, "insert %d: %d %s %s\n", done, r, err.code, err.message);
        return 3;
    }
    if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
        return 4;
    struct era_vm_record record = new_vm(ERA_LANGUAGE_PYTHON, 100000);
    if (era_store_vm_insert(store, &record, &err) < 0 || (int)record.uid_slot != done - 1)
        return 5;
    era_store_close(store);
    return 0;
}

static void a_full_disk_is_an_error_and_no_damage(void **state)
{
    struct fixture *f = *state;
    expect_exit(start_child(fill_disk, f->path, -1), 0);
    open_store(f);
    struct era_vm_record *records = NULL;
    size_t count = 0;
    expect_ok(f, era_store_vm_list(f->store, &records, &count, &f->err));
    assert_int_not_equal(count, 0);
    free(records);
}

static int open_without_descriptors(const char *path, int fd)
{
    struct rlimit none = {.rlim_cur = 3, .rlim_max = 3};
    if (setrlimit(RLIMIT_NOFILE, &none) < 0)
        return 1;
    return open_gives(path, EIO, "state_error") ? 0 : 2;
}

static void no_descriptors_left_is_said_as_such(void **state)
{
    struct fixture *f = *state;
    open_store(f);
    expect_exit(start_child(open_without_descriptors, f->path, -1), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_fixture, drop_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(many_processes_create_and_insert_at_once),
        TEST(a_killed_writer_loses_nothing_that_it_was_told),
        TEST(a_busy_writer_is_waited_for_and_not_for_ever),
        TEST(two_handles_of_one_process_see_each_other),
        TEST(a_directory_that_cannot_be_written_is_unusable),
        TEST(a_full_disk_is_an_error_and_no_damage),
        TEST(no_descriptors_left_is_said_as_such),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

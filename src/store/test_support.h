/* SPDX-License-Identifier: Apache-2.0 */
/* test_support.h - what the tests of the store share: a directory of their own, and records to put in. */
#ifndef ERA_STORE_TEST_SUPPORT_H
#define ERA_STORE_TEST_SUPPORT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "store/store.h"

struct fixture {
    char dir[64];
    char path[96];
    struct era_store *store; /* NULL until a test opens it */
    struct era_error err;
};

/* The fixture is the cmocka state of each test. */
static inline int make_fixture(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    era_str_copy(f->dir, sizeof f->dir, "/tmp/era-store-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(era_str_format(f->path, sizeof f->path, "%s/state.db", f->dir), 0);
    *state = f;
    return 0;
}

static inline int drop_fixture(void **state)
{
    struct fixture *f = *state;
    era_store_close(f->store);
    int r = era_remove_tree_at(AT_FDCWD, f->dir);
    free(f);
    return r;
}

static inline void expect_ok(struct fixture *f, int r)
{
    if (r < 0)
        fail_msg("%d: %s: %s", r, f->err.code, f->err.message);
}

static inline void expect_error(struct fixture *f, int r, int errnum, const char *code)
{
    assert_int_equal(r, -errnum);
    assert_string_equal(f->err.code, code);
    assert_int_equal(f->err.errnum, errnum);
    assert_int_not_equal(f->err.message[0], '\0');
    f->err = (struct era_error){0};
}

static inline void open_store(struct fixture *f)
{
    expect_ok(f, era_store_open(f->path, &f->store, &f->err));
}

static inline void reopen_store(struct fixture *f)
{
    era_store_close(f->store);
    f->store = NULL;
    open_store(f);
}

/* A record as the service makes it before it is inserted; it owns nothing. */
static inline struct era_vm_record new_vm(enum era_language language, int64_t created_at_ns)
{
    struct era_vm_record record = {.status = ERA_VM_PROVISIONING, .created_at_ns = created_at_ns};
    era_vm_ask_init(&record.ask, language);
    return record;
}

/* Inserts a default VM and returns its id in `id`. */
static inline void insert_vm(struct fixture *f, int64_t created_at_ns, char id[ERA_VM_ID_MAX])
{
    struct era_vm_record record = new_vm(ERA_LANGUAGE_PYTHON, created_at_ns);
    expect_ok(f, era_store_vm_insert(f->store, &record, &f->err));
    era_str_copy(id, ERA_VM_ID_MAX, record.id);
}

static inline struct era_volume_record new_volume(const char *name)
{
    struct era_volume_record volume = {.kind = ERA_VOLUME_EXT4, .size_mib = 1024, .created_at_ns = 5};
    era_str_copy(volume.name, sizeof volume.name, name);
    return volume;
}

#endif

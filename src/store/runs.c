/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in the store. */
#include <errno.h>

#include "store/store_internal.h"

/* How many ids are tried: runs of one VM that began in neighbouring nanoseconds. */
enum { ID_TRIES = 100000 };

/* The columns of RUN_COLUMNS. */
static int read_run(struct era_store *store, sqlite3_stmt *stmt, struct era_run_record *run, struct era_error *err)
{
    struct era_row row = {.stmt = stmt};
    struct era_run_outcome *outcome = &run->outcome;
    *run = (struct era_run_record){0};
    era_row_text(&row, run->id, sizeof run->id);
    era_row_text(&row, run->vm_id, sizeof run->vm_id);
    run->started_at_ns = era_row_int(&row, 1, INT64_MAX);
    if (era_row_is_null(&row))
        row.next++;
    else
        row.bad |= era_verdict_parse(era_row_word(&row), &outcome->verdict) < 0 || outcome->verdict == ERA_VERDICT_NONE;
    outcome->exit_code = (int32_t)era_row_int(&row, 0, 255);
    outcome->wall_us = (uint64_t)era_row_int(&row, 0, INT64_MAX);
    outcome->cpu_us = (uint64_t)era_row_int(&row, 0, INT64_MAX);
    outcome->peak_mem_kib = (uint64_t)era_row_int(&row, 0, INT64_MAX);
    outcome->dropped[0] = (uint64_t)era_row_int(&row, 0, INT64_MAX);
    outcome->dropped[1] = (uint64_t)era_row_int(&row, 0, INT64_MAX);
    if (row.oom)
        return era_error_oom(err);
    if (row.bad || !era_run_id_valid(run->id) || !era_vm_id_valid(run->vm_id))
        return era_store_fail_row(store, "run", err);
    return 0;
}

static int set_last_run(struct era_store *store, const struct era_run_record *run, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VM_SET_LAST_RUN, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_int(&to, run->started_at_ns);
    era_bind_text(&to, run->vm_id);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    int changes = 0;
    if ((r = era_store_step_done(store, stmt, &changes, err)) < 0)
        return r;
    return changes > 0 ? 0 : era_store_no_vm(run->vm_id, err);
}

/* 1: inserted, 0: the id is taken. */
static int insert_row(struct era_store *store, const struct era_run_record *run, const char *id, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_RUN_INSERT, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, run->vm_id);
    era_bind_text(&to, id);
    era_bind_int(&to, run->started_at_ns);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    int changes = 0;
    r = era_store_step_done(store, stmt, &changes, err);
    return r < 0 ? r : changes;
}

static int prune(struct era_store *store, const char *vm_id, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_RUN_PRUNE, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, vm_id);
    era_bind_int(&to, ERA_RUNS_KEPT);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    return era_store_step_done(store, stmt, NULL, err);
}

int era_store_run_insert(struct era_store *store, struct era_run_record *run, struct era_error *err)
{
    if (run->started_at_ns <= 0 || run->started_at_ns > INT64_MAX - ID_TRIES)
        return era_error_invalid(err, "started_at", "the time of the run cannot be recorded");
    _cleanup_txn_ struct era_store *txn = NULL;
    int r = era_store_begin(store, &txn, err);
    if (r < 0 || (r = set_last_run(store, run, err)) < 0)
        return r;
    char id[ERA_RUN_ID_MAX];
    r = 0;
    for (int i = 0; r == 0 && i < ID_TRIES; i++) {
        era_run_id_make(run->started_at_ns + i, id);
        if ((r = insert_row(store, run, id, err)) < 0)
            return r;
    }
    if (r == 0)
        return era_store_fail_row(store, "run", err);
    if ((r = prune(store, run->vm_id, err)) < 0 || (r = era_store_commit(&txn, err)) < 0)
        return r;
    era_str_copy(run->id, sizeof run->id, id);
    return 0;
}

int era_store_run_finish(struct era_store *store, const char *vm_id, const char *run_id,
                         const struct era_run_outcome *outcome, struct era_error *err)
{
    const char *verdict = era_verdict_name(outcome->verdict);
    if (verdict[0] == '\0')
        return era_error_invalid(err, "verdict", "a run that ended has a verdict");
    if (outcome->exit_code < 0 || outcome->exit_code > 255)
        return era_error_invalid(err, "exit_code", "exit code %d is not in 0..255", (int)outcome->exit_code);
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_RUN_FINISH, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, verdict);
    era_bind_int(&to, outcome->exit_code);
    era_bind_count(&to, outcome->wall_us);
    era_bind_count(&to, outcome->cpu_us);
    era_bind_count(&to, outcome->peak_mem_kib);
    era_bind_count(&to, outcome->dropped[0]);
    era_bind_count(&to, outcome->dropped[1]);
    era_bind_text(&to, vm_id);
    era_bind_text(&to, run_id);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    return era_store_step_done(store, stmt, NULL, err);
}

static enum era_sql list_statement(bool of_vm, bool only_open)
{
    if (of_vm)
        return only_open ? ERA_SQL_RUN_LIST_OPEN_OF_VM : ERA_SQL_RUN_LIST_OF_VM;
    return only_open ? ERA_SQL_RUN_LIST_OPEN : ERA_SQL_RUN_LIST;
}

int era_store_run_list(struct era_store *store, const char *vm_id, bool only_open, struct era_run_record **ret_runs,
                       size_t *ret_count, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, list_statement(vm_id != NULL, only_open), &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    if (vm_id != NULL)
        era_bind_text(&to, vm_id);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);

    _cleanup_free_ struct era_run_record *runs = NULL;
    size_t count = 0;
    size_t capacity = 0;
    while ((r = era_store_step_row(store, stmt, err)) > 0) {
        if (count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            struct era_run_record *grown = reallocarray(runs, capacity, sizeof *grown);
            if (grown == NULL)
                return era_error_oom(err);
            runs = grown;
        }
        if ((r = read_run(store, stmt, &runs[count], err)) < 0)
            return r;
        count++;
    }
    if (r < 0)
        return r;
    *ret_count = count;
    *ret_runs = era_take_ptr(runs);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs in the store. The same test, record_problem(), holds for what is written
 * and for what is read, so that nothing gets in that could not come out again.
 */
#include <errno.h>
#include <string.h>

#include "store/store_internal.h"

/* An environment on disk: KEY=VALUE, each with a NUL behind it. */
enum { ENV_BLOB_MAX = ERA_ENV_BYTES_MAX + ERA_ENV_MAX };

#define DAY_NS (INT64_C(86400) * 1000000000)

static bool in_bounds(uint32_t value, uint32_t min, uint32_t max)
{
    return value >= min && value <= max;
}

static bool unenforced_valid(const char *list)
{
    return list[strspn(list, "abcdefghijklmnopqrstuvwxyz_,")] == '\0';
}

/* The name of the first field that no record can have, or NULL. Not looked at: id and uid_slot. */
static const char *record_problem(const struct era_vm_record *record)
{
    const struct era_vm_ask *ask = &record->ask;
    if (ask->language != ERA_LANGUAGE_PYTHON && ask->language != ERA_LANGUAGE_NODE)
        return "language";
    if (!in_bounds(ask->cpu_count, ERA_CPU_MIN, ERA_CPU_MAX))
        return "cpu";
    if (!in_bounds(ask->mem_mib, ERA_MEM_MIB_MIN, ERA_MEM_MIB_MAX))
        return "mem";
    if (!in_bounds(ask->disk_mib, ERA_DISK_MIB_MIN, ERA_DISK_MIB_MAX))
        return "disk";
    if (!in_bounds(ask->pids, ERA_PIDS_MIN, ERA_PIDS_MAX))
        return "pids";
    if (era_network_name(ask->network)[0] == '\0')
        return "network";
    if (era_launcher_name(ask->launcher)[0] == '\0' || era_launcher_name(record->launcher)[0] == '\0')
        return "launcher";
    /* Never stored but derived: "running" from the runs in flight, "paused" from a column of its own. */
    if (era_vm_status_name(record->status)[0] == '\0' || record->status == ERA_VM_RUNNING ||
        record->status == ERA_VM_PAUSED)
        return "status";
    if (!era_reference_valid(ask->image))
        return "image";
    if (ask->volume[0] != '\0' && !era_volume_name_valid(ask->volume))
        return "volume";
    if (!unenforced_valid(record->unenforced))
        return "unenforced";
    if (record->created_at_ns <= 0 || record->created_at_ns > INT64_MAX - ERA_UID_SLOTS || record->last_run_at_ns < 0)
        return "created_at";
    size_t bytes = 0;
    for (size_t i = 0; i < ask->env.count; i++) {
        if (!era_env_valid(ask->env.items[i]))
            return "env";
        bytes += strlen(ask->env.items[i]) + 1;
    }
    return ask->env.count > ERA_ENV_MAX || bytes > ENV_BLOB_MAX ? "env" : NULL;
}

static int env_encode(const struct era_strv *env, char **ret_blob, size_t *ret_len)
{
    size_t len = 0;
    for (size_t i = 0; i < env->count; i++)
        len += strlen(env->items[i]) + 1;
    char *blob = malloc(len + 1);
    if (blob == NULL)
        return -ENOMEM;
    char *end = blob;
    for (size_t i = 0; i < env->count; i++)
        end = stpcpy(end, env->items[i]) + 1;
    *ret_blob = blob;
    *ret_len = len;
    return 0;
}

/* -EUCLEAN when the last NUL is missing or there is too much of it. */
static int env_decode(const char *blob, size_t len, struct era_strv *env)
{
    if (len > ENV_BLOB_MAX || (len > 0 && blob[len - 1] != '\0'))
        return -EUCLEAN;
    for (size_t at = 0; at < len; at += strlen(blob + at) + 1) {
        int r = env->count < ERA_ENV_MAX ? era_strv_add(env, blob + at) : -EUCLEAN;
        if (r < 0)
            return r;
    }
    return 0;
}

/* The columns of VM_COLUMNS. *record is zeroed before, and to be cleared after, also on failure. */
static int read_record(struct era_store *store, sqlite3_stmt *stmt, struct era_vm_record *record, struct era_error *err)
{
    struct era_row row = {.stmt = stmt};
    struct era_vm_ask *ask = &record->ask;
    era_row_text(&row, record->id, sizeof record->id);
    row.bad |= era_language_parse(era_row_word(&row), &ask->language) < 0;
    ask->cpu_count = (uint32_t)era_row_int(&row, 0, UINT32_MAX);
    ask->mem_mib = (uint32_t)era_row_int(&row, 0, UINT32_MAX);
    ask->disk_mib = (uint32_t)era_row_int(&row, 0, UINT32_MAX);
    ask->pids = (uint32_t)era_row_int(&row, 0, UINT32_MAX);
    row.bad |= era_network_parse(era_row_word(&row), &ask->network) < 0;
    row.bad |= era_launcher_parse(era_row_word(&row), &ask->launcher) < 0;
    ask->persist = era_row_int(&row, 0, 1) != 0;
    ask->best_effort = era_row_int(&row, 0, 1) != 0;
    era_row_text(&row, ask->image, sizeof ask->image);
    int env_len = 0;
    const char *env = era_row_blob(&row, &env_len);
    int r = env != NULL ? env_decode(env, (size_t)env_len, &ask->env) : 0;
    row.oom |= r == -ENOMEM;
    row.bad |= r == -EUCLEAN;
    row.bad |= era_launcher_parse(era_row_word(&row), &record->launcher) < 0;
    row.bad |= era_vm_status_parse(era_row_word(&row), &record->status) < 0;
    record->uid_slot = (uint32_t)era_row_int(&row, 0, ERA_UID_SLOTS - 1);
    era_row_text(&row, record->unenforced, sizeof record->unenforced);
    record->created_at_ns = era_row_int(&row, 1, INT64_MAX);
    record->last_run_at_ns = era_row_int(&row, 0, INT64_MAX);
    record->paused = era_row_int(&row, 0, 1) != 0;
    era_row_text(&row, ask->kernel, sizeof ask->kernel);
    if (!era_row_is_null(&row))
        era_row_text(&row, ask->volume, sizeof ask->volume);

    if (row.oom)
        return era_error_oom(err);
    const char *language = era_language_name(ask->language);
    if (row.bad || !era_vm_id_valid(record->id) || !era_str_starts_with(record->id, language) ||
        record_problem(record) != NULL)
        return era_store_fail_row(store, "VM", err);
    return 0;
}

/* Binds a record to ERA_SQL_VM_INSERT and runs it; 1: inserted, 0: the id is taken. */
static int insert_row(struct era_store *store, const struct era_vm_record *record, const char *env, size_t env_len,
                      struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VM_INSERT, &stmt, err);
    if (r < 0)
        return r;
    const struct era_vm_ask *ask = &record->ask;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, record->id);
    era_bind_text(&to, era_language_name(ask->language));
    era_bind_int(&to, ask->cpu_count);
    era_bind_int(&to, ask->mem_mib);
    era_bind_int(&to, ask->disk_mib);
    era_bind_int(&to, ask->pids);
    era_bind_text(&to, era_network_name(ask->network));
    era_bind_text(&to, era_launcher_name(ask->launcher));
    era_bind_int(&to, ask->persist);
    era_bind_int(&to, ask->best_effort);
    era_bind_text(&to, ask->image);
    era_bind_blob(&to, env, env_len);
    era_bind_text(&to, era_launcher_name(record->launcher));
    era_bind_text(&to, era_vm_status_name(record->status));
    era_bind_int(&to, record->uid_slot);
    era_bind_text(&to, record->unenforced);
    era_bind_int(&to, record->created_at_ns);
    era_bind_int(&to, record->last_run_at_ns);
    era_bind_text(&to, ask->kernel);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    int changes = 0;
    r = era_store_step_done(store, stmt, &changes, err);
    return r < 0 ? r : changes;
}

/* The lowest slot that no record has: where counting along them comes to a gap. */
static int find_slot(struct era_store *store, uint32_t *ret_slot, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VM_SLOTS, &stmt, err);
    if (r < 0)
        return r;
    uint32_t slot = 0;
    while ((r = era_store_step_row(store, stmt, err)) > 0 && sqlite3_column_int64(stmt, 0) == slot)
        slot++;
    if (r < 0)
        return r;
    if (slot >= ERA_UID_SLOTS)
        return era_error_set(err, EAGAIN, "too_many_vms", "there are %d VMs already; clean some first",
                             (int)ERA_UID_SLOTS);
    *ret_slot = slot;
    return 0;
}

/* Under a key unless that is NULL. 0: the key has a VM already. */
static int insert(struct era_store *store, const char *key, struct era_vm_record *record, struct era_error *err)
{
    const char *problem = record_problem(record);
    if (problem != NULL)
        return era_error_invalid(err, problem, "%s of the VM cannot be recorded", problem);
    _cleanup_free_ char *env = NULL;
    size_t env_len = 0;
    int r = env_encode(&record->ask.env, &env, &env_len);
    if (r < 0)
        return era_error_oom(err);

    _cleanup_txn_ struct era_store *txn = NULL;
    if ((r = era_store_begin(store, &txn, err)) < 0)
        return r;
    struct era_vm_record made = *record; /* borrows what record owns */
    if (key != NULL && (r = era_store_key_find(store, key, record->created_at_ns - DAY_NS, made.id, err)) < 0)
        return r;
    if (key != NULL && made.id[0] != '\0') {
        era_str_copy(record->id, sizeof record->id, made.id);
        return era_store_commit(&txn, err);
    }
    if ((r = find_slot(store, &made.uid_slot, err)) < 0)
        return r;
    /* With fewer than ERA_UID_SLOTS records, one of as many ids is free. */
    r = 0;
    for (int i = 0; r == 0 && i < ERA_UID_SLOTS; i++) {
        era_vm_id_make(made.ask.language, record->created_at_ns + i, made.id);
        if ((r = insert_row(store, &made, env, env_len, err)) < 0)
            return r;
    }
    if (r == 0)
        return era_store_fail_row(store, "VM", err);
    if (made.ask.volume[0] != '\0' && (r = era_store_volume_claim(store, made.ask.volume, made.id, err)) < 0)
        return r;
    if (key != NULL && (r = era_store_key_insert(store, key, &made, err)) < 0)
        return r;
    if ((r = era_store_commit(&txn, err)) < 0)
        return r;
    era_str_copy(record->id, sizeof record->id, made.id);
    record->uid_slot = made.uid_slot;
    return 1;
}

int era_store_vm_insert(struct era_store *store, struct era_vm_record *record, struct era_error *err)
{
    int r = insert(store, NULL, record, err);
    return r < 0 ? r : 0;
}

int era_store_vm_insert_once(struct era_store *store, const char *key, struct era_vm_record *record,
                             struct era_error *err)
{
    if (key[0] == '\0' || strlen(key) >= ERA_KEY_MAX || !era_str_is_utf8(key, strlen(key)))
        return era_error_invalid(err, "key", "a key is text of 1 to %d bytes", ERA_KEY_MAX - 1);
    return insert(store, key, record, err);
}

int era_store_no_vm(const char *id, struct era_error *err)
{
    return era_error_set(err, ENOENT, "vm_not_found", "no VM has the id %s", id);
}

int era_store_vm_get(struct era_store *store, const char *id, struct era_vm_record *ret_record, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VM_GET, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, id);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    if ((r = era_store_step_row(store, stmt, err)) <= 0)
        return r < 0 ? r : era_store_no_vm(id, err);
    struct era_vm_record record = {0};
    if ((r = read_record(store, stmt, &record, err)) < 0) {
        era_vm_record_clear(&record);
        return r;
    }
    *ret_record = record;
    return 0;
}

struct records {
    struct era_vm_record *items;
    size_t count;
    size_t capacity;
};

static void records_clear(struct records *records)
{
    for (size_t i = 0; i < records->count; i++)
        era_vm_record_clear(&records->items[i]);
    free(records->items);
    *records = (struct records){0};
}

static struct era_vm_record *records_add(struct records *records)
{
    if (records->count == records->capacity) {
        size_t capacity = records->capacity == 0 ? 16 : records->capacity * 2;
        struct era_vm_record *grown = reallocarray(records->items, capacity, sizeof *grown);
        if (grown == NULL)
            return NULL;
        records->items = grown;
        records->capacity = capacity;
    }
    struct era_vm_record *added = &records->items[records->count++];
    *added = (struct era_vm_record){0};
    return added;
}

/* All rows of a bound query. */
static int read_records(struct era_store *store, sqlite3_stmt *stmt, struct era_vm_record **ret_records,
                        size_t *ret_count, struct era_error *err)
{
    int r;
    _cleanup_(records_clear) struct records records = {0};
    while ((r = era_store_step_row(store, stmt, err)) > 0) {
        struct era_vm_record *record = records_add(&records);
        if (record == NULL)
            return era_error_oom(err);
        if ((r = read_record(store, stmt, record, err)) < 0)
            return r;
    }
    if (r < 0)
        return r;
    *ret_count = records.count;
    *ret_records = records.items;
    records = (struct records){0}; /* handed over */
    return 0;
}

int era_store_vm_list(struct era_store *store, struct era_vm_record **ret_records, size_t *ret_count,
                      struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VM_LIST, &stmt, err);
    return r < 0 ? r : read_records(store, stmt, ret_records, ret_count, err);
}

int era_store_vm_page(struct era_store *store, int64_t created_at_ns, const char *id, size_t max,
                      struct era_vm_record **ret_records, size_t *ret_count, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VM_PAGE, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_int(&to, created_at_ns);
    era_bind_text(&to, id);
    era_bind_count(&to, max);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    return read_records(store, stmt, ret_records, ret_count, err);
}

/* Runs a bound UPDATE of one VM. */
static int update_vm(struct era_store *store, const struct era_binder *to, const char *id, struct era_error *err)
{
    if (to->rc != SQLITE_OK)
        return era_store_fail(store, to->rc, err);
    int changes = 0;
    int r = era_store_step_done(store, to->stmt, &changes, err);
    if (r < 0)
        return r;
    return changes > 0 ? 0 : era_store_no_vm(id, err);
}

int era_store_vm_set_status(struct era_store *store, const char *id, enum era_vm_status status, struct era_error *err)
{
    if (era_vm_status_name(status)[0] == '\0' || status == ERA_VM_RUNNING || status == ERA_VM_PAUSED)
        return era_error_invalid(err, "status", "this status is not one that is stored");
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VM_SET_STATUS, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, era_vm_status_name(status));
    era_bind_text(&to, id);
    return update_vm(store, &to, id, err);
}

int era_store_vm_set_ready(struct era_store *store, const char *id, enum era_launcher_kind launcher,
                           const char *unenforced, struct era_error *err)
{
    if (launcher != ERA_LAUNCHER_NAMESPACE && launcher != ERA_LAUNCHER_MICROVM)
        return era_error_invalid(err, "launcher", "a VM runs on a launcher of its own, not on \"auto\"");
    if (strlen(unenforced) >= ERA_UNENFORCED_MAX || !unenforced_valid(unenforced))
        return era_error_invalid(err, "unenforced", "this list of limits cannot be recorded");
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VM_SET_READY, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, era_launcher_name(launcher));
    era_bind_text(&to, unenforced);
    era_bind_text(&to, id);
    return update_vm(store, &to, id, err);
}

int era_store_vm_set_paused(struct era_store *store, const char *id, bool paused, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VM_SET_PAUSED, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_int(&to, paused);
    era_bind_text(&to, id);
    return update_vm(store, &to, id, err);
}

int era_store_vm_delete(struct era_store *store, const char *id, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VM_DELETE, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, id);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    return era_store_step_done(store, stmt, NULL, err); /* runs and claim follow by their foreign keys */
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes in the store. volumes.vm_id is the claim: which VM has it is recorded nowhere else. */
#include <errno.h>

#include "store/store_internal.h"

/* The columns of VOLUME_COLUMNS. */
static int read_volume(struct era_store *store, sqlite3_stmt *stmt, struct era_volume_record *volume,
                       struct era_error *err)
{
    struct era_row row = {.stmt = stmt};
    *volume = (struct era_volume_record){0};
    era_row_text(&row, volume->name, sizeof volume->name);
    row.bad |= era_volume_kind_parse(era_row_word(&row), &volume->kind) < 0 || volume->kind == ERA_VOLUME_NONE;
    volume->size_mib = (uint32_t)era_row_int(&row, ERA_DISK_MIB_MIN, ERA_DISK_MIB_MAX);
    volume->created_at_ns = era_row_int(&row, 1, INT64_MAX);
    bool claimed = !era_row_is_null(&row);
    if (claimed)
        era_row_text(&row, volume->vm_id, sizeof volume->vm_id);
    if (row.oom)
        return era_error_oom(err);
    if (row.bad || !era_volume_name_valid(volume->name) || (claimed && !era_vm_id_valid(volume->vm_id)))
        return era_store_fail_row(store, "volume", err);
    return 0;
}

static const char *volume_problem(const struct era_volume_record *volume)
{
    if (!era_volume_name_valid(volume->name))
        return "volume";
    if (volume->kind != ERA_VOLUME_EXT4 && volume->kind != ERA_VOLUME_FOLDER)
        return "kind";
    if (volume->size_mib < ERA_DISK_MIB_MIN || volume->size_mib > ERA_DISK_MIB_MAX)
        return "disk";
    return volume->created_at_ns <= 0 ? "created_at" : NULL;
}

static int insert_volume(struct era_store *store, const struct era_volume_record *volume, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VOLUME_INSERT, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, volume->name);
    era_bind_text(&to, era_volume_kind_name(volume->kind));
    era_bind_int(&to, volume->size_mib);
    era_bind_int(&to, volume->created_at_ns);
    era_bind_text_or_null(&to, volume->vm_id);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    int rc = sqlite3_step(stmt);
    switch (rc) {
    case SQLITE_DONE:
        return 0;
    case SQLITE_CONSTRAINT_PRIMARYKEY:
        return era_error_set(err, EEXIST, "volume_exists", "there is a volume named %s already", volume->name);
    case SQLITE_CONSTRAINT_UNIQUE:
        return era_error_set(err, EEXIST, "volume_exists", "VM %s has a volume already", volume->vm_id);
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return era_store_no_vm(volume->vm_id, err);
    default:
        return era_store_fail(store, rc, err);
    }
}

int era_store_volume_insert(struct era_store *store, const struct era_volume_record *volume, struct era_error *err)
{
    const char *problem = volume_problem(volume);
    if (problem != NULL)
        return era_error_invalid(err, problem, "%s of the volume cannot be recorded", problem);
    int r = era_store_check(store, err);
    if (r < 0)
        return r;
    /* On the disk before anybody writes to the volume: one without a record is taken for the remains of one removed. */
    era_store_sync_commits(store, true);
    r = insert_volume(store, volume, err);
    era_store_sync_commits(store, false);
    return r;
}

/* Binds the name and steps to its row; volume_not_found. */
static int find_volume(struct era_store *store, const char *name, sqlite3_stmt *stmt, struct era_error *err)
{
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, name);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    int r = era_store_step_row(store, stmt, err);
    if (r == 0)
        return era_error_set(err, ENOENT, "volume_not_found", "no volume is named %s", name);
    return r < 0 ? r : 0;
}

int era_store_volume_get(struct era_store *store, const char *name, struct era_volume_record *ret_volume,
                         struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VOLUME_GET, &stmt, err);
    if (r < 0 || (r = find_volume(store, name, stmt, err)) < 0)
        return r;
    struct era_volume_record volume;
    if ((r = read_volume(store, stmt, &volume, err)) < 0)
        return r;
    *ret_volume = volume;
    return 0;
}

int era_store_volume_list(struct era_store *store, struct era_volume_record **ret_volumes, size_t *ret_count,
                          struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VOLUME_LIST, &stmt, err);
    if (r < 0)
        return r;
    _cleanup_free_ struct era_volume_record *volumes = NULL;
    size_t count = 0;
    size_t capacity = 0;
    while ((r = era_store_step_row(store, stmt, err)) > 0) {
        if (count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            struct era_volume_record *grown = reallocarray(volumes, capacity, sizeof *grown);
            if (grown == NULL)
                return era_error_oom(err);
            volumes = grown;
        }
        if ((r = read_volume(store, stmt, &volumes[count], err)) < 0)
            return r;
        count++;
    }
    if (r < 0)
        return r;
    *ret_count = count;
    *ret_volumes = era_take_ptr(volumes);
    return 0;
}

/* Why nothing was changed of a volume that had to be free. */
static int explain_unchanged(struct era_store *store, const char *name, struct era_error *err)
{
    struct era_volume_record volume;
    int r = era_store_volume_get(store, name, &volume, err);
    if (r < 0)
        return r;
    return era_error_set(err, EBUSY, "volume_busy", "volume %s is in use by VM %s", name, volume.vm_id);
}

int era_store_volume_claim(struct era_store *store, const char *name, const char *vm_id, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VOLUME_CLAIM, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, vm_id);
    era_bind_text(&to, name);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    int changes = 0;
    if ((r = era_store_step_done(store, stmt, &changes, err)) < 0)
        return r;
    return changes > 0 ? 0 : explain_unchanged(store, name, err);
}

/* Deletes one that no VM has claimed: 1, or 0 when there is none. */
static int delete_unclaimed(struct era_store *store, const char *name, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_VOLUME_DELETE, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, name);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    int changes = 0;
    r = era_store_step_done(store, stmt, &changes, err);
    return r < 0 ? r : changes;
}

int era_store_volume_delete(struct era_store *store, const char *name, struct era_error *err)
{
    _cleanup_txn_ struct era_store *txn = NULL;
    int r = era_store_begin(store, &txn, err);
    if (r < 0)
        return r;
    if ((r = delete_unclaimed(store, name, err)) <= 0)
        return r < 0 ? r : explain_unchanged(store, name, err);
    return era_store_commit(&txn, err);
}

int era_store_vm_delete_with_volume(struct era_store *store, const char *id, const char *volume, struct era_error *err)
{
    _cleanup_txn_ struct era_store *txn = NULL;
    int r = era_store_begin(store, &txn, err);
    if (r >= 0)
        r = era_store_vm_delete(store, id, err); /* and with it its claim */
    if (r >= 0)
        r = delete_unclaimed(store, volume, err);
    return r < 0 ? r : era_store_commit(&txn, err);
}

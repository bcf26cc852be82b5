/* SPDX-License-Identifier: Apache-2.0 */
/* Keys under which VMs were created, so that asking twice creates one. They go with their VM, or after a day. */
#include <errno.h>
#include <string.h>

#include "store/store_internal.h"

static int forget_old(struct era_store *store, int64_t since_ns, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_KEY_FORGET, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_int(&to, since_ns);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    return era_store_step_done(store, stmt, NULL, err);
}

int era_store_key_find(struct era_store *store, const char *key, int64_t since_ns, char ret_vm_id[ERA_VM_ID_MAX],
                       struct era_error *err)
{
    int r = forget_old(store, since_ns, err);
    if (r < 0)
        return r;
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    if ((r = era_store_prepare(store, ERA_SQL_KEY_GET, &stmt, err)) < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, key);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    ret_vm_id[0] = '\0';
    if ((r = era_store_step_row(store, stmt, err)) <= 0)
        return r;
    struct era_row row = {.stmt = stmt};
    era_row_text(&row, ret_vm_id, ERA_VM_ID_MAX);
    return row.bad || !era_vm_id_valid(ret_vm_id) ? era_store_fail_row(store, "key", err) : 0;
}

int era_store_key_insert(struct era_store *store, const char *key, const struct era_vm_record *record,
                         struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, ERA_SQL_KEY_INSERT, &stmt, err);
    if (r < 0)
        return r;
    struct era_binder to = {.stmt = stmt};
    era_bind_text(&to, key);
    era_bind_text(&to, record->id);
    era_bind_int(&to, record->created_at_ns);
    if (to.rc != SQLITE_OK)
        return era_store_fail(store, to.rc, err);
    return era_store_step_done(store, stmt, NULL, err);
}

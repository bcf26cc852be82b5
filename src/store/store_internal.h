/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_internal.h - what the files of the store share; nobody else includes it.
 *
 * Theory of operation: a connection prepares each statement once, when it is
 * first needed, and keeps it until it is closed. What writes begins IMMEDIATE,
 * so that waiting for another writer happens at one place, before anything was
 * read, and SQLite never has to refuse an upgrade from reader to writer.
 *
 * Functions that take `err` fill it and return -errno; `rc` is a result code
 * of SQLite, extended.
 */
#ifndef ERA_STORE_STORE_INTERNAL_H
#define ERA_STORE_STORE_INTERNAL_H

#include <sqlite3.h>

#include "store/store.h"

enum { ERA_STORE_BUSY_MS = 10000 }; /* how long another writer is waited for */

/* Every statement; the text of each is in statements.c. */
enum era_sql {
    ERA_SQL_BEGIN,
    ERA_SQL_COMMIT,
    ERA_SQL_ROLLBACK,
    ERA_SQL_VM_SLOTS,
    ERA_SQL_VM_INSERT,
    ERA_SQL_VM_GET,
    ERA_SQL_VM_LIST,
    ERA_SQL_VM_PAGE,
    ERA_SQL_VM_SET_STATUS,
    ERA_SQL_VM_SET_READY,
    ERA_SQL_VM_SET_PAUSED,
    ERA_SQL_VM_SET_LAST_RUN,
    ERA_SQL_VM_DELETE,
    ERA_SQL_KEY_FORGET,
    ERA_SQL_KEY_GET,
    ERA_SQL_KEY_INSERT,
    ERA_SQL_RUN_INSERT,
    ERA_SQL_RUN_PRUNE,
    ERA_SQL_RUN_FINISH,
    ERA_SQL_RUN_LIST,
    ERA_SQL_RUN_LIST_OPEN,
    ERA_SQL_RUN_LIST_OF_VM,
    ERA_SQL_RUN_LIST_OPEN_OF_VM,
    ERA_SQL_VOLUME_INSERT,
    ERA_SQL_VOLUME_GET,
    ERA_SQL_VOLUME_LIST,
    ERA_SQL_VOLUME_CLAIM,
    ERA_SQL_VOLUME_DELETE,
    ERA_SQL_COUNT,
};

extern const char *const era_store_sql[ERA_SQL_COUNT];

struct era_store {
    char *path;                              /* owned */
    sqlite3 *db;                             /* owned; NULL until first needed */
    sqlite3_stmt *statements[ERA_SQL_COUNT]; /* owned; NULL until first used */
    int log_frames;                          /* length of the log after our last commit */
};

/* Turns a result code into an error of the contract. */
int era_store_fail(struct era_store *store, int rc, struct era_error *err);

/* The row that was read is not one that this program wrote: state_corrupt. */
int era_store_fail_row(struct era_store *store, const char *what, struct era_error *err);

/* Whether a commit is over only when it is on the disk. Without, a power failure may take the last ones back. */
void era_store_sync_commits(struct era_store *store, bool sync);

/* The statement, ready to be bound; borrowed. Let go of it by era_stmt_resetp. */
int era_store_prepare(struct era_store *store, enum era_sql which, sqlite3_stmt **ret_stmt, struct era_error *err);

/* Runs a bound statement to its end; ret_changes (may be NULL): how many rows it changed. */
int era_store_step_done(struct era_store *store, sqlite3_stmt *stmt, int *ret_changes, struct era_error *err);

/* Steps a query: 1 with a row, 0 at the end. */
int era_store_step_row(struct era_store *store, sqlite3_stmt *stmt, struct era_error *err);

/* Resets a statement and forgets what was bound to it; preserves errno. */
void era_stmt_resetp(sqlite3_stmt **stmt);
#define _cleanup_stmt_ _cleanup_(era_stmt_resetp)

/* Begins a writing transaction. *ret_txn, declared _cleanup_txn_, rolls it back unless it was committed. */
int era_store_begin(struct era_store *store, struct era_store **ret_txn, struct era_error *err);
int era_store_commit(struct era_store **txn, struct era_error *err);
void era_store_rollbackp(struct era_store **txn);
#define _cleanup_txn_ _cleanup_(era_store_rollbackp)

/* Creates or migrates the schema, or says why this file is not for us. One header read when it is up to date. */
int era_store_schema_open(struct era_store *store, struct era_error *err);

/* Binding: numbers count up from 1 as the values are given; a failure (out of memory) sticks. */
struct era_binder {
    sqlite3_stmt *stmt; /* borrowed */
    int last;           /* the number of the value bound last */
    int rc;             /* the first failure, or SQLITE_OK */
};

/* Text and blobs are borrowed until the statement is reset. */
void era_bind_text(struct era_binder *binder, const char *text);
void era_bind_blob(struct era_binder *binder, const void *data, size_t len);
void era_bind_int(struct era_binder *binder, int64_t value);
void era_bind_count(struct era_binder *binder, uint64_t value); /* what exceeds 63 bits is stored as the largest */
void era_bind_text_or_null(struct era_binder *binder, const char *text); /* "": NULL */

/* Reading a row column by column; what is wrong with any of them sticks. */
struct era_row {
    sqlite3_stmt *stmt; /* borrowed */
    int next;           /* the column to be read */
    bool bad;           /* a type, a length or a bound was not kept */
    bool oom;
    char word[24]; /* what era_row_word() returned */
};

void era_row_text(struct era_row *row, char *to, size_t size);
int64_t era_row_int(struct era_row *row, int64_t min, int64_t max);
bool era_row_is_null(struct era_row *row);                   /* looks, does not advance */
const char *era_row_word(struct era_row *row);               /* a name of an enumeration; valid until the next one */
const void *era_row_blob(struct era_row *row, int *ret_len); /* valid until the next step */

/* vm_not_found */
int era_store_no_vm(const char *id, struct era_error *err);

/* Within a transaction: the VM that has the key since then, "" for none; older keys are forgotten. */
int era_store_key_find(struct era_store *store, const char *key, int64_t since_ns, char ret_vm_id[ERA_VM_ID_MAX],
                       struct era_error *err);
int era_store_key_insert(struct era_store *store, const char *key, const struct era_vm_record *record,
                         struct era_error *err);

/* Gives a volume that is free to a VM, within a transaction. volume_not_found, volume_busy. */
int era_store_volume_claim(struct era_store *store, const char *name, const char *vm_id, struct era_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: `user_version` counts the migrations that a database has
 * seen; `application_id` says that it is ours. A migration, once released, is
 * never edited: a change of the schema is a new entry at the end of the table.
 *
 * Enumerations are stored by name, so that the sqlite3 tool shows what a
 * record means. CHECKs hold what will stay true; the bounds of what may be
 * asked for (vm.h) are checked by the code alone, so that raising one needs no
 * migration. STRICT and WITHOUT ROWID: typed columns, one tree per table.
 * Three names or more are compared by OR: for IN (…) SQLite would build a
 * table of the names with each row written, ten times the cost of the insert.
 */
#include <errno.h>

#include "base/clock.h"
#include "store/store_internal.h"

static const int application_id = 0x45726156; /* "EraV" */

static const char *const migrations[] = {
    /* 1 */
    "CREATE TABLE vms ("
    " id TEXT PRIMARY KEY NOT NULL CHECK (length(id) BETWEEN 6 AND 39),"
    " language TEXT NOT NULL CHECK (language IN ('python', 'node')),"
    " cpu_count INTEGER NOT NULL CHECK (cpu_count > 0),"
    " mem_mib INTEGER NOT NULL CHECK (mem_mib > 0),"
    " disk_mib INTEGER NOT NULL CHECK (disk_mib > 0),"
    " pids INTEGER NOT NULL CHECK (pids > 0),"
    " network TEXT NOT NULL CHECK (network IN ('none', 'allow_all')),"
    " asked_launcher TEXT NOT NULL CHECK (asked_launcher = 'auto' OR asked_launcher = 'namespace' OR asked_launcher = "
    "'microvm'),"
    " persist INTEGER NOT NULL CHECK (persist IN (0, 1)),"
    " best_effort INTEGER NOT NULL CHECK (best_effort IN (0, 1)),"
    " image TEXT NOT NULL CHECK (length(image) BETWEEN 1 AND 255),"
    " env BLOB NOT NULL," /* KEY=VALUE, each with a NUL behind it: values need not be UTF-8 */
    " launcher TEXT NOT NULL CHECK (launcher = 'auto' OR launcher = 'namespace' OR launcher = 'microvm'),"
    " status TEXT NOT NULL CHECK (status = 'provisioning' OR status = 'ready' OR status = 'stopped' OR status = "
    "'failed'),"
    " uid_slot INTEGER NOT NULL UNIQUE CHECK (uid_slot BETWEEN 0 AND 4095),"
    " unenforced TEXT NOT NULL,"
    " created_at_ns INTEGER NOT NULL CHECK (created_at_ns > 0),"
    " last_run_at_ns INTEGER NOT NULL CHECK (last_run_at_ns >= 0)"
    ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE runs ("
    " vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,"
    " id TEXT NOT NULL CHECK (length(id) BETWEEN 2 AND 23),"
    " started_at_ns INTEGER NOT NULL CHECK (started_at_ns > 0),"
    " verdict TEXT CHECK (verdict = 'exited' OR verdict = 'signaled' OR verdict = 'timed_out' OR verdict = "
    "'oom_killed' OR verdict = 'vm_lost'),"
    " exit_code INTEGER NOT NULL DEFAULT 0 CHECK (exit_code BETWEEN 0 AND 255),"
    " wall_us INTEGER NOT NULL DEFAULT 0 CHECK (wall_us >= 0),"
    " cpu_us INTEGER NOT NULL DEFAULT 0 CHECK (cpu_us >= 0),"
    " peak_mem_kib INTEGER NOT NULL DEFAULT 0 CHECK (peak_mem_kib >= 0),"
    " stdout_dropped INTEGER NOT NULL DEFAULT 0 CHECK (stdout_dropped >= 0),"
    " stderr_dropped INTEGER NOT NULL DEFAULT 0 CHECK (stderr_dropped >= 0),"
    " PRIMARY KEY (vm_id, id)"
    ") STRICT, WITHOUT ROWID;"
    /* Whether a VM is running is asked with each look at it. */
    "CREATE INDEX runs_open ON runs (vm_id) WHERE verdict IS NULL;"

    "CREATE TABLE volumes ("
    " name TEXT PRIMARY KEY NOT NULL CHECK (length(name) BETWEEN 1 AND 63),"
    " kind TEXT NOT NULL CHECK (kind IN ('ext4', 'folder')),"
    " size_mib INTEGER NOT NULL CHECK (size_mib > 0),"
    " created_at_ns INTEGER NOT NULL CHECK (created_at_ns > 0),"
    " vm_id TEXT UNIQUE REFERENCES vms (id) ON DELETE SET NULL" /* a claim; a VM has at most one */
    ") STRICT, WITHOUT ROWID;",

    /* 2: keys by which a creation that is asked for twice happens once */
    "CREATE TABLE creation_keys ("
    " key TEXT PRIMARY KEY NOT NULL CHECK (length(key) BETWEEN 1 AND 255),"
    " vm_id TEXT UNIQUE NOT NULL REFERENCES vms (id) ON DELETE CASCADE,"
    " created_at_ns INTEGER NOT NULL CHECK (created_at_ns > 0)"
    ") STRICT, WITHOUT ROWID;",

    /* 3: VMs that stand still */
    "ALTER TABLE vms ADD COLUMN paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1));",

    /* 4: kernels of the caller's own */
    "ALTER TABLE vms ADD COLUMN kernel TEXT NOT NULL DEFAULT '' CHECK (kernel = '' OR kernel GLOB '/*');",
};

enum { VERSION = sizeof migrations / sizeof *migrations };

/* The number that a one-row query gives. */
static int read_number(struct era_store *store, const char *sql, int *ret_number, struct era_error *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    int r = 0;
    if (rc == SQLITE_ROW)
        *ret_number = sqlite3_column_int(stmt, 0);
    else
        r = era_store_fail(store, rc, err);
    sqlite3_finalize(stmt);
    return r;
}

/* 1: up to date; 0: to be migrated from *ret_version. */
static int check_version(struct era_store *store, int *ret_version, struct era_error *err)
{
    const char *path = sqlite3_db_filename(store->db, "main");
    int version = 0;
    int r = read_number(store, "PRAGMA user_version", &version, err);
    if (r < 0)
        return r;
    int application = 0;
    if ((r = read_number(store, "PRAGMA application_id", &application, err)) < 0)
        return r;

    int tables = 0;
    if (version == 0 && application == 0 &&
        (r = read_number(store, "SELECT count(*) FROM sqlite_schema", &tables, err)) < 0)
        return r;
    if (version < 0 || tables > 0 || application != (version == 0 ? 0 : application_id))
        return era_error_set(err, EUCLEAN, "state_corrupt", "%s is a database of some other program", path);
    if (version > VERSION)
        return era_error_set(err, EPROTO, "state_too_new",
                             "%s was written by a newer version of this program (schema %d, known up to %d)", path,
                             version, (int)VERSION);
    *ret_version = version;
    return version == VERSION;
}

static int execute(struct era_store *store, const char *sql, struct era_error *err)
{
    int rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : era_store_fail(store, rc, err);
}

/*
 * Turns write-ahead logging on, which is then a property of the file. SQLite
 * does not wait here when another process has the file in use; beginning a
 * transaction does wait, so that is how the turn is waited for.
 */
static int enter_wal(struct era_store *store, struct era_error *err)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + ERA_STORE_BUSY_MS * (int64_t)1000000;
    for (;;) {
        sqlite3_stmt *stmt = NULL;
        int rc = sqlite3_prepare_v2(store->db, "PRAGMA journal_mode=WAL", -1, &stmt, NULL);
        if (rc == SQLITE_OK)
            rc = sqlite3_step(stmt);
        bool on = rc == SQLITE_ROW && sqlite3_stricmp((const char *)sqlite3_column_text(stmt, 0), "wal") == 0;
        sqlite3_finalize(stmt);
        if (on)
            return 0;
        if (rc == SQLITE_ROW)
            return era_error_set(err, EACCES, "state_dir_unusable",
                                 "%s lies on a file system that SQLite cannot use (no shared memory)",
                                 sqlite3_db_filename(store->db, "main"));
        if ((rc & 0xFF) != SQLITE_BUSY || era_clock_monotonic_ns() > deadline_ns)
            return era_store_fail(store, rc, err);
        int r = execute(store, "BEGIN EXCLUSIVE; ROLLBACK", err);
        if (r < 0)
            return r;
    }
}

static int migrate(struct era_store *store, struct era_error *err)
{
    _cleanup_txn_ struct era_store *txn = NULL;
    int r = era_store_begin(store, &txn, err);
    if (r < 0)
        return r;
    int version = 0;
    r = check_version(store, &version, err); /* again: someone else may have been here first */
    if (r != 0)
        return r < 0 ? r : era_store_commit(&txn, err);
    for (int i = version; i < VERSION; i++)
        if ((r = execute(store, migrations[i], err)) < 0)
            return r;
    char stamp[96];
    sqlite3_snprintf(sizeof stamp, stamp, "PRAGMA application_id=%d; PRAGMA user_version=%d", application_id,
                     (int)VERSION);
    if ((r = execute(store, stamp, err)) < 0)
        return r;
    return era_store_commit(&txn, err);
}

int era_store_schema_open(struct era_store *store, struct era_error *err)
{
    /* One transaction, so that the two numbers belong together while someone else migrates. */
    int version = 0;
    int r = execute(store, "BEGIN", err);
    if (r < 0 || (r = check_version(store, &version, err)) < 0)
        return r;
    bool current = r > 0;
    if ((r = execute(store, "COMMIT", err)) < 0 || current)
        return r;
    if (version == 0 && (r = enter_wal(store, err)) < 0)
        return r;
    return migrate(store, err);
}

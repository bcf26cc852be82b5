/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, closing, errors, transactions: see store.h and store_internal.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_internal.h"

/*
 * When the log moves into the database, in frames of 4 KiB. A process that
 * lives shortly leaves the log as it is when it closes, so that it need not
 * wait for the disk; the next one reads it anew, about 1 us a frame. From
 * CLOSE_FRAMES on the disk is the cheaper one: then the last to close moves
 * and removes it. LIVE_FRAMES bounds it where somebody always has it open.
 */
enum { CLOSE_FRAMES = 128, LIVE_FRAMES = 1000 };

enum { VALUE_BYTES_MAX = 1 << 20 }; /* the longest text or blob; the environment of a VM is the longest we write */

static int unusable(const char *path, int errnum, struct era_error *err)
{
    return era_error_set(err, errnum, "state_dir_unusable", "%s cannot be used: %s", path, strerror(errnum));
}

static bool is_disk_full(int errnum)
{
    return errnum == ENOSPC || errnum == EDQUOT || errnum == EFBIG;
}

/* What SQLite cannot open for writing, itself or its log beside it, it opens for reading, and forgets why it could not.
 */
static int not_writable(const char *path, struct era_error *err)
{
    char folder[PATH_MAX] = ".";
    const char *slash = strrchr(path, '/');
    if (slash != NULL)
        (void)era_str_format(folder, sizeof folder, "%.*s/", (int)(slash - path), path);
    bool denied = faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0 || faccessat(AT_FDCWD, folder, W_OK, AT_EACCESS) < 0;
    return unusable(path, denied ? errno : EIO, err);
}

/* A failed system call below SQLite: its errno tells more than the result code. */
static int fail_system(const char *path, int rc, int errnum, const char *text, struct era_error *err)
{
    if (is_disk_full(errnum))
        return era_error_set(err, ENOSPC, "disk_full", "%s: %s", path, strerror(errnum));
    if (errnum == EACCES || errnum == EPERM || errnum == EROFS)
        return unusable(path, errnum == EROFS ? EROFS : EACCES, err);
    if ((rc & 0xFF) != SQLITE_IOERR && (errnum == 0 || errnum == ENOENT))
        return not_writable(path, err);
    return era_error_set(err, EIO, "state_error", "%s: %s%s%s", path, text, errnum != 0 ? ": " : "",
                         errnum != 0 ? strerror(errnum) : "");
}

int era_store_fail(struct era_store *store, int rc, struct era_error *err)
{
    /* SQLite keeps no errno of a COMMIT that failed; ours was zeroed before the step. */
    int errnum = errno;
    if (sqlite3_system_errno(store->db) != 0 || !is_disk_full(errnum))
        errnum = sqlite3_system_errno(store->db);
    const char *path = sqlite3_db_filename(store->db, "main");
    if (path == NULL || path[0] == '\0')
        path = "state.db";
    const char *text = sqlite3_extended_errcode(store->db) == rc ? sqlite3_errmsg(store->db) : sqlite3_errstr(rc);

    if (rc == SQLITE_IOERR_NOMEM)
        return era_error_oom(err);
    switch (rc & 0xFF) {
    case SQLITE_NOMEM:
        return era_error_oom(err);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return era_error_set(err, EBUSY, "state_busy", "%s is in use by another process: %s", path, text);
    case SQLITE_FULL:
        return era_error_set(err, ENOSPC, "disk_full", "%s: %s", path, text);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
    case SQLITE_ERROR: /* our statements are constant: what they name is not there */
        return era_error_set(err, EUCLEAN, "state_corrupt", "%s: %s", path, text);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_IOERR:
        return fail_system(path, rc, errnum, text, err);
    default:
        return era_error_set(err, EIO, "state_error", "%s: %s (%d)", path, text, rc);
    }
}

int era_store_fail_row(struct era_store *store, const char *what, struct era_error *err)
{
    return era_error_set(err, EUCLEAN, "state_corrupt", "%s: a record of a %s makes no sense",
                         sqlite3_db_filename(store->db, "main"), what);
}

/*
 * Makes the file, empty and with the right mode, without ever opening it:
 * closing a descriptor of it would drop the locks that SQLite holds in this
 * process for another connection (POSIX locks belong to file and process).
 */
static int ensure_file(const char *path, struct era_error *err)
{
    struct stat st;
    if (lstat(path, &st) == 0) {
        if (!S_ISREG(st.st_mode))
            return unusable(path, S_ISDIR(st.st_mode) ? EISDIR : EINVAL, err);
        if (st.st_size == 1) /* SQLite would take it for an empty one, and begin anew */
            return era_error_set(err, EUCLEAN, "state_corrupt", "%s: all but its first byte is gone", path);
        return 0;
    }
    int error = errno;
    if (error == ENOENT) {
        if (mknod(path, S_IFREG | 0600, 0) == 0 || errno == EEXIST)
            return 0;
        error = errno;
    }
    if (is_disk_full(error))
        return era_error_set(err, ENOSPC, "disk_full", "%s: %s", path, strerror(error));
    return unusable(path, error, err);
}

/* After each commit: how long the log is now. */
static int committed(void *userdata, sqlite3 *db, const char *schema, int frames)
{
    struct era_store *store = userdata;
    store->log_frames = frames;
    /* Should it fail, then what was committed is safe in the log, and the next commit tries again. */
    if (frames >= LIVE_FRAMES)
        (void)sqlite3_wal_checkpoint_v2(db, schema, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    return SQLITE_OK;
}

/* Settings of the connection; none of them touches the file. */
static int configure(struct era_store *store, struct era_error *err)
{
    sqlite3 *db = store->db;
    (void)sqlite3_extended_result_codes(db, 1);
    (void)sqlite3_busy_timeout(db, ERA_STORE_BUSY_MS);
    (void)sqlite3_wal_hook(db, committed, store); /* in place of SQLite's own checkpoints */
    (void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX);
    (void)sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);

    static const struct {
        int option;
        int value;
    } settings[] = {
        {SQLITE_DBCONFIG_DEFENSIVE, 1},        {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
        {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0}, /* the schema has none: one that is there is not ours */
        {SQLITE_DBCONFIG_ENABLE_VIEW, 0},      {SQLITE_DBCONFIG_ENABLE_FKEY, 1},
        {SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        int rc = sqlite3_db_config(db, settings[i].option, settings[i].value, NULL);
        if (rc != SQLITE_OK)
            return era_store_fail(store, rc, err);
    }
    int rc = sqlite3_exec(db, "PRAGMA cell_size_check=ON; PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : era_store_fail(store, rc, err);
}

static void close_database(struct era_store *store)
{
    for (size_t i = 0; i < ERA_SQL_COUNT; i++) {
        sqlite3_finalize(store->statements[i]);
        store->statements[i] = NULL;
    }
    if (store->log_frames >= CLOSE_FRAMES)
        (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    sqlite3_close(store->db);
    store->db = NULL;
}

void era_store_sync_commits(struct era_store *store, bool sync)
{
    (void)sqlite3_exec(store->db, sync ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
}

/* A database that fails half way is closed again: the next that needs it tries anew. */
static int open_database(struct era_store *store, struct era_error *err)
{
    int r = ensure_file(store->path, err);
    if (r < 0)
        return r;
    int rc = sqlite3_open_v2(store->path, &store->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (store->db == NULL)
        return era_error_oom(err);
    if (rc != SQLITE_OK)
        r = era_store_fail(store, rc, err);
    else if (sqlite3_db_readonly(store->db, "main") != 0) /* what cannot be written was opened for reading instead */
        r = not_writable(store->path, err);
    else
        r = configure(store, err);
    if (r >= 0)
        r = era_store_schema_open(store, err);
    if (r < 0)
        close_database(store);
    return r;
}

int era_store_open_later(const char *path, struct era_store **ret_store, struct era_error *err)
{
    struct era_store *store = calloc(1, sizeof *store);
    /* SQLite may be built to take "file:…" for a URI. */
    if (store == NULL || (store->path = era_str_printf("%s%s", path[0] == '/' ? "" : "./", path)) == NULL) {
        free(store);
        return era_error_oom(err);
    }
    *ret_store = store;
    return 0;
}

int era_store_check(struct era_store *store, struct era_error *err)
{
    return store->db == NULL ? open_database(store, err) : 0;
}

int era_store_open(const char *path, struct era_store **ret_store, struct era_error *err)
{
    _cleanup_(era_store_closep) struct era_store *store = NULL;
    int r = era_store_open_later(path, &store, err);
    if (r < 0 || store == NULL)
        return r;
    r = era_store_check(store, err);
    if (r >= 0)
        *ret_store = era_take_ptr(store);
    return r;
}

void era_store_close(struct era_store *store)
{
    if (store == NULL)
        return;
    int saved = errno;
    close_database(store);
    free(store->path);
    free(store);
    errno = saved;
}

int era_store_prepare(struct era_store *store, enum era_sql which, sqlite3_stmt **ret_stmt, struct era_error *err)
{
    int r = era_store_check(store, err);
    if (r < 0)
        return r;
    sqlite3_stmt **stmt = &store->statements[which];
    if (*stmt == NULL) {
        int rc = sqlite3_prepare_v3(store->db, era_store_sql[which], -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL);
        if (rc != SQLITE_OK)
            return era_store_fail(store, rc, err);
    }
    *ret_stmt = *stmt;
    return 0;
}

void era_stmt_resetp(sqlite3_stmt **stmt)
{
    if (*stmt == NULL)
        return;
    int saved = errno;
    sqlite3_reset(*stmt);
    sqlite3_clear_bindings(*stmt);
    errno = saved;
}

int era_store_step_row(struct era_store *store, sqlite3_stmt *stmt, struct era_error *err)
{
    errno = 0;
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : era_store_fail(store, rc, err);
}

int era_store_step_done(struct era_store *store, sqlite3_stmt *stmt, int *ret_changes, struct era_error *err)
{
    errno = 0;
    int rc = sqlite3_step(stmt);
    if (rc != SQLITE_DONE)
        return era_store_fail(store, rc, err);
    if (ret_changes != NULL)
        *ret_changes = sqlite3_changes(store->db);
    return 0;
}

static int run_plain(struct era_store *store, enum era_sql which, struct era_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;
    int r = era_store_prepare(store, which, &stmt, err);
    return r < 0 ? r : era_store_step_done(store, stmt, NULL, err);
}

int era_store_begin(struct era_store *store, struct era_store **ret_txn, struct era_error *err)
{
    int r = run_plain(store, ERA_SQL_BEGIN, err);
    if (r == 0)
        *ret_txn = store;
    return r;
}

int era_store_commit(struct era_store **txn, struct era_error *err)
{
    int r = run_plain(*txn, ERA_SQL_COMMIT, err);
    if (r == 0)
        *txn = NULL;
    return r;
}

void era_store_rollbackp(struct era_store **txn)
{
    if (*txn == NULL)
        return;
    int saved = errno;
    /* Some failures have rolled back by themselves; then there is nothing left to do. */
    if (sqlite3_get_autocommit((*txn)->db) == 0)
        (void)run_plain(*txn, ERA_SQL_ROLLBACK, NULL);
    *txn = NULL;
    errno = saved;
}

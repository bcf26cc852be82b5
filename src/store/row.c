/* SPDX-License-Identifier: Apache-2.0 */
/* Values in and out of statements: see store_internal.h. */
#include <string.h>

#include "store/store_internal.h"

static void note(struct era_binder *binder, int rc)
{
    if (binder->rc == SQLITE_OK)
        binder->rc = rc;
}

void era_bind_text(struct era_binder *binder, const char *text)
{
    note(binder, sqlite3_bind_text(binder->stmt, ++binder->last, text, -1, SQLITE_STATIC));
}

void era_bind_text_or_null(struct era_binder *binder, const char *text)
{
    if (text[0] != '\0')
        era_bind_text(binder, text);
    else
        note(binder, sqlite3_bind_null(binder->stmt, ++binder->last));
}

void era_bind_blob(struct era_binder *binder, const void *data, size_t len)
{
    /* A NULL pointer would bind NULL. */
    note(binder, sqlite3_bind_blob64(binder->stmt, ++binder->last, len > 0 ? data : "", len, SQLITE_STATIC));
}

void era_bind_int(struct era_binder *binder, int64_t value)
{
    note(binder, sqlite3_bind_int64(binder->stmt, ++binder->last, value));
}

void era_bind_count(struct era_binder *binder, uint64_t value)
{
    era_bind_int(binder, value > INT64_MAX ? INT64_MAX : (int64_t)value);
}

bool era_row_is_null(struct era_row *row)
{
    return sqlite3_column_type(row->stmt, row->next) == SQLITE_NULL;
}

void era_row_text(struct era_row *row, char *to, size_t size)
{
    int column = row->next++;
    to[0] = '\0';
    if (sqlite3_column_type(row->stmt, column) != SQLITE_TEXT) {
        row->bad = true;
        return;
    }
    const char *text = (const char *)sqlite3_column_text(row->stmt, column);
    if (text == NULL) {
        row->oom = true;
        return;
    }
    size_t len = (size_t)sqlite3_column_bytes(row->stmt, column);
    if (len >= size || memchr(text, '\0', len) != NULL) {
        row->bad = true;
        return;
    }
    memcpy(to, text, len);
    to[len] = '\0';
}

const char *era_row_word(struct era_row *row)
{
    era_row_text(row, row->word, sizeof row->word);
    return row->word;
}

int64_t era_row_int(struct era_row *row, int64_t min, int64_t max)
{
    int column = row->next++;
    int64_t value = sqlite3_column_int64(row->stmt, column);
    if (sqlite3_column_type(row->stmt, column) != SQLITE_INTEGER || value < min || value > max) {
        row->bad = true;
        return min;
    }
    return value;
}

const void *era_row_blob(struct era_row *row, int *ret_len)
{
    int column = row->next++;
    *ret_len = 0;
    if (sqlite3_column_type(row->stmt, column) != SQLITE_BLOB) {
        row->bad = true;
        return NULL;
    }
    const void *data = sqlite3_column_blob(row->stmt, column); /* NULL for one of no bytes */
    *ret_len = sqlite3_column_bytes(row->stmt, column);
    row->oom |= data == NULL && *ret_len > 0;
    return data;
}

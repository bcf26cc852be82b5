/* SPDX-License-Identifier: Apache-2.0 */
/*
 * str.h - bounded strings, string lists, numbers from text. libc only,
 * thread-safe, silent.
 */
#ifndef ERA_BASE_STR_H
#define ERA_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Copies with truncation; always terminates. Returns false when it had to cut. */
bool era_str_copy(char *to, size_t size, const char *from);

/* snprintf for fixed buffers: 0, or -ENAMETOOLONG when the text did not fit. */
int era_str_format(char *to, size_t size, const char *format, ...) ERA_PRINTF(3, 4);

/* A fresh formatted string, or NULL when out of memory. free() it. */
char *era_str_printf(const char *format, ...) ERA_PRINTF(1, 2);

static inline bool era_str_eq(const char *a, const char *b)
{
    return __builtin_strcmp(a, b) == 0;
}

bool era_str_starts_with(const char *text, const char *prefix);

/* Whether the bytes are well-formed UTF-8 (no surrogates, no overlongs). */
bool era_str_is_utf8(const void *data, size_t len);

/* How many of the first max bytes of a text in UTF-8 are whole characters: where it can be cut. */
size_t era_str_whole(const char *text, size_t max);

/*
 * A whole number in decimal, digits only, min <= value <= max.
 * -EINVAL when it is none, -ERANGE when out of bounds.
 */
int era_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value);

/* A growing list of owned strings; items[count] is always NULL once non-empty. */
struct era_strv {
    char **items;
    size_t count;
};

int era_strv_add(struct era_strv *list, const char *text); /* copies; -ENOMEM */
int era_strv_copy(struct era_strv *to, const struct era_strv *from);
void era_strv_clear(struct era_strv *list); /* frees all; reusable */

#endif

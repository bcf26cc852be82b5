/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

bool era_str_copy(char *to, size_t size, const char *from)
{
    size_t len = strlen(from);
    bool fits = len < size;
    if (!fits)
        len = size - 1;
    memcpy(to, from, len);
    to[len] = '\0';
    return fits;
}

int era_str_format(char *to, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(to, size, format, args);
    va_end(args);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

char *era_str_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int n = vasprintf(&text, format, args);
    va_end(args);
    return n < 0 ? NULL : text;
}

bool era_str_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Table 3-7 of the Unicode Standard: the well-formed byte sequences. */
bool era_str_is_utf8(const void *data, size_t len)
{
    const unsigned char *p = data;
    const unsigned char *end = p + len;
    while (p < end) {
        unsigned char c = *p++;
        if (c < 0x80)
            continue;
        size_t follow = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        if (c < 0xC2 || c > 0xF4 || (size_t)(end - p) < follow)
            return false;
        unsigned char low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
        unsigned char high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        if (*p < low || *p > high)
            return false;
        p++;
        for (size_t i = 1; i < follow; i++, p++)
            if ((*p & 0xC0) != 0x80)
                return false;
    }
    return true;
}

size_t era_str_whole(const char *text, size_t max)
{
    size_t len = strnlen(text, max);
    size_t last = len; /* where the last character begins */
    while (last > 0 && ((unsigned char)text[last - 1] & 0xC0) == 0x80)
        last--;
    if (last == 0)
        return len;
    unsigned char lead = (unsigned char)text[--last];
    size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    return len - last < size ? last : len;
}

int era_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (text[0] == '\0')
        return -EINVAL;
    bool overflow = false;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p < '0' || *p > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            overflow = true;
    }
    if (overflow || value < min || value > max)
        return -ERANGE;
    *ret_value = value;
    return 0;
}

int era_strv_add(struct era_strv *list, const char *text)
{
    char **grown = reallocarray(list->items, list->count + 2, sizeof *grown);
    if (grown == NULL)
        return -ENOMEM;
    list->items = grown;
    char *copied = strdup(text);
    if (copied == NULL)
        return -ENOMEM;
    list->items[list->count++] = copied;
    list->items[list->count] = NULL;
    return 0;
}

int era_strv_copy(struct era_strv *to, const struct era_strv *from)
{
    for (size_t i = 0; i < from->count; i++) {
        int r = era_strv_add(to, from->items[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

void era_strv_clear(struct era_strv *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct era_strv){0};
}

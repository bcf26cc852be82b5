/* SPDX-License-Identifier: Apache-2.0 */
#include "http/target.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes %XX; plus: '+' is a space. The length, or -EINVAL for a broken escape, a NUL or too much. */
static int decode(const char *text, size_t len, bool plus, char *to, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            int high = len - i > 2 ? hex_digit(text[i + 1]) : -1;
            int low = len - i > 2 ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return -EINVAL;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == '\0' || n + 1 >= size)
            return -EINVAL;
        to[n++] = c;
    }
    to[n] = '\0';
    return (int)n;
}

static bool is_dots(const char *name)
{
    return era_str_eq(name, ".") || era_str_eq(name, "..");
}

/* The rest of a path as one of plain names; a slash at its end is left away. */
static int decode_path(const char *text, size_t len, char to[TARGET_PATH_MAX])
{
    size_t used = 0;
    if (len > 0 && text[len - 1] == '/')
        len--;
    while (len > 0) {
        const char *slash = memchr(text, '/', len);
        size_t part = slash != NULL ? (size_t)(slash - text) : len;
        if (TARGET_PATH_MAX - used < 3)
            return -EINVAL;
        to[used++] = '/';
        int n = decode(text, part, false, to + used, TARGET_PATH_MAX - used);
        if (n <= 0 || n > 255 || is_dots(to + used) || strchr(to + used, '/') != NULL)
            return -EINVAL;
        used += (size_t)n;
        text += part + (slash != NULL);
        len -= part + (slash != NULL);
        if (slash != NULL && len == 0)
            return -EINVAL; /* two slashes at the end */
    }
    if (used == 0)
        to[used++] = '/';
    to[used] = '\0';
    return 0;
}

static int decode_id(const char *text, size_t len, char to[TARGET_ID_MAX])
{
    int n = decode(text, len, false, to, TARGET_ID_MAX);
    return n <= 0 || is_dots(to) || strchr(to, '/') != NULL ? -EINVAL : 0;
}

int target_match(const char *pattern, const char *target, struct params *ret_params)
{
    static const char id[] = "{id}";
    static const char path[] = "{path}";
    const char *end = target + strcspn(target, "?");
    const char *id_at = NULL;
    size_t id_len = 0;
    ret_params->id[0] = ret_params->path[0] = '\0';
    while (*pattern != '\0') {
        if (era_str_eq(pattern, path)) {
            if (id_at != NULL && decode_id(id_at, id_len, ret_params->id) < 0)
                return -EINVAL;
            return decode_path(target, (size_t)(end - target), ret_params->path) < 0 ? -EINVAL : 1;
        }
        if (era_str_starts_with(pattern, id)) {
            id_at = target;
            id_len = strcspn(target, "/?");
            if (id_len == 0)
                return 0;
            target += id_len;
            pattern += sizeof id - 1;
        } else if (target < end && *target == *pattern) {
            target++;
            pattern++;
        } else {
            return 0;
        }
    }
    if (target != end)
        return 0;
    return id_at != NULL && decode_id(id_at, id_len, ret_params->id) < 0 ? -EINVAL : 1;
}

/* ---- the query ---------------------------------------------------------- */

/* One "name=value" after the other; NULL at the end. */
static const char *next_pair(const char *at, size_t *ret_len)
{
    *ret_len = strcspn(at, "&");
    return at[*ret_len] == '&' ? at + *ret_len + 1 : NULL;
}

static const char *query_of(const char *target)
{
    const char *mark = strchr(target, '?');
    return mark != NULL && mark[1] != '\0' ? mark + 1 : NULL;
}

int target_query(const char *target, const char *name, char ret_value[TARGET_VALUE_MAX])
{
    int found = 0;
    size_t len = 0;
    for (const char *at = query_of(target), *next; at != NULL; at = next) {
        next = next_pair(at, &len);
        size_t key = strcspn(at, "=&");
        if (key != strlen(name) || memcmp(at, name, key) != 0)
            continue;
        size_t skip = key < len && at[key] == '=' ? key + 1 : key;
        if (found++ > 0 || decode(at + skip, len - skip, true, ret_value, TARGET_VALUE_MAX) < 0)
            return -EINVAL;
    }
    return found;
}

bool target_query_unknown(const char *target, const char *known, char *name, size_t size)
{
    size_t len = 0;
    for (const char *at = query_of(target), *next; at != NULL; at = next) {
        next = next_pair(at, &len);
        size_t key = strcspn(at, "=&");
        bool found = false;
        for (const char *word = known; *word != '\0';) {
            size_t n = strcspn(word, " ");
            found |= n == key && memcmp(word, at, n) == 0;
            word += n + (word[n] == ' ');
        }
        if (!found && len > 0) {
            size_t n = key < size - 1 ? key : size - 1;
            memcpy(name, at, n);
            name[n] = '\0';
            return true;
        }
    }
    return false;
}

/* ---- headers ------------------------------------------------------------ */

/* ":" and digits, or nothing. */
static bool is_port(const char *text)
{
    return *text == '\0' || (*text == ':' && text[1 + strspn(text + 1, "0123456789")] == '\0' && strlen(text) <= 6);
}

/* Four numbers of 0 to 255, written as inet_ntop(3) does; the length, or 0. */
static size_t ipv4_length(const char *text)
{
    const char *p = text;
    for (int i = 0; i < 4; i++) {
        size_t digits = strspn(p, "0123456789");
        unsigned value = 0;
        if (digits == 0 || digits > 3 || (digits > 1 && *p == '0'))
            return 0;
        for (size_t k = 0; k < digits; k++)
            value = value * 10 + (unsigned)(p[k] - '0');
        p += digits;
        if (value > 255 || (i < 3 && *p++ != '.'))
            return 0;
    }
    return (size_t)(p - text);
}

bool host_is_local(const char *host)
{
    static const char localhost[] = "localhost";
    static const char ipv6[] = "[::1]";
    if (strncmp(host, ipv6, sizeof ipv6 - 1) == 0)
        return is_port(host + sizeof ipv6 - 1);
    if (strncmp(host, "127.", 4) == 0) {
        size_t len = ipv4_length(host);
        return len > 0 && is_port(host + len);
    }
    size_t name = strcspn(host, ":");
    if (name < sizeof localhost - 1 || !is_port(host + name) ||
        strncasecmp(host + name - (sizeof localhost - 1), localhost, sizeof localhost - 1) != 0)
        return false;
    return name == sizeof localhost - 1 || host[name - sizeof localhost] == '.';
}

bool origin_is_host(const char *origin, const char *host, bool tls)
{
    const char *scheme = tls ? "https://" : "http://";
    return host != NULL && host[0] != '\0' && era_str_starts_with(origin, scheme) &&
           strcasecmp(origin + strlen(scheme), host) == 0;
}

const char *bearer_key(const char *header)
{
    static const char scheme[] = "Bearer ";
    if (header == NULL || strncasecmp(header, scheme, sizeof scheme - 1) != 0)
        return NULL;
    const char *key = header + sizeof scheme - 1;
    key += strspn(key, " ");
    return *key != '\0' ? key : NULL;
}

bool creation_key_valid(const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < len; i++)
        if (key[i] < ' ' || key[i] > '~')
            return false;
    return len >= 1 && len <= 255;
}

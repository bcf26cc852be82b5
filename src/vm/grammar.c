/* SPDX-License-Identifier: Apache-2.0 */
/* The grammars of what comes from outside: see vm.h. */
#include <string.h>

#include "vm/vm.h"

#define DIGITS "0123456789"
#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static bool is_digits(const char *text, size_t max)
{
    size_t len = strspn(text, DIGITS);
    return len >= 1 && len <= max && text[len] == '\0';
}

bool era_vm_id_valid(const char *id)
{
    if (era_str_starts_with(id, "python-"))
        return is_digits(id + strlen("python-"), 20);
    if (era_str_starts_with(id, "node-"))
        return is_digits(id + strlen("node-"), 20);
    return false;
}

bool era_run_id_valid(const char *id)
{
    return id[0] == 'r' && is_digits(id + 1, 20);
}

bool era_volume_name_valid(const char *name)
{
    size_t len = strspn(name, LOWER DIGITS "._-");
    return len >= 1 && len < ERA_NAME_MAX && name[len] == '\0' && strchr("._-", name[0]) == NULL;
}

bool era_env_valid(const char *key_value)
{
    size_t key = strspn(key_value, UPPER LOWER DIGITS "_");
    return key >= 1 && key_value[key] == '=' && strchr(DIGITS, key_value[0]) == NULL;
}

/* One component of a repository path: runs of [a-z0-9], joined by ".", "_", "__" or dashes. */
static bool is_path_component(const char *text, size_t len)
{
    static const char *const alnum = LOWER DIGITS;
    if (len == 0 || strchr(alnum, text[0]) == NULL || strchr(alnum, text[len - 1]) == NULL)
        return false;
    for (size_t i = 1; i < len;) {
        if (strchr(alnum, text[i]) != NULL) {
            i++;
            continue;
        }
        char separator = text[i];
        size_t run = 1;
        while (text[i + run] == separator)
            run++;
        size_t most = separator == '.' ? 1 : separator == '_' ? 2 : separator == '-' ? len : 0;
        if (run > most || strchr(alnum, text[i + run]) == NULL)
            return false;
        i += run;
    }
    return true;
}

/* Labels of letters, digits and inner dashes, with single dots between. */
static bool is_domain(const char *text, size_t len)
{
    bool after_alnum = false;
    for (size_t i = 0; i < len; i++) {
        bool alnum = text[i] != '\0' && strchr(LOWER UPPER DIGITS, text[i]) != NULL;
        bool dash_inside = text[i] == '-' && i > 0 && text[i - 1] != '.';
        if (!alnum && !dash_inside && !(text[i] == '.' && after_alnum))
            return false;
        after_alnum = alnum;
    }
    return after_alnum;
}

static bool is_host(const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);
    size_t name = colon != NULL ? (size_t)(colon - text) : len;
    if (!is_domain(text, name))
        return false;
    if (colon == NULL)
        return memchr(text, '.', len) != NULL || (len == 9 && memcmp(text, "localhost", 9) == 0);
    size_t port = len - name - 1;
    return port >= 1 && port <= 5 && strspn(colon + 1, DIGITS) >= port;
}

static bool is_digest(const char *text)
{
    return era_str_starts_with(text, "sha256:") && strspn(text + 7, DIGITS "abcdef") == 64 && text[7 + 64] == '\0';
}

bool era_reference_valid(const char *reference)
{
    size_t len = strlen(reference);
    if (len == 0 || len >= ERA_REFERENCE_MAX)
        return false;
    const char *at = strchr(reference, '@');
    if (at != NULL && !is_digest(at + 1))
        return false;
    const char *end = at != NULL ? at : reference + len;

    /* A tag follows the last colon that no slash comes after. */
    const char *path = reference;
    const char *tag = NULL;
    for (const char *p = path; p < end; p++) {
        if (*p == ':')
            tag = p;
        else if (*p == '/')
            tag = NULL;
    }
    if (tag != NULL) {
        size_t n = (size_t)(end - tag - 1);
        if (n < 1 || n > 128 || strspn(tag + 1, LOWER UPPER DIGITS "._-") < n || tag[1] == '.' || tag[1] == '-')
            return false;
        end = tag;
    }

    if (path >= end)
        return false;
    const char *slash = memchr(path, '/', (size_t)(end - path));
    if (slash != NULL && is_host(path, (size_t)(slash - path)))
        path = slash + 1;
    while (path < end) {
        slash = memchr(path, '/', (size_t)(end - path));
        size_t component = (size_t)((slash != NULL ? slash : end) - path);
        if (!is_path_component(path, component))
            return false;
        if (slash == NULL)
            return true;
        path = slash + 1;
    }
    return false;
}

bool era_guest_path_valid(const char *path)
{
    if (strlen(path) >= ERA_PATH_MAX - sizeof "/workspace/")
        return false;
    for (const char *p = path + (path[0] == '/');; p++) {
        size_t len = strcspn(p, "/");
        if (len == 0 || len > 255 || (len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += len;
        if (*p == '\0')
            return true;
    }
}

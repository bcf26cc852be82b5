/* SPDX-License-Identifier: Apache-2.0 */
#include "http/settings.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum kind { TEXT, LIST, FLAG, NUMBER };

struct setting {
    const char *name;
    enum kind kind;
    size_t offset;
    uint64_t min, max, value; /* of a number; value: the default */
};

#define AT(member) offsetof(struct settings, member)

/* The command line's table, with its words of help, is in cli/commands.c. */
static const struct setting table[] = {
    {"listen", TEXT, AT(listen), 0, 0, 0},
    {"state-dir", TEXT, AT(state_dir), 0, 0, 0},
    {"api-key-file", TEXT, AT(api_key_file), 0, 0, 0},
    {"tls-cert", TEXT, AT(tls_cert), 0, 0, 0},
    {"tls-key", TEXT, AT(tls_key), 0, 0, 0},
    {"log-level", TEXT, AT(log_level), 0, 0, 0},
    {"log-file", TEXT, AT(log_file), 0, 0, 0},
    {"cors-origin", LIST, AT(origins), 0, 0, 0},
    {"insecure-no-auth", FLAG, AT(insecure_no_auth), 0, 0, 0},
    {"max-connections", NUMBER, AT(max_connections), 1, 1000000, 12000},
    {"max-runs", NUMBER, AT(max_runs), 1, 100000, 1024},
    {"max-body", NUMBER, AT(max_body), 1, 1024, 16},
    {"max-header", NUMBER, AT(max_header), 4, 64, 8},
    {"request-timeout", NUMBER, AT(request_timeout), 1, 86400, 30},
    {"idle-timeout", NUMBER, AT(idle_timeout), 1, 86400, 75},
    {"grace", NUMBER, AT(grace), 0, 86400, 30},
    {"workers", NUMBER, AT(workers), 1, 256, 12},
};

static int usage(struct era_error *err, const char *field, const char *message)
{
    int r = era_error_set(err, EINVAL, "usage", "--%s %s", field, message);
    era_str_copy(err->field, sizeof err->field, field);
    return r;
}

static int take(struct settings *settings, const struct setting *setting, const char *value, struct era_error *err)
{
    char *at = (char *)settings + setting->offset;
    if ((setting->kind == FLAG) != (value == NULL))
        return usage(err, setting->name, setting->kind == FLAG ? "takes no value" : "needs a value");
    if (setting->kind == FLAG) {
        *(bool *)at = true;
    } else if (setting->kind == TEXT) {
        *(const char **)(void *)at = value;
    } else if (setting->kind == LIST) {
        if (settings->origin_count == SETTINGS_ORIGINS_MAX)
            return usage(err, setting->name, "is given too often");
        settings->origins[settings->origin_count++] = value;
    } else if (era_parse_u64(value, setting->min, setting->max, (uint64_t *)(void *)at) < 0) {
        era_error_set(err, EINVAL, "usage", "--%s must be a whole number from %llu to %llu", setting->name,
                      (unsigned long long)setting->min, (unsigned long long)setting->max);
        era_str_copy(err->field, sizeof err->field, setting->name);
        return -EINVAL;
    }
    return 0;
}

int settings_parse(int argc, char **argv, struct settings *ret_settings, struct era_error *err)
{
    struct settings settings = {0};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].kind == NUMBER)
            *(uint64_t *)(void *)((char *)&settings + table[i].offset) = table[i].value;
    for (int i = 1; i < argc; i++) {
        size_t len = strcspn(argv[i], "=");
        const struct setting *found = NULL;
        for (size_t k = 0; k < sizeof table / sizeof table[0]; k++)
            if (strncmp(argv[i], "--", 2) == 0 && strlen(table[k].name) == len - 2 &&
                memcmp(table[k].name, argv[i] + 2, len - 2) == 0)
                found = &table[k];
        if (found == NULL)
            return era_error_set(err, EINVAL, "usage", "unknown option %s; see agent serve --help", argv[i]);
        int r = take(&settings, found, argv[i][len] == '=' ? argv[i] + len + 1 : NULL, err);
        if (r < 0)
            return r;
    }
    if ((settings.tls_cert == NULL) != (settings.tls_key == NULL))
        return usage(err, "tls-key", "goes together with --tls-cert");
    *ret_settings = settings;
    return 0;
}

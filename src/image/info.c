/* SPDX-License-Identifier: Apache-2.0 */
/* image.json: written by us, yet read as if it were not. Pure. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "image/internal.h"

#define NS_PER_S INT64_C(1000000000)

static const char *const sources[] = {"debian", "registry", "archive"};

void era_image_info_free(struct era_image_info *info)
{
    if (info == NULL)
        return;
    free(info->reference);
    free(info->digest);
    free(info->source);
    era_strv_clear(&info->env);
    free(info);
}

bool era_image_env_valid(const char *key_value)
{
    enum { LENGTH_LIMIT = 32 << 10 };
    const char *equals = strchr(key_value, '=');
    size_t len = strlen(key_value);
    return equals != NULL && equals > key_value && len < LENGTH_LIMIT && era_str_is_utf8(key_value, len);
}

static bool is_source(const char *text)
{
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        if (era_str_eq(text, sources[i]))
            return true;
    return false;
}

static int parse_time(const char *text, int64_t *ret_ns)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (end == NULL || *end != '\0')
        return -EINVAL;
    int64_t seconds = timegm(&tm);
    if (seconds < 0 || seconds > INT64_MAX / NS_PER_S)
        return -EINVAL;
    *ret_ns = seconds * NS_PER_S;
    return 0;
}

static int parse_env(const json_t *env, struct era_strv *to)
{
    if (env == NULL || json_array_size(env) > ERA_IMAGE_ENV_LIMIT)
        return -EINVAL;
    for (size_t i = 0; i < json_array_size(env); i++) {
        const char *variable = json_string_value(json_array_get(env, i));
        if (variable == NULL || !era_image_env_valid(variable))
            return -EINVAL;
        int r = era_strv_add(to, variable);
        if (r < 0)
            return r;
    }
    return 0;
}

int era_image_info_parse(const char *json, size_t len, struct era_image_info **ret_info, struct era_error *err)
{
    _cleanup_json_ json_t *object = NULL;
    char reason[160] = "";
    int r = era_json_parse(json, len, ERA_IMAGE_JSON_DEPTH, &object, reason, sizeof reason);
    if (r == -ENOMEM)
        return era_error_oom(err);
    if (r < 0)
        return era_error_set(err, EBADMSG, "image_corrupt", "image.json cannot be read: %s", reason);
    const char *reference = era_json_string(object, "reference");
    const char *digest = era_json_string(object, "digest");
    const char *source = era_json_string(object, "source");
    const char *created = era_json_string(object, "created_at");
    if (reference == NULL || era_image_reference_check(reference, NULL) < 0 || digest == NULL ||
        !era_image_digest_valid(digest) || source == NULL || !is_source(source))
        return era_error_set(err, EBADMSG, "image_corrupt",
                             "image.json is without a proper \"reference\", \"digest\" or \"source\"");

    _cleanup_(era_image_info_freep) struct era_image_info *info = calloc(1, sizeof *info);
    if (info == NULL)
        return era_error_oom(err);
    info->reference = strdup(reference);
    info->digest = strdup(digest);
    info->source = strdup(source);
    if (info->reference == NULL || info->digest == NULL || info->source == NULL)
        return era_error_oom(err);
    r = parse_env(era_json_array(object, "env"), &info->env);
    if (r == -ENOMEM)
        return era_error_oom(err);
    if (r < 0 || created == NULL || parse_time(created, &info->created_at_ns) < 0 ||
        era_json_u64(object, "size_bytes", &info->size_bytes) < 0)
        return era_error_set(err, EBADMSG, "image_corrupt",
                             "image.json is without a proper \"created_at\", \"size_bytes\" or \"env\"");
    *ret_info = era_take_ptr(info);
    return 0;
}

int era_image_info_format(const struct era_image_info *info, char **ret_json)
{
    char created[ERA_TIME_MAX];
    era_clock_format(info->created_at_ns, created);
    _cleanup_json_ json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:[]}", "reference", info->reference, "digest", info->digest, "source",
                  info->source, "created_at", created, "size_bytes", (json_int_t)info->size_bytes, "env");
    if (object == NULL)
        return -ENOMEM;
    json_t *env = json_object_get(object, "env");
    for (size_t i = 0; i < info->env.count; i++)
        if (json_array_append_new(env, json_string(info->env.items[i])) < 0)
            return -ENOMEM;
    _cleanup_free_ char *text = json_dumps(object, JSON_INDENT(2));
    char *line = text == NULL ? NULL : era_str_printf("%s\n", text);
    if (line == NULL)
        return -ENOMEM;
    *ret_json = line;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

unsigned era_json_depth(const char *text, size_t len)
{
    unsigned depth = 0;
    unsigned deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > deepest)
                deepest = depth;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

int era_json_parse(const char *text, size_t len, unsigned max_depth, json_t **ret_value, char *ret_reason,
                   size_t reason_size)
{
    if (era_json_depth(text, len) > max_depth) {
        if (ret_reason != NULL)
            snprintf(ret_reason, reason_size, "it nests deeper than %u", max_depth);
        return -EINVAL;
    }
    json_error_t error;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (value == NULL) {
        if (ret_reason != NULL)
            snprintf(ret_reason, reason_size, "%s, in line %d", error.text, error.line);
        return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EINVAL;
    }
    *ret_value = value;
    return 0;
}

const char *era_json_string(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

const json_t *era_json_array(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_array(value) ? value : NULL;
}

const json_t *era_json_object(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_object(value) ? value : NULL;
}

int era_json_u64(const json_t *object, const char *key, uint64_t *ret_value)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return -EINVAL;
    *ret_value = (uint64_t)json_integer_value(value);
    return 0;
}

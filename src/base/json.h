/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - jansson with the limits that text from outside needs. In a library
 * of its own (base_json), so that what stays small need not link jansson.
 * Thread-safe, silent.
 */
#ifndef ERA_BASE_JSON_H
#define ERA_BASE_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

/* jansson has the function under this name. */
#define _cleanup_json_ _cleanup_(json_decrefp)

/*
 * Parses one object or array, with nothing after it; a key given twice, a NUL
 * in a string or nesting deeper than max_depth is refused. ret_reason, may be
 * NULL, gets a phrase for people on failure.
 * -EINVAL, -ENOMEM. json_decref() what it gives.
 */
int era_json_parse(const char *text, size_t len, unsigned max_depth, json_t **ret_value, char *ret_reason,
                   size_t reason_size);

/* How deep arrays and objects nest; never reads past len. Pure. */
unsigned era_json_depth(const char *text, size_t len);

/* A member of an object; NULL when the object is none or the member is absent or of another type. Borrowed. */
const char *era_json_string(const json_t *object, const char *key);
const json_t *era_json_array(const json_t *object, const char *key);
const json_t *era_json_object(const json_t *object, const char *key);

/* A whole number that is not negative; -EINVAL when absent or anything else. */
int era_json_u64(const json_t *object, const char *key, uint64_t *ret_value);

#endif

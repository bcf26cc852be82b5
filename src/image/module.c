/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel module says of itself: the section .modinfo, "key=value" with a NUL after each. */
#include <string.h>

#include "image/internal.h"

const char *era_image_module_depends(const char *data, size_t len)
{
    static const char key[] = "depends=";
    const size_t key_len = sizeof key - 1;
    for (const char *at = data; len - (size_t)(at - data) > key_len + 1; at++) {
        at = memchr(at, '\0', len - (size_t)(at - data));
        if (at == NULL || len - (size_t)(at - data) <= key_len + 1)
            return NULL;
        const char *value = at + 1 + key_len;
        if (memcmp(at + 1, key, key_len) == 0 && memchr(value, '\0', len - (size_t)(value - data)) != NULL)
            return value;
    }
    return NULL;
}

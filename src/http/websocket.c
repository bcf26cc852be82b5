/* SPDX-License-Identifier: Apache-2.0 */
#include "http/websocket.h"

#include <errno.h>
#include <nettle/sha1.h>
#include <string.h>
#include <strings.h>

#include "http/internal.h"

enum { KEY_LENGTH = 24, SIZE_MAX_CELLS = 10000, RESIZE_MAX = 64 };

/* Whether a list of words, separated by commas, has this one. */
static bool has_word(const char *list, const char *word)
{
    while (*list != '\0') {
        list += strspn(list, ", \t");
        size_t len = strcspn(list, ", \t");
        if (len == strlen(word) && strncasecmp(list, word, len) == 0)
            return true;
        list += len;
    }
    return false;
}

bool websocket_asked(const char *upgrade, const char *connection, const char *version, const char *key)
{
    char bytes[KEY_LENGTH];
    return upgrade != NULL && connection != NULL && version != NULL && key != NULL && has_word(upgrade, "websocket") &&
           has_word(connection, "upgrade") && era_str_eq(version, "13") && strlen(key) == KEY_LENGTH &&
           base64_decode(key, KEY_LENGTH, bytes) == 16;
}

void websocket_accept(const char *key, char ret_accept[WEBSOCKET_ACCEPT_MAX])
{
    static const char suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, section 1.3 */
    struct sha1_ctx sha1;
    uint8_t digest[SHA1_DIGEST_SIZE];
    sha1_init(&sha1);
    sha1_update(&sha1, strlen(key), (const uint8_t *)key);
    sha1_update(&sha1, sizeof suffix - 1, (const uint8_t *)suffix);
    sha1_digest(&sha1, sizeof digest, digest);
    base64_encode(digest, sizeof digest, ret_accept);
    ret_accept[WEBSOCKET_ACCEPT_MAX - 1] = '\0';
}

int websocket_resize(const char *text, size_t len, uint16_t *ret_cols, uint16_t *ret_rows)
{
    _cleanup_json_ json_t *object = NULL;
    if (len > RESIZE_MAX || era_json_parse(text, len, 2, &object, NULL, 0) < 0)
        return -EINVAL;
    const json_t *size = era_json_array(object, "resize");
    json_int_t cols = json_integer_value(json_array_get(size, 0));
    json_int_t rows = json_integer_value(json_array_get(size, 1));
    if (json_array_size(size) != 2 || json_object_size(object) != 1 || cols < 1 || cols > SIZE_MAX_CELLS || rows < 1 ||
        rows > SIZE_MAX_CELLS)
        return -EINVAL;
    *ret_cols = (uint16_t)cols;
    *ret_rows = (uint16_t)rows;
    return 0;
}

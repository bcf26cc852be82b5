/* SPDX-License-Identifier: Apache-2.0 */
/* websocket.h - what of RFC 6455 is not framing: the handshake; and the words of a shell. Pure; fuzzed. */
#ifndef ERA_HTTP_WEBSOCKET_H
#define ERA_HTTP_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEBSOCKET_ACCEPT_MAX = 29 };

/* Whether these headers (any may be NULL) ask for a WebSocket of version 13. */
bool websocket_asked(const char *upgrade, const char *connection, const char *version, const char *key);

/* The answer to a key. */
void websocket_accept(const char *key, char ret_accept[WEBSOCKET_ACCEPT_MAX]);

/* {"resize":[cols,rows]}, each 1 to 10000; -EINVAL. */
int websocket_resize(const char *text, size_t len, uint16_t *ret_cols, uint16_t *ret_rows);

#endif

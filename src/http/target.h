/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target.h - what comes in the request line and in a few headers, taken apart. Pure, and fuzzed (http_fuzz.c):
 * libmicrohttpd is told to leave escapes alone, since it would lose what is behind a %00.
 */
#ifndef ERA_HTTP_TARGET_H
#define ERA_HTTP_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TARGET_ID_MAX = 64, TARGET_PATH_MAX = 4096, TARGET_VALUE_MAX = 256 };

/* What stands in the places of a pattern, decoded. */
struct params {
    char id[TARGET_ID_MAX];     /* {id} */
    char path[TARGET_PATH_MAX]; /* {path}: "/a/b", plain names only; "/" for an empty one */
};

/*
 * Whether the path (up to '?') fits a pattern such as "/api/vm/{id}/files/{path}": 1, 0; -EINVAL when it does, but
 * what stands in a place cannot be: a broken escape, NUL, an escaped slash, "." or "..", or too long.
 */
int target_match(const char *pattern, const char *target, struct params *ret_params);

/*
 * The value of a parameter of the query: 1, 0 when it is not there, -EINVAL when it is broken, too long or given
 * twice.
 */
int target_query(const char *target, const char *name, char ret_value[TARGET_VALUE_MAX]);

/* The first parameter that is not among `known` ("a b c") into *name: true when there is one. */
bool target_query_unknown(const char *target, const char *known, char *name, size_t size);

/*
 * Whether a Host header names this machine to itself: localhost, a name below it, or a loopback address, each with
 * or without a port. What a browser on this machine was led to by DNS has another name.
 */
bool host_is_local(const char *host);

/* Whether an Origin ("https://host:port") is of the host that was asked: the server's own page. */
bool origin_is_host(const char *origin, const char *host, bool tls);

/* The key of "Authorization: Bearer KEY", or NULL. Borrowed. */
const char *bearer_key(const char *header);

/* An Idempotency-Key: 1 to 255 printable characters of ASCII. */
bool creation_key_valid(const char *key);

#endif

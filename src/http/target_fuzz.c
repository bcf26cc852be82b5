/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes in the request line and in headers, one a line of the input: target, Host, Origin, Authorization, a key of
 * creation, the four headers of a WebSocket, base64, a text message of a shell.
 */
#include "fuzz/fuzz.h"
#include "http/internal.h"
#include "http/websocket.h"

/* Whatever place of a pattern is filled, what stands in it can do no harm. */
static void check_params(const struct params *params)
{
    FUZZ_ASSERT(strlen(params->id) < sizeof params->id && strchr(params->id, '/') == NULL);
    FUZZ_ASSERT(!era_str_eq(params->id, ".") && !era_str_eq(params->id, ".."));
    if (params->path[0] == '\0' || era_str_eq(params->path, "/"))
        return;
    char framed[TARGET_PATH_MAX + 1];
    FUZZ_ASSERT(params->path[0] == '/' && strlen(params->path) < TARGET_PATH_MAX);
    snprintf(framed, sizeof framed, "%s/", params->path);
    FUZZ_ASSERT(strstr(framed, "//") == NULL && strstr(framed, "/./") == NULL && strstr(framed, "/../") == NULL);
    for (const char *p = framed; p[1] != '\0'; p += strcspn(p + 1, "/") + 1)
        FUZZ_ASSERT(strcspn(p + 1, "/") <= 255);
}

static void check_target(const char *target)
{
    char value[TARGET_VALUE_MAX];
    char name[16];
    unsigned fits = 0;
    for (const struct route *route = routes; route->method != NULL; route++) {
        struct params params;
        int r = target_match(route->pattern, target, &params);
        FUZZ_ASSERT(r == 1 || r == 0 || r < 0);
        if (r > 0)
            check_params(&params);
        fits += r > 0 && strchr(route->pattern, '{') == NULL;
    }
    FUZZ_ASSERT(fits <= 2);
    int r = target_query(target, "limit", value);
    FUZZ_ASSERT(r <= 1 && (r <= 0 || strlen(value) < sizeof value));
    FUZZ_ASSERT(r == 0 || target_query_unknown(target, "status cursor", name, sizeof name));
    if (target_query_unknown(target, "status limit cursor", name, sizeof name))
        FUZZ_ASSERT(strlen(name) < sizeof name);
}

/* A host that is ours has one of these names before its port. */
static void check_host(const char *host)
{
    if (!host_is_local(host))
        return;
    char lower[512] = "";
    for (size_t i = 0; i < sizeof lower - 1 && host[i] != '\0'; i++)
        lower[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] + 32 : host[i]);
    FUZZ_ASSERT(strlen(host) >= sizeof lower || strstr(lower, "localhost") != NULL || strncmp(lower, "127.", 4) == 0 ||
                strncmp(lower, "[::1]", 5) == 0);
    const char *colon = strrchr(host, ':');
    if (host[0] != '[' && colon != NULL)
        FUZZ_ASSERT(colon[1 + strspn(colon + 1, "0123456789")] == '\0');
}

static void check_base64(const char *text)
{
    size_t len = strlen(text);
    char *bytes = malloc(len + 1);
    char *again = malloc(base64_length(len) + 1);
    FUZZ_ASSERT(bytes != NULL && again != NULL);
    ssize_t n = base64_decode(text, len, bytes);
    if (n >= 0) { /* one text for one content */
        base64_encode(bytes, (size_t)n, again);
        FUZZ_ASSERT(base64_length((size_t)n) == len && memcmp(again, text, len) == 0);
    }
    base64_encode(text, len, again);
    char *back = malloc(base64_length(len) + 1);
    FUZZ_ASSERT(back != NULL && base64_decode(again, base64_length(len), back) == (ssize_t)len);
    FUZZ_ASSERT(memcmp(back, text, len) == 0);
    free(back);
    free(again);
    free(bytes);
}

static void check_websocket(const char *const lines[4])
{
    char accept[WEBSOCKET_ACCEPT_MAX];
    if (!websocket_asked(lines[0], lines[1], lines[2], lines[3]))
        return;
    websocket_accept(lines[3], accept);
    FUZZ_ASSERT(strlen(accept) == WEBSOCKET_ACCEPT_MAX - 1 && strlen(lines[3]) == 24);
}

enum { LINES = 11 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    char *end = text + strlen(text);
    const char *lines[LINES];
    char *at = text;
    for (size_t i = 0; i < LINES; i++) {
        lines[i] = at;
        at += strcspn(at, "\n");
        if (at < end)
            *at++ = '\0';
    }
    uint16_t cols = 0;
    uint16_t rows = 0;
    struct sockaddr_storage address;
    socklen_t len = 0;
    check_target(lines[0]);
    check_host(lines[1]);
    FUZZ_ASSERT(!origin_is_host(lines[2], lines[1], false) || strlen(lines[2]) == strlen(lines[1]) + 7);
    const char *key = bearer_key(lines[3]);
    FUZZ_ASSERT(key == NULL || (key > lines[3] && key[0] != '\0' && key[0] != ' '));
    FUZZ_ASSERT(!creation_key_valid(lines[4]) || strlen(lines[4]) <= 255);
    check_websocket(&lines[5]);
    check_base64(lines[9]);
    if (websocket_resize(lines[10], strlen(lines[10]), &cols, &rows) >= 0)
        FUZZ_ASSERT(cols >= 1 && cols <= 10000 && rows >= 1 && rows <= 10000);
    if (address_parse(lines[1], &address, &len) >= 0)
        FUZZ_ASSERT(len > 0 && (address.ss_family == AF_INET || address.ss_family == AF_INET6));
    free(text);
    return 0;
}

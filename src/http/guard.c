/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is let in, in this order: a request that is one request and nothing else; for this host; from this origin;
 * with a key; to a route that there is; with a length and a type that it takes; while there is room. What is behind
 * the door is not shown to who has no key: without one every path but the open ones is 401.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "http/internal.h"

enum { KEY_FILE_MAX = 1 << 20, KEY_MAX = 4096 };

/* ---- keys ----------------------------------------------------------------- */

void keys_clear(struct keys *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        explicit_bzero(keys->items[i], strlen(keys->items[i]));
        free(keys->items[i]);
    }
    free(keys->items);
    *keys = (struct keys){0};
}

static int add_key(struct keys *keys, const char *text, size_t len)
{
    while (len > 0 && (*text == ' ' || *text == '\t')) {
        text++;
        len--;
    }
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t' || text[len - 1] == '\r'))
        len--;
    if (len == 0)
        return 0;
    char **grown = len < KEY_MAX ? reallocarray(keys->items, keys->count + 1, sizeof *grown) : NULL;
    if (grown == NULL)
        return -ENOMEM;
    keys->items = grown;
    grown[keys->count] = strndup(text, len);
    return grown[keys->count] != NULL ? (keys->count++, 0) : -ENOMEM;
}

/* Pieces between the separators; in a file, lines that begin with '#' are comments. */
static int add_keys(struct keys *keys, const char *text, const char *separators, bool comments)
{
    int r = 0;
    while (r >= 0 && *text != '\0') {
        size_t len = strcspn(text, separators);
        if (!comments || text[0] != '#')
            r = add_key(keys, text, len);
        text += len + (text[len] != '\0');
    }
    return r;
}

int keys_load(const char *variable, const char *file, struct keys *ret_keys, struct era_error *err)
{
    struct keys keys = {0};
    int r = variable != NULL ? add_keys(&keys, variable, ",", false) : 0;
    if (r >= 0 && file != NULL) {
        _cleanup_free_ char *text = NULL;
        size_t len = 0;
        r = era_read_file_at(AT_FDCWD, file, KEY_FILE_MAX, &text, &len);
        if (r < 0) {
            keys_clear(&keys);
            return era_error_set(err, -r, "api_key_file_unusable", "cannot read the file of keys %s: %s", file,
                                 strerror(-r));
        }
        size_t before = keys.count;
        r = add_keys(&keys, text, "\n", true);
        explicit_bzero(text, len);
        if (r >= 0 && keys.count == before) {
            keys_clear(&keys);
            return era_error_set(err, EINVAL, "api_key_file_unusable", "the file of keys %s has no key", file);
        }
    }
    if (r < 0) {
        keys_clear(&keys);
        return era_error_oom(err);
    }
    *ret_keys = keys;
    return 0;
}

bool keys_accept(const struct keys *keys, const char *key)
{
    size_t len = key != NULL ? strlen(key) : 0;
    unsigned accepted = 0;
    for (size_t i = 0; i < keys->count; i++) {
        /* As many steps as our key has bytes, whatever is presented. */
        size_t want = strlen(keys->items[i]);
        volatile unsigned differs = want != len;
        for (size_t k = 0; k < want; k++)
            differs |= (unsigned char)keys->items[i][k] ^ (unsigned char)(k < len ? key[k] : 0);
        accepted |= differs == 0;
    }
    return accepted != 0;
}

/* ---- the door ------------------------------------------------------------- */

struct header_count {
    unsigned host, length, encoding, authorization;
    bool chunked;
    bool broken; /* a name or a value is none */
};

/* A token of RFC 9110: a space before the colon hides a header from us that others see. */
static bool is_token(const char *name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    size_t len = 0;
    while ((name[len] >= '0' && name[len] <= '9') || ((name[len] | 0x20) >= 'a' && (name[len] | 0x20) <= 'z') ||
           (name[len] != '\0' && strchr(others, name[len]) != NULL))
        len++;
    return len > 0 && name[len] == '\0';
}

/* Without control characters: a CR alone is the end of a line to some. */
static bool is_header_value(const char *value)
{
    for (; *value != '\0'; value++)
        if (((unsigned char)*value < ' ' && *value != '\t') || *value == 0x7F)
            return false;
    return true;
}

static enum MHD_Result count_header(void *userdata, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    struct header_count *count = userdata;
    count->broken |= !is_token(name) || (value != NULL && !is_header_value(value));
    count->host += strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0;
    count->length += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    count->authorization += strcasecmp(name, MHD_HTTP_HEADER_AUTHORIZATION) == 0;
    if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        count->encoding++;
        count->chunked = value != NULL && strcasecmp(value, "chunked") == 0;
    }
    return MHD_YES;
}

/* What two programs in a row may take for two different things is refused, and nothing more is read. */
static bool check_shape(struct request *request, struct header_count *count)
{
    (void)MHD_get_connection_values(request->connection, MHD_HEADER_KIND, count_header, count);
    const char *wrong = NULL;
    if (count->length > 1 || count->encoding > 1 || (count->length > 0 && count->encoding > 0))
        wrong = "the length of the body is given more than once";
    else if (count->encoding > 0 && !count->chunked)
        wrong = "the only transfer encoding is chunked";
    else if (count->host > 1 || count->authorization > 1)
        wrong = "Host and Authorization may be given once";
    else if (count->broken)
        wrong = "a header has a name or a value that is none";
    else if (count->host == 0 && !era_str_eq(request->version, MHD_HTTP_VERSION_1_0))
        wrong = "Host is missing";
    else if (request->target[0] != '/' || !is_header_value(request->target) || strpbrk(request->target, " \t#") != NULL)
        wrong = "the target must be a path";
    if (wrong == NULL)
        return true;
    request->close = true;
    reply_refusal(request, 400, "malformed", NULL, "%s", wrong);
    return false;
}

static bool origin_listed(const struct settings *settings, const char *origin)
{
    for (size_t i = 0; i < settings->origin_count; i++)
        if (era_str_eq(settings->origins[i], origin))
            return true;
    return false;
}

static bool check_origin(struct request *request)
{
    const struct server *server = request->server;
    const char *host = request_header(request, MHD_HTTP_HEADER_HOST);
    const char *origin = request_header(request, MHD_HTTP_HEADER_ORIGIN);
    if (server->on_loopback && server->keys.count == 0 && host != NULL && !host_is_local(host)) {
        request->close = true;
        reply_refusal(
            request, 403, "host_refused", NULL,
            "without a key this server answers to localhost only: a page elsewhere may stand behind this name");
        return false;
    }
    if (origin != NULL && !origin_listed(&server->settings, origin) &&
        !origin_is_host(origin, host, server->settings.tls_cert != NULL)) {
        reply_refusal(request, 403, "origin_refused", NULL, "this origin may not call; see --cors-origin");
        return false;
    }
    return true;
}

void guard_mark(struct request *request)
{
    const char *origin = request_header(request, MHD_HTTP_HEADER_ORIGIN);
    reply_header(request, "X-Content-Type-Options", "nosniff");
    if (request->close)
        reply_header(request, MHD_HTTP_HEADER_CONNECTION, "close");
    if (request->server->settings.origin_count == 0)
        return;
    reply_header(request, MHD_HTTP_HEADER_VARY, "Origin");
    if (origin != NULL && origin_listed(&request->server->settings, origin))
        reply_header(request, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}

/* A browser asks before it calls. It sends no key, and learns nothing but what it may ask. */
static bool preflight(struct request *request)
{
    const char *origin = request_header(request, MHD_HTTP_HEADER_ORIGIN);
    if (!era_str_eq(request->method, MHD_HTTP_METHOD_OPTIONS) || origin == NULL ||
        request_header(request, MHD_HTTP_HEADER_ACCESS_CONTROL_REQUEST_METHOD) == NULL)
        return false;
    reply_response(request, 204, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), NULL);
    reply_header(request, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE");
    reply_header(request, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, Idempotency-Key");
    reply_header(request, MHD_HTTP_HEADER_ACCESS_CONTROL_MAX_AGE, "600");
    return true;
}

/* HEAD is GET whose body is left out, which libmicrohttpd does by itself: RFC 9110, section 9.3.2. */
static bool takes(const struct route *route, const char *method)
{
    return era_str_eq(route->method, method) ||
           (era_str_eq(method, MHD_HTTP_METHOD_HEAD) && era_str_eq(route->method, MHD_HTTP_METHOD_GET));
}

/* Sets the route, or answers 404, 405, 400. open_only: whoever has no key sees open routes alone. */
static bool find_route(struct request *request, bool has_key)
{
    char allow[64] = "";
    bool bad = false;
    for (const struct route *route = routes; route->method != NULL; route++) {
        struct params *params = &request->params;
        int r = has_key || route->open ? target_match(route->pattern, request->target, params) : 0;
        bad |= r < 0;
        if (r == 0)
            continue;
        if (takes(route, request->method)) {
            request->route = route;
            break;
        }
        size_t used = strlen(allow);
        (void)era_str_format(allow + used, sizeof allow - used, "%s%s%s", used > 0 ? ", " : "", route->method,
                             takes(route, MHD_HTTP_METHOD_HEAD) ? ", HEAD" : "");
    }
    if (request->route != NULL && !bad)
        return true;
    if (!has_key && request->route == NULL && allow[0] == '\0')
        reply_refusal(request, 401, "unauthorized", NULL, "a key is needed: Authorization: Bearer KEY");
    else if (bad)
        reply_refusal(request, 400, "invalid_argument", "field: path", "the path holds what no id and no name can be");
    else if (allow[0] != '\0')
        reply_refusal(request, 405, "method_not_allowed", NULL, "%s is not possible here", request->method);
    else
        reply_refusal(request, 404, "not_found", NULL, "there is nothing at this path; see /openapi.json");
    if (request->status == 405)
        reply_header(request, MHD_HTTP_HEADER_ALLOW, allow);
    request->route = NULL;
    return false;
}

static bool check_body(struct request *request, const struct header_count *count)
{
    const struct route *route = request->route;
    const char *type = request_header(request, MHD_HTTP_HEADER_CONTENT_TYPE);
    const char *length = request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t bytes = 0;
    bool counted = length != NULL && era_parse_u64(length, 0, INT64_MAX, &bytes) >= 0;
    if (length != NULL && !counted) {
        request->close = true;
        reply_refusal(request, 400, "malformed", NULL, "Content-Length is no number");
        return false;
    }
    if (route->body == BODY_BYTES && length == NULL)
        reply_refusal(request, 411, "length_required", NULL, "a file is sent with its Content-Length");
    else if (route->body == BODY_JSON && length == NULL && count->encoding == 0)
        reply_refusal(request, 411, "length_required", NULL, "a body is needed, with its Content-Length or in chunks");
    else if (route->body != BODY_BYTES && bytes > request->server->settings.max_body << 20)
        reply_refusal(request, 413, "body_too_large", NULL, "a body has at most %llu MiB",
                      (unsigned long long)request->server->settings.max_body);
    else if (route->body == BODY_JSON &&
             (type == NULL || strncasecmp(type, "application/json", 16) != 0 || strchr("; \t", type[16]) == NULL))
        reply_refusal(request, 415, "not_json", NULL, "the body must be JSON: Content-Type: application/json");
    else
        return true;
    return false;
}

static bool check_query(struct request *request)
{
    char name[64];
    if (!target_query_unknown(request->target, request->route->query, name, sizeof name))
        return true;
    bool text = era_str_is_utf8(name, strlen(name));
    reply_refusal(request, 400, "invalid_argument", NULL, "unknown parameter %s", text ? name : "in the query");
    return false;
}

bool guard_admit(struct request *request)
{
    struct server *server = request->server;
    struct header_count count = {0};
    if (!check_shape(request, &count) || !check_origin(request))
        return false;
    if (preflight(request))
        return false;
    bool has_key = server->keys.count == 0 ||
                   keys_accept(&server->keys, bearer_key(request_header(request, MHD_HTTP_HEADER_AUTHORIZATION)));
    if (!find_route(request, has_key) || !check_query(request) || !check_body(request, &count))
        return false;
    if (server->draining) {
        request->close = true;
        reply_refusal(request, 503, "shutting_down", NULL, "the server is shutting down");
        return false;
    }
    return true;
}

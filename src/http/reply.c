/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: one place where an error becomes a status and a body. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

/* What a code of libera is to HTTP. A code that is not here is the server's own trouble: 500. */
static const struct {
    const char *code;
    unsigned status;
} statuses[] = {
    {"invalid_argument", 400},    {"malformed", 400},           {"vm_not_found", 404},
    {"run_not_found", 404},       {"image_not_found", 404},     {"volume_not_found", 404},
    {"file_not_found", 404},      {"not_found", 404},           {"vm_busy", 409},
    {"volume_busy", 409},         {"not_a_file", 409},          {"idempotency_mismatch", 409},
    {"copy_failed", 409},         {"path_too_long", 400},       {"file_too_large", 413},
    {"storage_full", 413},        {"too_many_vms", 429},        {"launcher_unavailable", 503},
    {"limit_unenforceable", 503}, {"network_unavailable", 503}, {"state_busy", 503},
    {"vm_paused", 409},           {"vm_not_running", 409},      {"not_supported", 409},
    {"snapshot_exists", 409},     {"snapshot_corrupt", 409},    {"snapshot_not_found", 404},
    {"disk_full", 503},           {"shutting_down", 503},       {"out_of_memory", 503},
    {"interrupted", 503},
};

static const struct {
    unsigned status;
    const char *phrase;
} phrases[] = {
    {400, "Bad Request"},         {401, "Unauthorized"},       {403, "Forbidden"},
    {404, "Not Found"},           {405, "Method Not Allowed"}, {409, "Conflict"},
    {411, "Length Required"},     {413, "Content Too Large"},  {415, "Unsupported Media Type"},
    {426, "Upgrade Required"},    {429, "Too Many Requests"},  {500, "Internal Server Error"},
    {503, "Service Unavailable"},
};

unsigned status_of_code(const char *code)
{
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        if (era_str_eq(statuses[i].code, code))
            return statuses[i].status;
    return 500;
}

const char *status_phrase(unsigned status)
{
    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++)
        if (phrases[i].status == status)
            return phrases[i].phrase;
    return "Error";
}

void reply_header(struct request *request, const char *name, const char *value)
{
    if (request->response != NULL)
        (void)MHD_add_response_header(request->response, name, value);
}

void reply_response(struct request *request, unsigned status, struct MHD_Response *response, const char *type)
{
    if (request->response != NULL)
        MHD_destroy_response(request->response);
    request->response = response;
    request->status = status;
    if (type != NULL)
        reply_header(request, MHD_HTTP_HEADER_CONTENT_TYPE, type);
}

void reply_text(struct request *request, unsigned status, const char *type, char *text)
{
    size_t len = text != NULL ? strlen(text) : 0;
    struct MHD_Response *response =
        text != NULL ? MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (response == NULL)
        free(text);
    request->sent_bytes = len;
    reply_response(request, status, response, type);
}

void reply_json(struct request *request, unsigned status, json_t *body)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    reply_text(request, status, "application/json", text);
}

/* What a guest, or a client, named may hold anything, and may have been cut anywhere; a message is text. */
static json_t *readable(const char *text)
{
    size_t len = strlen(text);
    if (era_str_is_utf8(text, len))
        return json_string(text);
    _cleanup_free_ char *ascii = strdup(text);
    for (char *p = ascii; p != NULL && *p != '\0'; p++)
        *p = (char)((unsigned char)*p < 0x80 ? *p : '?');
    return ascii != NULL ? json_string(ascii) : NULL;
}

static void reply_failure(struct request *request, unsigned status, const char *code, const char *message,
                          const char *details)
{
    json_t *body = json_pack("{s:s, s:s, s:i, s:o}", "error", status_phrase(status), "code", code, "status",
                             (int)status, "message", readable(message));
    if (body != NULL && details != NULL && details[0] != '\0')
        json_object_set_new(body, "details", readable(details));
    reply_json(request, status, body);
    if (status == 429 || status == 503)
        reply_header(request, MHD_HTTP_HEADER_RETRY_AFTER, status == 429 ? "1" : "5");
    if (status == 401)
        reply_header(request, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"agent\"");
}

void reply_refusal(struct request *request, unsigned status, const char *code, const char *details, const char *format,
                   ...)
{
    char message[ERA_ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    message[era_str_whole(message, sizeof message)] = '\0';
    reply_failure(request, status, code, message, details);
}

void reply_error(struct request *request, const struct era_error *err)
{
    char details[64] = "";
    if (err->field[0] != '\0')
        snprintf(details, sizeof details, "field: %s", err->field);
    reply_failure(request, status_of_code(err->code), err->code, err->message, details);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /openapi.json: the description of the API (OpenAPI 3.1), made from the table of routes and the tables of
 * fields. Only what no table has is written here: the shapes of answers, and of parameters.
 */
#include <string.h>

#include "http/internal.h"

enum { DEPTH_MAX = 16 };

#define STRING       "{\"type\":\"string\"}"
#define TIME         "{\"type\":\"string\",\"format\":\"date-time\"}"
#define TIME_OR_NULL "{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"}"
#define COUNT        "{\"type\":\"integer\",\"minimum\":0}"
#define REF(name)    "{\"$ref\":\"#/components/schemas/" name "\"}"

static const struct {
    const char *name;
    const char *schema;
} schemas[] = {
    {"Health",
     "{\"type\":\"object\",\"required\":[\"status\",\"time\"],\"properties\":{\"status\":{\"const\":\"healthy\"},"
     "\"time\":" TIME "}}"},
    {"Vm", "{\"type\":\"object\",\"required\":[\"id\",\"language\",\"rootfs_image\",\"cpu_count\",\"memory_mib\","
           "\"network_mode\","
           "\"persist\",\"launcher\",\"status\",\"created_at\",\"last_run_at\"],\"properties\":{\"id\":" STRING
           ",\"language\":{\"enum\":[\"python\",\"node\"]},\"rootfs_image\":" STRING ",\"cpu_count\":" COUNT
           ",\"memory_mib\":" COUNT
           ",\"network_mode\":{\"enum\":[\"none\",\"allow_all\"]},\"persist\":{\"type\":\"boolean\"},"
           "\"launcher\":" STRING ",\"status\":{\"enum\":[\"provisioning\",\"ready\",\"running\",\"paused\","
           "\"stopped\",\"failed\"]},\"created_at\":" TIME ",\"last_run_at\":" TIME_OR_NULL ",\"volume\":" STRING
           ",\"unenforced\":{\"type\":\"array\",\"items\":" STRING "}}}"},
    {"VmList",
     "{\"type\":\"object\",\"required\":[\"vms\",\"count\"],\"properties\":{\"vms\":{\"type\":\"array\",\"items\":" REF(
         "Vm") "},\"count\":" COUNT ",\"next_cursor\":" STRING "}}"},
    {"Result",
     "{\"type\":\"object\",\"required\":[\"run_id\",\"exit_code\",\"duration\",\"verdict\",\"timed_out\",\"truncated\","
     "\"cpu_ms\",\"peak_memory_kib\"],\"properties\":{\"run_id\":" STRING
     ",\"exit_code\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":255},\"stdout\":" STRING
     ",\"stdout_base64\":{\"type\":\"string\",\"contentEncoding\":\"base64\"},\"stderr\":" STRING
     ",\"stderr_base64\":{\"type\":\"string\",\"contentEncoding\":\"base64\"},"
     "\"duration\":{\"type\":\"string\",\"pattern\":\"^[0-9]+\\\\.[0-9]{3}s$\"},"
     "\"verdict\":{\"enum\":[\"exited\",\"signaled\",\"timed_out\",\"oom_killed\",\"vm_lost\"]},"
     "\"timed_out\":{\"type\":\"boolean\"},\"truncated\":{\"type\":\"boolean\"},\"cpu_ms\":" COUNT
     ",\"peak_memory_kib\":" COUNT "}}"},
    {"Done",
     "{\"type\":\"object\",\"required\":[\"status\",\"vm_id\",\"message\"],\"properties\":{\"status\":{\"enum\":["
     "\"stopped\",\"deleted\",\"paused\",\"resumed\",\"saved\"]},\"vm_id\":" STRING ",\"message\":" STRING "}}"},
    {"Written",
     "{\"type\":\"object\",\"required\":[\"status\",\"vm_id\",\"size\"],\"properties\":{\"status\":{\"const\":"
     "\"written\"},\"vm_id\":" STRING ",\"size\":" COUNT "}}"},
    {"Folder",
     "{\"type\":\"object\",\"required\":[\"entries\",\"count\",\"truncated\"],\"properties\":{\"path\":" STRING
     ",\"count\":" COUNT ",\"truncated\":{\"type\":\"boolean\"},\"entries\":{\"type\":\"array\",\"items\":{\"type\":"
     "\"object\",\"required\":[\"type\",\"size\",\"mode\"],\"properties\":{\"name\":" STRING ",\"name_base64\":" STRING
     ",\"type\":{\"enum\":[\"file\",\"folder\",\"link\"]},\"size\":" COUNT ",\"mode\":" STRING "}}}}}"},
    {"File",
     "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],\"properties\":{\"path\":{\"type\":"
     "\"string\",\"description\":\"absolute, or relative to /workspace\"},\"content\":" STRING
     ",\"content_base64\":{\"type\":\"string\",\"contentEncoding\":\"base64\"}},\"oneOf\":[{\"required\":["
     "\"content\"]},{\"required\":[\"content_base64\"]}]}"},
    {"Error",
     "{\"type\":\"object\",\"required\":[\"error\",\"code\",\"status\",\"message\"],\"properties\":{\"error\":" STRING
     ",\"code\":" STRING ",\"status\":{\"type\":\"integer\"},\"message\":" STRING ",\"details\":" STRING "}}"},
};

static const struct {
    const char *name;
    const char *schema;
} parameters[] = {
    {"id", "{\"type\":\"string\",\"pattern\":\"^(python|node)-[0-9]{1,20}$\"}"},
    {"path",
     "{\"type\":\"string\",\"description\":\"the path in the VM, without its first slash; it may hold slashes\"}"},
    {"status", "{\"enum\":[\"provisioning\",\"ready\",\"running\",\"paused\",\"stopped\",\"failed\"]}"},
    {"limit", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000,\"default\":100}"},
    {"cursor", STRING},
    {"keep_persist", "{\"type\":\"boolean\",\"default\":false}"},
    {"stream", "{\"enum\":[\"sse\"]}"},
    {"cols", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":10000,\"default\":80}"},
    {"rows", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":10000,\"default\":24}"},
    {"command", "{\"type\":\"string\",\"default\":\"/bin/bash\",\"maxLength\":255}"},
    {"mode", "{\"type\":\"string\",\"pattern\":\"^[0-7]{1,4}$\",\"default\":\"644\"}"},
};

static json_t *parse(const char *text)
{
    json_t *value = NULL;
    (void)era_json_parse(text, strlen(text), DEPTH_MAX, &value, NULL, 0);
    return value;
}

static json_t *schema_of_parameter(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof parameters / sizeof parameters[0]; i++)
        if (strlen(parameters[i].name) == len && memcmp(parameters[i].name, name, len) == 0)
            return parse(parameters[i].schema);
    return NULL;
}

static void add_parameter(json_t *list, const char *name, size_t len, const char *in)
{
    json_array_append_new(list, json_pack("{s:s%, s:s, s:b, s:o}", "name", name, len, "in", in, "required",
                                          era_str_eq(in, "path"), "schema", schema_of_parameter(name, len)));
}

static json_t *parameters_of(const struct route *route)
{
    json_t *list = json_array();
    for (const char *p = strchr(route->pattern, '{'); p != NULL; p = strchr(p + 1, '{'))
        add_parameter(list, p + 1, strcspn(p + 1, "}"), "path");
    for (const char *word = route->query; *word != '\0';) {
        size_t len = strcspn(word, " ");
        add_parameter(list, word, len, "query");
        word += len + (word[len] == ' ');
    }
    if (era_str_eq(route->pattern, "/api/vm"))
        json_array_append_new(list,
                              parse("{\"name\":\"Idempotency-Key\",\"in\":\"header\",\"required\":false,\"schema\":{"
                                    "\"type\":\"string\",\"minLength\":1,\"maxLength\":255}}"));
    return list;
}

static json_t *content(const char *type, const char *schema)
{
    json_t *object =
        schema != NULL
            ? json_pack("{s:o}", "schema", json_pack("{s:o}", "$ref", json_sprintf("#/components/schemas/%s", schema)))
            : json_pack("{s:{s:s}}", "schema", "type", "string");
    return json_pack("{s:o}", type, object);
}

static json_t *responses_of(const struct route *route)
{
    char status[8];
    char errors[128];
    json_t *success = json_pack("{s:s}", "description", route->summary);
    json_t *types = json_object();
    if (route->answers != NULL)
        json_object_update_new(types, content("application/json", route->answers));
    if (route->type != NULL)
        json_object_update_new(types, content(route->type, NULL));
    if (json_object_size(types) > 0)
        json_object_set(success, "content", types);
    json_decref(types);
    (void)era_str_format(status, sizeof status, "%u", route->success);
    json_t *responses = json_pack("{s:o}", status, success);
    (void)era_str_format(errors, sizeof errors, "400 403 %s500 503 %s", route->open ? "" : "401 ", route->errors);
    for (const char *word = errors; *word != '\0';) {
        size_t len = strcspn(word, " ");
        (void)era_str_format(status, sizeof status, "%.3s", word);
        if (len > 0)
            json_object_set_new(
                responses, status,
                json_pack("{s:s, s:o}", "description", "an error", "content", content("application/json", "Error")));
        word += len + (word[len] == ' ');
    }
    return responses;
}

static json_t *operation_of(const struct route *route)
{
    json_t *operation = json_pack("{s:s, s:s, s:o, s:o}", "operationId", route->name, "summary", route->summary,
                                  "parameters", parameters_of(route), "responses", responses_of(route));
    if (operation == NULL)
        return NULL;
    if (route->body == BODY_JSON)
        json_object_set_new(
            operation, "requestBody",
            json_pack("{s:b, s:o}", "required", 1, "content", content("application/json", route->asks)));
    if (route->body == BODY_BYTES)
        json_object_set_new(operation, "requestBody",
                            json_pack("{s:b, s:{s:{}}}", "required", 1, "content", "application/octet-stream"));
    if (route->open)
        json_object_set_new(operation, "security", json_array());
    return operation;
}

static json_t *paths(void)
{
    json_t *object = json_object();
    for (const struct route *route = routes; route->method != NULL; route++) {
        char method[16];
        size_t i = 0;
        for (; i < sizeof method - 1 && route->method[i] != '\0'; i++)
            method[i] = (char)(route->method[i] | 0x20);
        method[i] = '\0';
        if (json_object_get(object, route->pattern) == NULL)
            json_object_set_new(object, route->pattern, json_object());
        json_object_set_new(json_object_get(object, route->pattern), method, operation_of(route));
    }
    return object;
}

static json_t *components(void)
{
    json_t *all = json_pack("{s:o, s:o, s:o}", "CreateVm", ask_schema(ASK_VM), "Run", ask_schema(ASK_RUN), "Temp",
                            ask_schema(ASK_VM | ASK_RUN));
    json_object_set_new(all, "Snapshot", ask_schema(ASK_SNAPSHOT));
    json_object_set_new(all, "Fork", ask_schema(ASK_FORK));
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++)
        json_object_set_new(all, schemas[i].name, parse(schemas[i].schema));
    return json_pack("{s:o, s:{s:{s:s, s:s}}}", "schemas", all, "securitySchemes", "key", "type", "http", "scheme",
                     "bearer");
}

void handle_openapi(struct request *request)
{
    reply_json(request, 200,
               json_pack("{s:s, s:{s:s, s:s, s:{s:s, s:s}}, s:[{s:s}], s:[{s:[]}], s:o, s:o}", "openapi", "3.1.0",
                         "info", "title", "agent", "version", era_version(), "license", "name", "Apache-2.0",
                         "identifier", "Apache-2.0", "servers", "url", "/", "security", "key", "paths", paths(),
                         "components", components()));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies, translated into what libera is asked for. One table for each: a field's name, what its value must be, and
 * the function of libera that checks and takes it. All that is wrong is collected, so that a caller mends it at once.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

enum { DEPTH_MAX = 16, DETAILS_MAX = 8192, FIELDS_LIST_MAX = 512, NAME_SHOWN = 64 };

struct problems {
    char fields[FIELDS_LIST_MAX]; /* "cpu_count, memory_mib" */
    char details[DETAILS_MAX];    /* "cpu_count must be …; memory_mib must be …" */
};

struct field {
    const char *name;
    unsigned of; /* ASK_VM, ASK_RUN */
    bool required;
    int (*set)(struct ask *ask, const json_t *value, struct era_error *err);
    const char *schema;
};

/* ---- setters ------------------------------------------------------------------ */

static int wrong(struct era_error *err, const char *must_be)
{
    return era_error_set(err, EINVAL, "invalid_argument", "must be %s", must_be);
}

static int set_number(struct ask *ask, const json_t *value, struct era_error *err,
                      int (*set)(struct era_vm_spec *, uint32_t, struct era_error *))
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value))
        return wrong(err, "a whole number");
    return set(ask->vm, number < 0 ? 0 : number > UINT32_MAX ? UINT32_MAX : (uint32_t)number, err);
}

static int set_vm_text(struct ask *ask, const json_t *value, struct era_error *err,
                       int (*set)(struct era_vm_spec *, const char *, struct era_error *))
{
    return json_is_string(value) ? set(ask->vm, json_string_value(value), err) : wrong(err, "a string");
}

static int set_flag(struct ask *ask, const json_t *value, struct era_error *err,
                    int (*set)(struct era_vm_spec *, bool, struct era_error *))
{
    return json_is_boolean(value) ? set(ask->vm, json_is_true(value), err) : wrong(err, "true or false");
}

#define DEFINE(kind, name)                                                                                             \
    static int name(struct ask *ask, const json_t *value, struct era_error *err)                                       \
    {                                                                                                                  \
        return kind(ask, value, err, era_vm_spec_##name);                                                              \
    }
DEFINE(set_number, set_cpu)
DEFINE(set_number, set_mem)
DEFINE(set_number, set_disk)
DEFINE(set_number, set_pids)
DEFINE(set_vm_text, set_network)
DEFINE(set_vm_text, set_image)
DEFINE(set_vm_text, set_launcher)
DEFINE(set_vm_text, set_volume)
DEFINE(set_vm_text, set_from)
DEFINE(set_flag, set_persist)
DEFINE(set_flag, set_best_effort)

static int set_language(struct ask *ask, const json_t *value, struct era_error *err)
{
    struct era_vm_spec *spec = NULL;
    if (!json_is_string(value))
        return wrong(err, "a string: python or node");
    int r = era_vm_spec_new(json_string_value(value), &spec, err);
    era_vm_spec_free(spec); /* made before all others, by make_specs() */
    (void)ask;
    return r;
}

/* Whether it is well-formed is for libera to say, when it is used. */
static int set_name(struct ask *ask, const json_t *value, struct era_error *err)
{
    const char *name = json_string_value(value);
    return name != NULL && era_str_copy(ask->name, sizeof ask->name, name) ? 0 : wrong(err, "a name");
}

static int set_count(struct ask *ask, const json_t *value, struct era_error *err)
{
    json_int_t count = json_integer_value(value);
    if (!json_is_integer(value) || count < 1 || count > 100)
        return wrong(err, "a whole number from 1 to 100");
    ask->count = (uint32_t)count;
    return 0;
}

static int set_command(struct ask *ask, const json_t *value, struct era_error *err)
{
    struct era_run_spec *spec = NULL;
    if (!json_is_string(value))
        return wrong(err, "a string: a command line for /bin/sh -c");
    int r = era_run_spec_new_shell(json_string_value(value), &spec, err);
    era_run_spec_free(spec);
    (void)ask;
    return r;
}

/* In a body that asks for both, variables are of the command. */
static int set_env(struct ask *ask, const json_t *value, struct era_error *err)
{
    if (!json_is_object(value))
        return wrong(err, "an object of strings");
    const char *key = NULL;
    json_t *item = NULL;
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        if (!json_is_string(item))
            return wrong(err, "an object of strings");
        char *pair = strchr(key, '=') == NULL ? era_str_printf("%s=%s", key, json_string_value(item)) : strdup("=");
        int r = pair == NULL       ? era_error_oom(err)
                : ask->run != NULL ? era_run_spec_add_env(ask->run, pair, err)
                                   : era_vm_spec_add_env(ask->vm, pair, err);
        free(pair);
        if (r < 0)
            return r;
    }
    return 0;
}

static int set_timeout(struct ask *ask, const json_t *value, struct era_error *err)
{
    double seconds = json_number_value(value);
    if (!json_is_number(value) || !(seconds > 0) || seconds > 604800)
        return wrong(err, "a number of seconds, more than 0 and at most 604800");
    return era_run_spec_set_timeout(ask->run, (uint32_t)ceil(seconds * 1000), err);
}

static int set_workdir(struct ask *ask, const json_t *value, struct era_error *err)
{
    return json_is_string(value) ? era_run_spec_set_workdir(ask->run, json_string_value(value), err)
                                 : wrong(err, "a string");
}

static int set_stdin(struct ask *ask, const json_t *value, struct era_error *err)
{
    if (!json_is_string(value))
        return wrong(err, "a string");
    ask->input = strdup(json_string_value(value));
    ask->input_len = json_string_length(value);
    return ask->input != NULL ? era_run_spec_set_stdin(ask->run, true, err) : era_error_oom(err);
}

/* One of {"path", "content" | "content_base64"}. */
static int add_file(struct ask *ask, const json_t *file, struct era_error *err)
{
    const char *path = era_json_string(file, "path");
    const json_t *text = json_object_get(file, "content");
    const json_t *coded = json_object_get(file, "content_base64");
    const json_t *content = text != NULL ? text : coded;
    if (path == NULL || json_object_size(file) != 2 || !json_is_string(content))
        return wrong(err, "a list of {\"path\", \"content\" or \"content_base64\"}, all of them strings");
    size_t len = json_string_length(content);
    if (coded == NULL)
        return era_run_spec_add_data(ask->run, path, json_string_value(content), len, err);
    _cleanup_free_ char *bytes = malloc(len / 4 * 3 + 1);
    if (bytes == NULL)
        return era_error_oom(err);
    ssize_t n = base64_decode(json_string_value(content), len, bytes);
    if (n < 0)
        return era_error_set(err, EINVAL, "invalid_argument", "content_base64 of %.200s is no base64", path);
    return era_run_spec_add_data(ask->run, path, bytes, (size_t)n, err);
}

static int set_files(struct ask *ask, const json_t *value, struct era_error *err)
{
    size_t i = 0;
    json_t *file = NULL;
    if (!json_is_array(value))
        return wrong(err, "a list of {\"path\", \"content\" or \"content_base64\"}");
    json_array_foreach((json_t *)(uintptr_t)value, i, file)
    {
        int r = add_file(ask, file, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- the table ------------------------------------------------------------------ */

#define ENV_SCHEMA "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}"
#define NETWORKS   "{\"type\":\"string\",\"enum\":[\"none\",\"allow_all\"],\"default\":\"none\"}"

#define NAME_SCHEMA "{\"type\":\"string\",\"pattern\":\"^[a-z0-9][a-z0-9._-]{0,62}$\"}"

static const struct field fields[] = {
    {"language", ASK_VM, false, set_language, /* or from: see take_fields() */
     "{\"type\":\"string\",\"enum\":[\"python\",\"node\",\"javascript\",\"js\"]}"},
    {"cpu_count", ASK_VM, false, set_cpu, "{\"type\":\"integer\",\"minimum\":1,\"maximum\":256,\"default\":1}"},
    {"memory_mib", ASK_VM, false, set_mem, "{\"type\":\"integer\",\"minimum\":32,\"maximum\":1048576,\"default\":256}"},
    {"disk_mib", ASK_VM, false, set_disk, "{\"type\":\"integer\",\"minimum\":16,\"maximum\":1048576,\"default\":1024}"},
    {"pids", ASK_VM, false, set_pids, "{\"type\":\"integer\",\"minimum\":16,\"maximum\":65536,\"default\":512}"},
    {"network_mode", ASK_VM, false, set_network, NETWORKS},
    {"network", ASK_VM, false, set_network, NETWORKS},
    {"image", ASK_VM, false, set_image, "{\"type\":\"string\",\"minLength\":1,\"maxLength\":255}"},
    {"launcher", ASK_VM, false, set_launcher,
     "{\"type\":\"string\",\"enum\":[\"auto\",\"namespace\",\"microvm\"],\"default\":\"auto\"}"},
    {"persist", ASK_VM, false, set_persist, "{\"type\":\"boolean\",\"default\":false}"},
    {"volume", ASK_VM, false, set_volume, "{\"type\":\"string\",\"pattern\":\"^[a-z0-9][a-z0-9._-]{0,62}$\"}"},
    {"from", ASK_VM, false, set_from, NAME_SCHEMA},
    {"name", ASK_SNAPSHOT, true, set_name, NAME_SCHEMA},
    {"count", ASK_FORK, false, set_count, "{\"type\":\"integer\",\"minimum\":1,\"maximum\":100,\"default\":1}"},
    {"best_effort", ASK_VM, false, set_best_effort, "{\"type\":\"boolean\",\"default\":false}"},
    {"command", ASK_RUN, true, set_command, "{\"type\":\"string\",\"minLength\":1,\"maxLength\":131071}"},
    {"timeout", ASK_RUN, false, set_timeout,
     "{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":604800,\"default\":30}"},
    {"workdir", ASK_RUN, false, set_workdir, "{\"type\":\"string\",\"pattern\":\"^/\",\"default\":\"/workspace\"}"},
    {"stdin", ASK_RUN, false, set_stdin, "{\"type\":\"string\",\"default\":\"\"}"},
    {"files", ASK_RUN, false, set_files,
     "{\"type\":\"array\",\"maxItems\":256,\"items\":{\"$ref\":\"#/components/schemas/File\"}}"},
    {"env", ASK_VM | ASK_RUN, false, set_env, ENV_SCHEMA},
};

enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

/* ---- reading ---------------------------------------------------------------------- */

/* What does not fit is left away, but for no half of a character. */
ERA_PRINTF(3, 4) static void add(char *list, size_t size, const char *format, ...)
{
    size_t used = strlen(list);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(list + used, size - used, format, args);
    va_end(args);
    list[era_str_whole(list, size)] = '\0';
}

/* A message of libera speaks of its own names ("cpu must be …"): here the field has another. */
static void note(struct problems *problems, const char *name, const struct era_error *err)
{
    const char *message = err->message;
    if (name[0] == '\0')
        name = "\"\""; /* what is listed here is what makes the body wrong */
    size_t own = strlen(err->field);
    const char *space = " ";
    if (own > 0 && strncmp(message, err->field, own) == 0 && message[own] == ' ')
        message += own + 1;
    else if (!era_str_starts_with(message, "must be "))
        space = ": ";
    int shown = (int)era_str_whole(name, NAME_SHOWN);
    add(problems->fields, sizeof problems->fields, "%s%.*s", problems->fields[0] != '\0' ? ", " : "", shown, name);
    add(problems->details, sizeof problems->details, "%s%.*s%s%s", problems->details[0] != '\0' ? "; " : "", shown,
        name, space, message);
}

static const struct field *find_field(const char *name, unsigned what)
{
    for (size_t i = 0; i < FIELD_COUNT; i++)
        if ((fields[i].of & what) != 0 && era_str_eq(fields[i].name, name))
            return &fields[i];
    return NULL;
}

/* Specs to put the fields in: with what is asked for, or, when that is wrong, with something that is not used. */
static int make_specs(const json_t *body, unsigned what, struct ask *ask, struct era_error *err)
{
    const char *language = era_json_string(body, "language");
    const char *command = era_json_string(body, "command");
    int r = 0;
    if ((what & ASK_VM) != 0 && (language == NULL || era_vm_spec_new(language, &ask->vm, NULL) < 0))
        r = era_vm_spec_new("python", &ask->vm, err);
    const char *launcher = getenv("AGENT_LAUNCHER"); /* the default, as it is of the command line */
    if (r >= 0 && ask->vm != NULL && launcher != NULL && launcher[0] != '\0')
        (void)era_vm_spec_set_launcher(ask->vm, launcher, NULL);
    if (r >= 0 && (what & ASK_RUN) != 0 && (command == NULL || era_run_spec_new_shell(command, &ask->run, NULL) < 0))
        r = era_run_spec_new_shell("true", &ask->run, err);
    return r;
}

static int take_fields(const json_t *body, unsigned what, struct ask *ask, struct problems *problems)
{
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
    {
        struct era_error err = {0};
        const struct field *field = find_field(name, what);
        int r = field == NULL ? era_error_set(&err, EINVAL, "invalid_argument", "there is no such field")
                              : field->set(ask, value, &err);
        if (r == -ENOMEM)
            return r;
        if (r < 0)
            note(problems, name, &err);
    }
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        struct era_error missing = {0};
        if (!fields[i].required || (fields[i].of & what) == 0 || json_object_get(body, fields[i].name) != NULL)
            continue;
        era_error_set(&missing, EINVAL, "invalid_argument", "is missing");
        note(problems, fields[i].name, &missing);
    }
    bool language = json_object_get(body, "language") != NULL;
    if ((what & ASK_VM) != 0 && language == (json_object_get(body, "from") != NULL)) {
        struct era_error which = {0};
        era_error_set(&which, EINVAL, "invalid_argument", language ? "goes without from" : "is missing");
        note(problems, "language", &which);
    }
    const char *mode = era_json_string(body, "network_mode");
    const char *network = era_json_string(body, "network");
    if (mode != NULL && network != NULL && !era_str_eq(mode, network)) {
        struct era_error twice = {0};
        era_error_set(&twice, EINVAL, "invalid_argument", "says something else than network_mode");
        note(problems, "network", &twice);
    }
    return problems->fields[0] != '\0' ? -EINVAL : 0;
}

int ask_parse(const char *text, size_t len, unsigned what, struct ask *ret_ask, char **ret_fields, char **ret_details)
{
    char reason[256] = "";
    _cleanup_json_ json_t *body = NULL;
    struct ask ask = {.count = 1};
    struct problems *problems = calloc(1, sizeof *problems);
    if (problems == NULL)
        return -ENOMEM;
    int r = era_json_parse(text, len, DEPTH_MAX, &body, reason, sizeof reason);
    if (r == -EINVAL)
        (void)era_str_format(problems->details, sizeof problems->details, "%s", reason);
    if (r >= 0 && !json_is_object(body)) {
        r = -EINVAL;
        (void)era_str_format(problems->details, sizeof problems->details, "it must be an object");
    }
    if (r >= 0)
        r = make_specs(body, what, &ask, NULL);
    if (r >= 0)
        r = take_fields(body, what, &ask, problems);
    if (r == -EINVAL) {
        *ret_fields = strdup(problems->fields);
        *ret_details = strdup(problems->details);
    }
    free(problems);
    if (r < 0) {
        ask_clear(&ask);
        return r;
    }
    *ret_ask = ask;
    return 0;
}

int ask_read(struct request *request, unsigned what, struct ask *ret_ask)
{
    _cleanup_free_ char *names = NULL;
    _cleanup_free_ char *details = NULL;
    int r = ask_parse((const char *)era_buffer_data(&request->body), era_buffer_len(&request->body), what, ret_ask,
                      &names, &details);
    if (r == -EINVAL && names != NULL && names[0] != '\0')
        reply_refusal(request, 400, "invalid_argument", details, "wrong in the body: %s", names);
    else if (r == -EINVAL)
        reply_refusal(request, 400, "malformed", details, "the body is not the JSON that is expected");
    else if (r < 0)
        reply_refusal(request, 503, "out_of_memory", NULL, "out of memory");
    return r;
}

void ask_clear(struct ask *ask)
{
    era_vm_spec_free(ask->vm);
    era_run_spec_free(ask->run);
    free(ask->input);
    *ask = (struct ask){0};
}

json_t *ask_schema(unsigned what)
{
    json_t *properties = json_object();
    json_t *required = json_array();
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        json_t *schema = NULL;
        if ((fields[i].of & what) == 0)
            continue;
        if (era_json_parse(fields[i].schema, strlen(fields[i].schema), DEPTH_MAX, &schema, NULL, 0) >= 0)
            json_object_set_new(properties, fields[i].name, schema);
        if (fields[i].required)
            json_array_append_new(required, json_string(fields[i].name));
    }
    json_t *schema = json_pack("{s:s, s:b, s:o, s:o}", "type", "object", "additionalProperties", 0, "required",
                               required, "properties", properties);
    if (schema != NULL && (what & ASK_VM) != 0)
        json_object_set_new(schema, "oneOf",
                            json_pack("[{s:[s]}, {s:[s]}]", "required", "language", "required", "from"));
    return schema;
}

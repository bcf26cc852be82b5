/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/cli.h"

int output_flush(void)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return EXIT_OK;
    struct era_error err;
    era_error_set(&err, errno, "output_failed", "cannot write to stdout: %s", strerror(errno));
    era_log_error(&err);
    return EXIT_FAILED;
}

int output_json(json_t *object)
{
    if (object == NULL) {
        struct era_error err;
        era_error_oom(&err);
        era_log_error(&err);
        return EXIT_FAILED;
    }
    (void)json_dumpf(object, stdout, JSON_COMPACT);
    json_decref(object);
    putchar('\n');
    return output_flush();
}

int output_error(const struct invocation *invocation, const struct era_error *err)
{
    int signo = era_error_is(err, "interrupted") ? signals_pending() : 0;
    if (signo != 0)
        return 128 + signo; /* who sent it needs no word of it */
    era_log_error(err);
    if (era_error_is(err, "usage") || era_error_is(err, "invalid_argument"))
        return EXIT_USAGE;
    return invocation->command != NULL && invocation->command->exits_as_guest ? EXIT_AGENT : EXIT_FAILED;
}

int output_wants_table(const struct invocation *invocation)
{
    const char *format = option_value(invocation, "output");
    if (format == NULL)
        return isatty(STDOUT_FILENO);
    if (era_str_eq(format, "json") || era_str_eq(format, "table"))
        return era_str_eq(format, "table");
    struct era_error err;
    era_error_invalid(&err, "output", "unknown format; it is json or table");
    era_log_error(&err);
    return -1;
}

json_t *output_string(const char *text)
{
    json_t *string = json_string(text); /* NULL for what is not UTF-8 */
    if (string != NULL)
        return string;
    char ascii[4096];
    size_t n = 0;
    for (const char *p = text; *p != '\0' && n < sizeof ascii - 1; p++)
        ascii[n++] = (char)((unsigned char)*p < 0x80 ? *p : '?');
    ascii[n] = '\0';
    return json_string(ascii);
}

json_t *output_time(int64_t realtime_ns)
{
    if (realtime_ns == 0)
        return json_null();
    char text[ERA_TIME_MAX];
    era_clock_format(realtime_ns, text);
    return json_string(text);
}

/* "memory,cpu" as a list. */
static json_t *list_of(const char *words)
{
    json_t *list = json_array();
    for (const char *p = words; *p != '\0';) {
        size_t len = strcspn(p, ",");
        json_array_append_new(list, json_stringn(p, len));
        p += len + (p[len] == ',');
    }
    return list;
}

json_t *output_vm(const struct era_vm *vm)
{
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:b, s:s, s:s, s:o, s:o}", "id", era_vm_id(vm), "language",
                  era_vm_language(vm), "rootfs", era_vm_image(vm), "cpu_count", (int)era_vm_cpu(vm), "memoryMiB",
                  (int)era_vm_mem_mib(vm), "network", era_vm_network(vm), "persisted", era_vm_persist(vm), "launcher",
                  era_vm_launcher(vm), "status", era_vm_status(vm), "created_at", output_time(era_vm_created_at_ns(vm)),
                  "last_run_at", output_time(era_vm_last_run_at_ns(vm)));
    if (object != NULL && era_vm_volume(vm)[0] != '\0')
        json_object_set_new(object, "volume", json_string(era_vm_volume(vm)));
    if (object != NULL && era_vm_unenforced(vm)[0] != '\0')
        json_object_set_new(object, "unenforced", list_of(era_vm_unenforced(vm)));
    return object;
}

json_t *output_image(const struct era_image *image, const char *message)
{
    json_t *object = message != NULL ? json_pack("{s:s, s:s}", "level", "info", "message", message) : json_object();
    json_object_set_new(object, "reference", output_string(era_image_reference(image)));
    json_object_set_new(object, "digest", output_string(era_image_digest(image)));
    json_object_set_new(object, "source", output_string(era_image_source(image)));
    json_object_set_new(object, "size_bytes", json_integer((json_int_t)era_image_size_bytes(image)));
    json_object_set_new(object, "created_at", output_time(era_image_created_at_ns(image)));
    return object;
}

json_t *output_created(const struct era_vm *vm)
{
    json_t *object = json_pack("{s:s, s:s}", "level", "info", "message", "vm created");
    json_t *fields = output_vm(vm);
    json_object_del(fields, "status");
    json_object_del(fields, "last_run_at");
    json_object_update(object, fields);
    json_decref(fields);
    return object;
}

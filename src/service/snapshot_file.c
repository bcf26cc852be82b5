/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the service says of a snapshot, beside what the launcher wrote: the file snapshot.json, and `environment`,
 * KEY=VALUE with a NUL behind each, since values need not be UTF-8.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "service/snapshot.h"

enum { JSON_MAX = 16 * 1024, ENVIRONMENT_MAX = 2 * ERA_ENV_BYTES_MAX + 2 * ERA_ENV_MAX };

static int write_environment(int dirfd, const struct era_strv *env)
{
    struct era_buffer text = {0};
    int r = 0;
    for (size_t i = 0; r >= 0 && i < env->count; i++)
        r = era_buffer_append(&text, env->items[i], strlen(env->items[i]) + 1);
    if (r >= 0)
        r = era_write_file_atomic_at(dirfd, "environment", era_buffer_data(&text), era_buffer_len(&text), 0600);
    era_buffer_clear(&text);
    return r;
}

int snapshot_file_write(int dirfd, const struct snapshot_facts *facts)
{
    const struct era_vm_ask *ask = &facts->ask;
    _cleanup_json_ json_t *json =
        json_pack("{s:i, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:s, s:b, s:I, s:I, s:I}", "format", 1, "vm", facts->vm_id,
                  "language", era_language_name(ask->language), "image", ask->image, "cpu_count", (int)ask->cpu_count,
                  "mem_mib", (int)ask->mem_mib, "disk_mib", (int)ask->disk_mib, "pids", (int)ask->pids, "network",
                  era_network_name(ask->network), "best_effort", ask->best_effort, "volume_bytes",
                  (json_int_t)facts->volume_bytes, "volume_changed_ns", (json_int_t)facts->volume_changed_ns,
                  "created_at_ns", (json_int_t)facts->created_at_ns);
    if (json != NULL && ask->kernel[0] != '\0')
        json_object_set_new(json, "kernel", json_string(ask->kernel));
    _cleanup_free_ char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    int r = text == NULL ? -ENOMEM : write_environment(dirfd, &ask->env);
    return r < 0 ? r : era_write_file_atomic_at(dirfd, "snapshot.json", text, strlen(text), 0600);
}

static int read_environment(int dirfd, struct era_strv *env)
{
    size_t len = 0;
    _cleanup_free_ char *text = NULL;
    int r = era_read_file_at(dirfd, "environment", ENVIRONMENT_MAX, &text, &len);
    for (size_t at = 0; r >= 0 && at < len; at += strlen(text + at) + 1)
        r = era_env_valid(text + at) ? env_set(env, text + at) : -EBADMSG;
    return r;
}

static bool number(const json_t *json, const char *key, json_int_t min, json_int_t max, json_int_t *ret_value)
{
    const json_t *value = json_object_get(json, key);
    *ret_value = json_integer_value(value);
    return json_is_integer(value) && *ret_value >= min && *ret_value <= max;
}

static bool read_ask(const json_t *json, struct era_vm_ask *ask)
{
    const char *language = era_json_string(json, "language");
    const char *image = era_json_string(json, "image");
    const char *network = era_json_string(json, "network");
    const char *kernel = era_json_string(json, "kernel");
    json_int_t format;
    json_int_t cpu_count;
    json_int_t mem_mib;
    json_int_t disk_mib;
    json_int_t pids;
    bool good = language != NULL && image != NULL && network != NULL && number(json, "format", 1, 1, &format) &&
                number(json, "cpu_count", ERA_CPU_MIN, ERA_CPU_MAX, &cpu_count) &&
                number(json, "mem_mib", ERA_MEM_MIB_MIN, ERA_MEM_MIB_MAX, &mem_mib) &&
                number(json, "disk_mib", ERA_DISK_MIB_MIN, ERA_DISK_MIB_MAX, &disk_mib) &&
                number(json, "pids", ERA_PIDS_MIN, ERA_PIDS_MAX, &pids) && era_reference_valid(image) &&
                era_language_parse(language, &ask->language) >= 0 && era_network_parse(network, &ask->network) >= 0;
    if (!good)
        return false;
    ask->cpu_count = (uint32_t)cpu_count;
    ask->mem_mib = (uint32_t)mem_mib;
    ask->disk_mib = (uint32_t)disk_mib;
    ask->pids = (uint32_t)pids;
    ask->launcher = ERA_LAUNCHER_MICROVM;
    ask->best_effort = json_is_true(json_object_get(json, "best_effort"));
    return era_str_copy(ask->image, sizeof ask->image, image) &&
           (kernel == NULL || era_str_copy(ask->kernel, sizeof ask->kernel, kernel));
}

int snapshot_file_read(int dirfd, struct snapshot_facts *ret_facts)
{
    size_t len = 0;
    _cleanup_free_ char *text = NULL;
    _cleanup_json_ json_t *json = NULL;
    int r = era_read_file_at(dirfd, "snapshot.json", JSON_MAX, &text, &len);
    if (r >= 0)
        r = era_json_parse(text, len, 4, &json, NULL, 0);
    if (r < 0)
        return r;
    struct snapshot_facts facts = {0};
    const char *vm = era_json_string(json, "vm");
    json_int_t volume_bytes;
    json_int_t volume_changed_ns;
    json_int_t created_at_ns;
    if (vm == NULL || !era_vm_id_valid(vm) || !read_ask(json, &facts.ask) ||
        !number(json, "volume_bytes", 0, INT64_MAX, &volume_bytes) ||
        !number(json, "volume_changed_ns", 0, INT64_MAX, &volume_changed_ns) ||
        !number(json, "created_at_ns", 1, INT64_MAX, &created_at_ns))
        return -EBADMSG;
    facts.volume_bytes = volume_bytes;
    facts.volume_changed_ns = volume_changed_ns;
    facts.created_at_ns = created_at_ns;
    facts.ask.persist = volume_bytes > 0;
    era_str_copy(facts.vm_id, sizeof facts.vm_id, vm);
    r = read_environment(dirfd, &facts.ask.env);
    if (r < 0) {
        era_vm_ask_clear(&facts.ask);
        return r;
    }
    *ret_facts = facts;
    return 0;
}

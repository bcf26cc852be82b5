/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/cli.h"

static json_t *describe(const struct era_volume_list *volumes, size_t i)
{
    const char *vm = era_volume_list_vm(volumes, i);
    return json_pack("{s:s, s:s, s:i, s:o, s:o}", "name", era_volume_list_name(volumes, i), "kind",
                     era_volume_list_kind(volumes, i), "size_mib", (int)era_volume_list_size_mib(volumes, i), "vm",
                     vm[0] != '\0' ? json_string(vm) : json_null(), "created_at",
                     output_time(era_volume_list_created_at_ns(volumes, i)));
}

static int print(const struct era_volume_list *volumes, bool as_table)
{
    static const char *const heads[] = {"NAME", "KIND", "SIZE", "VM", "CREATED"};
    struct table table = {.columns = sizeof heads / sizeof heads[0]};
    int status = EXIT_OK;
    for (size_t i = 0; as_table && i < table.columns; i++)
        (void)table_add(&table, heads[i]);
    for (size_t i = 0; status == EXIT_OK && i < era_volume_list_count(volumes); i++) {
        if (!as_table) {
            status = output_json(describe(volumes, i));
            continue;
        }
        char size[32];
        char age[64];
        snprintf(size, sizeof size, "%u MiB", era_volume_list_size_mib(volumes, i));
        table_age(era_volume_list_created_at_ns(volumes, i), age, sizeof age);
        const char *vm = era_volume_list_vm(volumes, i);
        const char *const cells[] = {era_volume_list_name(volumes, i), era_volume_list_kind(volumes, i), size,
                                     vm[0] != '\0' ? vm : "-", age};
        for (size_t c = 0; c < sizeof cells / sizeof cells[0]; c++)
            (void)table_add(&table, cells[c]);
    }
    if (as_table) {
        table_print(&table);
        status = output_flush();
    }
    table_clear(&table);
    return status;
}

int volume_list(const struct invocation *invocation)
{
    int as_table = output_wants_table(invocation);
    if (as_table < 0)
        return EXIT_USAGE;
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_volume_list *volumes = NULL;
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_volume_list(era, &volumes, &err);
    int status = r < 0 ? output_error(invocation, &err) : print(volumes, as_table);
    era_volume_list_free(volumes);
    era_close(era);
    return status;
}

int volume_remove(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_volume_remove(era, invocation->positionals[0], &err);
    int status = r < 0 ? output_error(invocation, &err)
                       : output_json(json_pack("{s:s, s:s, s:s}", "level", "info", "message", "volume removed", "name",
                                               invocation->positionals[0]));
    era_close(era);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/cli.h"

static json_t *describe(const void *list, size_t i)
{
    const struct era_volume_list *volumes = list;
    const char *vm = era_volume_list_vm(volumes, i);
    return json_pack("{s:s, s:s, s:i, s:o, s:o}", "name", era_volume_list_name(volumes, i), "kind",
                     era_volume_list_kind(volumes, i), "size_mib", (int)era_volume_list_size_mib(volumes, i), "vm",
                     vm[0] != '\0' ? json_string(vm) : json_null(), "created_at",
                     output_time(era_volume_list_created_at_ns(volumes, i)));
}

static const char *const heads[] = {"NAME", "KIND", "SIZE", "VM", "CREATED"};

static void add_row(struct table *table, const void *list, size_t i)
{
    const struct era_volume_list *volumes = list;
    const char *vm = era_volume_list_vm(volumes, i);
    char size[32];
    char age[64];
    snprintf(size, sizeof size, "%u MiB", era_volume_list_size_mib(volumes, i));
    table_age(era_volume_list_created_at_ns(volumes, i), age, sizeof age);
    const char *const cells[] = {era_volume_list_name(volumes, i), era_volume_list_kind(volumes, i), size,
                                 vm[0] != '\0' ? vm : "-", age};
    _Static_assert(sizeof cells == sizeof heads, "a cell for each column");
    table_add_row(table, cells);
}

static const struct listing listing = {heads, sizeof heads / sizeof heads[0], add_row, describe};

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
    int status = r < 0 ? output_error(invocation, &err)
                       : listing_print(&listing, volumes, era_volume_list_count(volumes), as_table);
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

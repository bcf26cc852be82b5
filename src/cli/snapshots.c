/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/cli.h"

int vm_snapshot(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    const char *id = option_value(invocation, "vm");
    const char *name = option_value(invocation, "name");
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_vm_snapshot(era, id, name, &err);
    int status = r < 0 ? output_error(invocation, &err)
                       : output_json(json_pack("{s:s, s:s, s:s, s:s}", "level", "info", "message", "vm saved", "id", id,
                                               "name", name));
    era_close(era);
    return status;
}

int vm_fork(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_vm_list *vms = NULL;
    uint64_t count = 1;
    int r = option_number(invocation, "count", 1, UINT32_MAX, &count, &err);
    if (r >= 0)
        r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_vm_fork(era, option_value(invocation, "vm"), (uint32_t)count, &vms, &err);
    int status = r < 0 ? output_error(invocation, &err) : EXIT_OK;
    for (size_t i = 0; r >= 0 && status == EXIT_OK && i < era_vm_list_count(vms); i++)
        status = output_json(output_created(era_vm_list_at(vms, i)));
    era_vm_list_free(vms);
    era_close(era);
    return status;
}

static json_t *describe(const void *list, size_t i)
{
    const struct era_snapshot_list *snapshots = list;
    const char *vm = era_snapshot_list_vm(snapshots, i);
    return json_pack("{s:s, s:o, s:I, s:o}", "name", era_snapshot_list_name(snapshots, i), "vm",
                     vm[0] != '\0' ? json_string(vm) : json_null(), "size_bytes",
                     (json_int_t)era_snapshot_list_size_bytes(snapshots, i), "created_at",
                     output_time(era_snapshot_list_created_at_ns(snapshots, i)));
}

static const char *const heads[] = {"NAME", "SIZE", "VM", "CREATED"};

static void add_row(struct table *table, const void *list, size_t i)
{
    const struct era_snapshot_list *snapshots = list;
    const char *vm = era_snapshot_list_vm(snapshots, i);
    char size[32];
    char age[64];
    snprintf(size, sizeof size, "%llu MiB", (unsigned long long)era_snapshot_list_size_bytes(snapshots, i) >> 20);
    table_age(era_snapshot_list_created_at_ns(snapshots, i), age, sizeof age);
    const char *const cells[] = {era_snapshot_list_name(snapshots, i), size, vm[0] != '\0' ? vm : "-", age};
    _Static_assert(sizeof cells == sizeof heads, "a cell for each column");
    table_add_row(table, cells);
}

static const struct listing listing = {heads, sizeof heads / sizeof heads[0], add_row, describe};

int snapshot_list(const struct invocation *invocation)
{
    int as_table = output_wants_table(invocation);
    if (as_table < 0)
        return EXIT_USAGE;
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_snapshot_list *snapshots = NULL;
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_snapshot_list(era, &snapshots, &err);
    int status = r < 0 ? output_error(invocation, &err)
                       : listing_print(&listing, snapshots, era_snapshot_list_count(snapshots), as_table);
    era_snapshot_list_free(snapshots);
    era_close(era);
    return status;
}

int snapshot_remove(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    const char *name = invocation->positionals[0];
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_snapshot_remove(era, name, &err);
    int status =
        r < 0 ? output_error(invocation, &err)
              : output_json(json_pack("{s:s, s:s, s:s}", "level", "info", "message", "snapshot removed", "name", name));
    era_close(era);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"

static bool is_wanted(const struct invocation *invocation, const struct era_vm *vm)
{
    const char *status = era_vm_status(vm);
    if (option_given(invocation, "all") || option_given(invocation, "status"))
        return true;
    return !era_str_eq(status, "stopped") && !era_str_eq(status, "failed");
}

static const char *const heads[] = {"ID", "LANGUAGE", "STATUS", "CPU", "MEMORY", "NETWORK", "LAUNCHER", "CREATED"};

static void add_row(struct table *table, const struct era_vm *vm)
{
    char cpu[16];
    char mem[32];
    char age[64];
    snprintf(cpu, sizeof cpu, "%u", era_vm_cpu(vm));
    snprintf(mem, sizeof mem, "%u MiB", era_vm_mem_mib(vm));
    table_age(era_vm_created_at_ns(vm), age, sizeof age);
    const char *const cells[] = {era_vm_id(vm), era_vm_language(vm), era_vm_status(vm),   cpu,
                                 mem,           era_vm_network(vm),  era_vm_launcher(vm), age};
    _Static_assert(sizeof cells == sizeof heads, "a cell for each column");
    table_add_row(table, cells);
}

static int print(const struct invocation *invocation, const struct era_vm_list *vms, bool as_table)
{
    struct table table = {.columns = sizeof heads / sizeof heads[0]};
    int status = EXIT_OK;
    bool quiet = option_given(invocation, "quiet");
    table_add_row(&table, heads);
    for (size_t i = 0; status == EXIT_OK && i < era_vm_list_count(vms); i++) {
        const struct era_vm *vm = era_vm_list_at(vms, i);
        if (!is_wanted(invocation, vm))
            continue;
        if (quiet)
            printf("%s\n", era_vm_id(vm));
        else if (as_table)
            add_row(&table, vm);
        else
            status = output_json(output_vm(vm));
    }
    if (as_table && !quiet)
        table_print(&table);
    table_clear(&table);
    return status != EXIT_OK ? status : output_flush();
}

int vm_list(const struct invocation *invocation)
{
    int as_table = output_wants_table(invocation);
    if (as_table < 0)
        return EXIT_USAGE;
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_vm_list *vms = NULL;
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_vm_list(era, option_value(invocation, "status"), &vms, &err);
    int status = r < 0 ? output_error(invocation, &err) : print(invocation, vms, as_table);
    era_vm_list_free(vms);
    era_close(era);
    return status;
}

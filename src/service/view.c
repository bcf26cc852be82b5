/* SPDX-License-Identifier: Apache-2.0 */
/* What handles show: each function reads one field. */
#include <stdlib.h>

#include "service/service.h"

int era_vm_get(struct era *era, const char *id, struct era_vm **ret_vm, struct era_error *err)
{
    struct era_vm *vm = calloc(1, sizeof *vm);
    if (vm == NULL)
        return era_error_oom(err);
    vm->owner_lock = vm->owner_fd = -EBADF;
    int r = vm_find(era, id, &vm->record, err);
    if (r < 0) {
        free(vm);
        return r;
    }
    *ret_vm = vm;
    return 0;
}

void era_vm_free(struct era_vm *vm)
{
    if (vm == NULL)
        return;
    era_vm_record_clear(&vm->record);
    era_closep(&vm->owner_fd);
    era_closep(&vm->owner_lock);
    free(vm);
}

const char *era_vm_id(const struct era_vm *vm)
{
    return vm->record.id;
}

const char *era_vm_language(const struct era_vm *vm)
{
    return era_language_name(vm->record.ask.language);
}

const char *era_vm_image(const struct era_vm *vm)
{
    return vm->record.ask.image;
}

uint32_t era_vm_cpu(const struct era_vm *vm)
{
    return vm->record.ask.cpu_count;
}

uint32_t era_vm_mem_mib(const struct era_vm *vm)
{
    return vm->record.ask.mem_mib;
}

uint32_t era_vm_disk_mib(const struct era_vm *vm)
{
    return vm->record.ask.disk_mib;
}

uint32_t era_vm_pids(const struct era_vm *vm)
{
    return vm->record.ask.pids;
}

const char *era_vm_network(const struct era_vm *vm)
{
    return era_network_name(vm->record.ask.network);
}

bool era_vm_persist(const struct era_vm *vm)
{
    return vm->record.ask.persist;
}

const char *era_vm_volume(const struct era_vm *vm)
{
    return vm->record.ask.volume;
}

const char *era_vm_launcher(const struct era_vm *vm)
{
    return era_launcher_name(vm->record.launcher);
}

const char *era_vm_status(const struct era_vm *vm)
{
    return era_vm_status_name(vm->record.status);
}

const char *era_vm_unenforced(const struct era_vm *vm)
{
    return vm->record.unenforced;
}

int64_t era_vm_created_at_ns(const struct era_vm *vm)
{
    return vm->record.created_at_ns;
}

int64_t era_vm_last_run_at_ns(const struct era_vm *vm)
{
    return vm->record.last_run_at_ns;
}

const char *era_result_run_id(const struct era_result *r)
{
    return r->run_id;
}

const char *era_result_verdict(const struct era_result *r)
{
    return era_verdict_name(r->outcome.verdict);
}

int era_result_exit_code(const struct era_result *r)
{
    return r->outcome.exit_code;
}

uint64_t era_result_wall_us(const struct era_result *r)
{
    return r->outcome.wall_us;
}

uint64_t era_result_cpu_us(const struct era_result *r)
{
    return r->outcome.cpu_us;
}

uint64_t era_result_peak_mem_kib(const struct era_result *r)
{
    return r->outcome.peak_mem_kib;
}

uint64_t era_result_stdout_dropped(const struct era_result *r)
{
    return r->outcome.dropped[0];
}

uint64_t era_result_stderr_dropped(const struct era_result *r)
{
    return r->outcome.dropped[1];
}

const char *era_result_stdout_path(const struct era_result *r)
{
    return r->paths[0];
}

const char *era_result_stderr_path(const struct era_result *r)
{
    return r->paths[1];
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/cli.h"

int vm_show(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_vm *vm = NULL;
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_vm_get(era, option_value(invocation, "vm"), &vm, &err);
    int status = EXIT_OK;
    if (r < 0) {
        status = output_error(invocation, &err);
    } else {
        json_t *object = output_vm(vm);
        char path[4352];
        snprintf(path, sizeof path, "%s/vms/%s", era_state_dir(era), era_vm_id(vm));
        json_object_set_new(object, "pids", json_integer(era_vm_pids(vm)));
        if (era_vm_persist(vm))
            json_object_set_new(object, "disk_mib", json_integer(era_vm_disk_mib(vm)));
        json_object_set_new(object, "directory", output_string(path));
        status = output_json(object);
    }
    era_vm_free(vm);
    era_close(era);
    return status;
}

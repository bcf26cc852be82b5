/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

static json_t *describe(const struct era_vm *vm)
{
    json_t *object = json_pack("{s:s, s:s}", "level", "info", "message", "vm created");
    json_t *fields = output_vm(vm);
    json_object_del(fields, "status");
    json_object_del(fields, "last_run_at");
    json_object_update(object, fields);
    json_decref(fields);
    return object;
}

int vm_create(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_vm_spec *spec = NULL;
    struct era_vm *vm = NULL;
    int r = ask_vm(invocation, &spec, &err);
    if (r >= 0)
        r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_vm_create(era, spec, &vm, &err);
    int status = r < 0 ? output_error(invocation, &err) : output_json(describe(vm));
    era_vm_free(vm);
    era_vm_spec_free(spec);
    era_close(era);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

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
    int status = r < 0 ? output_error(invocation, &err) : output_json(output_created(vm));
    era_vm_free(vm);
    era_vm_spec_free(spec);
    era_close(era);
    return status;
}

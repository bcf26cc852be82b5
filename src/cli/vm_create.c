/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/cleanup.h"
#include "cli/cli.h"

int vm_create(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_vm_spec *spec = NULL;
    struct era_vm *vm = NULL;
    _cleanup_close_ int signal_fd = -EBADF;
    int r = ask_vm(invocation, &spec, &err);
    if (r >= 0)
        r = session_open_interruptible(invocation, &era, &signal_fd, &err);
    if (r >= 0)
        r = era_vm_create(era, spec, &vm, &err);
    int signo = r < 0 ? 0 : signals_pending(); /* it came too late to cut anything short */
    if (signo != 0)
        r = era_vm_clean(era, era_vm_id(vm), option_given(invocation, "volume"), &err);
    int status = r < 0 ? output_error(invocation, &err) : signo != 0 ? 128 + signo : output_json(output_created(vm));
    era_vm_free(vm);
    era_vm_spec_free(spec);
    era_close(era);
    return status;
}

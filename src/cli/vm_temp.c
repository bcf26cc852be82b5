/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "cli/cli.h"

static int run_in(struct era *era, const struct era_vm *vm, const struct era_run_spec *spec,
                  const struct live_options *options, struct era_error *err)
{
    struct live_run live = {.vm_id = era_vm_id(vm)};
    int signo = signals_pending(); /* it came while the VM was made */
    if (signo != 0)
        return 128 + signo;
    int r = era_run_start(era, live.vm_id, spec, &live.run, err);
    if (r >= 0)
        r = live_loop(&live, 1, options, err);
    era_run_free(live.run);
    return r;
}

int vm_temp(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_vm_spec *vm_spec = NULL;
    struct era_run_spec *run_spec = NULL;
    struct era_vm *vm = NULL;
    _cleanup_close_ int signal_fd = signals_block_with_resize();
    _cleanup_close_ int cancel_fd = -EBADF;
    const struct live_options options = {.forward_stdin = option_given(invocation, "stdin"), .signal_fd = signal_fd};

    int r = ask_vm(invocation, &vm_spec, &err);
    if (r >= 0)
        r = era_vm_spec_set_temporary(vm_spec, true, &err);
    if (r >= 0)
        r = ask_run(invocation, &run_spec, &err);
    if (r >= 0)
        r = era_run_spec_set_live(run_spec, true, &err);
    if (r >= 0)
        r = session_open_interruptible(invocation, &era, &cancel_fd, &err);
    if (r >= 0)
        r = era_vm_create(era, vm_spec, &vm, &err);
    if (r >= 0)
        r = run_in(era, vm, run_spec, &options, &err);
    int status = r < 0 ? output_error(invocation, &err) : r;
    if (vm != NULL && era_vm_clean(era, era_vm_id(vm), option_given(invocation, "volume"), &err) < 0)
        status = output_error(invocation, &err);
    era_vm_free(vm);
    era_run_spec_free(run_spec);
    era_vm_spec_free(vm_spec);
    era_close(era);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* VMs that stand still. The shim knows whether one does; the record says so to who lists them. */
#include <errno.h>

#include "base/fault.h"
#include "service/service.h"

enum { PAUSE_TIMEOUT_MS = 30000 };

/* Told to the shim, then recorded: who is killed in between leaves a VM that says vm_paused and can be resumed. */
static int change(struct era *era, const char *id, bool pause, struct era_error *err)
{
    _cleanup_close_ int folder = -EBADF;
    _cleanup_close_ int op = -EBADF;
    int r = vm_seize(era, id, &folder, &op, err);
    if (r >= 0)
        r = shim_ask(folder, pause ? ERA_FRAME_PAUSE : ERA_FRAME_RESUME, "", PAUSE_TIMEOUT_MS, err);
    ERA_POINT("pause.told");
    return r < 0 ? r : era_store_vm_set_paused(era->store, id, pause, err);
}

int era_vm_pause(struct era *era, const char *id, struct era_error *err)
{
    return change(era, id, true, err);
}

int era_vm_resume(struct era *era, const char *id, struct era_error *err)
{
    return change(era, id, false, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Creation under a key: whoever asks twice for the same gets one VM. */
#include <errno.h>

#include "service/service.h"

enum { INSERT_TRIES = 3 }; /* the VM that has the key may go while we look */

/* Whether what was asked for then is what is asked for now. A volume of the VM's own got its name later. */
static bool same_ask(const struct era_vm_ask *now, const struct era_vm_record *then)
{
    const struct era_vm_ask *ask = &then->ask;
    bool same = now->language == ask->language && now->cpu_count == ask->cpu_count && now->mem_mib == ask->mem_mib &&
                now->disk_mib == ask->disk_mib && now->pids == ask->pids && now->network == ask->network &&
                now->launcher == ask->launcher && now->persist == ask->persist &&
                now->best_effort == ask->best_effort && era_str_eq(now->image, ask->image) &&
                era_str_eq(now->kernel, ask->kernel) && now->env.count == ask->env.count;
    if (now->volume[0] != '\0' && !era_str_eq(now->volume, ask->volume))
        same = false;
    if (now->volume[0] == '\0' && ask->volume[0] != '\0' && !era_str_eq(ask->volume, then->id))
        same = false;
    for (size_t i = 0; same && i < now->env.count; i++)
        same = era_str_eq(now->env.items[i], ask->env.items[i]);
    return same;
}

/* The VM that was created under the key before; -ENOENT when it is gone after all. */
static int find_created(struct era *era, struct era_vm_record *record, struct era_error *err)
{
    struct era_vm_record found = {0};
    int r = vm_find(era, record->id, &found, err);
    if (r < 0)
        return r;
    if (!same_ask(&record->ask, &found))
        r = era_error_set(err, EEXIST, "idempotency_mismatch", "this key was used for a VM with other properties");
    else if (found.status == ERA_VM_PROVISIONING)
        r = era_error_set(err, EBUSY, "vm_busy", "the VM of this key is being created");
    struct era_vm_record rest = r < 0 ? found : *record;
    if (r >= 0)
        *record = found;
    era_vm_record_clear(&rest);
    return r;
}

int vm_insert(struct era *era, const char *key, struct era_vm_record *record, struct era_error *err)
{
    if (key[0] == '\0') {
        int r = era_store_vm_insert(era->store, record, err);
        return r < 0 ? r : 1;
    }
    struct era_error why = {0};
    int r = -ENOENT;
    for (int i = 0; i < INSERT_TRIES && r < 0; i++) {
        r = era_store_vm_insert_once(era->store, key, record, &why);
        if (r == 0)
            r = find_created(era, record, &why);
        if (r < 0 && !era_error_is(&why, "vm_not_found"))
            break;
    }
    if (r < 0 && err != NULL)
        *err = why;
    return r;
}

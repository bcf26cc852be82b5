/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/launcher.h"

#include <errno.h>

/* In the order in which `auto` prefers them. */
static const struct era_launcher *const launchers[] = {&era_namespace_launcher, &era_microvm_launcher};

int era_launcher_choose(enum era_launcher_kind kind, const struct era_launcher **ret_launcher, struct era_error *err)
{
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++)
        if (kind == ERA_LAUNCHER_AUTO || launchers[i]->kind == kind) {
            *ret_launcher = launchers[i];
            return 0;
        }
    return era_error_set(err, ENOSYS, "launcher_unavailable",
                         "this build has no %s launcher; leave --launcher out, or take namespace",
                         era_launcher_name(kind));
}

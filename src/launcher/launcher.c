/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/launcher.h"

#include <errno.h>

#include "base/str.h"

int era_launcher_choose(enum era_launcher_kind kind, const struct era_guest_config *config,
                        const struct era_launcher **ret_launcher, struct era_error *err)
{
    switch (kind) {
    case ERA_LAUNCHER_AUTO:
        *ret_launcher = era_microvm_launcher.proven(config) ? &era_microvm_launcher : &era_namespace_launcher;
        return 0;
    case ERA_LAUNCHER_NAMESPACE:
        *ret_launcher = &era_namespace_launcher;
        return 0;
    case ERA_LAUNCHER_MICROVM:
        *ret_launcher = &era_microvm_launcher;
        return 0;
    }
    return era_error_set(err, EINVAL, "launcher_unavailable", "this build has no such launcher");
}

int era_launcher_probe(const char *templates_path, struct era_check checks[], int max, struct era_choice *ret_choice)
{
    struct era_choice choice;
    bool namespaces = false;
    bool machines = false;
    bool kvm = false;
    int count = era_namespace_launcher.probe(templates_path, checks, max, &namespaces);
    int before = count;
    count += era_microvm_launcher.probe(templates_path, checks + count, max - count, &machines);
    for (int i = before; i < count; i++)
        if (era_str_eq(checks[i].name, "kvm"))
            kvm = era_str_eq(checks[i].state, "ok");
    if (machines && kvm) {
        choice = (struct era_choice){"microvm", "a guest kernel boots under KVM here"};
    } else if (namespaces) {
        choice = (struct era_choice){"namespace", "this kernel makes user namespaces, and KVM is not known to work"};
    } else if (machines) {
        choice = (struct era_choice){"microvm", "this kernel makes no user namespaces; QEMU emulates a machine"};
    } else {
        choice = (struct era_choice){"", "namespaces cannot be made here, and there is no QEMU"};
    }
    *ret_choice = choice;
    return count;
}

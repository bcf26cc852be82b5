/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "launcher/microvm/template.h"

static void add(struct era_check checks[], int max, int *count, const char *name, const char *state, const char *format,
                ...) ERA_PRINTF(6, 7);
static void add(struct era_check checks[], int max, int *count, const char *name, const char *state, const char *format,
                ...)
{
    if (*count == max)
        return;
    struct era_check *check = &checks[(*count)++];
    era_str_copy(check->name, sizeof check->name, name);
    era_str_copy(check->state, sizeof check->state, state);
    va_list args;
    va_start(args, format);
    vsnprintf(check->detail, sizeof check->detail, format, args);
    va_end(args);
}

int microvm_probe(const char *templates_path, struct era_check checks[], int max, bool *ret_usable)
{
    int count = 0;
    char reason[KVM_REASON_MAX];
    const char *qemu = qemu_find();
    _cleanup_close_ int templates =
        templates_path == NULL ? -EBADF : open(templates_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (qemu == NULL)
        add(checks, max, &count, "qemu", "warn", "not found; without it: no --launcher microvm; install the package %s",
            "qemu-system-x86");
    else
        add(checks, max, &count, "qemu", "ok", "%s", qemu);
    switch (kvm_verdict_read(templates, reason)) {
    case KVM_USABLE:
        add(checks, max, &count, "kvm", "ok", "usable: %s", reason);
        break;
    case KVM_UNUSABLE:
        add(checks, max, &count, "kvm", "warn", "not usable: %s", reason);
        break;
    case KVM_UNTRIED:
        add(checks, max, &count, "kvm", "warn", "there, but not tried yet: the first VM of the launcher microvm will");
        break;
    }
    *ret_usable = qemu != NULL;
    return count;
}

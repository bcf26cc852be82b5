/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. That /dev/kvm opens proves nothing: there are hosts,
 * virtual machines themselves, on which it does, and even runs a few
 * instructions, and no kernel ever comes up. So it is tried: the template that
 * the first VM needs is booted under KVM. It is over as soon as QEMU says that
 * the machine stopped, and after a few seconds in any case. The verdict holds
 * until the host boots again, and stands in `templates/kvm`: the boot's id,
 * "usable" or "unusable", and why.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "launcher/microvm/template.h"

enum { VERDICT_MAX = 512, BOOT_ID_SIZE = 37 };

static const char usable[] = "usable";
static const char unusable[] = "unusable";

static bool read_boot_id(char to[BOOT_ID_SIZE])
{
    _cleanup_free_ char *text = NULL;
    if (era_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, NULL) < 0)
        return false;
    text[strcspn(text, "\n")] = '\0';
    return era_str_copy(to, BOOT_ID_SIZE, text);
}

enum kvm_verdict kvm_verdict_read(int templates_fd, char ret_reason[KVM_REASON_MAX])
{
    char boot_id[BOOT_ID_SIZE];
    _cleanup_free_ char *text = NULL;
    ret_reason[0] = '\0';
    if (access(QEMU_KVM_PATH, R_OK | W_OK) < 0) {
        snprintf(ret_reason, KVM_REASON_MAX, "%s: %s", QEMU_KVM_PATH, strerror(errno));
        return KVM_UNUSABLE;
    }
    if (!read_boot_id(boot_id) || era_read_file_at(templates_fd, "kvm", VERDICT_MAX, &text, NULL) < 0)
        return KVM_UNTRIED;
    char *rest = text;
    const char *boot = strsep(&rest, "\n");
    const char *verdict = strsep(&rest, "\n");
    const char *reason = strsep(&rest, "\n");
    if (verdict == NULL || reason == NULL || !era_str_eq(boot, boot_id))
        return KVM_UNTRIED;
    era_str_copy(ret_reason, KVM_REASON_MAX, reason);
    return era_str_eq(verdict, usable) ? KVM_USABLE : era_str_eq(verdict, unusable) ? KVM_UNUSABLE : KVM_UNTRIED;
}

static void write_verdict(int templates_fd, const char *verdict, const char *reason)
{
    char boot_id[BOOT_ID_SIZE];
    char text[VERDICT_MAX];
    if (read_boot_id(boot_id) && era_str_format(text, sizeof text, "%s\n%s\n%s\n", boot_id, verdict, reason) >= 0)
        (void)era_write_file_atomic_at(templates_fd, "kvm", text, strlen(text), 0600);
}

static enum kvm_verdict try(int templates_fd, const struct era_guest_config *config, const struct machine_spec *spec,
                            const struct cgroup *cgroup)
{
    struct era_error err = {0};
    struct machine_spec under_kvm = *spec;
    under_kvm.kvm = true;
    _cleanup_(template_close) struct template template = {-EBADF, -EBADF, -EBADF};
    if (config->progress != NULL)
        config->progress(config->progress_userdata, "finding out whether KVM works on this host");
    if (template_open(config, &under_kvm, cgroup, &template, &err) >= 0) {
        write_verdict(templates_fd, usable, "the guest's kernel booted");
        return KVM_USABLE;
    }
    /* A full disk, say, tells nothing of KVM, nor does a kernel that may boot nowhere. */
    if (era_error_is(&err, "vm_start_failed") && !template_kernel_is_own(config))
        write_verdict(templates_fd, unusable, err.message);
    return KVM_UNUSABLE;
}

bool kvm_usable(const struct era_guest_config *config, const struct machine_spec *spec, const struct cgroup *cgroup)
{
    char reason[KVM_REASON_MAX];
    _cleanup_close_ int templates = open(config->templates_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum kvm_verdict verdict = templates < 0 ? KVM_UNUSABLE : kvm_verdict_read(templates, reason);
    if (verdict != KVM_UNTRIED)
        return verdict == KVM_USABLE;
    /* One tries, the others wait for what comes of it. */
    _cleanup_close_ int lock = openat(templates, "kvm.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    while (lock >= 0 && flock(lock, LOCK_EX) < 0 && errno == EINTR)
        ;
    verdict = kvm_verdict_read(templates, reason);
    if (verdict == KVM_UNTRIED)
        verdict = try(templates, config, spec, cgroup);
    return verdict == KVM_USABLE;
}

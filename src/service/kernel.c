/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest with a kernel of its own needs, made before its shim is started: here people can be told of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/process.h"
#include "service/service.h"

/* Whether KVM was tried since this host booted, and does not work: as launcher/microvm/kvm.c writes it. */
static bool kvm_known_unusable(const struct era *era)
{
    enum { VERDICT_MAX = 512, BOOT_ID_MAX = 64 };
    _cleanup_free_ char *boot_id = NULL;
    _cleanup_free_ char *verdict = NULL;
    if (era_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", BOOT_ID_MAX, &boot_id, NULL) < 0 ||
        era_read_file_at(era->state_fd, "templates/kvm", VERDICT_MAX, &verdict, NULL) < 0)
        return false;
    size_t len = strlen(boot_id); /* with its newline */
    return strncmp(verdict, boot_id, len) == 0 && era_str_starts_with(verdict + len, "unusable\n");
}

/* Made on first use; where `auto` has the choice, only what is there already is offered. */
static bool wanted(const struct era *era, enum era_launcher_kind launcher)
{
    if (launcher == ERA_LAUNCHER_AUTO)
        return access("/dev/kvm", R_OK | W_OK) == 0 && era_image_store_has_kernel(era->images) &&
               !kvm_known_unusable(era);
    return launcher == ERA_LAUNCHER_MICROVM;
}

static int copy_path(char to[ERA_PATH_MAX], const char *from, struct era_error *err)
{
    return era_str_copy(to, ERA_PATH_MAX, from)
               ? 0
               : era_error_set(err, ENAMETOOLONG, "vm_start_failed", "the state directory's path is too long");
}

/* The VM's own (--kernel), or that of AGENT_KERNEL; else Debian's. */
static int find_kernel(struct era *era, const struct era_vm_ask *ask, char **ret_path, struct era_error *err)
{
    const char *own = ask->kernel[0] != '\0' ? ask->kernel : getenv("AGENT_KERNEL");
    if (own == NULL || own[0] == '\0')
        return era_image_store_kernel(era->images, false, ret_path, err);
    if (access(own, R_OK) < 0)
        return era_error_set(err, errno, "file_not_found", "the kernel %s: %s", own, strerror(errno));
    *ret_path = realpath(own, NULL);
    return *ret_path == NULL ? era_error_errno(err, errno, "the kernel %s", own) : 0;
}

/* As launcher/microvm/template.h has it: .new-NAME is made by who holds NAME.lock. */
void reconcile_templates(struct era *era)
{
    static const char prefix[] = ".new-";
    _cleanup_close_ int all = openat(era->state_fd, "templates", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int listed = all < 0 ? all : openat(all, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = listed < 0 ? NULL : fdopendir(listed);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char lock_name[64];
        if (!era_str_starts_with(entry->d_name, prefix) ||
            era_str_format(lock_name, sizeof lock_name, "%s.lock", entry->d_name + sizeof prefix - 1) < 0)
            continue;
        _cleanup_close_ int lock = openat(all, lock_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
            (void)era_remove_tree_at(all, entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
}

/* AGENT_TEMPLATE_BUDGET, in MiB. */
static int read_budget(uint32_t *ret_mib, struct era_error *err)
{
    enum { DEFAULT_MIB = 4096 };
    const char *text = getenv("AGENT_TEMPLATE_BUDGET");
    uint64_t mib = DEFAULT_MIB;
    if (text != NULL && text[0] != '\0' && era_parse_u64(text, 0, UINT32_MAX, &mib) < 0)
        return era_error_invalid(err, "AGENT_TEMPLATE_BUDGET", "AGENT_TEMPLATE_BUDGET is a number of MiB");
    *ret_mib = (uint32_t)mib;
    return 0;
}

int kernel_prepare(struct era *era, const struct era_vm_ask *ask, const struct era_image_info *info,
                   struct era_launch *launch, struct era_error *err)
{
    if (!wanted(era, launch->launcher))
        return 0;
    _cleanup_free_ char *file = NULL;
    _cleanup_free_ char *kernel = NULL;
    _cleanup_free_ char *templates = era_str_printf("%s/templates", era->state_dir);
    if (templates == NULL)
        return era_error_oom(err);
    _cleanup_free_ char *qemu = NULL;
    if (era_process_find("/usr/bin:/usr/local/bin", "qemu-system-x86_64", &qemu) < 0)
        return launch->launcher == ERA_LAUNCHER_AUTO
                   ? 0 /* which has no choice then */
                   : era_error_set(err, ENOENT, "launcher_unavailable",
                                   "the launcher microvm needs QEMU; install the package qemu-system-x86");
    int r = find_kernel(era, ask, &kernel, err);
    if (r >= 0)
        r = era_image_store_flatten(era->images, ask->image, &file, err);
    if (r >= 0 && (r = era_ensure_dir_at(AT_FDCWD, templates, 0700)) < 0)
        r = era_error_errno(err, -r, "cannot make %s", templates);
    if (r >= 0)
        r = copy_path(launch->kernel_path, kernel, err);
    if (r >= 0)
        r = copy_path(launch->image_file, file, err);
    if (r >= 0)
        r = copy_path(launch->templates_path, templates, err);
    if (r >= 0)
        r = read_budget(&launch->template_budget_mib, err);
    if (r >= 0)
        era_str_copy(launch->image_digest, sizeof launch->image_digest, info->digest);
    return r;
}

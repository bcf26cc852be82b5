/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/mount.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/idmap.h"
#include "base/str.h"
#include "launcher/namespace/internal.h"

struct list {
    struct era_check *checks;
    int count;
    int max;
};

static void add(struct list *list, const char *name, const char *state, const char *format, ...) ERA_PRINTF(4, 5);
static void add(struct list *list, const char *name, const char *state, const char *format, ...)
{
    if (list->count == list->max)
        return;
    struct era_check *check = &list->checks[list->count++];
    era_str_copy(check->name, sizeof check->name, name);
    era_str_copy(check->state, sizeof check->state, state);
    va_list args;
    va_start(args, format);
    vsnprintf(check->detail, sizeof check->detail, format, args);
    va_end(args);
}

static bool check_calls(struct list *list)
{
    char why[KERNEL_WHY_MAX];
    int r = kernel_check_calls(why);
    if (r < 0)
        add(list, "system calls", "missing", "%s", why);
    return r >= 0;
}

static bool check_namespaces(struct list *list, struct kernel_trial *ret_trial)
{
    int r = kernel_try_namespaces(ret_trial);
    if (r < 0)
        add(list, "namespaces", "missing", "%s; %s", strerror(-r), kernel_why_no_namespaces());
    else
        add(list, "namespaces", "ok", "user, pid, mount, net, ipc, uts, cgroup");
    return r >= 0;
}

static bool check_mounts(struct list *list, const struct kernel_trial *trial)
{
    struct utsname uts;
    uname(&uts);
    bool host_root = era_idmap_is_host_root();
    _cleanup_close_ int fs = host_root ? (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC) : -EBADF;
    int error = !host_root ? trial->mount_error : fs < 0 ? errno : 0;
    if (error == EPERM && !host_root) {
        add(list, "overlayfs", "missing", "%s on Linux %s; %s", strerror(error), uts.release,
            kernel_why_no_namespaces());
        return false;
    }
    if (error != 0) {
        add(list, "overlayfs", "missing", "%s on Linux %s", strerror(error), uts.release);
        return false;
    }
    if (host_root && kernel_is_before(5, 19))
        add(list, "overlayfs", "warn", "Linux %.40s, older than 5.19: as root, VMs need an overlay of idmapped images",
            uts.release);
    else if (trial->no_user_xattrs)
        add(list, "overlayfs", "warn",
            "Linux %.40s, older than 6.6: as an ordinary user, removing a folder of the image fails in the VM (EIO)",
            uts.release);
    else
        add(list, "overlayfs", "ok", "Linux %s", uts.release);
    return true;
}

static void check_cgroups(struct list *list)
{
    struct cgroup_hierarchy hierarchy;
    cgroup_find(&hierarchy);
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        const struct cgroup_place *place = &hierarchy.places[i];
        char name[32];
        snprintf(name, sizeof name, "cgroup %s", cgroup_controller_name((enum cgroup_controller)i));
        char parent[256];
        era_str_copy(parent, sizeof parent, place->path);
        char *slash = strrchr(parent, '/');
        if (slash != NULL)
            *slash = '\0';
        if (place->path[0] == '\0')
            add(list, name, "missing", "%s: the limit needs --best-effort%s",
                hierarchy.undelegated ? "not delegated to this user" : "no such controller", cgroup_advice(&hierarchy));
        else if (access(parent, W_OK) < 0)
            add(list, name, "missing", "%s is not ours to write: the limit needs --best-effort", parent);
        else
            add(list, name, "ok", "%s at %s", place->v2 ? "v2" : "v1", place->path);
    }
}

static void check_tool(struct list *list, const char *name, const char *path, const char *without)
{
    if (access(path, X_OK) == 0)
        add(list, name, "ok", "%s", path);
    else
        add(list, name, "warn", "not found; without it: %s", without);
}

int namespace_probe(const char *templates_path, struct era_check checks[], int max, bool *ret_usable)
{
    (void)templates_path;
    struct list list = {.checks = checks, .max = max};
    struct kernel_trial trial = {0};
    bool usable = check_calls(&list);
    bool namespaces = check_namespaces(&list, &trial);
    usable = namespaces && usable && check_mounts(&list, &trial);
    check_cgroups(&list);
    if (access("/dev/loop-control", R_OK | W_OK) == 0)
        add(&list, "loop devices", "ok", "volumes are ext4 of a fixed size");
    else
        add(&list, "loop devices", "warn", "not usable: volumes are folders without a bound");
    if (!era_idmap_is_host_root() && access("/dev/net/tun", R_OK | W_OK) < 0)
        add(&list, "/dev/net/tun", "warn", "%s: no --network allow_all; as root: chmod 666 /dev/net/tun",
            strerror(errno));
    check_tool(&list, "pasta", "/usr/bin/pasta", "no --network allow_all; install the package passt");
    *ret_usable = usable;
    return list.count;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
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

/* The number in a file of /proc/sys, or -1. */
static long read_number(const char *path)
{
    _cleanup_free_ char *text = NULL;
    if (era_read_file_at(AT_FDCWD, path, 64, &text, NULL) < 0)
        return -1;
    text[strcspn(text, "\n")] = '\0';
    uint64_t value;
    return era_parse_u64(text, 0, INT32_MAX, &value) < 0 ? -1 : (long)value;
}

static const char *why_no_namespaces(void)
{
    if (read_number("/proc/sys/user/max_user_namespaces") == 0)
        return "user.max_user_namespaces is 0: sysctl -w user.max_user_namespaces=10000";
    if (read_number("/proc/sys/kernel/unprivileged_userns_clone") == 0 && geteuid() != 0)
        return "kernel.unprivileged_userns_clone is 0: sysctl -w kernel.unprivileged_userns_clone=1";
    if (read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1 && geteuid() != 0)
        return "AppArmor restricts user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
    return "an outer container, its seccomp filter or a chroot forbids them";
}

/* Makes one, in a child that ends at once. */
static bool check_namespaces(struct list *list)
{
    const unsigned long flags =
        CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD;
    pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
    if (pid == 0)
        _exit(0);
    if (pid < 0) {
        add(list, "namespaces", "missing", "%s; %s", strerror(errno), why_no_namespaces());
        return false;
    }
    waitpid(pid, NULL, 0);
    add(list, "namespaces", "ok", "user, pid, mount, net, ipc, uts, cgroup");
    return true;
}

static bool check_mounts(struct list *list)
{
    struct utsname uts;
    uname(&uts);
    _cleanup_close_ int fs = (int)syscall(SYS_fsopen, "overlay", 1);
    if (fs < 0) {
        add(list, "overlayfs", geteuid() == 0 ? "missing" : "warn", "%s on Linux %s", strerror(errno), uts.release);
        return geteuid() != 0; /* only inside a user namespace may an ordinary user ask */
    }
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

int namespace_probe(struct era_check checks[], int max, bool *ret_usable)
{
    struct list list = {.checks = checks, .max = max};
    bool usable = check_namespaces(&list);
    usable = check_mounts(&list) && usable;
    check_cgroups(&list);
    if (access("/dev/loop-control", R_OK | W_OK) == 0)
        add(&list, "loop devices", "ok", "volumes are ext4 of a fixed size");
    else
        add(&list, "loop devices", "warn", "not usable: volumes are folders without a bound");
    check_tool(&list, "pasta", "/usr/bin/pasta", "no --network allow_all; install the package passt");
    *ret_usable = usable;
    return list.count;
}

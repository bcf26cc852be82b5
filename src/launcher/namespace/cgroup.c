/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/idmap.h"
#include "base/str.h"
#include "launcher/namespace/internal.h"

#define CPU_PERIOD_US 100000u

enum { INIT_PIDS = 1, REMOVE_TIMEOUT_MS = 10000, PROCS_MAX = 64 * 1024 };

static int group_path(const struct cgroup *cgroup, enum cgroup_controller controller, const char *file, char to[512])
{
    const struct cgroup_place *place = &cgroup->hierarchy.places[controller];
    return era_str_format(to, 512, "%s/%s%s%s", place->path, cgroup->id, file[0] != '\0' ? "/" : "", file);
}

static int write_file(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : era_write_full(fd, text, strlen(text));
}

static int set(const struct cgroup *cgroup, enum cgroup_controller controller, const char *file, const char *text)
{
    char path[512];
    int r = group_path(cgroup, controller, file, path);
    return r < 0 ? r : write_file(path, text);
}

/* A limit on swap: groups without that file have no swap to count. */
static int set_if_there(const struct cgroup *cgroup, enum cgroup_controller controller, const char *file,
                        const char *text)
{
    int r = set(cgroup, controller, file, text);
    return r == -ENOENT ? 0 : r;
}

/* The parent of all our groups, and what it stands in. */
static int hand_down(const char *agent_path, const char *controller)
{
    char parent[256];
    era_str_copy(parent, sizeof parent, agent_path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        return -EINVAL;
    *slash = '\0';
    int r = cgroup_hand_down(parent, controller);
    return r < 0 ? r : cgroup_hand_down(agent_path, controller);
}

static int make_group(const struct cgroup *cgroup, enum cgroup_controller controller)
{
    const struct cgroup_place *place = &cgroup->hierarchy.places[controller];
    char path[512];
    int r = group_path(cgroup, controller, "", path);
    if (r >= 0 && mkdir(place->path, 0755) < 0 && errno != EEXIST)
        r = -errno;
    if (r >= 0 && place->v2)
        r = hand_down(place->path, cgroup_controller_name(controller));
    if (r >= 0 && mkdir(path, 0755) < 0 && errno != EEXIST)
        r = -errno;
    return r;
}

static int limit_memory(const struct cgroup *cgroup, uint32_t mem_mib)
{
    char bytes[32];
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)mem_mib << 20);
    if (cgroup->hierarchy.places[CGROUP_MEMORY].v2) {
        int r = set(cgroup, CGROUP_MEMORY, "memory.max", bytes);
        return r < 0 ? r : set_if_there(cgroup, CGROUP_MEMORY, "memory.swap.max", "0");
    }
    int r = set(cgroup, CGROUP_MEMORY, "memory.limit_in_bytes", bytes);
    if (r >= 0)
        r = set_if_there(cgroup, CGROUP_MEMORY, "memory.memsw.limit_in_bytes", bytes);
    /* v1 counts what lies in TCP and UDP sockets apart from the rest, and not at all without a limit. */
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)mem_mib << 20 >> 2);
    if (r >= 0)
        r = set_if_there(cgroup, CGROUP_MEMORY, "memory.kmem.tcp.limit_in_bytes", bytes);
    return r;
}

static int limit_cpu(const struct cgroup *cgroup, uint32_t cpu_count)
{
    char text[64];
    if (cgroup->hierarchy.places[CGROUP_CPU].v2) {
        snprintf(text, sizeof text, "%u %u", cpu_count * CPU_PERIOD_US, CPU_PERIOD_US);
        return set(cgroup, CGROUP_CPU, "cpu.max", text);
    }
    snprintf(text, sizeof text, "%u", CPU_PERIOD_US);
    int r = set(cgroup, CGROUP_CPU, "cpu.cfs_period_us", text);
    snprintf(text, sizeof text, "%u", cpu_count * CPU_PERIOD_US);
    return r < 0 ? r : set(cgroup, CGROUP_CPU, "cpu.cfs_quota_us", text);
}

void cgroup_hurry(const struct cgroup *cgroup, uint32_t cpu_count)
{
    bool v2 = cgroup->hierarchy.places[CGROUP_CPU].v2;
    if (!cgroup->made[CGROUP_CPU])
        return;
    if (cpu_count > 0)
        (void)limit_cpu(cgroup, cpu_count);
    else
        (void)set(cgroup, CGROUP_CPU, v2 ? "cpu.max" : "cpu.cfs_quota_us", v2 ? "max" : "-1");
}

static int limit_pids(const struct cgroup *cgroup, uint32_t pids)
{
    char text[32];
    snprintf(text, sizeof text, "%u", pids + INIT_PIDS);
    return set(cgroup, CGROUP_PIDS, "pids.max", text);
}

static int apply(struct cgroup *cgroup, const struct era_guest_config *config, enum cgroup_controller controller)
{
    if (cgroup->hierarchy.places[controller].path[0] == '\0')
        return -ENOTSUP;
    int r = make_group(cgroup, controller);
    if (r < 0)
        return r;
    cgroup->made[controller] = true;
    switch (controller) {
    case CGROUP_MEMORY:
        return limit_memory(cgroup, config->mem_mib);
    case CGROUP_CPU:
        return limit_cpu(cgroup, config->cpu_count);
    case CGROUP_PIDS:
        return limit_pids(cgroup, config->pids);
    case CGROUP_CONTROLLERS:
        break;
    }
    return -EINVAL;
}

static int refuse(const struct cgroup *cgroup, enum cgroup_controller controller, int r, struct era_error *err)
{
    return era_error_set(
        err, -r, "limit_unenforceable",
        "this host cannot enforce the %s limit (no control group: %s); --best-effort goes on without%s",
        cgroup_controller_name(controller),
        r == -ENOTSUP && cgroup->hierarchy.undelegated ? "none was delegated to this user" : strerror(-r),
        cgroup_advice(&cgroup->hierarchy));
}

int cgroup_create(const struct era_guest_config *config, struct cgroup *ret_cgroup, char unenforced[ERA_UNENFORCED_MAX],
                  struct era_error *err)
{
    struct cgroup cgroup = {0};
    cgroup_find(&cgroup.hierarchy);
    era_str_copy(cgroup.id, sizeof cgroup.id, config->id);
    /* Before anything is made, or anybody's process moved to make room. */
    for (int i = 0; i < CGROUP_CONTROLLERS && !config->best_effort; i++)
        if (cgroup.hierarchy.places[i].path[0] == '\0')
            return refuse(&cgroup, (enum cgroup_controller)i, -ENOTSUP, err);
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        int r = apply(&cgroup, config, (enum cgroup_controller)i);
        if (r >= 0)
            continue;
        if (!config->best_effort) {
            cgroup_remove(&cgroup);
            return refuse(&cgroup, (enum cgroup_controller)i, r, err);
        }
        size_t used = strlen(unenforced);
        snprintf(unenforced + used, ERA_UNENFORCED_MAX - used, "%s%s", used > 0 ? "," : "",
                 cgroup_controller_name((enum cgroup_controller)i));
    }
    *ret_cgroup = cgroup;
    return 0;
}

const struct cgroup_entry cgroup_entry_none = {.birth_fd = -EBADF, .tasks_fds = {-EBADF, -EBADF, -EBADF}};

void cgroup_entry_close(struct cgroup_entry *entry)
{
    era_closep(&entry->birth_fd);
    for (int i = 0; i < CGROUP_CONTROLLERS; i++)
        era_closep(&entry->tasks_fds[i]);
}

/* One controller's way in; the controllers of v2 share theirs. */
static int open_entry(const struct cgroup *cgroup, enum cgroup_controller controller, struct cgroup_entry *entry)
{
    bool v2 = cgroup->hierarchy.places[controller].v2;
    char path[512];
    if (!cgroup->made[controller] || (v2 && entry->birth_fd >= 0))
        return 0;
    int r = group_path(cgroup, controller, v2 ? "" : "tasks", path);
    if (r < 0)
        return r;
    int fd = open(path, (v2 ? O_RDONLY | O_DIRECTORY : O_WRONLY) | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    *(v2 ? &entry->birth_fd : &entry->tasks_fds[controller]) = fd;
    return 0;
}

int cgroup_entry_open(const struct cgroup *cgroup, struct cgroup_entry *ret_entry, struct era_error *err)
{
    struct cgroup_entry entry = cgroup_entry_none;
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        int r = open_entry(cgroup, (enum cgroup_controller)i, &entry);
        if (r >= 0)
            continue;
        cgroup_entry_close(&entry);
        return era_error_set(err, -r, "vm_start_failed", "cannot open the guest's control group: %s", strerror(-r));
    }
    *ret_entry = entry;
    return 0;
}

pid_t cgroup_clone(const struct cgroup_entry *entry, unsigned long flags, int *ret_pid_fd, bool *ret_outside)
{
    bool into = entry->birth_fd >= 0;
    struct clone_args args = {.flags = flags | CLONE_PIDFD | (into ? CLONE_INTO_CGROUP : 0),
                              .pidfd = (uint64_t)(uintptr_t)ret_pid_fd,
                              .exit_signal = SIGCHLD,
                              .cgroup = into ? (uint64_t)entry->birth_fd : 0};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    *ret_outside = pid < 0 && errno == ENOSYS; /* a kernel, or a filter around us, without clone3 */
    if (*ret_outside)
        pid = (pid_t)syscall(SYS_clone, flags | CLONE_PIDFD | SIGCHLD, NULL, ret_pid_fd, NULL, 0);
    return pid;
}

int cgroup_enter(const struct cgroup_entry *entry)
{
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        int r = entry->tasks_fds[i] >= 0 ? era_write_full(entry->tasks_fds[i], "0", 1) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

int cgroup_attach(const struct cgroup_entry *entry, pid_t pid)
{
    char text[32];
    snprintf(text, sizeof text, "%d", (int)pid);
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        int r = entry->tasks_fds[i] >= 0 ? era_write_full(entry->tasks_fds[i], text, strlen(text)) : 0;
        if (r < 0)
            return r;
    }
    if (entry->birth_fd < 0)
        return 0;
    _cleanup_close_ int procs = openat(entry->birth_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    return procs < 0 ? -errno : era_write_full(procs, text, strlen(text));
}

uint64_t cgroup_oom_kills(const struct cgroup *cgroup)
{
    char path[512];
    const char *file = cgroup->hierarchy.places[CGROUP_MEMORY].v2 ? "memory.events" : "memory.oom_control";
    _cleanup_free_ char *text = NULL;
    if (!cgroup->made[CGROUP_MEMORY] || group_path(cgroup, CGROUP_MEMORY, file, path) < 0 ||
        era_read_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0)
        return 0;
    char *found = strstr(text, "oom_kill ");
    if (found == NULL)
        return 0;
    char *number = found + strlen("oom_kill ");
    number[strcspn(number, "\n")] = '\0';
    uint64_t count = 0;
    return era_parse_u64(number, 0, UINT64_MAX, &count) < 0 ? 0 : count;
}

/* Waits until a process of the group has left it; false when there is none, or it stays. */
static bool await_exit(const char *group, int timeout_ms)
{
    char path[512];
    _cleanup_free_ char *text = NULL;
    uint64_t pid = 0;
    if (era_str_format(path, sizeof path, "%s/cgroup.procs", group) < 0 ||
        era_read_file_at(AT_FDCWD, path, PROCS_MAX, &text, NULL) < 0)
        return false;
    text[strcspn(text, "\n")] = '\0';
    if (era_parse_u64(text, 1, INT32_MAX, &pid) < 0)
        return false;
    _cleanup_close_ int pid_fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (pid_fd < 0)
        return errno == ESRCH;
    struct pollfd poller = {.fd = pid_fd, .events = POLLIN};
    return poll(&poller, 1, timeout_ms) > 0;
}

/*
 * The processes are dead, or dying with the first of their namespace: those of
 * a shim that was killed may take a while to give all their memory back.
 */
void cgroup_remove_at(const char *path)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)REMOVE_TIMEOUT_MS * 1000000;
    while (rmdir(path) < 0 && errno == EBUSY) {
        int64_t left_ms = (deadline_ns - era_clock_monotonic_ns()) / 1000000;
        if (left_ms <= 0)
            return;
        if (!await_exit(path, (int)left_ms))
            (void)poll(NULL, 0, 1); /* the last one is on its way out of the group, and nothing tells when */
    }
}

void cgroup_remove(struct cgroup *cgroup)
{
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        char path[512];
        if (!cgroup->made[i] || group_path(cgroup, (enum cgroup_controller)i, "", path) < 0)
            continue;
        cgroup_remove_at(path);
        cgroup->made[i] = false;
    }
}

void cgroup_sweep(const char *id)
{
    struct cgroup cgroup = {.made = {true, true, true}};
    cgroup_find(&cgroup.hierarchy);
    era_str_copy(cgroup.id, sizeof cgroup.id, id);
    for (int i = 0; i < CGROUP_CONTROLLERS; i++)
        cgroup.made[i] = cgroup.hierarchy.places[i].path[0] != '\0';
    cgroup_remove(&cgroup);
    if (!era_idmap_is_host_root() && cgroup.hierarchy.v2_mount[0] != '\0')
        cgroup_sweep_tree(cgroup.hierarchy.v2_mount, id);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: who descends from whom is read from /proc. A pass
 * collects (pid, parent) of every process, spreads the mark of the run's root
 * to its descendants until nothing changes, and kills what is marked. A process
 * that is being killed cannot fork any more, so that passes converge; the pids
 * limit bounds how much there can be. A pass that finds nobody proves that
 * nobody is left only when nobody was born meanwhile, which the last pid tells:
 * processes that live for less time than a pass takes, each the parent of the
 * next, may be missed by any number of passes. When they do not come to an end,
 * all of the guest but init is stopped for one. That is one signal to all at
 * once, which no fork can slip through.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "guest/guest.h"

struct process {
    pid_t pid;
    pid_t parent;
    bool dead;    /* a zombie */
    bool stopped; /* by a signal */
    bool marked;
};

enum { STAT_STATE, STAT_PARENT, STAT_THREADS = 17, STAT_FIELDS }; /* of those that follow the name: see proc(5) */

/*
 * Parses "pid (comm) state ppid …"; comm may hold anything, the last ')' ends it. A process whose main thread has
 * exited looks like a zombie, and is one only when no other thread is left.
 */
static bool parse_stat(char *text, struct process *ret_process)
{
    char *rest = strrchr(text, ')');
    if (rest == NULL || rest[1] != ' ')
        return false;
    rest += 2;
    const char *fields[STAT_FIELDS];
    for (int i = 0; i < STAT_FIELDS; i++)
        if ((fields[i] = strsep(&rest, " ")) == NULL)
            return false;
    uint64_t parent;
    uint64_t threads;
    if (era_parse_u64(fields[STAT_PARENT], 0, INT32_MAX, &parent) < 0 ||
        era_parse_u64(fields[STAT_THREADS], 0, INT32_MAX, &threads) < 0)
        return false;
    char state = fields[STAT_STATE][0];
    ret_process->parent = (pid_t)parent;
    ret_process->dead = (state == 'Z' || state == 'X') && threads <= 1;
    ret_process->stopped = state == 'T';
    return true;
}

static bool read_process(int proc_fd, const char *name, struct process *ret_process)
{
    uint64_t pid;
    char path[64];
    if (era_parse_u64(name, 1, INT32_MAX, &pid) < 0 || era_str_format(path, sizeof path, "%s/stat", name) < 0)
        return false;
    _cleanup_close_ int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    char text[512];
    ssize_t n = fd >= 0 ? era_read_full(fd, text, sizeof text - 1) : -1;
    if (n <= 0)
        return false;
    text[n] = '\0';
    *ret_process = (struct process){.pid = (pid_t)pid};
    return parse_stat(text, ret_process);
}

/* All processes of the guest, by pid, as the kernel lists them: the count, or -errno. */
static ssize_t list_processes(int proc_fd, struct process **ret_list)
{
    int fd = openat(proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL)
        return -errno;
    struct process *list = NULL;
    size_t count = 0;
    size_t capacity = 0;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        struct process process;
        if (!read_process(proc_fd, entry->d_name, &process))
            continue;
        if (count == capacity) {
            capacity = capacity == 0 ? 64 : capacity * 2;
            struct process *grown = reallocarray(list, capacity, sizeof *list);
            if (grown == NULL)
                break;
            list = grown;
        }
        list[count++] = process;
    }
    closedir(dir);
    *ret_list = list;
    return (ssize_t)count;
}

static bool is_leader(const struct guest *guest, pid_t pid)
{
    for (const struct run *run = guest->runs; run != NULL; run = run->next)
        if (run->leader == pid)
            return true;
    return false;
}

/* Whether a process is a first of those to go: child of the leader, or, without leader, an orphan of no run. */
static bool is_root(const struct guest *guest, const struct run *run, const struct process *process)
{
    if (run->leader != 0 && !run->reported)
        return process->parent == run->leader;
    return process->pid != 1 && process->parent == 1 && !is_leader(guest, process->pid);
}

static int compare_pids(const void *a, const void *b)
{
    pid_t left = ((const struct process *)a)->pid;
    pid_t right = ((const struct process *)b)->pid;
    return (left > right) - (left < right);
}

static struct process *find(struct process *list, size_t count, pid_t pid)
{
    const struct process key = {.pid = pid};
    return count > 0 ? bsearch(&key, list, count, sizeof *list, compare_pids) : NULL;
}

/* A parent mostly has a lower pid than its children, so that one round is mostly enough. */
static void mark(const struct guest *guest, const struct run *run, struct process *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        list[i].marked = is_root(guest, run, &list[i]);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < count; i++) {
            const struct process *parent = list[i].marked ? NULL : find(list, count, list[i].parent);
            if (parent != NULL && parent->marked)
                list[i].marked = changed = true;
        }
    }
}

static int kill_marked(const struct process *list, size_t count)
{
    int alive = 0;
    for (size_t i = 0; i < count; i++)
        if (list[i].marked && !list[i].dead) {
            kill(list[i].pid, SIGKILL);
            alive++;
        }
    return alive;
}

/* The pid that was given last in the guest, to threads as well: see proc(5), loadavg. */
static int64_t last_pid(int proc_fd)
{
    _cleanup_free_ char *text = NULL;
    int r = era_read_file_at(proc_fd, "loadavg", 256, &text, NULL);
    if (r < 0)
        return r;
    text[strcspn(text, "\n")] = '\0';
    const char *last = strrchr(text, ' ');
    uint64_t pid;
    r = last != NULL ? era_parse_u64(last + 1, 0, INT32_MAX, &pid) : -EBADMSG;
    return r < 0 ? r : (int64_t)pid;
}

int survey_take(const struct guest *guest, struct survey *ret_survey)
{
    struct survey survey = {.last_pid = last_pid(guest->proc_fd)};
    ssize_t count = list_processes(guest->proc_fd, &survey.list);
    if (count <= 0 || survey.list == NULL)
        return count < 0 ? (int)count : -ENOMEM;
    survey.count = (size_t)count;
    *ret_survey = survey;
    return 0;
}

void survey_clear(struct survey *survey)
{
    free(survey->list);
    *survey = (struct survey){0};
}

int kill_pass(const struct guest *guest, const struct run *run, const struct survey *survey)
{
    mark(guest, run, survey->list, survey->count);
    int alive = kill_marked(survey->list, survey->count);
    return alive > 0 || (survey->last_pid >= 0 && survey->last_pid == last_pid(guest->proc_fd)) ? alive : 1;
}

int kill_pass_standing_still(const struct guest *guest, const struct run *run)
{
    _cleanup_(survey_clear) struct survey before = {0};
    _cleanup_(survey_clear) struct survey now = {0};
    int r = survey_take(guest, &before);
    if (r < 0)
        return r;
    kill(-1, SIGSTOP);
    r = survey_take(guest, &now);
    if (r < 0) {
        kill(-1, SIGCONT);
        return r;
    }
    int alive = kill_pass(guest, run, &now);
    for (size_t i = 0; i < now.count; i++) {
        const struct process *was = find(before.list, before.count, now.list[i].pid);
        if (!now.list[i].marked && now.list[i].pid != 1 && (was == NULL || !was->stopped))
            kill(now.list[i].pid, SIGCONT);
    }
    return alive;
}

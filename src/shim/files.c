/* SPDX-License-Identifier: Apache-2.0 */
/*
 * out/runs/<id>/{stdout.log,stderr.log,result}, and out/{stdout,stderr}.log,
 * which are links to those of the latest finished run. `result` is the payload
 * of an EXIT frame: the service reads it when its client died before the end.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/str.h"
#include "shim/shim.h"

static const char *const log_names[2] = {"stdout.log", "stderr.log"};
static const char *const ring_names[2] = {".stdout.ring", ".stderr.ring"};

/* Counts the runs, and finds the oldest: the lowest number, ids being "r<nanoseconds>". */
static unsigned survey(const struct shim *shim, char ret_oldest[ERA_RUN_ID_MAX])
{
    int fd = openat(shim->runs_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        era_closep(&fd);
        return 0;
    }
    unsigned count = 0;
    uint64_t oldest = UINT64_MAX;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        uint64_t number;
        if (!era_run_id_valid(entry->d_name) || era_parse_u64(entry->d_name + 1, 0, UINT64_MAX, &number) < 0)
            continue;
        count++;
        if (number < oldest) {
            oldest = number;
            era_str_copy(ret_oldest, ERA_RUN_ID_MAX, entry->d_name);
        }
    }
    closedir(dir);
    return count;
}

static bool in_flight(const struct shim *shim, const char *id)
{
    for (const struct run *run = shim->runs; run != NULL; run = run->next)
        if (era_str_eq(run->id, id))
            return true;
    return false;
}

static void prune(struct shim *shim)
{
    char oldest[ERA_RUN_ID_MAX] = "";
    while (shim->logs_kept > RUNS_KEPT) {
        shim->logs_kept = survey(shim, oldest);
        if (shim->logs_kept <= RUNS_KEPT || in_flight(shim, oldest) || era_remove_tree_at(shim->runs_dir, oldest) < 0)
            return;
        shim->logs_kept--;
    }
}

int runs_prepare(struct shim *shim)
{
    int r = era_ensure_dir_at(AT_FDCWD, "out", 0700);
    if (r < 0)
        return r;
    shim->out_dir = open("out", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (shim->out_dir < 0)
        return -errno;
    r = era_ensure_dir_at(shim->out_dir, "runs", 0700);
    if (r < 0)
        return r;
    shim->runs_dir = openat(shim->out_dir, "runs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (shim->runs_dir < 0)
        return -errno;
    char oldest[ERA_RUN_ID_MAX];
    shim->logs_kept = survey(shim, oldest);
    return 0;
}

int runs_open(struct shim *shim, struct run *run, uint64_t cap)
{
    if (ERA_POINT_OR("keep.folder", mkdirat(shim->runs_dir, run->id, 0700)) < 0)
        return -errno;
    shim->logs_kept++;
    run->dirfd = openat(shim->runs_dir, run->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = run->dirfd < 0 ? -errno : 0;
    for (int i = 0; r >= 0 && i < 2; i++)
        r = log_open(&run->logs[i], run->dirfd, log_names[i], cap);
    ERA_POINT("keep.logs");
    return r;
}

/*
 * Puts dirfd/from in the place of dirfd/to, at one stroke. By an exchange where there is something to exchange:
 * for a rename over a file ext4 writes the new one's data out at once (auto_da_alloc), and a run would wait for
 * the disk.
 */
static void replace(int dirfd, const char *from, const char *to)
{
    if (syscall(SYS_renameat2, dirfd, from, dirfd, to, RENAME_EXCHANGE) == 0)
        (void)unlinkat(dirfd, from, 0);
    else
        (void)renameat(dirfd, from, dirfd, to);
}

/* Makes out/<name> the run's log. */
static void publish(const struct shim *shim, const struct run *run, const char *name)
{
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".%s.new", name);
    unlinkat(shim->out_dir, temporary, 0);
    if (linkat(run->dirfd, name, shim->out_dir, temporary, 0) == 0)
        replace(shim->out_dir, temporary, name);
}

void runs_close(struct shim *shim, struct run *run, struct era_run_outcome *outcome)
{
    if (run->dirfd < 0)
        return;
    for (int i = 0; i < 2; i++) {
        outcome->dropped[i] = log_finish(&run->logs[i], run->dirfd, ring_names[i]);
        log_close(&run->logs[i]);
    }
    struct era_buffer result = {0};
    if (era_outcome_encode(&result, outcome) >= 0)
        (void)era_write_file_atomic_at(run->dirfd, "result", era_buffer_data(&result), era_buffer_len(&result), 0600);
    era_buffer_clear(&result);
    ERA_POINT("keep.result");
    for (int i = 0; i < 2; i++)
        publish(shim, run, log_names[i]);
    ERA_POINT("keep.published");
    era_closep(&run->dirfd);
    prune(shim);
}

void run_output(struct shim *shim, struct run *run, int channel, const void *data, size_t len)
{
    int i = channel - 1;
    if (run->dirfd >= 0)
        log_write(&run->logs[i], run->dirfd, ring_names[i], data, len);
    if (run->client != NULL && (run->flags & ERA_RUN_LIVE) != 0) {
        enum era_frame_type type = channel == 1 ? ERA_FRAME_STDOUT : ERA_FRAME_STDERR;
        if (era_frame_append(&run->client->out, type, 0, data, len) >= 0) {
            run->unread[i] += (uint32_t)len;
            return; /* the client gives the room back */
        }
    }
    run->window[i] += (uint32_t)len;
    (void)era_window_append(&shim->to_guest, run->stream, (uint8_t)channel, (uint32_t)len);
}

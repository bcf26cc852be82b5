/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots and forks. A snapshot is a folder of snapshots/, whose name is its own. It is made as .new-<vm> by who
 * holds the VM's op.lock, and appears by one rename. A fork is a snapshot, .fork-<vm>, that goes when its VMs are
 * there: they have its memory mapped, and copies of all else. What is left of a maker that was killed is removed by
 * the next, once the VM's op.lock is free.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "service/snapshot.h"

enum { SNAPSHOT_TIMEOUT_MS = 300000, FORKS_MAX = 100, FOLDER_MAX = ERA_NAME_MAX + 16 };

static int fail(struct era_error *err, int r, const char *what)
{
    bool full = r == -ENOSPC || r == -EDQUOT;
    return era_error_set(err, -r, full ? "disk_full" : "snapshot_failed", "cannot %s: %s", what, strerror(-r));
}

static int open_all(struct era *era, struct era_error *err)
{
    int r = era_ensure_dir_at(era->state_fd, "snapshots", 0700);
    int fd = r < 0 ? r : openat(era->state_fd, "snapshots", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? fail(err, r < 0 ? r : -errno, "open the folder of snapshots") : fd;
}

static bool exists(int all, const char *name)
{
    return faccessat(all, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The VM whose maker has this unfinished folder, or NULL. */
static const char *maker_of(const char *name)
{
    const char *dash = name[0] == '.' ? strchr(name, '-') : NULL;
    return dash != NULL && era_vm_id_valid(dash + 1) ? dash + 1 : NULL;
}

static void sweep(const struct era *era, int all)
{
    int fd = openat(all, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *id = maker_of(entry->d_name);
        _cleanup_close_ int folder = id == NULL ? -EBADF : shim_open_folder(era, id);
        _cleanup_close_ int op = folder < 0 ? folder : lock_take(folder, "op.lock", F_WRLCK, 0);
        if (id != NULL && (folder < 0 || op >= 0))
            (void)era_remove_tree_at(all, entry->d_name);
    }
    closedir(dir);
}

void reconcile_snapshots(struct era *era)
{
    _cleanup_close_ int all = openat(era->state_fd, "snapshots", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (all >= 0)
        sweep(era, all);
}

/* ---- making one ----------------------------------------------------------- */

static int describe(struct era *era, const char *id, int dirfd, struct era_error *err)
{
    struct era_vm_record record;
    struct stat st;
    int r = era_store_vm_get(era->store, id, &record, err);
    if (r < 0)
        return r;
    ERA_POINT("snapshot.saved");
    struct snapshot_facts facts = {.ask = record.ask, .created_at_ns = era_clock_realtime_ns()};
    era_str_copy(facts.vm_id, sizeof facts.vm_id, id);
    if (record.ask.volume[0] != '\0' && fstatat(dirfd, "volume.img", &st, AT_SYMLINK_NOFOLLOW) == 0) {
        facts.volume_bytes = st.st_size;
        facts.volume_changed_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    }
    r = snapshot_file_write(dirfd, &facts);
    era_vm_record_clear(&record);
    return r < 0 ? fail(err, r, "describe the snapshot") : 0;
}

/* Saves a VM, which is taken, as a folder of this name. */
static int save(struct era *era, const char *id, int folder, int all, const char *name, struct era_error *err)
{
    (void)era_remove_tree_at(all, name);
    if (mkdirat(all, name, 0700) < 0)
        return fail(err, -errno, "make the snapshot's folder");
    ERA_POINT("snapshot.folder");
    _cleanup_close_ int dirfd = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_free_ char *path = era_str_printf("%s/snapshots/%s", era->state_dir, name);
    int r = path == NULL ? era_error_oom(err) : dirfd < 0 ? fail(err, -errno, "open the snapshot's folder") : 0;
    if (r >= 0)
        r = shim_ask(folder, ERA_FRAME_SNAPSHOT, path, SNAPSHOT_TIMEOUT_MS, err);
    if (r >= 0)
        r = describe(era, id, dirfd, err);
    if (r < 0)
        (void)era_remove_tree_at(all, name);
    return r;
}

/* To the disk, for a snapshot outlives the host's power. A fork's VMs do not, and nor need what they came from. */
static int bring_to_disk(int all, const char *name, struct era_error *err)
{
    static const char *const files[] = {"memory", "state", "volume.img"};
    _cleanup_close_ int dirfd = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool failed = dirfd < 0;
    for (size_t i = 0; !failed && i < sizeof files / sizeof files[0]; i++) {
        _cleanup_close_ int fd = openat(dirfd, files[i], O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        failed = fd < 0 ? errno != ENOENT : fsync(fd) < 0;
    }
    return failed || fsync(dirfd) < 0 ? fail(err, -errno, "bring the snapshot to the disk") : 0;
}

int era_vm_snapshot(struct era *era, const char *id, const char *name, struct era_error *err)
{
    char temporary[FOLDER_MAX];
    if (!era_volume_name_valid(name))
        return era_error_invalid(err, "name", "a snapshot's name has small letters, digits, '.', '_' and '-'");
    _cleanup_close_ int folder = -EBADF;
    _cleanup_close_ int op = -EBADF;
    int r = vm_seize(era, id, &folder, &op, err);
    _cleanup_close_ int all = r < 0 ? r : open_all(era, err);
    if (all < 0)
        return all;
    sweep(era, all);
    if (exists(all, name))
        return era_error_set(err, EEXIST, "snapshot_exists", "there is a snapshot named %s already", name);
    snprintf(temporary, sizeof temporary, ".new-%s", id);
    r = save(era, id, folder, all, temporary, err);
    if (r < 0)
        return r;
    ERA_POINT("snapshot.described");
    r = bring_to_disk(all, temporary, err);
    if (r >= 0 && renameat2(all, temporary, all, name, RENAME_NOREPLACE) < 0)
        r = errno == EEXIST
                ? era_error_set(err, EEXIST, "snapshot_exists", "there is a snapshot named %s already", name)
                : fail(err, -errno, "name the snapshot");
    if (r < 0)
        (void)era_remove_tree_at(all, temporary);
    ERA_POINT("snapshot.named");
    return r;
}

/* ---- using one ------------------------------------------------------------ */

/* Opens the copy of the volume, when it is what was written. */
static int open_volume(int dirfd, const struct snapshot_facts *facts)
{
    struct stat st;
    _cleanup_close_ int fd = openat(dirfd, "volume.img", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    int64_t changed_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return st.st_size != facts->volume_bytes || changed_ns != facts->volume_changed_ns ? -EBADMSG : era_take_fd(&fd);
}

int snapshot_find(struct era *era, const char *name, struct era_vm_ask *ask, struct snapshot *ret_snapshot,
                  struct era_error *err)
{
    _cleanup_close_ int all = open_all(era, err);
    if (all < 0)
        return all;
    _cleanup_close_ int dirfd = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dirfd < 0)
        return era_error_set(err, ENOENT, "snapshot_not_found", "no snapshot is named %s", name);
    struct snapshot_facts facts;
    int r = snapshot_file_read(dirfd, &facts);
    bool has_volume = r >= 0 && facts.volume_bytes > 0;
    _cleanup_close_ int volume = has_volume ? open_volume(dirfd, &facts) : -EBADF;
    if (has_volume && volume < 0) {
        r = volume;
        era_vm_ask_clear(&facts.ask);
    }
    if (r < 0)
        return era_error_set(err, EBADMSG, "snapshot_corrupt", "the snapshot %s is damaged: %s", name, strerror(-r));
    struct snapshot found = {.volume_mib = (uint32_t)(facts.volume_bytes >> 20)};
    if (era_str_format(found.path, sizeof found.path, "%s/snapshots/%s", era->state_dir, name) < 0) {
        era_vm_ask_clear(&facts.ask);
        return era_error_set(err, ENAMETOOLONG, "snapshot_failed", "the state directory's path is too long");
    }
    era_vm_ask_clear(ask);
    *ask = facts.ask;
    if (facts.volume_bytes > 0)
        ask->disk_mib = found.volume_mib;
    found.volume_fd = era_take_fd(&volume);
    *ret_snapshot = found;
    return 0;
}

/* ---- forks ---------------------------------------------------------------- */

static int make_forks(struct era *era, const char *from, unsigned count, struct era_vm_list **list,
                      struct era_error *err)
{
    struct era_vm_spec spec = {0};
    era_vm_ask_init(&spec.ask, ERA_LANGUAGE_PYTHON);
    era_str_copy(spec.from, sizeof spec.from, from);
    int r = 0;
    for (unsigned i = 0; r >= 0 && i < count; i++) {
        struct era_vm *vm = NULL;
        r = era_vm_create(era, &spec, &vm, err);
        if (r >= 0 && vm_list_add(list, vm) < 0) {
            (void)era_vm_clean(era, vm->record.id, false, NULL);
            r = era_error_oom(err);
        }
        era_vm_free(vm);
    }
    for (size_t i = 0; r < 0 && *list != NULL && i < era_vm_list_count(*list); i++)
        (void)era_vm_clean(era, era_vm_id(era_vm_list_at(*list, i)), false, NULL);
    return r;
}

int era_vm_fork(struct era *era, const char *id, uint32_t count, struct era_vm_list **ret_list, struct era_error *err)
{
    char name[FOLDER_MAX];
    if (count < 1 || count > FORKS_MAX)
        return era_error_invalid(err, "count", "count must be a whole number from 1 to %d", FORKS_MAX);
    _cleanup_close_ int folder = -EBADF;
    _cleanup_close_ int op = -EBADF;
    int r = vm_seize(era, id, &folder, &op, err);
    _cleanup_close_ int all = r < 0 ? r : open_all(era, err);
    if (all < 0)
        return all;
    sweep(era, all);
    snprintf(name, sizeof name, ".fork-%s", id);
    r = save(era, id, folder, all, name, err);
    if (r < 0)
        return r;
    ERA_POINT("fork.saved");
    struct era_vm_list *list = NULL;
    r = make_forks(era, name, count, &list, err);
    ERA_POINT("fork.made");
    (void)era_remove_tree_at(all, name);
    ERA_POINT("fork.removed");
    if (r < 0) {
        era_vm_list_free(list);
        return r;
    }
    *ret_list = list;
    return 0;
}

/* ---- for the caller ------------------------------------------------------- */

struct listed {
    char name[ERA_NAME_MAX];
    struct snapshot_facts facts; /* ask.env cleared */
    uint64_t bytes;
};

struct era_snapshot_list {
    struct listed *items; /* owned */
    size_t count;
};

static uint64_t measure(int dirfd)
{
    static const char *const files[] = {"memory", "state", "volume.img"};
    uint64_t bytes = 0;
    struct stat st;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (fstatat(dirfd, files[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            bytes += (uint64_t)st.st_blocks * 512;
    return bytes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct listed *)a)->name, ((const struct listed *)b)->name);
}

/* One that cannot be read is listed too, so that it can be removed: without a VM. */
static int add(struct era_snapshot_list *list, int all, const char *name)
{
    struct listed *grown = reallocarray(list->items, list->count + 1, sizeof *grown);
    if (grown == NULL)
        return -ENOMEM;
    list->items = grown;
    struct listed *item = &grown[list->count];
    *item = (struct listed){0};
    _cleanup_close_ int dirfd = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dirfd < 0)
        return 0; /* it went meanwhile */
    if (snapshot_file_read(dirfd, &item->facts) >= 0)
        era_vm_ask_clear(&item->facts.ask);
    era_str_copy(item->name, sizeof item->name, name);
    item->bytes = measure(dirfd);
    list->count++;
    return 0;
}

int era_snapshot_list(struct era *era, struct era_snapshot_list **ret_list, struct era_error *err)
{
    _cleanup_close_ int all = open_all(era, err);
    if (all < 0)
        return all;
    sweep(era, all);
    struct era_snapshot_list *list = calloc(1, sizeof *list);
    int fd = openat(all, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    int r = list == NULL || dir == NULL ? -ENOMEM : 0;
    for (struct dirent *entry; r >= 0 && (entry = readdir(dir)) != NULL;)
        if (era_volume_name_valid(entry->d_name))
            r = add(list, all, entry->d_name);
    if (dir != NULL)
        closedir(dir);
    if (r < 0) {
        era_snapshot_list_free(list);
        return era_error_oom(err);
    }
    if (list->count > 0)
        qsort(list->items, list->count, sizeof list->items[0], by_name);
    *ret_list = list;
    return 0;
}

int era_snapshot_remove(struct era *era, const char *name, struct era_error *err)
{
    if (!era_volume_name_valid(name))
        return era_error_invalid(err, "name", "this is no snapshot's name; see `agent snapshot list`");
    _cleanup_close_ int all = open_all(era, err);
    if (all < 0)
        return all;
    if (!exists(all, name))
        return era_error_set(err, ENOENT, "snapshot_not_found", "no snapshot is named %s", name);
    int r = era_remove_tree_at(all, name);
    return r < 0 ? fail(err, r, "remove the snapshot") : 0;
}

void era_snapshot_list_free(struct era_snapshot_list *list)
{
    if (list == NULL)
        return;
    free(list->items);
    free(list);
}

size_t era_snapshot_list_count(const struct era_snapshot_list *list)
{
    return list->count;
}

const char *era_snapshot_list_name(const struct era_snapshot_list *list, size_t index)
{
    return list->items[index].name;
}

const char *era_snapshot_list_vm(const struct era_snapshot_list *list, size_t index)
{
    return list->items[index].facts.vm_id;
}

uint64_t era_snapshot_list_size_bytes(const struct era_snapshot_list *list, size_t index)
{
    return list->items[index].bytes;
}

int64_t era_snapshot_list_created_at_ns(const struct era_snapshot_list *list, size_t index)
{
    return list->items[index].facts.created_at_ns;
}

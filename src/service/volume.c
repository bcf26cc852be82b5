/* SPDX-License-Identifier: Apache-2.0 */
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
#include "base/idmap.h"
#include "base/process.h"
#include "service/service.h"

char *volume_path(const struct era *era, const struct era_volume_record *volume)
{
    const char *suffix = volume->kind == ERA_VOLUME_EXT4 ? ".img" : "";
    return era_str_printf("%s/volumes/%s%s", era->state_dir, volume->name, suffix);
}

static int fail(struct era_error *err, int r, const char *what)
{
    return era_error_set(err, -r, r == -ENOSPC ? "disk_full" : "volume_failed", "cannot make the volume: %s: %s", what,
                         strerror(-r));
}

static int make_ext4(const char *path, struct era_error *err)
{
    _cleanup_free_ char *mkfs = NULL;
    if (era_process_find("/usr/sbin:/sbin:/usr/bin:/bin", "mkfs.ext4", &mkfs) < 0)
        return era_error_set(err, ENOENT, "tool_missing", "--persist needs mkfs.ext4; install the package e2fsprogs");
    const char *const argv[] = {
        "mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", path, NULL};
    const char *const envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    const struct era_process_spec spec = {.path = mkfs, .argv = argv, .envp = envp, .cwd_fd = -EBADF};
    struct era_process_result result;
    int r = era_process_run(&spec, &result, err);
    if (r < 0)
        return r;
    if (era_process_succeeded(&result))
        return 0;
    if (strstr(result.tail, strerror(ENOSPC)) != NULL)
        return era_error_set(err, ENOSPC, "disk_full", "mkfs.ext4 found the disk full: %s", result.tail);
    return era_error_set(err, EIO, "volume_failed", "mkfs.ext4 failed: %s", result.tail);
}

/* A volume's name always fits, and what is cut off of anything else names no file. */
static void name_unfinished(const char *name, char to[ERA_NAME_MAX + 16])
{
    (void)era_str_format(to, ERA_NAME_MAX + 16, ".%s.new", name);
}

static void name_finished(const char *name, char to[ERA_NAME_MAX + 16])
{
    (void)era_str_format(to, ERA_NAME_MAX + 16, "%s.img", name);
}

/* A sparse file of its size, under a name that is no volume's until it is whole. */
static int make_image(struct era *era, const char *name, uint32_t size_mib, int from_fd, struct era_error *err)
{
    char temporary[ERA_NAME_MAX + 16];
    name_unfinished(name, temporary);
    char final[ERA_NAME_MAX + 16];
    name_finished(name, final);
    _cleanup_close_ int fd =
        openat(era->volumes_fd, temporary, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(err, -errno, "file");
    int r = 0;
    if (from_fd >= 0 && (r = era_copy_sparse(from_fd, fd)) < 0)
        r = fail(err, r, "copy");
    else if (from_fd < 0 && ftruncate(fd, (off_t)size_mib << 20) < 0)
        r = fail(err, -errno, "size");
    _cleanup_free_ char *path = era_str_printf("%s/volumes/%s", era->state_dir, temporary);
    if (path == NULL)
        r = era_error_oom(err);
    ERA_POINT("volume.sized");
    if (r >= 0 && from_fd < 0)
        r = make_ext4(path, err);
    ERA_POINT("volume.formatted");
    if (r >= 0 && renameat(era->volumes_fd, temporary, era->volumes_fd, final) < 0)
        r = fail(err, -errno, "name");
    ERA_POINT("volume.named");
    if (r < 0)
        unlinkat(era->volumes_fd, temporary, 0);
    return r;
}

int volume_create(struct era *era, const char *name, const char *vm_id, uint32_t size_mib, bool disk, int from_fd,
                  struct era_error *err)
{
    struct era_volume_record volume = {
        .kind = disk || era_idmap_is_host_root() ? ERA_VOLUME_EXT4 : ERA_VOLUME_FOLDER,
        .size_mib = size_mib,
        .created_at_ns = era_clock_realtime_ns(),
    };
    era_str_copy(volume.name, sizeof volume.name, name);
    era_str_copy(volume.vm_id, sizeof volume.vm_id, vm_id);
    int r = era_store_volume_insert(era->store, &volume, err);
    if (r < 0)
        return r;
    ERA_POINT("volume.recorded");
    if (volume.kind == ERA_VOLUME_EXT4) {
        r = make_image(era, name, size_mib, from_fd, err);
    } else {
        r = era_ensure_dir_at(era->volumes_fd, name, 0700);
        if (r < 0)
            r = fail(err, r, "folder");
    }
    return r;
}

int volume_remove_files(struct era *era, const char *name, struct era_error *err)
{
    char file[ERA_NAME_MAX + 16];
    name_unfinished(name, file); /* of a maker who was killed */
    (void)unlinkat(era->volumes_fd, file, 0);
    name_finished(name, file);
    int r = unlinkat(era->volumes_fd, file, 0) < 0 && errno != ENOENT ? -errno : 0;
    if (r >= 0)
        r = era_remove_tree_at(era->volumes_fd, name);
    ERA_POINT("discard.removed");
    return r < 0 ? era_error_errno(err, -r, "cannot remove the volume's file") : 0;
}

/* The name of the volume that a file belongs to. */
static bool name_of_file(const char *file, char ret_name[ERA_NAME_MAX + 16])
{
    size_t len = strlen(file);
    bool unfinished = file[0] == '.';
    const char *suffix = unfinished ? ".new" : ".img";
    if (len >= ERA_NAME_MAX + 16)
        return false;
    memcpy(ret_name, file + unfinished, len + 1 - unfinished);
    len -= unfinished;
    if (len > 4 && era_str_eq(ret_name + len - 4, suffix))
        ret_name[len - 4] = '\0';
    return era_volume_name_valid(ret_name);
}

void reconcile_volumes(struct era *era)
{
    int fd = openat(era->volumes_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        era_closep(&fd);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char name[ERA_NAME_MAX + 16];
        struct era_volume_record volume;
        struct era_error err = {0};
        if (name_of_file(entry->d_name, name) && era_store_volume_get(era->store, name, &volume, &err) < 0 &&
            era_error_is(&err, "volume_not_found"))
            (void)volume_remove_files(era, name, NULL);
    }
    closedir(dir);
}

/* ---- for the caller ----------------------------------------------------- */

struct era_volume_list {
    struct era_volume_record *volumes; /* owned */
    size_t count;
};

int era_volume_list(struct era *era, struct era_volume_list **ret_list, struct era_error *err)
{
    struct era_volume_list *list = calloc(1, sizeof *list);
    if (list == NULL)
        return era_error_oom(err);
    int r = era_store_volume_list(era->store, &list->volumes, &list->count, err);
    if (r < 0) {
        free(list);
        return r;
    }
    *ret_list = list;
    return 0;
}

size_t era_volume_list_count(const struct era_volume_list *list)
{
    return list->count;
}

void era_volume_list_free(struct era_volume_list *list)
{
    if (list == NULL)
        return;
    free(list->volumes);
    free(list);
}

const char *era_volume_list_name(const struct era_volume_list *list, size_t index)
{
    return list->volumes[index].name;
}

const char *era_volume_list_kind(const struct era_volume_list *list, size_t index)
{
    return era_volume_kind_name(list->volumes[index].kind);
}

const char *era_volume_list_vm(const struct era_volume_list *list, size_t index)
{
    return list->volumes[index].vm_id;
}

uint32_t era_volume_list_size_mib(const struct era_volume_list *list, size_t index)
{
    return list->volumes[index].size_mib;
}

int64_t era_volume_list_created_at_ns(const struct era_volume_list *list, size_t index)
{
    return list->volumes[index].created_at_ns;
}

int era_volume_remove(struct era *era, const char *name, struct era_error *err)
{
    if (!era_volume_name_valid(name))
        return era_error_invalid(err, "volume", "this is no volume name; see `agent volume list`");
    /* The record first: a file without one is an orphan, a record without file would be a lie. */
    int r = era_store_volume_delete(era->store, name, err);
    ERA_POINT("discard.forgotten");
    return r < 0 ? r : volume_remove_files(era, name, err);
}

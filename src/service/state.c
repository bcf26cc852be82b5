/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "service/service.h"

/* ---- where the helpers are ---------------------------------------------- */

/* "dir/below" as a real path, when era-shim is in it. */
static char *helpers_at(const char *dir, const char *below)
{
    _cleanup_free_ char *probe = era_str_printf("%s%s/era-shim", dir, below);
    _cleanup_free_ char *real = probe != NULL && access(probe, X_OK) == 0 ? realpath(probe, NULL) : NULL;
    if (real == NULL)
        return NULL;
    *strrchr(real, '/') = '\0';
    return era_take_ptr(real);
}

/* Beside a file, or where an installation of it has them. */
static char *helpers_near(const char *file)
{
    _cleanup_free_ char *dir = realpath(file, NULL);
    if (dir == NULL)
        return NULL;
    *strrchr(dir, '/') = '\0';
    static const char *const below[] = {"", "/../libexec/agent", "/../../libexec/agent"};
    for (size_t i = 0; i < sizeof below / sizeof below[0]; i++) {
        char *found = helpers_at(dir, below[i]);
        if (found != NULL)
            return found;
    }
    return NULL;
}

static int find_helpers(struct era *era, struct era_error *err)
{
    Dl_info self;
    era->helper_dir = helpers_near("/proc/self/exe");
    if (era->helper_dir == NULL && dladdr((const void *)(uintptr_t)era_version, &self) != 0 && self.dli_fname != NULL)
        era->helper_dir = helpers_near(self.dli_fname);
    if (era->helper_dir == NULL)
        era->helper_dir = helpers_at(ERA_HELPER_DIR, "");
    if (era->helper_dir == NULL)
        return era_error_set(err, ENOENT, "helper_missing", "era-shim is neither beside this program nor in %s",
                             ERA_HELPER_DIR);
    return 0;
}

/* ---- the state directory ------------------------------------------------ */

static int make_directories(const char *path)
{
    _cleanup_free_ char *copy = strdup(path);
    if (copy == NULL)
        return -ENOMEM;
    for (char *slash = strchr(copy + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Opens it when it is ours, closed to others, and can be written. */
static int try_directory(const char *path, int *ret_fd)
{
    int r = make_directories(path);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_uid != geteuid())
        return -EPERM;
    if ((st.st_mode & 077) != 0 && fchmod(fd, 0700) < 0)
        return -errno;
    static const char *const folders[] = {"vms", "volumes", "images"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        if ((r = era_ensure_dir_at(fd, folders[i], 0700)) < 0)
            return r;
    if (faccessat(fd, ".", W_OK, AT_EACCESS) < 0)
        return -errno;
    *ret_fd = era_take_fd(&fd);
    return 0;
}

static int open_named(struct era *era, const char *path, struct era_error *err)
{
    if (path[0] == '\0')
        return era_error_invalid(err, "state_dir", "the state directory has an empty name");
    int r = try_directory(path, &era->state_fd);
    if (r < 0) {
        const char *why = r == -EPERM ? "it belongs to another user" : strerror(-r);
        return era_error_set(err, -r, r == -ENOSPC ? "disk_full" : "state_dir_unusable",
                             "the state directory %s cannot be used: %s", path, why);
    }
    era->state_dir = realpath(path, NULL);
    return era->state_dir == NULL ? era_error_oom(err) : 0;
}

static int open_default(struct era *era, struct era_error *err)
{
    const char *home = secure_getenv("HOME");
    const struct {
        const char *base, *name;
    } candidates[] = {{"/var/lib", "/agent"}, {home, "/.config/agent"}, {home, "/.agent"}, {"/tmp", "/agent"}};
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
        if (candidates[i].base == NULL || candidates[i].base[0] != '/')
            continue;
        _cleanup_free_ char *path = era_str_printf("%s%s", candidates[i].base, candidates[i].name);
        if (path == NULL)
            return era_error_oom(err);
        if (try_directory(path, &era->state_fd) < 0)
            continue;
        era->state_dir = era_take_ptr(path);
        return 0;
    }
    return era_error_set(err, EACCES, "state_dir_unusable",
                         "no state directory can be used: name one by --state-dir or AGENT_STATE_DIR");
}

static bool has_database(const struct era *era)
{
    struct stat st;
    return fstatat(era->state_fd, "state.db", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
}

static bool is_empty(int folder_fd)
{
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        era_closep(&fd);
        return false;
    }
    int entries = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        entries += !era_str_eq(entry->d_name, ".") && !era_str_eq(entry->d_name, "..");
    closedir(dir);
    return entries == 0;
}

/*
 * What is in vms/ and volumes/ without a record is taken for the remains of one
 * that was removed. A database that is gone would make that of all volumes. It
 * is looked for again at the end: until then somebody may have begun.
 */
static int check_database(const struct era *era, struct era_error *err)
{
    if (has_database(era) || (is_empty(era->vms_fd) && is_empty(era->volumes_fd)) || has_database(era))
        return 0;
    return era_error_set(
        err, EUCLEAN, "state_corrupt",
        "%s/state.db is gone or empty, but vms and volumes beside it are not: put it back, or move them "
        "away to begin anew",
        era->state_dir);
}

static int open_store(struct era *era, struct era_error *err)
{
    _cleanup_free_ char *path = era_str_printf("%s/state.db", era->state_dir);
    if (path == NULL)
        return era_error_oom(err);
    era->vms_fd = openat(era->state_fd, "vms", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    era->volumes_fd = openat(era->state_fd, "volumes", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (era->vms_fd < 0 || era->volumes_fd < 0)
        return era_error_errno(err, errno, "cannot open the state directory %s", era->state_dir);
    int r = check_database(era, err);
    return r < 0 ? r : era_store_open_later(path, &era->store, err);
}

int era_open(const char *state_dir, struct era **ret_era, struct era_error *err)
{
    struct era *era = calloc(1, sizeof *era);
    if (era == NULL)
        return era_error_oom(err);
    era->state_fd = era->vms_fd = era->volumes_fd = -EBADF;
    int r = find_helpers(era, err);
    if (r >= 0)
        r = state_dir != NULL ? open_named(era, state_dir, err) : open_default(era, err);
    if (r >= 0)
        r = open_store(era, err);
    if (r < 0) {
        era_close(era);
        return r;
    }
    *ret_era = era;
    return 0;
}

void era_close(struct era *era)
{
    if (era == NULL)
        return;
    era_image_store_close(era->images);
    era_store_close(era->store);
    era_closep(&era->state_fd);
    era_closep(&era->vms_fd);
    era_closep(&era->volumes_fd);
    free(era->state_dir);
    free(era->helper_dir);
    free(era);
}

const char *era_version(void)
{
    return ERA_VERSION;
}

const char *era_state_dir(const struct era *era)
{
    return era->state_dir;
}

const char *era_helper_dir(const struct era *era)
{
    return era->helper_dir;
}

void era_set_progress(struct era *era, era_progress_fn fn, void *userdata)
{
    era->progress = fn;
    era->progress_userdata = userdata;
    if (era->images != NULL)
        era_image_store_set_progress(era->images, fn, userdata);
}

void era_set_cancel(struct era *era, int fd)
{
    era->cancel_fd = fd;
    if (era->images != NULL)
        era_image_store_set_cancel(era->images, fd);
}

int service_images(struct era *era, struct era_error *err)
{
    if (era->images != NULL)
        return 0;
    int r = era_image_store_open(era->state_dir, era->helper_dir, &era->images, err);
    if (r < 0)
        return r;
    era_image_store_set_progress(era->images, era->progress, era->progress_userdata);
    era_image_store_set_cancel(era->images, era->cancel_fd);
    return 0;
}

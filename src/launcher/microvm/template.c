/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "launcher/microvm/template.h"

enum { NAME_SIZE = 32 };

void template_close(struct template *template)
{
    era_closep(&template->lock_fd);
    era_closep(&template->memory_fd);
    era_closep(&template->state_fd);
}

/* Waits for the lock; -EAGAIN when another file has its name meanwhile. */
static int lock(int templates_fd, const char *name, int operation)
{
    struct stat held;
    struct stat named;
    _cleanup_close_ int fd = openat(templates_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    while (flock(fd, operation) < 0)
        if (errno != EINTR)
            return -errno;
    if (fstat(fd, &held) < 0)
        return -errno;
    if (fstatat(templates_fd, name, &named, AT_SYMLINK_NOFOLLOW) < 0 || held.st_ino != named.st_ino)
        return -EAGAIN;
    return era_take_fd(&fd);
}

static int lock_patiently(int templates_fd, const char *name, int operation)
{
    int fd;
    do
        fd = lock(templates_fd, name, operation);
    while (fd == -EAGAIN);
    return fd;
}

/* ---- the budget --------------------------------------------------------- */

struct resident {
    char name[NAME_SIZE];
    uint64_t bytes;
    struct timespec used;
};

static bool measure(int templates_fd, const char *name, struct resident *to)
{
    char path[NAME_SIZE + 16];
    struct stat memory;
    struct stat manifest;
    snprintf(path, sizeof path, "%.31s/memory", name);
    if (fstatat(templates_fd, path, &memory, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    snprintf(path, sizeof path, "%.31s/manifest", name);
    if (fstatat(templates_fd, path, &manifest, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    era_str_copy(to->name, sizeof to->name, name);
    to->bytes = (uint64_t)memory.st_blocks * 512;
    to->used = manifest.st_mtim;
    return true;
}

static bool earlier(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* All of them together, and the one that was used least recently and is not among `passed`. */
static uint64_t survey(int templates_fd, const struct timespec *passed, struct resident *ret_oldest)
{
    uint64_t bytes = 0;
    ret_oldest->name[0] = '\0';
    int fd = openat(templates_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct resident one;
        if (entry->d_name[0] == '.' || !measure(templates_fd, entry->d_name, &one))
            continue;
        bytes += one.bytes;
        if (earlier(passed, &one.used) && (ret_oldest->name[0] == '\0' || earlier(&one.used, &ret_oldest->used)))
            *ret_oldest = one;
    }
    closedir(dir);
    return bytes;
}

/* Unless a guest runs on it, or it is being made. */
static void remove_one(int templates_fd, const char *name)
{
    char lock_name[NAME_SIZE + 8];
    char temporary[NAME_SIZE + 8];
    snprintf(lock_name, sizeof lock_name, "%.31s.lock", name);
    snprintf(temporary, sizeof temporary, ".new-%.31s", name);
    _cleanup_close_ int fd = lock(templates_fd, lock_name, LOCK_EX | LOCK_NB);
    if (fd < 0)
        return;
    (void)era_remove_tree_at(templates_fd, name);
    (void)era_remove_tree_at(templates_fd, temporary);
    (void)unlinkat(templates_fd, lock_name, 0);
}

/* What a maker that was killed left. */
static void sweep_unfinished(int templates_fd)
{
    static const char prefix[] = ".new-";
    int fd = openat(templates_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *name = entry->d_name + sizeof prefix - 1;
        if (era_str_starts_with(entry->d_name, prefix) && faccessat(templates_fd, name, F_OK, 0) < 0)
            remove_one(templates_fd, name);
    }
    closedir(dir);
}

static void evict(int templates_fd, uint64_t budget_bytes)
{
    sweep_unfinished(templates_fd);
    struct timespec passed = {0};
    for (struct resident oldest; survey(templates_fd, &passed, &oldest) > budget_bytes && oldest.name[0] != '\0';) {
        remove_one(templates_fd, oldest.name);
        passed = oldest.used;
    }
}

/* ---- making one --------------------------------------------------------- */

struct making {
    const struct era_guest_config *config;
    const struct machine_spec *spec;
    const struct template_key *key;
    qemu_lend_fn lend;
    void *userdata;
};

/* Boots the machine with its files in this folder. */
static int fill(const struct making *making, int dirfd, struct era_error *err)
{
    const struct era_guest_config *config = making->config;
    _cleanup_close_ int kernel_dir = open(config->kernel_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int kernel = kernel_dir < 0 ? open(config->kernel_path, O_RDONLY | O_CLOEXEC)
                                                : openat(kernel_dir, "vmlinuz", O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int image = open(config->image_file, O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int memory = openat(dirfd, "memory", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    _cleanup_close_ int state = openat(dirfd, "state", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (kernel < 0 || image < 0 || memory < 0 || state < 0 || ftruncate(memory, (off_t)config->mem_mib << 20) < 0)
        return era_error_errno(err, errno, "cannot open what a template is made of");
    _cleanup_close_ int initramfs = initramfs_make(config->init_path, kernel_dir);
    if (initramfs < 0)
        return era_error_errno(err, -initramfs, "cannot make the guest's initramfs");
    /* The card leads nowhere yet. */
    int wire[2] = {-EBADF, -EBADF};
    if (making->spec->network && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, wire) < 0)
        return era_error_errno(err, errno, "cannot make a socket pair");
    _cleanup_close_ int our_wire = wire[0];
    _cleanup_close_ int their_wire = wire[1];
    struct machine_spec spec = *making->spec;
    spec.clone = spec.volume = false;
    spec.tsc_khz = boot_tsc_khz();
    const struct qemu_files files = {.memory_fd = memory,
                                     .image_fd = image,
                                     .volume_fd = -EBADF,
                                     .network_fd = their_wire,
                                     .kernel_fd = kernel,
                                     .initramfs_fd = initramfs};
    const struct qemu_start start = {
        .config = config, .spec = &spec, .files = &files, .lend = making->lend, .userdata = making->userdata};
    return boot_and_save(&start, state, err);
}

static int make(const struct making *making, int templates_fd, struct era_error *err)
{
    char temporary[NAME_SIZE];
    snprintf(temporary, sizeof temporary, ".new-%s", making->key->name);
    /* The lock is ours: what is left of an earlier try is nobody's. */
    (void)era_remove_tree_at(templates_fd, temporary);
    if (mkdirat(templates_fd, temporary, 0700) < 0)
        return era_error_errno(err, errno, "cannot make a template");
    _cleanup_close_ int dirfd = openat(templates_fd, temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = dirfd < 0 ? era_error_errno(err, errno, "cannot make a template") : fill(making, dirfd, err);
    if (r >= 0 && (r = manifest_write(dirfd, making->key)) < 0)
        r = era_error_set(err, -r, r == -ENOSPC || r == -EDQUOT ? "disk_full" : "vm_start_failed",
                          "cannot save a template: %s", strerror(-r));
    if (r >= 0)
        (void)era_remove_tree_at(templates_fd, making->key->name);
    if (r >= 0 && renameat(templates_fd, temporary, templates_fd, making->key->name) < 0)
        r = era_error_errno(err, errno, "cannot save a template");
    if (r < 0)
        (void)era_remove_tree_at(templates_fd, temporary);
    return r;
}

/* ---- using one ---------------------------------------------------------- */

static int check(int templates_fd, const struct template_key *key, struct template *template)
{
    _cleanup_close_ int dirfd = openat(templates_fd, key->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return dirfd < 0 ? -errno : manifest_check(dirfd, key, template);
}

static int open_or_make(const struct making *making, int templates_fd, struct template *template, struct era_error *err)
{
    char lock_name[NAME_SIZE];
    snprintf(lock_name, sizeof lock_name, "%s.lock", making->key->name);
    template->lock_fd = lock_patiently(templates_fd, lock_name, LOCK_SH);
    if (template->lock_fd >= 0 && check(templates_fd, making->key, template) >= 0)
        return 0;
    era_closep(&template->lock_fd);
    template->lock_fd = lock_patiently(templates_fd, lock_name, LOCK_EX);
    if (template->lock_fd < 0)
        return era_error_errno(err, -template->lock_fd, "cannot lock the template");
    if (check(templates_fd, making->key, template) < 0) { /* nobody else made it while we waited */
        if (making->config->progress != NULL)
            making->config->progress(making->config->progress_userdata,
                                     "booting a machine that later ones are copied from");
        int r = make(making, templates_fd, err);
        if (r < 0)
            return r;
        evict(templates_fd, making->config->template_budget_bytes);
        r = check(templates_fd, making->key, template);
        if (r < 0)
            return era_error_set(err, -r, "vm_start_failed", "the new template is not whole");
    }
    /* From exclusive to shared; a lock is not lost in between to one that removes, since it rechecks the name. */
    while (flock(template->lock_fd, LOCK_SH) < 0)
        if (errno != EINTR)
            return era_error_errno(err, errno, "cannot lock the template");
    return 0;
}

int template_open(const struct era_guest_config *config, const struct machine_spec *spec, qemu_lend_fn lend,
                  void *userdata, struct template *ret_template, struct era_error *err)
{
    struct template_key key;
    char kernel_file[ERA_PATH_MAX];
    struct stat st;
    bool folder = stat(config->kernel_path, &st) == 0 && S_ISDIR(st.st_mode);
    int r = era_str_format(kernel_file, sizeof kernel_file, "%s%s", config->kernel_path, folder ? "/vmlinuz" : "");
    if (r >= 0)
        r = template_key(config, spec, kernel_file, &key);
    if (r < 0)
        return era_error_errno(err, -r, "cannot find what a template is made of");
    _cleanup_close_ int templates = open(config->templates_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (templates < 0)
        return era_error_errno(err, errno, "cannot open %s", config->templates_path);
    const struct making making = {.config = config, .spec = spec, .key = &key, .lend = lend, .userdata = userdata};
    _cleanup_(template_close) struct template template = {-EBADF, -EBADF, -EBADF};
    r = open_or_make(&making, templates, &template, err);
    if (r < 0)
        return r;
    *ret_template = template;
    template = (struct template){-EBADF, -EBADF, -EBADF};
    return 0;
}

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
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
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

static int lock(int fd, int operation)
{
    while (flock(fd, operation) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* The lock of who makes a template. Its file stays: it is empty, and a new one would be another lock. */
static int lock_making(int templates_fd, const char *name, int operation)
{
    char lock_name[NAME_SIZE + 8];
    snprintf(lock_name, sizeof lock_name, "%.31s.lock", name);
    _cleanup_close_ int fd = openat(templates_fd, lock_name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : lock(fd, operation);
    return r < 0 ? r : era_take_fd(&fd);
}

static int open_folder(int templates_fd, const char *name)
{
    int fd = openat(templates_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
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

/* Unless a guest runs on it. */
static void remove_unused(int templates_fd, const char *name)
{
    _cleanup_close_ int folder = open_folder(templates_fd, name);
    if (folder >= 0 && lock(folder, LOCK_EX | LOCK_NB) >= 0)
        (void)era_remove_tree_at(templates_fd, name);
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
        if (!era_str_starts_with(entry->d_name, prefix))
            continue;
        _cleanup_close_ int making = lock_making(templates_fd, name, LOCK_EX | LOCK_NB);
        if (making >= 0)
            (void)era_remove_tree_at(templates_fd, entry->d_name);
    }
    closedir(dir);
}

static void evict(int templates_fd, uint64_t budget_bytes)
{
    sweep_unfinished(templates_fd);
    struct timespec passed = {0};
    for (struct resident oldest; survey(templates_fd, &passed, &oldest) > budget_bytes && oldest.name[0] != '\0';) {
        remove_unused(templates_fd, oldest.name);
        passed = oldest.used;
    }
}

/* ---- making one --------------------------------------------------------- */

struct making {
    const struct era_guest_config *config;
    const struct machine_spec *spec;
    const struct template_key *key;
    const struct cgroup *cgroup;
};

bool template_kernel_is_own(const struct era_guest_config *config)
{
    struct stat st;
    return stat(config->kernel_path, &st) == 0 && !S_ISDIR(st.st_mode);
}

/* The kernel itself; in its folder lie modules/00, modules/01, … when it needs any. */
static int find_kernel(const struct era_guest_config *config, char to[ERA_PATH_MAX])
{
    return era_str_format(to, ERA_PATH_MAX, "%s%s", config->kernel_path,
                          template_kernel_is_own(config) ? "" : "/vmlinuz");
}

static int explain_own_kernel(int r, struct era_error *err)
{
    if (err == NULL || !era_error_is(err, "vm_start_failed"))
        return r;
    const struct era_error why = *err;
    return era_error_set(
        err, -r, "vm_start_failed",
        "%s; this kernel needs %s built in, or their modules beside it as modules/00, modules/01 and so on",
        why.message, "virtio-mmio, -blk, -console, -net, EROFS and overlayfs");
}

/* Boots the machine with its files in this folder. */
static int fill(const struct making *making, int dirfd, struct era_error *err)
{
    const struct era_guest_config *config = making->config;
    char kernel_file[ERA_PATH_MAX];
    int r = find_kernel(config, kernel_file);
    if (r < 0)
        return era_error_errno(err, -r, "cannot open what a template is made of");
    _cleanup_close_ int kernel = open(kernel_file, O_RDONLY | O_CLOEXEC);
    *strrchr(kernel_file, '/') = '\0';
    _cleanup_close_ int kernel_dir =
        open(kernel_file[0] != '\0' ? kernel_file : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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
    (void)our_wire; /* only held */
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
    const struct qemu_start start = {.config = config, .spec = &spec, .files = &files, .cgroup = making->cgroup};
    r = boot_and_save(&start, state, err);
    return r < 0 && template_kernel_is_own(config) ? explain_own_kernel(r, err) : r;
}

/* In .new-<name>, which it opens, empty. We are the maker: what is left of an earlier try is nobody's. */
static int open_new(int templates_fd, const char *temporary)
{
    (void)era_remove_tree_at(templates_fd, temporary);
    if (mkdirat(templates_fd, temporary, 0700) < 0)
        return -errno;
    return open_folder(templates_fd, temporary);
}

/* A machine whose memory finds no room on the disk is ended by SIGBUS, which does not say why. */
static int explain(int dirfd, int r, struct era_error *err)
{
    enum { NEXT_TO_NOTHING = 256 * 1024 };
    struct statvfs disk;
    bool full = r == -ENOSPC || r == -EDQUOT ||
                (fstatvfs(dirfd, &disk) == 0 && disk.f_bavail * disk.f_frsize < NEXT_TO_NOTHING);
    return full ? era_error_set(err, ENOSPC, "disk_full", "cannot save a template: the disk is full") : r;
}

static int make_once(const struct making *making, int templates_fd, const char *temporary, struct era_error *err)
{
    _cleanup_close_ int dirfd = open_new(templates_fd, temporary);
    ERA_POINT("template.begun");
    if (dirfd < 0)
        return era_error_errno(err, -dirfd, "cannot make a template");
    int r = fill(making, dirfd, err);
    if (r >= 0 && ((r = manifest_sync(dirfd)) < 0 || (r = manifest_write(dirfd, making->key)) < 0))
        r = era_error_set(err, -r, "vm_start_failed", "cannot save a template: %s", strerror(-r));
    return r < 0 ? explain(dirfd, r, err) : 0;
}

static int make(const struct making *making, int templates_fd, struct era_error *err)
{
    char temporary[NAME_SIZE];
    snprintf(temporary, sizeof temporary, ".new-%s", making->key->name);
    int r = make_once(making, templates_fd, temporary, err);
    ERA_POINT("template.written");
    if (r >= 0)
        (void)era_remove_tree_at(templates_fd, making->key->name);
    ERA_POINT("template.cleared");
    if (r >= 0 && renameat(templates_fd, temporary, templates_fd, making->key->name) < 0)
        r = era_error_errno(err, errno, "cannot save a template");
    if (r < 0)
        (void)era_remove_tree_at(templates_fd, temporary);
    return r;
}

/* ---- using one ---------------------------------------------------------- */

/* Takes it in use first: who removes templates passes it over from then on, or has removed its manifest already. */
static int use(int templates_fd, const struct template_key *key, struct template *template)
{
    _cleanup_close_ int folder = open_folder(templates_fd, key->name);
    int r = folder < 0 ? folder : lock(folder, LOCK_SH);
    if (r >= 0)
        r = manifest_check(folder, key, template);
    if (r >= 0)
        template->lock_fd = era_take_fd(&folder);
    return r;
}

static int use_or_make(const struct making *making, int templates_fd, struct template *template, struct era_error *err)
{
    const struct era_guest_config *config = making->config;
    if (use(templates_fd, making->key, template) >= 0)
        return 0;
    _cleanup_close_ int held = lock_making(templates_fd, making->key->name, LOCK_EX);
    if (held < 0)
        return era_error_errno(err, -held, "cannot lock the template");
    if (use(templates_fd, making->key, template) >= 0)
        return 0; /* somebody else made it while we waited */
    ERA_POINT("template.locked");
    if (config->progress != NULL)
        config->progress(config->progress_userdata, "booting a machine that later ones are copied from");
    int r = make(making, templates_fd, err);
    if (r < 0)
        return r;
    ERA_POINT("template.placed");
    r = use(templates_fd, making->key, template);
    if (r < 0)
        return era_error_set(err, -r, "vm_start_failed", "the new template is not whole: %s", strerror(-r));
    evict(templates_fd, config->template_budget_bytes);
    return 0;
}

int template_key_of(const struct era_guest_config *config, const struct machine_spec *spec,
                    struct template_key *ret_key, struct era_error *err)
{
    char kernel_file[ERA_PATH_MAX];
    int r = find_kernel(config, kernel_file);
    if (r >= 0)
        r = template_key(config, spec, kernel_file, ret_key);
    return r < 0 ? era_error_errno(err, -r, "cannot find what a template is made of") : 0;
}

int template_open(const struct era_guest_config *config, const struct machine_spec *spec, const struct cgroup *cgroup,
                  struct template *ret_template, struct era_error *err)
{
    struct template_key key;
    int r = template_key_of(config, spec, &key, err);
    if (r < 0)
        return r;
    _cleanup_close_ int templates = open(config->templates_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (templates < 0)
        return era_error_errno(err, errno, "cannot open %s", config->templates_path);
    const struct making making = {.config = config, .spec = spec, .key = &key, .cgroup = cgroup};
    _cleanup_(template_close) struct template template = {-EBADF, -EBADF, -EBADF};
    r = use_or_make(&making, templates, &template, err);
    if (r < 0)
        return r;
    *ret_template = template;
    template = (struct template){-EBADF, -EBADF, -EBADF};
    return 0;
}

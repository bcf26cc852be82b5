/* SPDX-License-Identifier: Apache-2.0 */
/* The last touches to a tree, and its size. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "image/unpack.h"

static int edit_file(const struct era_place *place, const char *text, struct era_error *err)
{
    _cleanup_close_ int fd =
        openat(place->dir_fd, place->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    int r = fd < 0 ? -errno : era_write_full(fd, text, strlen(text));
    return r < 0 ? era_entry_system_error(err, -r, "write", place->name) : 0;
}

static int edit_link(const struct era_place *place, const char *target, struct era_error *err)
{
    if (symlinkat(target, place->dir_fd, place->name) < 0)
        return era_entry_system_error(err, errno, "make", place->name);
    return 0;
}

static int edit_folder(const struct era_place *place, const char *unused, struct era_error *err)
{
    if (mkdirat(place->dir_fd, place->name, 0755) < 0)
        return era_entry_system_error(err, errno, "make", place->name);
    return 0;
}

static const struct edit {
    const char *name;
    int words;
    int (*make)(const struct era_place *place, const char *text, struct era_error *err);
} edits[] = {
    {"file", 3, edit_file},
    {"link", 3, edit_link},
    {"folder", 2, edit_folder},
    {"remove", 2, NULL},
};

int era_unpack_edit(struct era_tree *tree, char *const argv[], struct era_error *err)
{
    const struct edit *edit = NULL;
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++)
        if (era_str_eq(argv[0], edits[i].name))
            edit = &edits[i];
    if (edit == NULL || argv[1] == NULL || (edit->words == 3 && argv[2] == NULL))
        return era_error_invalid(err, "edit", "%s is no edit", argv[0]);
    int r = era_tree_check_path(argv[1], err);
    if (r < 0)
        return r;
    _cleanup_(era_place_close) struct era_place place = {.dir_fd = -EBADF};
    r = era_tree_find(tree, argv[1], edit->make != NULL, &place, err);
    if (r == -ENOENT)
        return edit->words; /* nothing to remove */
    if (r >= 0)
        r = era_tree_clear(&place, err);
    if (r >= 0 && edit->make != NULL)
        r = edit->make(&place, argv[2], err);
    return r < 0 ? r : edit->words;
}

/* Bounded by depth. NOLINTNEXTLINE(misc-no-recursion) */
static int measure_directory(int parent, const char *name, unsigned depth, uint64_t *bytes, uint64_t *entries)
{
    if (depth == 0)
        return -ELOOP;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int error = errno;
        close(fd);
        return -error;
    }
    int r = 0;
    struct dirent *child;
    while (r >= 0 && (errno = 0, child = readdir(dir)) != NULL) {
        if (strcmp(child->d_name, ".") == 0 || strcmp(child->d_name, "..") == 0)
            continue;
        struct stat st;
        if (fstatat(fd, child->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            r = -errno;
            break;
        }
        ++*entries;
        /* All names of an inode are in the tree, so that their shares add up. */
        *bytes += (uint64_t)st.st_blocks * 512 / (S_ISDIR(st.st_mode) ? 1 : st.st_nlink);
        if (S_ISDIR(st.st_mode))
            r = measure_directory(fd, child->d_name, depth - 1, bytes, entries);
    }
    if (child == NULL && errno != 0 && r >= 0)
        r = -errno;
    closedir(dir);
    return r;
}

int era_unpack_measure(const struct era_tree *tree, uint64_t *ret_bytes, uint64_t *ret_entries, struct era_error *err)
{
    uint64_t bytes = 0;
    uint64_t entries = 0;
    int r = measure_directory(tree->root_fd, ".", ERA_TREE_DEPTH_MAX + 2, &bytes, &entries);
    if (r < 0)
        return era_error_errno(err, -r, "cannot measure the image");
    *ret_bytes = bytes;
    *ret_entries = entries;
    return 0;
}

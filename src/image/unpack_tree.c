/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding places in the tree: see the theory of operation in unpack.h.
 *
 * A walk keeps the descriptors of the directories it went through on a stack.
 * ".." (only the targets of symlinks have any) takes the uppermost off; at the
 * root it stays. The kernel is never asked for more than one component, never
 * for "..", and never to follow a link. Nobody else changes the tree meanwhile.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "image/unpack.h"

/* FNV-1a, the 64-bit parameters. */
#define KEY_ROOT  UINT64_C(14695981039346656037)
#define KEY_PRIME UINT64_C(1099511628211)

struct walk {
    int fds[ERA_TREE_DEPTH_MAX + 1];
    uint64_t keys[ERA_TREE_DEPTH_MAX + 1];
    size_t depth; /* fds[0] is the root, borrowed */
    unsigned links;
    char rest[2 * PATH_MAX]; /* what is still to walk */
};

static uint64_t key_of(uint64_t parent, const char *name)
{
    uint64_t key = (parent ^ '/') * KEY_PRIME;
    for (; *name != '\0'; name++)
        key = (key ^ (unsigned char)*name) * KEY_PRIME;
    return key;
}

static void walk_up(struct walk *walk)
{
    if (walk->depth > 0)
        era_closep(&walk->fds[walk->depth--]);
}

static void walk_close(struct walk *walk)
{
    while (walk->depth > 0)
        walk_up(walk);
}

void era_tree_close(struct era_tree *tree)
{
    era_closep(&tree->root_fd);
    era_marks_clear(&tree->marks);
}

void era_place_close(struct era_place *place)
{
    era_closep(&place->dir_fd);
}

int era_tree_check_path(const char *path, struct era_error *err)
{
    if (path == NULL || path[0] == '\0')
        return era_error_set(err, EBADMSG, "image_corrupt", "an entry has no name, or none that can be read");
    if (strlen(path) >= PATH_MAX)
        return era_error_set(err, EBADMSG, "image_corrupt", "an entry's path is too long: %.100s…", path);
    size_t depth = 0;
    for (const char *at = path + strspn(path, "/"); *at != '\0'; at += strspn(at, "/")) {
        size_t len = strcspn(at, "/");
        if (len > NAME_MAX)
            return era_error_set(err, EBADMSG, "image_corrupt", "an entry's name is too long: %.100s…", at);
        if (len == 2 && memcmp(at, "..", 2) == 0)
            return era_error_set(err, EBADMSG, "image_corrupt", "an entry leads out of the image: %.200s", path);
        depth += !(len == 1 && at[0] == '.');
        at += len;
    }
    if (depth > ERA_TREE_DEPTH_MAX)
        return era_error_set(err, EBADMSG, "image_corrupt", "an entry nests too deep: %.100s…", path);
    return 0;
}

/* Goes on with a symlink's target before the rest. */
static int walk_link(struct walk *walk, const char *name, struct era_error *err)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(walk->fds[walk->depth], name, target, sizeof target - 1);
    if (n < 0 && errno == EINVAL)
        return era_error_set(err, EBADMSG, "image_corrupt", "an entry lies below \"%s\", which is no directory", name);
    if (n < 0)
        return era_error_errno(err, errno, "cannot read the link %s", name);
    target[n] = '\0';
    if (++walk->links > ERA_TREE_LINKS_MAX)
        return era_error_set(err, EBADMSG, "image_corrupt", "the symbolic link %s leads in a circle", name);
    if (target[0] == '/')
        walk_close(walk);
    size_t rest = strlen(walk->rest);
    if ((size_t)n + 1 + rest >= sizeof walk->rest)
        return era_error_set(err, EBADMSG, "image_corrupt", "the symbolic link %s makes a path too long", name);
    memmove(walk->rest + n + 1, walk->rest, rest + 1);
    memcpy(walk->rest, target, (size_t)n);
    walk->rest[n] = '/';
    return 0;
}

static int walk_down(struct era_tree *tree, struct walk *walk, const char *name, bool create, struct era_error *err)
{
    int at = walk->fds[walk->depth];
    uint64_t key = key_of(walk->keys[walk->depth], name);
    int fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
        return walk_link(walk, name, err);
    if (fd < 0 && errno == ENOENT) {
        if (!create)
            return -ENOENT;
        int r = era_tree_spend(tree, 1, 0, err);
        if (r < 0)
            return r;
        if (mkdirat(at, name, 0755) == 0)
            fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd < 0)
        return era_entry_system_error(err, errno, "make", name);
    if (walk->depth == ERA_TREE_DEPTH_MAX) {
        close(fd);
        return era_error_set(err, EBADMSG, "image_corrupt", "directories nest too deep at %s", name);
    }
    walk->depth++;
    walk->fds[walk->depth] = fd;
    walk->keys[walk->depth] = key;
    if (create && era_marks_add(&tree->marks, key) < 0)
        return era_error_oom(err);
    return 0;
}

/* Walks all of walk->rest. */
static int walk_on(struct era_tree *tree, struct walk *walk, bool create, struct era_error *err)
{
    while (walk->rest[0] != '\0') {
        size_t skip = strspn(walk->rest, "/");
        size_t len = strcspn(walk->rest + skip, "/");
        char name[NAME_MAX + 1];
        if (len > NAME_MAX)
            return era_error_set(err, EBADMSG, "image_corrupt", "a symbolic link has too long a name in it");
        memcpy(name, walk->rest + skip, len);
        name[len] = '\0';
        memmove(walk->rest, walk->rest + skip + len, strlen(walk->rest + skip + len) + 1);
        if (len == 0 || strcmp(name, ".") == 0)
            continue;
        if (strcmp(name, "..") == 0) {
            walk_up(walk);
            continue;
        }
        int r = walk_down(tree, walk, name, create, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Splits off the last component that says something; "" for the root. */
static void split(const char *path, char *ret_parents, char ret_name[NAME_MAX + 1])
{
    size_t end = strlen(path);
    while (end > 0 && (path[end - 1] == '/' || (path[end - 1] == '.' && (end == 1 || path[end - 2] == '/'))))
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    memcpy(ret_name, path + start, end - start);
    ret_name[end - start] = '\0';
    memcpy(ret_parents, path, start);
    ret_parents[start] = '\0';
}

int era_tree_find(struct era_tree *tree, const char *path, bool create, struct era_place *ret_place,
                  struct era_error *err)
{
    _cleanup_(walk_close) struct walk walk;
    walk.fds[0] = tree->root_fd;
    walk.keys[0] = KEY_ROOT;
    walk.depth = 0;
    walk.links = 0;
    struct era_place place;
    split(path, walk.rest, place.name);
    int r = walk_on(tree, &walk, create, err);
    if (r < 0)
        return r;
    place.key = walk.keys[walk.depth];
    place.dir_fd = fcntl(walk.fds[walk.depth], F_DUPFD_CLOEXEC, 0);
    if (place.dir_fd < 0)
        return era_error_errno(err, errno, "cannot keep a directory open");
    *ret_place = place;
    return 0;
}

int era_tree_mark(struct era_tree *tree, const struct era_place *place, struct era_error *err)
{
    return era_marks_add(&tree->marks, key_of(place->key, place->name)) < 0 ? era_error_oom(err) : 0;
}

int era_tree_spend(struct era_tree *tree, uint64_t entries, uint64_t bytes, struct era_error *err)
{
    if (entries > tree->entries_left)
        return era_error_set(err, EFBIG, "image_corrupt", "the image has more entries than an image may have");
    if (bytes > tree->bytes_left)
        return era_error_set(err, EFBIG, "image_corrupt", "the image is larger than an image may be");
    tree->entries_left -= entries;
    tree->bytes_left -= bytes;
    return 0;
}

int era_tree_clear(const struct era_place *place, struct era_error *err)
{
    if (place->name[0] == '\0')
        return era_error_set(err, EBADMSG, "image_corrupt", "an entry would replace the root directory");
    int r = era_remove_tree_at(place->dir_fd, place->name);
    return r < 0 ? era_error_errno(err, -r, "cannot remove %s", place->name) : 0;
}

/* depth: levels still allowed; what is marked is no deeper than an entry can be. */
static int purge_at(struct era_tree *tree, int dir_fd, const char *name, uint64_t key, unsigned depth,
                    struct era_error *err);

/* NOLINTNEXTLINE(misc-no-recursion) */
static int purge_children(struct era_tree *tree, int fd, uint64_t key, unsigned depth, struct era_error *err)
{
    DIR *dir = fdopendir(fd); /* owns fd when it succeeds */
    if (dir == NULL) {
        int error = errno;
        close(fd);
        return era_error_errno(err, error, "cannot read a directory");
    }
    int r = 0;
    struct dirent *child;
    while (r >= 0 && (errno = 0, child = readdir(dir)) != NULL) {
        if (strcmp(child->d_name, ".") == 0 || strcmp(child->d_name, "..") == 0)
            continue;
        r = purge_at(tree, dirfd(dir), child->d_name, key_of(key, child->d_name), depth, err);
    }
    if (r >= 0 && errno != 0)
        r = era_error_errno(err, errno, "cannot read a directory");
    closedir(dir);
    return r;
}

/* NOLINTNEXTLINE(misc-no-recursion) */
static int purge_at(struct era_tree *tree, int dir_fd, const char *name, uint64_t key, unsigned depth,
                    struct era_error *err)
{
    if (depth == 0 || !era_marks_has(&tree->marks, key)) {
        int r = era_remove_tree_at(dir_fd, name);
        return r < 0 ? era_error_errno(err, -r, "cannot remove %s", name) : 0;
    }
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR || errno == ELOOP ? 0 : era_error_errno(err, errno, "cannot open %s", name);
    return purge_children(tree, fd, key, depth - 1, err);
}

int era_tree_purge(struct era_tree *tree, const struct era_place *place, const char *name, struct era_error *err)
{
    if (name != NULL)
        return purge_at(tree, place->dir_fd, name, key_of(place->key, name), ERA_TREE_DEPTH_MAX, err);
    int fd = openat(place->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return era_error_errno(err, errno, "cannot open a directory");
    return purge_children(tree, fd, place->key, ERA_TREE_DEPTH_MAX, err);
}

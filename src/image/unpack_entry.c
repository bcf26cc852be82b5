/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One entry of an archive becomes one name in the tree.
 *
 * What was at the name is removed first, so that nothing is ever written
 * through a hard link or a symlink; a directory over a directory only gets its
 * new owner and mode. The order of owner, mode, attributes and time matters:
 * chown clears set-id bits and security.capability.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "image/unpack.h"

enum {
    XATTR_SIZE_LIMIT = 64 << 10, /* as the kernel's */
    XATTR_COUNT_LIMIT = 64,
};

int era_entry_system_error(struct era_error *err, int errnum, const char *what, const char *path)
{
    if (errnum == ENOSPC || errnum == EDQUOT)
        return era_error_set(err, errnum, "disk_full", "the disk is full (%s %.200s)", what, path);
    return era_error_errno(err, errnum, "cannot %s %.200s", what, path);
}

static void owner_of(struct archive_entry *entry, enum era_owner_policy policy, uid_t *ret_uid, gid_t *ret_gid)
{
    bool as_written = policy == ERA_OWNER_AS_WRITTEN;
    la_int64_t uid = archive_entry_uid(entry);
    la_int64_t gid = archive_entry_gid(entry);
    /* (uid_t)-1 would mean "leave it". */
    *ret_uid = as_written && uid > 0 && uid < UINT32_MAX ? (uid_t)uid : 0;
    *ret_gid = as_written && gid > 0 && gid < UINT32_MAX ? (gid_t)gid : 0;
}

static mode_t mode_of(struct archive_entry *entry, enum era_owner_policy policy)
{
    mode_t mode = archive_entry_perm(entry) & 07777;
    bool executable = (mode & 0111) != 0 || archive_entry_filetype(entry) == AE_IFDIR;
    if (policy == ERA_OWNER_ROOT)
        return executable ? 0755 : 0644;
    if (policy == ERA_OWNER_PRIVATE)
        return executable ? 0700 : 0600;
    return mode;
}

/* EINVAL: an id that our user namespace does not have; the file stays root's. */
static bool chown_failed(int r)
{
    return r < 0 && errno != EINVAL;
}

static bool is_kept_xattr(const char *name)
{
    /* user.overlay.* would speak to the overlay that a VM gets on top. */
    return strcmp(name, "security.capability") == 0 ||
           (era_str_starts_with(name, "user.") && !era_str_starts_with(name, "user.overlay.") &&
            strlen(name) <= XATTR_NAME_MAX);
}

static void set_xattrs(int fd, struct archive_entry *entry)
{
    const char *name = NULL;
    const void *value = NULL;
    size_t size = 0;
    archive_entry_xattr_reset(entry);
    for (unsigned n = 0; n < XATTR_COUNT_LIMIT; n++) {
        if (archive_entry_xattr_next(entry, &name, &value, &size) != ARCHIVE_OK)
            return;
        /* A file system without attributes is no reason to refuse an image. */
        if (name != NULL && is_kept_xattr(name) && size <= XATTR_SIZE_LIMIT)
            (void)fsetxattr(fd, name, value, size, 0);
    }
}

static int set_metadata(int fd, struct archive_entry *entry, const char *path, enum era_owner_policy policy,
                        struct era_error *err)
{
    uid_t uid = 0;
    gid_t gid = 0;
    owner_of(entry, policy, &uid, &gid);
    if (chown_failed(fchown(fd, uid, gid)))
        return era_entry_system_error(err, errno, "set the owner of", path);
    if (fchmod(fd, mode_of(entry, policy)) < 0)
        return era_entry_system_error(err, errno, "set the mode of", path);
    if (policy == ERA_OWNER_AS_WRITTEN)
        set_xattrs(fd, entry);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = archive_entry_mtime(entry)}};
    (void)futimens(fd, times);
    return 0;
}

static int write_data(struct era_tree *tree, struct archive *reader, int fd, const char *path, struct era_error *err)
{
    la_int64_t end = 0;
    for (;;) {
        const void *data = NULL;
        size_t len = 0;
        la_int64_t offset = 0;
        int got = archive_read_data_block(reader, &data, &len, &offset);
        if (got == ARCHIVE_EOF)
            break;
        if (got < ARCHIVE_WARN)
            return era_error_set(err, EBADMSG, "image_corrupt", "cannot read %.200s: %.200s", path,
                                 archive_error_string(reader));
        la_int64_t next = 0;
        if (offset < end || __builtin_add_overflow(offset, (la_int64_t)len, &next))
            return era_error_set(err, EBADMSG, "image_corrupt", "the parts of %.200s are out of order", path);
        int r = era_tree_spend(tree, 0, (uint64_t)(next - end), err);
        if (r < 0)
            return r;
        for (size_t done = 0; done < len;) {
            ssize_t n = pwrite(fd, (const char *)data + done, len - done, offset + (la_int64_t)done);
            if (n < 0 && errno != EINTR)
                return era_entry_system_error(err, errno, "write", path);
            done += n > 0 ? (size_t)n : 0;
        }
        end = next;
    }
    return 0;
}

static int make_file(struct era_tree *tree, struct archive *reader, struct archive_entry *entry,
                     const struct era_place *place, const char *path, enum era_owner_policy policy,
                     struct era_error *err)
{
    int r = era_tree_clear(place, err);
    if (r < 0)
        return r;
    _cleanup_close_ int fd =
        openat(place->dir_fd, place->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return era_entry_system_error(err, errno, "make", path);
    r = write_data(tree, reader, fd, path, err);
    if (r < 0)
        return r;
    /* A hole at the end is in no block. */
    struct stat st;
    la_int64_t size = archive_entry_size(entry);
    if (fstat(fd, &st) < 0)
        return era_entry_system_error(err, errno, "look at", path);
    if (size > st.st_size) {
        r = era_tree_spend(tree, 0, (uint64_t)(size - st.st_size), err);
        if (r < 0)
            return r;
        if (ftruncate(fd, size) < 0)
            return era_entry_system_error(err, errno, "write", path);
    }
    return set_metadata(fd, entry, path, policy, err);
}

static int make_directory(struct archive_entry *entry, const struct era_place *place, const char *path,
                          enum era_owner_policy policy, struct era_error *err)
{
    const char *name = place->name[0] != '\0' ? place->name : ".";
    struct stat st;
    if (fstatat(place->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode)) {
        int r = era_tree_clear(place, err);
        if (r < 0)
            return r;
        if (mkdirat(place->dir_fd, name, 0700) < 0)
            return era_entry_system_error(err, errno, "make", path);
    }
    _cleanup_close_ int fd = openat(place->dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return era_entry_system_error(err, errno, "open", path);
    return set_metadata(fd, entry, path, policy, err);
}

static int make_symlink(struct archive_entry *entry, const struct era_place *place, const char *path,
                        enum era_owner_policy policy, struct era_error *err)
{
    const char *target = archive_entry_symlink(entry);
    if (target == NULL || target[0] == '\0' || strlen(target) >= PATH_MAX)
        return era_error_set(err, EBADMSG, "image_corrupt", "the symbolic link %.200s has no usable target", path);
    int r = era_tree_clear(place, err);
    if (r < 0)
        return r;
    uid_t uid = 0;
    gid_t gid = 0;
    owner_of(entry, policy, &uid, &gid);
    if (symlinkat(target, place->dir_fd, place->name) < 0)
        return era_entry_system_error(err, errno, "make", path);
    if (chown_failed(fchownat(place->dir_fd, place->name, uid, gid, AT_SYMLINK_NOFOLLOW)))
        return era_entry_system_error(err, errno, "set the owner of", path);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = archive_entry_mtime(entry)}};
    (void)utimensat(place->dir_fd, place->name, times, AT_SYMLINK_NOFOLLOW);
    return 0;
}

static bool same_file(const struct era_place *a, const struct era_place *b)
{
    struct stat one;
    struct stat two;
    return fstatat(a->dir_fd, a->name, &one, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(b->dir_fd, b->name, &two, AT_SYMLINK_NOFOLLOW) == 0 && one.st_ino == two.st_ino &&
           one.st_dev == two.st_dev;
}

int era_entry_link(struct era_tree *tree, const char *target, const struct era_place *place, const char *path,
                   struct era_error *err)
{
    const char *unused = NULL;
    int r = era_tree_check_path(target, err);
    if (r < 0)
        return r;
    if (era_whiteout_of(target, &unused) != ERA_WHITEOUT_NONE)
        return era_error_set(err, EBADMSG, "image_corrupt", "the hard link %.200s leads to a whiteout", path);
    _cleanup_(era_place_close) struct era_place from = {.dir_fd = -EBADF};
    r = era_tree_find(tree, target, false, &from, err);
    struct stat st;
    if (r == -ENOENT ||
        (r >= 0 && (from.name[0] == '\0' || fstatat(from.dir_fd, from.name, &st, AT_SYMLINK_NOFOLLOW) < 0)))
        return era_error_set(err, EBADMSG, "image_corrupt", "the hard link %.150s leads to %.150s, which is not there",
                             path, target);
    if (r < 0)
        return r;
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return era_error_set(err, EBADMSG, "image_corrupt", "the hard link %.200s leads to no file", path);
    if (same_file(&from, place))
        return 0; /* or it would be removed to make room for itself */
    r = era_tree_clear(place, err);
    if (r < 0)
        return r;
    /* Without AT_SYMLINK_FOLLOW: a link to a symlink is a link to the link itself. */
    if (linkat(from.dir_fd, from.name, place->dir_fd, place->name, 0) < 0)
        return era_entry_system_error(err, errno, "link", path);
    return 0;
}

int era_entry_apply(struct era_tree *tree, struct archive *reader, struct archive_entry *entry, const char *path,
                    enum era_owner_policy policy, struct era_error *err)
{
    const char *link = archive_entry_hardlink(entry);
    unsigned type = archive_entry_filetype(entry);
    if (link == NULL && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
        return 0;
    int r = era_tree_spend(tree, 1, 0, err);
    if (r < 0)
        return r;
    _cleanup_(era_place_close) struct era_place place = {.dir_fd = -EBADF};
    r = era_tree_find(tree, path, true, &place, err);
    if (r < 0)
        return r;
    if (place.name[0] != '\0') {
        r = era_tree_mark(tree, &place, err);
        if (r < 0)
            return r;
    }
    if (link != NULL)
        return era_entry_link(tree, link, &place, path, err);
    if (type == AE_IFDIR)
        return make_directory(entry, &place, path, policy, err);
    if (type == AE_IFLNK)
        return make_symlink(entry, &place, path, policy, err);
    return make_file(tree, reader, entry, &place, path, policy, err);
}

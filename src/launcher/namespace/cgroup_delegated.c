/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of a v2 tree that an ordinary user may manage.
 *
 * Theory of operation. Who runs a command by `systemd-run --user --scope -p
 * Delegate=yes`, or in a container that was given its own control group, sits
 * in a group that he owns. Two rules of the kernel (cgroup-v2.rst) decide what
 * can be done with it:
 *
 * - A process may be moved only below a group whose cgroup.procs the mover may
 *   write and that holds both places. So our groups must be made in the part
 *   of the tree that we sit in; another part would not do, even if it is ours.
 * - A group that has processes cannot hand controllers down. So its processes,
 *   ours among them, go to a child first: `agent-callers`. It is below the same
 *   group, and whoever accounts for that or ends it sees no difference.
 *
 * We ask for the nearest group that is ours and has the controllers, and never
 * look beyond the unit of systemd that we are in: what is above it belongs to
 * the user's service manager. A scope lives as long as a process is in it or
 * below: a VM keeps the scope of the command that started it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "launcher/namespace/internal.h"

enum { MOVE_TRIES = 8, PROCS_MAX = 1 << 20, DEPTH_MAX = 24 };

/* Our own group within the v2 tree: the line "0::/path" of /proc/self/cgroup. */
static int read_own(char own[256])
{
    _cleanup_free_ char *text = NULL;
    int r = era_read_file_at(AT_FDCWD, "/proc/self/cgroup", 64u << 10, &text, NULL);
    if (r < 0)
        return r;
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n"))
        if (era_str_starts_with(line, "0::/"))
            return era_str_copy(own, 256, line + strlen("0::")) ? 0 : -ENAMETOOLONG;
    return -ENOENT;
}

static bool has_suffix(const char *text, const char *suffix)
{
    size_t text_len = strlen(text);
    size_t suffix_len = strlen(suffix);
    return text_len >= suffix_len && strcmp(text + text_len - suffix_len, suffix) == 0;
}

/* Whether the caller may make groups in this one and move processes of it. */
static bool is_ours(const char *group)
{
    static const char *const files[] = {"", "/cgroup.procs", "/cgroup.subtree_control"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[300];
        if (era_str_format(path, sizeof path, "%s%s", group, files[i]) < 0 || access(path, W_OK) < 0)
            return false;
    }
    return true;
}

static int count_controllers(const char *group)
{
    int count = 0;
    for (int i = 0; i < CGROUP_CONTROLLERS; i++)
        count += cgroup_v2_has(group, cgroup_controller_name((enum cgroup_controller)i));
    return count;
}

int cgroup_find_delegated(const char *mount_root, const char *mount_point, char to[256])
{
    char own[256];
    int r = read_own(own);
    if (r < 0)
        return r;
    /* What the mount shows is below its root; a tree of which we are no part is of no use. */
    size_t root_len = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
    if (strncmp(own, mount_root, root_len) != 0 || (own[root_len] != '/' && own[root_len] != '\0'))
        return -ENOENT;
    char group[256];
    r = era_str_format(group, sizeof group, "%s%s", mount_point, own + root_len);
    if (r < 0)
        return r;

    int best = 0;
    for (;;) {
        size_t len = strlen(group);
        if (len > 1 && group[len - 1] == '/')
            group[len - 1] = '\0';
        bool ours = is_ours(group);
        int count = ours && !has_suffix(group, "/" CGROUP_CALLERS) ? count_controllers(group) : 0;
        if (count > best) {
            best = count;
            era_str_copy(to, 256, group);
        }
        bool top = strcmp(group, mount_point) == 0 || has_suffix(group, ".scope") || has_suffix(group, ".service");
        char *slash = strrchr(group, '/');
        if (!ours || best == CGROUP_CONTROLLERS || top || slash == NULL)
            return best > 0 ? 0 : -ENOENT;
        *slash = '\0';
    }
}

static int write_word(const char *group, const char *file, const char *word)
{
    char path[512];
    int r = era_str_format(path, sizeof path, "%s/%s", group, file);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : era_write_full(fd, word, strlen(word));
}

/* Moves the processes of a group to its child for them. */
static int make_room(const char *group)
{
    char callers[512];
    char path[512];
    int r = era_str_format(callers, sizeof callers, "%s/%s", group, CGROUP_CALLERS);
    if (r >= 0)
        r = era_str_format(path, sizeof path, "%s/cgroup.procs", group);
    if (r < 0)
        return r;
    if (mkdir(callers, 0755) < 0 && errno != EEXIST)
        return -errno;
    _cleanup_free_ char *pids = NULL;
    r = era_read_file_at(AT_FDCWD, path, PROCS_MAX, &pids, NULL);
    if (r < 0)
        return r;
    char *rest = pids;
    for (char *pid = strsep(&rest, "\n"); pid != NULL; pid = strsep(&rest, "\n")) {
        if (pid[0] == '\0' || strcmp(pid, "0") == 0) /* 0: of a pid namespace that we do not see */
            continue;
        r = write_word(callers, "cgroup.procs", pid);
        if (r < 0 && r != -ESRCH)
            return r;
    }
    return 0;
}

int cgroup_hand_down(const char *group, const char *controller)
{
    char word[32];
    int r = era_str_format(word, sizeof word, "+%s", controller);
    if (r < 0)
        return r;
    r = write_word(group, "cgroup.subtree_control", word);
    /* Processes that fork meanwhile leave a child behind: again. */
    for (int i = 0; r == -EBUSY && i < MOVE_TRIES; i++) {
        r = make_room(group);
        if (r >= 0)
            r = write_word(group, "cgroup.subtree_control", word);
    }
    return r;
}

/* `len`: of the path so far. NOLINTNEXTLINE(misc-no-recursion): bounded by depth. */
static void sweep_below(char path[512], size_t len, const char *suffix, int depth)
{
    DIR *folder = depth < DEPTH_MAX ? opendir(path) : NULL;
    if (folder == NULL)
        return;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.' ||
            era_str_format(path + len, 512 - len, "/%s", entry->d_name) < 0)
            continue;
        if (has_suffix(path, suffix))
            cgroup_remove_at(path);
        else
            sweep_below(path, len + 1 + strlen(entry->d_name), suffix, depth + 1);
    }
    path[len] = '\0';
    closedir(folder);
}

void cgroup_sweep_tree(const char *mount_point, const char *id)
{
    char path[512];
    char suffix[ERA_VM_ID_MAX + 16];
    if (era_str_format(suffix, sizeof suffix, "/agent/%s", id) >= 0 && era_str_copy(path, sizeof path, mount_point))
        sweep_below(path, strlen(path), suffix, 0);
}

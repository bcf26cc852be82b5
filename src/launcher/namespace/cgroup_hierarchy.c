/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the control groups are. Three worlds: v2 alone (each controller in one
 * tree), v1 (a tree for each), hybrid (v1 trees with controllers and a v2 tree
 * without). The mount table says where; a v1 tree that has the controller wins.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/idmap.h"
#include "base/str.h"
#include "launcher/namespace/internal.h"

static const char *const names[CGROUP_CONTROLLERS] = {"memory", "cpu", "pids"};

const char *cgroup_controller_name(enum cgroup_controller controller)
{
    return names[controller];
}

/* Whether a list of words, separated by one of these characters, holds the word. */
static bool has_word(const char *list, const char *separators, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = list; *p != '\0';) {
        size_t n = strcspn(p, separators);
        if (n == len && memcmp(p, word, len) == 0)
            return true;
        p += n + (p[n] != '\0');
    }
    return false;
}

bool cgroup_v2_has(const char *group, const char *controller)
{
    char path[300];
    _cleanup_free_ char *text = NULL;
    if (era_str_format(path, sizeof path, "%s/cgroup.controllers", group) < 0 ||
        era_read_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0)
        return false;
    return has_word(text, " \n", controller);
}

static void note(struct cgroup_hierarchy *hierarchy, enum cgroup_controller controller, const char *parent, bool v2)
{
    struct cgroup_place *place = &hierarchy->places[controller];
    bool better = place->path[0] == '\0' || (place->v2 && !v2);
    if (better && era_str_format(place->path, sizeof place->path, "%s/agent", parent) >= 0)
        place->v2 = v2;
}

/* The v2 tree. Root has its top; another user what was delegated to him. */
static void note_v2(struct cgroup_hierarchy *hierarchy, const char *mount_root, const char *mount_point)
{
    bool has_any = false;
    for (int i = 0; i < CGROUP_CONTROLLERS; i++)
        has_any = has_any || cgroup_v2_has(mount_point, names[i]);
    if (!has_any || !era_str_copy(hierarchy->v2_mount, sizeof hierarchy->v2_mount, mount_point))
        return;
    char delegated[256];
    if (!era_idmap_is_host_root()) {
        hierarchy->undelegated = true;
        if (cgroup_find_delegated(mount_root, mount_point, delegated) < 0)
            return;
        mount_point = delegated;
    }
    int found = 0;
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        if (!cgroup_v2_has(mount_point, names[i]))
            continue;
        note(hierarchy, (enum cgroup_controller)i, mount_point, true);
        found++;
    }
    hierarchy->undelegated = hierarchy->undelegated && found < CGROUP_CONTROLLERS;
}

/* "36 35 98:0 /root /mount/point rw,… shared:1 - cgroup source options": see proc(5). */
static void parse_mount(char *line, struct cgroup_hierarchy *hierarchy)
{
    enum { MOUNT_ROOT = 3, MOUNT_POINT = 4, FIELDS = 5 };
    char *after = strstr(line, " - ");
    if (after == NULL)
        return;
    *after = '\0';
    char *type = after + 3;
    char *fields[FIELDS];
    for (int i = 0; i < FIELDS; i++)
        if ((fields[i] = strsep(&line, " ")) == NULL)
            return;
    if (era_str_starts_with(type, "cgroup2 ")) {
        note_v2(hierarchy, fields[MOUNT_ROOT], fields[MOUNT_POINT]);
        return;
    }
    char *options = strrchr(type, ' ');
    for (int i = 0; i < CGROUP_CONTROLLERS; i++)
        if (era_str_starts_with(type, "cgroup ") && options != NULL && has_word(options + 1, ",\n", names[i]))
            note(hierarchy, (enum cgroup_controller)i, fields[MOUNT_POINT], false);
}

const char *cgroup_advice(const struct cgroup_hierarchy *hierarchy)
{
    if (!hierarchy->undelegated)
        return "";
    return "; to get a part of the control groups of your own, put `systemd-run --user --scope -p Delegate=yes` "
           "before the command";
}

void cgroup_find(struct cgroup_hierarchy *ret_hierarchy)
{
    *ret_hierarchy = (struct cgroup_hierarchy){0};
    _cleanup_free_ char *table = NULL;
    if (era_read_file_at(AT_FDCWD, "/proc/self/mountinfo", 4u << 20, &table, NULL) < 0)
        return;
    char *rest = table;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n"))
        parse_mount(line, ret_hierarchy);
}

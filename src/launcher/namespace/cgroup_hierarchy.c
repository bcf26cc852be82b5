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

static bool v2_has(const char *mount_point, const char *controller)
{
    char path[300];
    _cleanup_free_ char *text = NULL;
    if (era_str_format(path, sizeof path, "%s/cgroup.controllers", mount_point) < 0 ||
        era_read_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0)
        return false;
    return has_word(text, " \n", controller);
}

static void note(struct cgroup_hierarchy *hierarchy, enum cgroup_controller controller, const char *mount_point,
                 bool v2)
{
    struct cgroup_place *place = &hierarchy->places[controller];
    bool better = place->path[0] == '\0' || (place->v2 && !v2);
    if (better && era_str_format(place->path, sizeof place->path, "%s/agent", mount_point) >= 0)
        place->v2 = v2;
}

/* "36 35 98:0 / /mount/point rw,… shared:1 - cgroup source options": see proc(5). */
static void parse_mount(char *line, struct cgroup_hierarchy *hierarchy)
{
    char *after = strstr(line, " - ");
    if (after == NULL)
        return;
    *after = '\0';
    char *type = after + 3;
    char *mount_point = line;
    for (int field = 0; field < 4 && mount_point != NULL; field++)
        mount_point = (mount_point = strchr(mount_point, ' ')) != NULL ? mount_point + 1 : NULL;
    if (mount_point == NULL)
        return;
    mount_point[strcspn(mount_point, " ")] = '\0';
    char *options = strrchr(type, ' ');
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        if (era_str_starts_with(type, "cgroup2 ") && v2_has(mount_point, names[i]))
            note(hierarchy, (enum cgroup_controller)i, mount_point, true);
        else if (era_str_starts_with(type, "cgroup ") && options != NULL && has_word(options + 1, ",\n", names[i]))
            note(hierarchy, (enum cgroup_controller)i, mount_point, false);
    }
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

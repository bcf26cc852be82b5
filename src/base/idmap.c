/* SPDX-License-Identifier: Apache-2.0 */
#include "base/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"

enum { IDS_WANTED = 65535, SUBID_FILE_MAX = 1 << 20 };

static const char tool_path[] = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/* One number of a line, up to the separator or the line's end. */
static int parse_field(const char **at, const char *end, char separator, uint32_t *ret_value)
{
    const char *stop = separator != '\0' ? memchr(*at, separator, (size_t)(end - *at)) : end;
    char text[16];
    if (stop == NULL || (size_t)(stop - *at) >= sizeof text)
        return -EINVAL;
    memcpy(text, *at, (size_t)(stop - *at));
    text[stop - *at] = '\0';
    uint64_t value = 0;
    int r = era_parse_u64(text, 0, UINT32_MAX, &value);
    if (r < 0)
        return r;
    *at = stop + (separator != '\0');
    *ret_value = (uint32_t)value;
    return 0;
}

int era_idmap_parse(const char *text, const char *user_name, uid_t uid, uint32_t min, uint32_t *ret_start,
                    uint32_t *ret_count)
{
    char number[16];
    snprintf(number, sizeof number, "%u", (unsigned)uid);
    for (const char *line = text; *line != '\0';) {
        const char *end = line + strcspn(line, "\n");
        const char *colon = memchr(line, ':', (size_t)(end - line));
        if (colon != NULL) {
            size_t len = (size_t)(colon - line);
            bool ours = (user_name != NULL && len == strlen(user_name) && memcmp(line, user_name, len) == 0) ||
                        (len == strlen(number) && memcmp(line, number, len) == 0);
            const char *at = colon + 1;
            uint32_t start = 0;
            uint32_t count = 0;
            if (ours && parse_field(&at, end, ':', &start) == 0 && parse_field(&at, end, '\0', &count) == 0 &&
                start > 0 && count >= min && start <= UINT32_MAX - count) {
                *ret_start = start;
                *ret_count = count;
                return 0;
            }
        }
        line = end + (*end == '\n');
    }
    return -ENOENT;
}

/* From /etc/passwd itself, whose lines are name:password:uid:…: era-shim is static, and the name service
 * would want shared libraries. */
static bool find_name(uid_t uid, char *name, size_t size)
{
    _cleanup_free_ char *text = NULL;
    if (era_read_file_at(AT_FDCWD, "/etc/passwd", SUBID_FILE_MAX, &text, NULL) < 0)
        return false;
    for (const char *line = text, *end; *line != '\0'; line = end + (*end == '\n')) {
        end = strchrnul(line, '\n');
        const char *password = memchr(line, ':', (size_t)(end - line));
        const char *id = password ? memchr(password + 1, ':', (size_t)(end - password - 1)) : NULL;
        if (id == NULL)
            continue;
        id++;
        uint32_t found = 0;
        if (parse_field(&id, end, ':', &found) < 0 || found != uid)
            continue;
        int len = (int)(password - line);
        return snprintf(name, size, "%.*s", len, line) == len && (size_t)len < size;
    }
    return false;
}

static int find_range(const char *file, uint32_t *ret_start)
{
    _cleanup_free_ char *text = NULL;
    int r = era_read_file_at(AT_FDCWD, file, SUBID_FILE_MAX, &text, NULL);
    if (r < 0)
        return r;
    char name[64];
    uid_t uid = geteuid();
    uint32_t count = 0;
    return era_idmap_parse(text, find_name(uid, name, sizeof name) ? name : NULL, uid, IDS_WANTED, ret_start, &count);
}

static int run_tool(const char *tool, pid_t pid, unsigned own, uint32_t start, struct era_error *err)
{
    _cleanup_free_ char *path = NULL;
    int r = era_process_find(tool_path, tool, &path);
    if (r == -ENOMEM)
        return era_error_oom(err);
    if (r < 0)
        return era_error_set(err, ENOENT, "tool_missing",
                             "%s is not installed: an ordinary user needs it (on Debian: apt-get install uidmap)",
                             tool);
    char pid_text[16];
    char own_text[16];
    char start_text[16];
    char count_text[16];
    snprintf(pid_text, sizeof pid_text, "%d", (int)pid);
    snprintf(own_text, sizeof own_text, "%u", own);
    snprintf(start_text, sizeof start_text, "%u", start);
    snprintf(count_text, sizeof count_text, "%d", (int)IDS_WANTED);
    const char *argv[] = {tool, pid_text, "0", own_text, "1", "1", start_text, count_text, NULL};
    const char *envp[] = {NULL};
    struct era_process_spec spec = {.path = path, .argv = argv, .envp = envp, .cwd_fd = -EBADF};
    struct era_process_result result;
    r = era_process_run(&spec, &result, err);
    if (r < 0)
        return r;
    if (!era_process_succeeded(&result))
        return era_error_set(err, EPERM, "id_range_missing", "%s failed: %s", tool, result.tail);
    return 0;
}

static int write_range(pid_t pid, struct era_error *err)
{
    uint32_t uids = 0;
    uint32_t gids = 0;
    if (find_range("/etc/subuid", &uids) < 0 || find_range("/etc/subgid", &gids) < 0)
        return era_error_set(err, EPERM, "id_range_missing",
                             "/etc/subuid and /etc/subgid give user %u no range of %d ids: run "
                             "`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`, or work as root",
                             (unsigned)geteuid(), (int)IDS_WANTED);
    int r = run_tool("newuidmap", pid, geteuid(), uids, err);
    return r < 0 ? r : run_tool("newgidmap", pid, getegid(), gids, err);
}

static int write_file(pid_t pid, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return era_write_full(fd, text, strlen(text));
}

static int write_single(pid_t pid, struct era_error *err)
{
    char uid[32];
    char gid[32];
    snprintf(uid, sizeof uid, "0 %u 1", (unsigned)geteuid());
    snprintf(gid, sizeof gid, "0 %u 1", (unsigned)getegid());
    int r = write_file(pid, "uid_map", uid);
    if (r >= 0)
        r = write_file(pid, "setgroups", "deny"); /* without it the kernel refuses the next */
    if (r >= 0)
        r = write_file(pid, "gid_map", gid);
    return r < 0 ? era_error_errno(err, -r, "cannot map ids into a user namespace") : 0;
}

int era_idmap_write(pid_t pid, bool need_range, struct era_error *err)
{
    struct era_error why = {0};
    int r = write_range(pid, &why);
    if (r >= 0)
        return 0;
    if (!need_range)
        return write_single(pid, err);
    if (err != NULL)
        *err = why;
    return r;
}

bool era_idmap_is_host_root(void)
{
    if (geteuid() != 0)
        return false;
    _cleanup_free_ char *map = NULL;
    if (era_read_file_at(AT_FDCWD, "/proc/self/uid_map", 64u << 10, &map, NULL) < 0)
        return true; /* without /proc nothing else works either, and says so */
    /* The initial namespace maps all ids to themselves. */
    static const char *const full[] = {"0", "0", "4294967295"};
    size_t matched = 0;
    char *rest = map;
    for (char *word = strsep(&rest, " \n"); word != NULL && matched < 3; word = strsep(&rest, " \n"))
        if (word[0] != '\0' && !era_str_eq(word, full[matched++]))
            return false;
    return matched == 3;
}

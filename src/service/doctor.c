/* SPDX-License-Identifier: Apache-2.0 */
/* What this host can do: the shim's own checks, for it will do it, and ours. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/process.h"
#include "service/service.h"

struct check {
    char name[32];
    char state[8];
    char detail[256];
};

struct era_report {
    struct check checks[48];
    size_t count;
    char launcher[16];
    char reason[200];
};

static void add(struct era_report *report, const char *name, const char *state, const char *detail)
{
    if (report->count == sizeof report->checks / sizeof report->checks[0])
        return;
    struct check *check = &report->checks[report->count++];
    era_str_copy(check->name, sizeof check->name, name);
    era_str_copy(check->state, sizeof check->state, state);
    era_str_copy(check->detail, sizeof check->detail, detail);
}

/* A line of `era-shim --probe`: name TAB state TAB detail. */
static void take_line(void *userdata, int stream, const char *line)
{
    struct era_report *report = userdata;
    char copy[512];
    era_str_copy(copy, sizeof copy, line);
    char *state = strchr(copy, '\t');
    char *detail = state != NULL ? strchr(state + 1, '\t') : NULL;
    if (stream != STDOUT_FILENO || detail == NULL)
        return;
    *state++ = '\0';
    *detail++ = '\0';
    if (era_str_eq(copy, "launcher")) {
        era_str_copy(report->launcher, sizeof report->launcher, state);
        era_str_copy(report->reason, sizeof report->reason, detail);
    } else {
        add(report, copy, state, detail);
    }
}

static void check_tool(struct era_report *report, const char *name, const char *package, const char *purpose)
{
    const char *path = getenv("PATH");
    _cleanup_free_ char *found = NULL;
    bool there = era_process_find(path != NULL ? path : "/usr/bin:/bin", name, &found) >= 0 ||
                 era_process_find("/usr/sbin:/sbin", name, &found) >= 0;
    if (there) {
        add(report, name, "ok", found);
    } else {
        char detail[256];
        snprintf(detail, sizeof detail, "not found, needed for %s; install the package %s", purpose, package);
        add(report, name, "warn", detail);
    }
}

static void check_state_dir(const struct era *era, struct era_report *report)
{
    struct statvfs fs;
    char detail[256];
    if (fstatvfs(era->state_fd, &fs) < 0) {
        add(report, "state directory", "missing", strerror(errno));
        return;
    }
    unsigned long long free_mib = (unsigned long long)fs.f_bavail * fs.f_frsize >> 20;
    snprintf(detail, sizeof detail, "%s, %llu MiB free", era->state_dir, free_mib);
    add(report, "state directory", free_mib < 1024 ? "warn" : "ok", detail);
}

int era_doctor(struct era *era, struct era_report **ret_report, struct era_error *err)
{
    int r = era_store_check(era->store, err);
    if (r < 0)
        return r;
    struct era_report *report = calloc(1, sizeof *report);
    if (report == NULL)
        return era_error_oom(err);
    _cleanup_free_ char *path = era_str_printf("%s/era-shim", era->helper_dir);
    _cleanup_free_ char *templates = era_str_printf("%s/templates", era->state_dir);
    const char *const argv[] = {"era-shim", "--probe", templates, NULL};
    const char *const envp[] = {NULL};
    const struct era_process_spec spec = {
        .path = path, .argv = argv, .envp = envp, .cwd_fd = -EBADF, .on_line = take_line, .userdata = report};
    struct era_process_result result;
    r = path == NULL || templates == NULL ? era_error_oom(err) : era_process_run(&spec, &result, err);
    if (r < 0) {
        free(report);
        return r;
    }
    check_tool(report, "mmdebstrap", "mmdebstrap", "`agent image build`");
    check_tool(report, "npm", "npm", "`agent image build node`");
    check_tool(report, "skopeo", "skopeo", "`agent image pull`");
    check_tool(report, "mkfs.erofs", "erofs-utils", "`--launcher microvm`");
    check_tool(report, "mkfs.ext4", "e2fsprogs", "`--persist`");
    check_state_dir(era, report);
    *ret_report = report;
    return 0;
}

void era_report_free(struct era_report *report)
{
    free(report);
}

size_t era_report_count(const struct era_report *report)
{
    return report->count;
}

const char *era_report_name(const struct era_report *report, size_t index)
{
    return report->checks[index].name;
}

const char *era_report_state(const struct era_report *report, size_t index)
{
    return report->checks[index].state;
}

const char *era_report_detail(const struct era_report *report, size_t index)
{
    return report->checks[index].detail;
}

const char *era_report_launcher(const struct era_report *report)
{
    return report->launcher;
}

const char *era_report_reason(const struct era_report *report)
{
    return report->reason;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Pulling from a registry: skopeo fetches into an OCI layout, the rest is as for an import. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "image/internal.h"

static const char failed[] = "image_pull_failed";

/* Whether the registry is on this machine: those may do without TLS, as for docker. */
static bool is_loopback(const char *reference)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        size_t len = strlen(hosts[i]);
        if (strncmp(reference, hosts[i], len) != 0)
            continue;
        const char *rest = reference + len;
        if (rest[0] == ':')
            rest += 1 + strspn(rest + 1, "0123456789");
        if (rest[0] == '/')
            return true;
    }
    return false;
}

/* Without a policy of the system or the user skopeo refuses to work at all. */
static bool has_policy(void)
{
    char path[512];
    const char *home = getenv("HOME");
    return access("/etc/containers/policy.json", R_OK) == 0 ||
           (home != NULL && era_str_format(path, sizeof path, "%s/.config/containers/policy.json", home) == 0 &&
            access(path, R_OK) == 0);
}

struct fetch {
    struct era_image_store *images;
    unsigned blobs;
    char last[128];
};

static void on_line(void *userdata, int stream, const char *line)
{
    struct fetch *state = userdata;
    /* Said once more when a blob is done. */
    if (!era_str_starts_with(line, "Copying blob ") || strncmp(line, state->last, 40) == 0)
        return;
    era_str_copy(state->last, sizeof state->last, line);
    era_image_progress(state->images, "downloading layer %u", ++state->blobs);
}

static int fetch(struct era_image_work *work, const char *reference, struct era_error *err)
{
    struct era_strv args = {0};
    int r = 0;
    if (!has_policy())
        r = era_strv_add(&args, "--insecure-policy");
    if (r >= 0)
        r = era_strv_add(&args, "copy");
    if (r >= 0 && is_loopback(reference))
        r = era_strv_add(&args, "--src-tls-verify=false");
    _cleanup_free_ char *from = era_str_printf("docker://%s", reference);
    if (r >= 0)
        r = from == NULL ? -ENOMEM : era_strv_add(&args, from);
    if (r >= 0)
        r = era_strv_add(&args, "oci:layout"); /* in the work's folder */
    struct fetch state = {.images = work->images};
    struct era_process_spec options = {.on_line = on_line, .userdata = &state};
    r = r < 0 ? era_error_oom(err) : era_image_tool_run(&era_image_skopeo, work, &args, &options, failed, err);
    era_strv_clear(&args);
    return r;
}

static int pull_into(struct era_image_work *work, const char *reference, struct era_image_info **ret_info,
                     struct era_error *err)
{
    era_image_progress(work->images, "asking the registry for %s", reference);
    int r = fetch(work, reference, err);
    if (r < 0)
        return r;
    ERA_POINT("pull.fetched");
    _cleanup_close_ int layout = era_open_beneath(work->fd, "layout", O_RDONLY | O_DIRECTORY, 0);
    if (layout < 0)
        return era_error_set(err, -layout, failed, "skopeo left no image");
    _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
    r = era_image_unpack_layout(work, layout, reference, &info, err);
    if (r < 0)
        return r;
    info->source = strdup("registry");
    if (info->source == NULL)
        return era_error_oom(err);
    r = era_image_work_commit(work, info, err);
    if (r < 0)
        return r;
    *ret_info = era_take_ptr(info);
    return 0;
}

int era_image_store_pull(struct era_image_store *images, const char *reference, struct era_image_info **ret_info,
                         struct era_error *err)
{
    int r = era_image_reference_check(reference, err);
    if (r < 0)
        return r;
    era_image_sweep(images);
    char name[ERA_IMAGE_NAME_MAX];
    (void)era_image_name_encode(reference, name); /* checked just now */
    struct era_image_lock lock;
    bool waited = false;
    r = era_image_lock_take(images, name, &lock, &waited, err);
    if (r < 0)
        return r;
    _cleanup_close_ int root = -EBADF;
    _cleanup_close_ int held = -EBADF;
    /* Whoever we waited for has fetched it just now. */
    if (!waited || era_image_store_get(images, reference, &root, &held, ret_info, NULL) < 0) {
        _cleanup_(era_image_work_freep) struct era_image_work *work = NULL;
        r = era_image_work_new(images, &work, err);
        if (r >= 0)
            r = pull_into(work, reference, ret_info, err);
    }
    era_image_lock_drop(&lock);
    return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Building an image: a Debian root by mmdebstrap, pinned packages by npm, the last touches by era-unpack. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "image/internal.h"

static const char failed[] = "image_build_failed";

struct build {
    struct era_image_store *images;
    const struct era_image_recipe *recipe;
    struct era_image_work *work;
};

/* What mmdebstrap says ("I: …") in words for people. */
static void on_mmdebstrap_line(void *userdata, int stream, const char *line)
{
    static const struct {
        const char *says;
        const char *means;
    } phases[] = {
        {"I: running apt-get update", "reading the package lists"},
        {"I: downloading packages", "downloading packages"},
        {"I: extracting archives", "unpacking the base system"},
        {"I: installing essential packages", "configuring the base system"},
        {"I: installing remaining packages", "installing packages"},
        {"I: cleaning package lists", "cleaning up"},
    };
    struct build *build = userdata;
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++)
        if (era_str_starts_with(line, phases[i].says))
            era_image_progress(build->images, "%s: %s", build->recipe->language, phases[i].means);
}

static int make_root(struct build *build, struct era_error *err)
{
    struct era_strv args = {0};
    int r = 0;
    for (const char *const *option = era_image_debian_options; r >= 0 && *option != NULL; option++)
        r = era_strv_add(&args, *option);
    _cleanup_free_ char *include = era_str_printf("--include=%s", build->recipe->packages);
    if (r >= 0)
        r = include == NULL ? -ENOMEM : era_strv_add(&args, include);
    if (r >= 0)
        r = era_strv_add(&args, era_image_debian_suite);
    if (r >= 0)
        r = era_strv_add(&args, "rootfs"); /* in the work's folder */
    struct era_process_spec options = {
        .own_namespaces = true, .need_id_range = true, .on_line = on_mmdebstrap_line, .userdata = build};
    r = r < 0 ? era_error_oom(err)
              : era_image_tool_run(&era_image_mmdebstrap, build->work, &args, &options, failed, err);
    era_strv_clear(&args);
    return r;
}

/* npm prints the name of the file that it made. */
static void on_npm_line(void *userdata, int stream, const char *line)
{
    char *name = userdata;
    if (stream == 1)
        era_str_copy(name, 256, line);
}

/* Fetches by npm, so that the user's registry, proxy and authorities hold. */
static int fetch(struct build *build, const struct era_image_pin *pin, int *ret_fd, struct era_error *err)
{
    char name[256] = "";
    struct era_strv args = {0};
    _cleanup_free_ char *what = era_str_printf("%s@%s", pin->package, pin->version);
    int r = what == NULL ? -ENOMEM : era_strv_add(&args, "pack");
    if (r >= 0)
        r = era_strv_add(&args, "--loglevel=error");
    if (r >= 0)
        r = era_strv_add(&args, what);
    struct era_process_spec options = {.on_line = on_npm_line, .userdata = name};
    r = r < 0 ? era_error_oom(err) : era_image_tool_run(&era_image_npm, build->work, &args, &options, failed, err);
    era_strv_clear(&args);
    if (r < 0)
        return r;
    int fd =
        strchr(name, '/') == NULL && name[0] != '\0' ? era_open_beneath(build->work->fd, name, O_RDONLY, 0) : -ENOENT;
    if (fd < 0)
        return era_error_set(err, -fd, failed, "npm pack %s left no package", what);
    *ret_fd = fd;
    return 0;
}

static int add_pin(struct build *build, const struct era_image_pin *pin, struct era_error *err)
{
    era_image_progress(build->images, "%s: downloading %s %s", build->recipe->language, pin->package, pin->version);
    _cleanup_close_ int fd = -EBADF;
    int r = fetch(build, pin, &fd, err);
    if (r < 0)
        return r;
    era_image_progress(build->images, "%s: checking and unpacking %s", build->recipe->language, pin->package);
    const char *words[] = {"package", build->work->path, "3", pin->integrity, NULL};
    struct era_strv args = {0};
    for (size_t i = 0; r >= 0 && words[i] != NULL; i++)
        r = era_strv_add(&args, words[i]);
    for (size_t i = 0; r >= 0 && pin->rules[i] != NULL; i++)
        r = era_strv_add(&args, pin->rules[i]);
    r = r < 0 ? era_error_oom(err) : era_image_helper_run(build->images, &args, &fd, 1, failed, NULL, err);
    era_strv_clear(&args);
    if (r < 0)
        era_error_prefix(err, "%s %s", pin->package, pin->version);
    return r;
}

/* Edits, measures and digests the tree, and writes it out to the disk. */
static int finish(struct build *build, struct era_image_helper_result *ret_result, struct era_error *err)
{
    const struct era_image_recipe *recipe = build->recipe;
    era_image_progress(build->images, "%s: writing to disk", recipe->language);
    char pins[512] = "";
    for (const struct era_image_pin *pin = recipe->pins; pin != NULL && pin->package != NULL; pin++) {
        size_t used = strlen(pins);
        snprintf(pins + used, sizeof pins - used, "%s %s %s\n", pin->package, pin->version, pin->integrity);
    }
    const char *words[] = {"finish", build->work->path, "var/lib/dpkg/status", pins, NULL};
    struct era_strv args = {0};
    int r = 0;
    for (size_t i = 0; r >= 0 && words[i] != NULL; i++)
        r = era_strv_add(&args, words[i]);
    for (size_t i = 0; r >= 0 && recipe->edits[i] != NULL; i++)
        r = era_strv_add(&args, recipe->edits[i]);
    r = r < 0 ? era_error_oom(err) : era_image_helper_run(build->images, &args, NULL, 0, failed, ret_result, err);
    era_strv_clear(&args);
    return r;
}

static int describe(const struct era_image_recipe *recipe, const struct era_image_helper_result *result,
                    struct era_image_info **ret_info)
{
    _cleanup_(era_image_info_freep) struct era_image_info *info = calloc(1, sizeof *info);
    if (info == NULL)
        return -ENOMEM;
    info->reference = strdup(recipe->reference);
    info->digest = strdup(result->digest);
    info->source = strdup("debian");
    info->size_bytes = result->size_bytes;
    info->created_at_ns = era_clock_realtime_ns();
    if (info->reference == NULL || info->digest == NULL || info->source == NULL)
        return -ENOMEM;
    for (const char *const *variable = recipe->env; *variable != NULL; variable++)
        if (era_strv_add(&info->env, *variable) < 0)
            return -ENOMEM;
    *ret_info = era_take_ptr(info);
    return 0;
}

static int build_locked(struct build *build, struct era_image_info **ret_info, struct era_error *err)
{
    const struct era_image_recipe *recipe = build->recipe;
    if (recipe->pins != NULL && recipe->pins[0].package == NULL)
        return era_error_set(err, ENOTSUP, failed, "%s has no binaries for this machine's architecture",
                             recipe->reference);
    ERA_POINT("build.begun");
    int r = make_root(build, err);
    ERA_POINT("build.root");
    for (const struct era_image_pin *pin = recipe->pins; r >= 0 && pin != NULL && pin->package != NULL; pin++)
        r = add_pin(build, pin, err);
    struct era_image_helper_result result = {0};
    if (r >= 0)
        r = finish(build, &result, err);
    _cleanup_(era_image_info_freep) struct era_image_info *info = NULL;
    if (r >= 0 && describe(recipe, &result, &info) < 0)
        r = era_error_oom(err);
    if (r >= 0)
        r = era_image_work_commit(build->work, info, err);
    if (r < 0)
        return r;
    era_image_progress(build->images, "%s: done", recipe->language);
    *ret_info = era_take_ptr(info);
    return 0;
}

/* The image when it is there and whole; 0 when it is not. */
static int existing(struct era_image_store *images, const char *reference, struct era_image_info **ret_info)
{
    _cleanup_close_ int root = -EBADF;
    _cleanup_close_ int held = -EBADF;
    return era_image_store_get(images, reference, &root, &held, ret_info, NULL) >= 0;
}

int era_image_store_build(struct era_image_store *images, const char *language, bool rebuild,
                          struct era_image_info **ret_info, struct era_error *err)
{
    struct build build = {.images = images, .recipe = era_image_recipe_find(language)};
    if (build.recipe == NULL)
        return era_error_invalid(err, "language", "there is no image for \"%.60s\": only for python and node",
                                 language);
    if (!rebuild && existing(images, build.recipe->reference, ret_info))
        return 0;
    era_image_sweep(images);
    char name[ERA_IMAGE_NAME_MAX];
    int r = era_image_name_encode(build.recipe->reference, name);
    struct era_image_lock lock;
    bool waited = false;
    r = r < 0 ? era_error_errno(err, -r, "%s", build.recipe->reference)
              : era_image_lock_take(images, name, &lock, &waited, err);
    if (r < 0)
        return r;
    /* Whoever we waited for has made it just now. */
    if ((waited || !rebuild) && existing(images, build.recipe->reference, ret_info)) {
        era_image_lock_drop(&lock);
        return 0;
    }
    r = era_image_work_new(images, &build.work, err);
    if (r >= 0)
        r = build_locked(&build, ret_info, err);
    if (build.work != NULL)
        era_image_work_free(build.work);
    era_image_lock_drop(&lock);
    return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of others: what each may know of the caller's environment, and how its failure reads. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "image/internal.h"

static const char system_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/* What the user has configured for any program that talks to the network. */
static const char *const inherit_always[] = {"http_proxy*", "https_proxy*",  "ftp_proxy*",   "all_proxy*",
                                             "no_proxy*",   "SSL_CERT_FILE", "SSL_CERT_DIR", NULL};

static const char *const npm_inherit[] = {
    "HOME", "XDG_CONFIG_HOME", "npm_config_*", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", NULL};
/* Added to the authorities that node knows; an .npmrc with a `cafile` of its own still has the last word. */
static const char *const npm_environment[] = {"NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt",
                                              "npm_config_update_notifier=false", "npm_config_cache=npm-cache", NULL};

static const char *const skopeo_inherit[] = {"HOME",
                                             "XDG_CONFIG_HOME",
                                             "XDG_RUNTIME_DIR",
                                             "XDG_DATA_HOME",
                                             "REGISTRY_AUTH_FILE",
                                             "CONTAINERS_REGISTRIES_CONF",
                                             "DOCKER_CONFIG",
                                             NULL};
static const char *const none[] = {NULL};

const struct era_image_tool era_image_mmdebstrap = {
    .name = "mmdebstrap",
    .package = "mmdebstrap",
    .path = system_path, /* what builds a system comes from the system */
    .inherit = none,
    .environment = none,
};

const struct era_image_tool era_image_npm = {
    .name = "npm",
    .package = "npm",
    .inherit = npm_inherit,
    .environment = npm_environment,
};

const struct era_image_tool era_image_skopeo = {
    .name = "skopeo",
    .package = "skopeo",
    .inherit = skopeo_inherit,
    .environment = none,
};

static bool has_variable(const struct era_strv *env, const char *key_value)
{
    size_t len = strcspn(key_value, "=") + 1;
    for (size_t i = 0; i < env->count; i++)
        if (strncasecmp(env->items[i], key_value, len) == 0)
            return true;
    return false;
}

static int make_environment(const struct era_image_tool *tool, const char *path, struct era_strv *env)
{
    _cleanup_free_ char *variable = era_str_printf("PATH=%s", path);
    int r = variable == NULL ? -ENOMEM : era_strv_add(env, variable);
    if (r >= 0)
        r = era_strv_add(env, "LC_ALL=C.UTF-8");
    if (r >= 0)
        r = era_process_inherit_env(env, inherit_always);
    if (r >= 0)
        r = era_process_inherit_env(env, tool->inherit);
    for (size_t i = 0; r >= 0 && tool->environment[i] != NULL; i++)
        if (!has_variable(env, tool->environment[i]))
            r = era_strv_add(env, tool->environment[i]);
    return r;
}

/* The folders to look in: free() it. */
static char *search_path(const struct era_image_tool *tool)
{
    const char *own = getenv("PATH");
    if (tool->path != NULL || own == NULL || own[0] == '\0')
        return strdup(tool->path != NULL ? tool->path : system_path);
    return era_str_printf("%s:%s", own, system_path);
}

const char **era_image_argv(const char *name, const struct era_strv *args)
{
    const char **argv = calloc(args->count + 2, sizeof *argv);
    if (argv == NULL)
        return NULL;
    argv[0] = name;
    for (size_t i = 0; i < args->count; i++)
        argv[i + 1] = args->items[i];
    return argv;
}

/* What a tool said last, without the frame that programs in Go put around it: level=fatal msg="…" */
static const char *plain_words(const char *tail)
{
    const char *fatal = strstr(tail, "level=fatal msg=\"");
    if (fatal != NULL)
        return fatal + strlen("level=fatal msg=\"");
    return tail[0] != '\0' ? tail : "it said nothing";
}

static int run(const struct era_image_tool *tool, const struct era_image_work *work, const struct era_strv *args,
               const struct era_process_spec *options, const struct era_strv *env, const char *path,
               const char *failure, struct era_error *err)
{
    _cleanup_free_ const char **argv = era_image_argv(tool->name, args);
    if (argv == NULL)
        return era_error_oom(err);
    struct era_process_spec spec = *options;
    spec.path = path;
    spec.argv = argv;
    spec.envp = (const char *const *)env->items;
    spec.cwd_fd = work->fd;
    /* The work is locked for as long as a process of the tool lives. */
    spec.fds = &work->fd;
    spec.fd_count = 1;
    spec.cancel_fd = work->images->cancel_fd;
    struct era_process_result result;
    int r = era_process_run(&spec, &result, err);
    if (r < 0 || era_process_succeeded(&result))
        return r;
    char how[64];
    era_process_describe(result.wait_status, how, sizeof how);
    if (strstr(result.tail, "No space left on device") != NULL)
        return era_error_set(err, ENOSPC, "disk_full", "%s found the disk full: %s", tool->name, result.tail);
    return era_error_set(err, EIO, failure, "%s %s: %s", tool->name, how, plain_words(result.tail));
}

int era_image_tool_run(const struct era_image_tool *tool, const struct era_image_work *work,
                       const struct era_strv *args, const struct era_process_spec *options, const char *failure,
                       struct era_error *err)
{
    _cleanup_free_ char *folders = search_path(tool);
    if (folders == NULL)
        return era_error_oom(err);
    _cleanup_free_ char *path = NULL;
    int r = era_process_find(folders, tool->name, &path);
    if (r == -ENOENT)
        return era_error_set(err, ENOENT, "tool_missing", "%s is not installed (on Debian: apt-get install %s)",
                             tool->name, tool->package);
    struct era_strv env = {0};
    if (r >= 0)
        r = make_environment(tool, folders, &env);
    r = r < 0 ? era_error_oom(err) : run(tool, work, args, options, &env, path, failure, err);
    era_strv_clear(&env);
    return r;
}

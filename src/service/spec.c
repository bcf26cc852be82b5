/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked for: checked here, field by field, before anything is done. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "service/service.h"

static int check_range(struct era_error *err, const char *field, uint64_t value, uint64_t min, uint64_t max)
{
    if (value >= min && value <= max)
        return 0;
    return era_error_invalid(err, field, "%s must be a whole number from %llu to %llu", field, (unsigned long long)min,
                             (unsigned long long)max);
}

int env_set(struct era_strv *env, const char *key_value)
{
    size_t key = strcspn(key_value, "=") + 1;
    for (size_t i = 0; i < env->count; i++) {
        if (strncmp(env->items[i], key_value, key) != 0)
            continue;
        char *copy = strdup(key_value);
        if (copy == NULL)
            return -ENOMEM;
        free(env->items[i]);
        env->items[i] = copy;
        return 0;
    }
    return era_strv_add(env, key_value);
}

static int add_env(struct era_strv *env, const char *key_value, struct era_error *err)
{
    if (!era_env_valid(key_value) || !era_str_is_utf8(key_value, strlen(key_value)))
        return era_error_invalid(err, "env",
                                 "an environment variable is written KEY=VALUE, with a KEY of letters, digits and _");
    size_t bytes = strlen(key_value);
    for (size_t i = 0; i < env->count; i++)
        bytes += strlen(env->items[i]);
    if (env->count >= ERA_ENV_MAX || bytes > ERA_ENV_BYTES_MAX)
        return era_error_invalid(err, "env", "at most %u variables of %u bytes together", ERA_ENV_MAX,
                                 ERA_ENV_BYTES_MAX);
    return env_set(env, key_value) < 0 ? era_error_oom(err) : 0;
}

/* ---- VMs ---------------------------------------------------------------- */

int era_vm_spec_new(const char *language, struct era_vm_spec **ret_spec, struct era_error *err)
{
    enum era_language parsed;
    if (era_language_parse(language, &parsed) < 0)
        return era_error_invalid(err, "language", "unknown language; it is python or node");
    struct era_vm_spec *spec = calloc(1, sizeof *spec);
    if (spec == NULL)
        return era_error_oom(err);
    era_vm_ask_init(&spec->ask, parsed);
    *ret_spec = spec;
    return 0;
}

void era_vm_spec_free(struct era_vm_spec *spec)
{
    if (spec == NULL)
        return;
    era_vm_ask_clear(&spec->ask);
    free(spec);
}

/* A setter of a bounded number. */
#define DEFINE_NUMBER(function, member, field, min, max)                                                               \
    int function(struct era_vm_spec *spec, uint32_t value, struct era_error *err)                                      \
    {                                                                                                                  \
        int r = check_range(err, field, value, min, max);                                                              \
        if (r >= 0)                                                                                                    \
            spec->ask.member = value;                                                                                  \
        return r;                                                                                                      \
    }

DEFINE_NUMBER(era_vm_spec_set_cpu, cpu_count, "cpu", ERA_CPU_MIN, ERA_CPU_MAX)
DEFINE_NUMBER(era_vm_spec_set_mem, mem_mib, "mem", ERA_MEM_MIB_MIN, ERA_MEM_MIB_MAX)
DEFINE_NUMBER(era_vm_spec_set_disk, disk_mib, "disk", ERA_DISK_MIB_MIN, ERA_DISK_MIB_MAX)
DEFINE_NUMBER(era_vm_spec_set_pids, pids, "pids", ERA_PIDS_MIN, ERA_PIDS_MAX)

int era_vm_spec_set_network(struct era_vm_spec *spec, const char *mode, struct era_error *err)
{
    if (era_network_parse(mode, &spec->ask.network) < 0)
        return era_error_invalid(err, "network", "unknown network; it is none or allow_all");
    return 0;
}

int era_vm_spec_set_image(struct era_vm_spec *spec, const char *reference, struct era_error *err)
{
    if (!era_reference_valid(reference))
        return era_error_invalid(err, "image", "this is no image reference; one is written like agent/python:3.11");
    era_str_copy(spec->ask.image, sizeof spec->ask.image, reference);
    spec->image_named = true;
    return 0;
}

int era_vm_spec_set_launcher(struct era_vm_spec *spec, const char *name, struct era_error *err)
{
    if (era_launcher_parse(name, &spec->ask.launcher) < 0)
        return era_error_invalid(err, "launcher", "unknown launcher; it is auto, namespace or microvm");
    return 0;
}

int era_vm_spec_set_persist(struct era_vm_spec *spec, bool persist, struct era_error *err)
{
    (void)err;
    spec->ask.persist = persist;
    return 0;
}

int era_vm_spec_set_temporary(struct era_vm_spec *spec, bool temporary, struct era_error *err)
{
    (void)err;
    spec->temporary = temporary;
    return 0;
}

int era_vm_spec_set_volume(struct era_vm_spec *spec, const char *name, struct era_error *err)
{
    if (!era_volume_name_valid(name))
        return era_error_invalid(err, "volume", "this is no volume name; see `agent volume list`");
    era_str_copy(spec->ask.volume, sizeof spec->ask.volume, name);
    spec->ask.persist = true;
    return 0;
}

int era_vm_spec_set_from(struct era_vm_spec *spec, const char *name, struct era_error *err)
{
    if (!era_volume_name_valid(name))
        return era_error_invalid(err, "from", "this is no snapshot's name; see `agent snapshot list`");
    era_str_copy(spec->from, sizeof spec->from, name);
    return 0;
}

int era_vm_spec_set_best_effort(struct era_vm_spec *spec, bool best_effort, struct era_error *err)
{
    (void)err;
    spec->ask.best_effort = best_effort;
    return 0;
}

/* The name is made whole here: a VM is started again from elsewhere than where it was created. */
int era_vm_spec_set_kernel(struct era_vm_spec *spec, const char *path, struct era_error *err)
{
    struct stat st;
    _cleanup_free_ char *whole = realpath(path, NULL);
    if (whole == NULL || access(whole, R_OK) < 0 || stat(whole, &st) < 0)
        return era_error_set(err, errno, "file_not_found", "the kernel %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return era_error_invalid(err, "kernel", "%s is no file", path);
    if (!era_str_is_utf8(whole, strlen(whole)) || !era_str_copy(spec->ask.kernel, sizeof spec->ask.kernel, whole))
        return era_error_invalid(err, "kernel", "a kernel's path is text of at most %d bytes", ERA_KERNEL_MAX - 1);
    return 0;
}

int era_vm_spec_set_key(struct era_vm_spec *spec, const char *key, struct era_error *err)
{
    if (key[0] == '\0' || !era_str_is_utf8(key, strlen(key)) || !era_str_copy(spec->key, sizeof spec->key, key))
        return era_error_invalid(err, "key", "a key is text of 1 to %d bytes", ERA_KEY_MAX - 1);
    return 0;
}

int era_vm_spec_add_env(struct era_vm_spec *spec, const char *key_value, struct era_error *err)
{
    return add_env(&spec->ask.env, key_value, err);
}

/* ---- runs --------------------------------------------------------------- */

static struct era_run_spec *new_run_spec(void)
{
    struct era_run_spec *spec = calloc(1, sizeof *spec);
    if (spec == NULL)
        return NULL;
    spec->flags = ERA_RUN_LOG;
    spec->timeout_ms = ERA_TIMEOUT_MS_DEFAULT;
    spec->output_cap = ERA_OUTPUT_CAP_DEFAULT;
    era_str_copy(spec->workdir, sizeof spec->workdir, "/workspace");
    return spec;
}

static int add_argument(struct era_run_spec *spec, const char *text, struct era_error *err)
{
    size_t len = strlen(text);
    if (len > ERA_COMMAND_MAX)
        return era_error_invalid(err, "cmd", "the command has %zu bytes; at most %u are possible", len,
                                 ERA_COMMAND_MAX);
    return era_strv_add(&spec->argv, text) < 0 ? era_error_oom(err) : 0;
}

int era_run_spec_new_shell(const char *command, struct era_run_spec **ret_spec, struct era_error *err)
{
    if (command[strspn(command, " \t\n")] == '\0')
        return era_error_invalid(err, "cmd", "the command is empty");
    struct era_run_spec *spec = new_run_spec();
    int r = spec == NULL ? era_error_oom(err) : add_argument(spec, command, err);
    if (r < 0) {
        era_run_spec_free(spec);
        return r;
    }
    spec->flags |= ERA_RUN_SHELL;
    *ret_spec = spec;
    return 0;
}

int era_run_spec_new_argv(const char *const argv[], struct era_run_spec **ret_spec, struct era_error *err)
{
    if (argv[0] == NULL || argv[0][0] == '\0')
        return era_error_invalid(err, "cmd", "the command is empty");
    struct era_run_spec *spec = new_run_spec();
    int r = spec == NULL ? era_error_oom(err) : 0;
    size_t bytes = 0;
    for (size_t i = 0; r >= 0 && argv[i] != NULL; i++) {
        bytes += strlen(argv[i]) + 5;
        if (i == ERA_ARGV_MAX || bytes > ERA_RUN_BYTES_MAX)
            r = era_error_invalid(err, "cmd", "at most %u arguments of %u bytes together", ERA_ARGV_MAX,
                                  ERA_RUN_BYTES_MAX);
        else
            r = add_argument(spec, argv[i], err);
    }
    if (r < 0) {
        era_run_spec_free(spec);
        return r;
    }
    *ret_spec = spec;
    return 0;
}

void era_run_spec_free(struct era_run_spec *spec)
{
    if (spec == NULL)
        return;
    era_strv_clear(&spec->argv);
    era_strv_clear(&spec->env);
    era_strv_clear(&spec->files);
    for (size_t i = 0; i < spec->data_count; i++) {
        free(spec->data[i].path);
        free(spec->data[i].bytes);
    }
    free(spec->data);
    free(spec);
}

int era_run_spec_set_timeout(struct era_run_spec *spec, uint32_t timeout_ms, struct era_error *err)
{
    int r = check_range(err, "timeout", timeout_ms, 0, ERA_TIMEOUT_MS_MAX);
    if (r >= 0)
        spec->timeout_ms = timeout_ms;
    return r;
}

int era_run_spec_set_workdir(struct era_run_spec *spec, const char *dir, struct era_error *err)
{
    if (dir[0] != '/' || !era_str_copy(spec->workdir, sizeof spec->workdir, dir))
        return era_error_invalid(err, "workdir", "the working directory must be an absolute path inside the VM");
    return 0;
}

int era_run_spec_set_output_cap(struct era_run_spec *spec, uint64_t bytes, struct era_error *err)
{
    int r = check_range(err, "output_cap", bytes, ERA_OUTPUT_CAP_MIN, ERA_OUTPUT_CAP_MAX);
    if (r >= 0)
        spec->output_cap = bytes;
    return r;
}

int era_run_spec_add_env(struct era_run_spec *spec, const char *key_value, struct era_error *err)
{
    return add_env(&spec->env, key_value, err);
}

/* Looked at now, so that a wrong path is found before a VM is made for it. */
int era_run_spec_add_file(struct era_run_spec *spec, const char *path, struct era_error *err)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        int r = era_error_set(err, errno, errno == ENOENT || errno == ENOTDIR ? "file_not_found" : "file_unreadable",
                              "%s: %s", path, strerror(errno));
        if (err != NULL)
            era_str_copy(err->field, sizeof err->field, "file");
        return r;
    }
    int r = 0;
    if (S_ISDIR(st.st_mode))
        r = era_error_set(err, EISDIR, "not_a_file", "%s is a directory; `agent vm cp` copies trees", path);
    else if (!S_ISREG(st.st_mode))
        r = era_error_set(err, EINVAL, "not_a_file", "%s is not a regular file", path);
    else if (faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) < 0)
        r = era_error_set(err, errno, "file_unreadable", "%s: %s", path, strerror(errno));
    const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    for (size_t i = 0; r >= 0 && i < spec->files.count; i++) {
        const char *slash = strrchr(spec->files.items[i], '/');
        if (era_str_eq(slash != NULL ? slash + 1 : spec->files.items[i], name))
            r = era_error_invalid(err, "file", "two files would both be /workspace/in/%s", name);
    }
    if (r < 0 && err != NULL)
        era_str_copy(err->field, sizeof err->field, "file");
    if (r >= 0 && era_strv_add(&spec->files, path) < 0)
        r = era_error_oom(err);
    return r;
}

int era_run_spec_add_data(struct era_run_spec *spec, const char *path, const void *data, size_t len,
                          struct era_error *err)
{
    if (!era_guest_path_valid(path))
        return era_error_invalid(err, "files", "%.200s is no path of a file in the VM", path);
    _cleanup_free_ char *whole = path[0] == '/' ? strdup(path) : era_str_printf("/workspace/%s", path);
    for (size_t i = 0; whole != NULL && i < spec->data_count; i++)
        if (era_str_eq(spec->data[i].path, whole))
            return era_error_invalid(err, "files", "%.200s is given twice", path);
    if (spec->data_count == ERA_FILES_MAX)
        return era_error_invalid(err, "files", "at most %u files are possible", ERA_FILES_MAX);
    struct spec_data *grown = reallocarray(spec->data, spec->data_count + 1, sizeof *grown);
    if (grown != NULL)
        spec->data = grown;
    void *bytes = malloc(len + 1);
    if (grown == NULL || bytes == NULL || whole == NULL) {
        free(bytes);
        return era_error_oom(err);
    }
    memcpy(bytes, data, len);
    grown[spec->data_count++] = (struct spec_data){.path = era_take_ptr(whole), .bytes = bytes, .len = len};
    return 0;
}

static int set_flag(struct era_run_spec *spec, uint32_t flag, bool on)
{
    spec->flags = on ? spec->flags | flag : spec->flags & ~flag;
    return 0;
}

int era_run_spec_set_stdin(struct era_run_spec *spec, bool open, struct era_error *err)
{
    (void)err;
    return set_flag(spec, ERA_RUN_STDIN, open);
}

int era_run_spec_set_live(struct era_run_spec *spec, bool live, struct era_error *err)
{
    (void)err;
    return set_flag(spec, ERA_RUN_LIVE, live);
}

int era_run_spec_set_tty(struct era_run_spec *spec, uint16_t cols, uint16_t rows, struct era_error *err)
{
    (void)err;
    spec->cols = cols;
    spec->rows = rows;
    spec->flags &= ~(uint32_t)ERA_RUN_LOG; /* what a person types and sees is not kept */
    return set_flag(spec, ERA_RUN_TTY | ERA_RUN_STDIN | ERA_RUN_LIVE, true);
}

int era_run_spec_set_kill_on_hangup(struct era_run_spec *spec, bool kill, struct era_error *err)
{
    (void)err;
    return set_flag(spec, ERA_RUN_KILL_ON_HANGUP, kill);
}

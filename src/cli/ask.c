/* SPDX-License-Identifier: Apache-2.0 */
/* Options that several commands share, turned into what the library asks for. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

static int set_number(const struct invocation *invocation, struct era_vm_spec *spec, const char *name,
                      int (*set)(struct era_vm_spec *, uint32_t, struct era_error *), struct era_error *err)
{
    uint64_t value = 0;
    if (!option_given(invocation, name))
        return 0;
    int r = option_number(invocation, name, 1, UINT32_MAX, &value, err);
    return r < 0 ? r : set(spec, (uint32_t)value, err);
}

static int set_text(const struct invocation *invocation, struct era_vm_spec *spec, const char *name,
                    int (*set)(struct era_vm_spec *, const char *, struct era_error *), struct era_error *err)
{
    const char *text = option_value(invocation, name);
    return text != NULL ? set(spec, text, err) : 0;
}

static int fill_vm(const struct invocation *invocation, struct era_vm_spec *spec, struct era_error *err)
{
    int r = set_number(invocation, spec, "cpu", era_vm_spec_set_cpu, err);
    if (r >= 0)
        r = set_number(invocation, spec, "mem", era_vm_spec_set_mem, err);
    if (r >= 0)
        r = set_number(invocation, spec, "disk", era_vm_spec_set_disk, err);
    if (r >= 0)
        r = set_number(invocation, spec, "pids", era_vm_spec_set_pids, err);
    if (r >= 0)
        r = set_text(invocation, spec, "network", era_vm_spec_set_network, err);
    if (r >= 0)
        r = set_text(invocation, spec, "image", era_vm_spec_set_image, err);
    if (r >= 0)
        r = set_text(invocation, spec, "volume", era_vm_spec_set_volume, err);
    if (r >= 0)
        r = set_text(invocation, spec, "from", era_vm_spec_set_from, err);
    if (r >= 0)
        r = set_text(invocation, spec, "kernel", era_vm_spec_set_kernel, err);
    const char *launcher = option_value(invocation, "launcher");
    if (launcher == NULL)
        launcher = getenv("AGENT_LAUNCHER");
    if (r >= 0 && launcher != NULL && launcher[0] != '\0')
        r = era_vm_spec_set_launcher(spec, launcher, err);
    if (r >= 0 && option_given(invocation, "persist"))
        r = era_vm_spec_set_persist(spec, true, err);
    if (r >= 0 && option_given(invocation, "best-effort"))
        r = era_vm_spec_set_best_effort(spec, true, err);
    const char *env = NULL;
    for (size_t i = 0; r >= 0 && (env = option_nth(invocation, "env", i)) != NULL; i++)
        r = era_vm_spec_add_env(spec, env, err);
    return r;
}

int ask_vm_of(const struct invocation *invocation, const char *language, struct era_vm_spec **ret_spec,
              struct era_error *err)
{
    struct era_vm_spec *spec = NULL;
    int r = era_vm_spec_new(language, &spec, err);
    if (r >= 0)
        r = fill_vm(invocation, spec, err);
    if (r < 0) {
        era_vm_spec_free(spec);
        return r;
    }
    *ret_spec = spec;
    return 0;
}

int ask_vm(const struct invocation *invocation, struct era_vm_spec **ret_spec, struct era_error *err)
{
    const char *language = option_value(invocation, "language");
    bool from = option_given(invocation, "from");
    if ((language == NULL) != from) {
        int wrong = era_error_set(err, EINVAL, "usage",
                                  from ? "give either --language or --from" : "--language LANGUAGE is missing");
        if (err != NULL)
            era_str_copy(err->field, sizeof err->field, "language");
        return wrong;
    }
    /* Of a snapshot it is the snapshot's, whatever is said here. */
    return ask_vm_of(invocation, language != NULL ? language : "python", ret_spec, err);
}

static int fill_run(const struct invocation *invocation, struct era_run_spec *spec, struct era_error *err)
{
    uint32_t timeout_ms = 0;
    int r = option_timeout_ms(invocation, &timeout_ms, err);
    if (r >= 0 && timeout_ms > 0)
        r = era_run_spec_set_timeout(spec, timeout_ms, err);
    if (r >= 0 && option_given(invocation, "workdir"))
        r = era_run_spec_set_workdir(spec, option_value(invocation, "workdir"), err);
    const char *text = NULL;
    for (size_t i = 0; r >= 0 && (text = option_nth(invocation, "env", i)) != NULL; i++)
        r = era_run_spec_add_env(spec, text, err);
    for (size_t i = 0; r >= 0 && (text = option_nth(invocation, "file", i)) != NULL; i++)
        r = era_run_spec_add_file(spec, text, err);
    if (r >= 0 && option_given(invocation, "stdin"))
        r = era_run_spec_set_stdin(spec, true, err);
    return r;
}

int ask_run(const struct invocation *invocation, struct era_run_spec **ret_spec, struct era_error *err)
{
    const char *command = option_value(invocation, "cmd");
    struct era_run_spec *spec = NULL;
    int r;
    if ((command == NULL) == (invocation->argv == NULL))
        r = era_error_invalid(err, "cmd", "give either --cmd COMMAND or -- ARGV");
    else if (command != NULL)
        r = era_run_spec_new_shell(command, &spec, err);
    else
        r = era_run_spec_new_argv(invocation->argv, &spec, err);
    if (r >= 0)
        r = fill_run(invocation, spec, err);
    if (r < 0) {
        era_run_spec_free(spec);
        return r;
    }
    *ret_spec = spec;
    return 0;
}

static int add_id(char ***ids, size_t *count, const char *id)
{
    char **grown = reallocarray(*ids, *count + 2, sizeof *grown);
    if (grown == NULL)
        return -ENOMEM;
    *ids = grown;
    grown[*count] = strdup(id);
    grown[*count + 1] = NULL;
    return grown[(*count)++] == NULL ? -ENOMEM : 0;
}

static int add_all(struct era *era, bool running_only, char ***ids, size_t *count, struct era_error *err)
{
    struct era_vm_list *list = NULL;
    int r = era_vm_list(era, NULL, &list, err);
    if (r < 0)
        return r;
    for (size_t i = 0; r >= 0 && i < era_vm_list_count(list); i++) {
        const struct era_vm *vm = era_vm_list_at(list, i);
        bool up = era_str_eq(era_vm_status(vm), "ready") || era_str_eq(era_vm_status(vm), "running");
        if ((up || !running_only) && add_id(ids, count, era_vm_id(vm)) < 0)
            r = era_error_oom(err);
    }
    era_vm_list_free(list);
    return r;
}

int ask_targets(const struct invocation *invocation, struct era *era, bool running_only, char ***ret_ids,
                struct era_error *err)
{
    bool all = option_given(invocation, "all");
    if (all == option_given(invocation, "vm"))
        return era_error_invalid(err, "vm", "give either --vm ID or --all");
    char **ids = calloc(1, sizeof *ids);
    size_t count = 0;
    int r = ids == NULL ? era_error_oom(err) : 0;
    if (r >= 0 && all)
        r = add_all(era, running_only, &ids, &count, err);
    const char *id = NULL;
    for (size_t i = 0; r >= 0 && (id = option_nth(invocation, "vm", i)) != NULL; i++)
        if (add_id(&ids, &count, id) < 0)
            r = era_error_oom(err);
    if (r < 0) {
        ask_targets_free(ids);
        return r;
    }
    *ret_ids = ids;
    return 0;
}

void ask_targets_free(char **ids)
{
    for (size_t i = 0; ids != NULL && ids[i] != NULL; i++)
        free(ids[i]);
    free(ids);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static const char *const language_names[] = {"python", "node"};
static const char *const network_names[] = {"none", "allow_all"};
static const char *const launcher_names[] = {"auto", "namespace", "microvm"};
static const char *const status_names[] = {"provisioning", "ready", "running", "stopped", "failed", "paused"};
static const char *const verdict_names[] = {"", "exited", "signaled", "timed_out", "oom_killed", "vm_lost"};
static const char *const volume_kind_names[] = {"", "ext4", "folder"};

#define COUNT(names) (sizeof(names) / sizeof((names)[0]))

static int index_of(const char *const names[], size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (era_str_eq(names[i], name))
            return (int)i;
    return -EINVAL;
}

/* Name and parse functions of one enumeration. */
#define DEFINE_NAMES(function, type, names)                                                                            \
    const char *function##_name(enum type value)                                                                       \
    {                                                                                                                  \
        return (size_t)value < COUNT(names) ? names[value] : "";                                                       \
    }                                                                                                                  \
    int function##_parse(const char *name, enum type *ret)                                                             \
    {                                                                                                                  \
        int index = index_of(names, COUNT(names), name);                                                               \
        if (index < 0)                                                                                                 \
            return index;                                                                                              \
        *ret = (enum type)index;                                                                                       \
        return 0;                                                                                                      \
    }

DEFINE_NAMES(era_network, era_network, network_names)
DEFINE_NAMES(era_launcher, era_launcher_kind, launcher_names)
DEFINE_NAMES(era_vm_status, era_vm_status, status_names)
DEFINE_NAMES(era_verdict, era_verdict, verdict_names)
DEFINE_NAMES(era_volume_kind, era_volume_kind, volume_kind_names)

const char *era_language_name(enum era_language language)
{
    return language_names[language];
}

int era_language_parse(const char *name, enum era_language *ret_language)
{
    if (era_str_eq(name, "javascript") || era_str_eq(name, "js"))
        name = "node";
    int index = index_of(language_names, COUNT(language_names), name);
    if (index < 0)
        return index;
    *ret_language = (enum era_language)index;
    return 0;
}

const char *era_language_image(enum era_language language)
{
    return language == ERA_LANGUAGE_PYTHON ? "agent/python:3.11" : "agent/node:20";
}

void era_vm_ask_init(struct era_vm_ask *ask, enum era_language language)
{
    *ask = (struct era_vm_ask){
        .language = language,
        .cpu_count = ERA_CPU_DEFAULT,
        .mem_mib = ERA_MEM_MIB_DEFAULT,
        .disk_mib = ERA_DISK_MIB_DEFAULT,
        .pids = ERA_PIDS_DEFAULT,
        .network = ERA_NETWORK_NONE,
        .launcher = ERA_LAUNCHER_AUTO,
    };
    era_str_copy(ask->image, sizeof ask->image, era_language_image(language));
}

void era_vm_ask_clear(struct era_vm_ask *ask)
{
    era_strv_clear(&ask->env);
}

void era_vm_record_clear(struct era_vm_record *record)
{
    era_vm_ask_clear(&record->ask);
}

void era_vm_id_make(enum era_language language, int64_t now_ns, char ret_id[ERA_VM_ID_MAX])
{
    snprintf(ret_id, ERA_VM_ID_MAX, "%s-%lld", era_language_name(language), (long long)now_ns);
}

void era_run_id_make(int64_t now_ns, char ret_id[ERA_RUN_ID_MAX])
{
    snprintf(ret_id, ERA_RUN_ID_MAX, "r%lld", (long long)now_ns);
}

int era_exit_code_of_wait(int wait_status)
{
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

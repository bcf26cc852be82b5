/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.h - the vocabulary: what can be asked of a VM, what is recorded of it,
 * and how a run ends. Pure: no I/O, no state, no clock.
 */
#ifndef ERA_VM_VM_H
#define ERA_VM_VM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum era_language { ERA_LANGUAGE_PYTHON, ERA_LANGUAGE_NODE };
enum era_network { ERA_NETWORK_NONE, ERA_NETWORK_ALLOW_ALL };
enum era_launcher_kind { ERA_LAUNCHER_AUTO, ERA_LAUNCHER_NAMESPACE, ERA_LAUNCHER_MICROVM };

/* Stored statuses; two are derived: "running" is ready with a run in flight, "paused" is ready and paused. */
enum era_vm_status {
    ERA_VM_PROVISIONING, /* being created; a creator that dies here leaves nothing behind */
    ERA_VM_READY,
    ERA_VM_RUNNING,
    ERA_VM_STOPPED,
    ERA_VM_FAILED,
    ERA_VM_PAUSED,
};

enum era_verdict {
    ERA_VERDICT_NONE, /* not ended yet */
    ERA_VERDICT_EXITED,
    ERA_VERDICT_SIGNALED,
    ERA_VERDICT_TIMED_OUT,
    ERA_VERDICT_OOM_KILLED,
    ERA_VERDICT_VM_LOST,
};

enum era_volume_kind { ERA_VOLUME_NONE, ERA_VOLUME_EXT4, ERA_VOLUME_FOLDER };

/* Names for programs and people, and back; parsing returns -EINVAL for an unknown name. */
const char *era_language_name(enum era_language language);
const char *era_network_name(enum era_network network);
const char *era_launcher_name(enum era_launcher_kind launcher);
const char *era_vm_status_name(enum era_vm_status status);
const char *era_verdict_name(enum era_verdict verdict);
const char *era_volume_kind_name(enum era_volume_kind kind);
int era_language_parse(const char *name, enum era_language *ret_language); /* also "javascript" and "js" */
int era_network_parse(const char *name, enum era_network *ret_network);
int era_launcher_parse(const char *name, enum era_launcher_kind *ret_launcher);
int era_vm_status_parse(const char *name, enum era_vm_status *ret_status);
int era_verdict_parse(const char *name, enum era_verdict *ret_verdict);
int era_volume_kind_parse(const char *name, enum era_volume_kind *ret_kind);

/* The image a language runs on unless another is asked for: "agent/python:3.11". */
const char *era_language_image(enum era_language language);

enum {
    ERA_VM_ID_MAX = 40,          /* with the NUL: "<language>-<unix time in nanoseconds>" */
    ERA_RUN_ID_MAX = 24,         /* with the NUL: "r" and the unix time in nanoseconds */
    ERA_NAME_MAX = 64,           /* a volume's name, with the NUL */
    ERA_REFERENCE_MAX = 256,     /* an image reference, with the NUL */
    ERA_DIGEST_MAX = 7 + 64 + 1, /* "sha256:<hex>" */
    ERA_UNENFORCED_MAX = 64,     /* "memory,cpu,pids,disk", with the NUL */
    ERA_KERNEL_MAX = 256,        /* a kernel's path on the host, with the NUL */
};

/* Limits of what may be asked for; inclusive. */
#define ERA_CPU_MIN            1u
#define ERA_CPU_MAX            256u
#define ERA_CPU_DEFAULT        1u
#define ERA_MEM_MIB_MIN        32u
#define ERA_MEM_MIB_MAX        1048576u
#define ERA_MEM_MIB_DEFAULT    256u
#define ERA_DISK_MIB_MIN       16u
#define ERA_DISK_MIB_MAX       1048576u
#define ERA_DISK_MIB_DEFAULT   1024u
#define ERA_PIDS_MIN           16u
#define ERA_PIDS_MAX           65536u
#define ERA_PIDS_DEFAULT       512u
#define ERA_TIMEOUT_MS_MAX     604800000u /* a week */
#define ERA_TIMEOUT_MS_DEFAULT 30000u
#define ERA_OUTPUT_CAP_DEFAULT (16u << 20) /* bytes a stream */
#define ERA_OUTPUT_CAP_MIN     4096u
#define ERA_OUTPUT_CAP_MAX     (1u << 30)
#define ERA_COMMAND_MAX        131071u /* bytes of one argument: the kernel's MAX_ARG_STRLEN less the NUL */
#define ERA_ARGV_MAX           1024u   /* arguments */
#define ERA_ENV_MAX            256u    /* variables */
#define ERA_ENV_BYTES_MAX      65536u  /* of all of them together */
#define ERA_FILES_MAX          256u    /* files that are staged with a run */
#define ERA_RUN_BYTES_MAX      196608u /* argv, env and workdir together: they travel in one frame */
#define ERA_PATH_MAX           4096u   /* a guest path, with the NUL */

/* What is asked for. Strings are held by value; env is owned (era_vm_ask_clear). */
struct era_vm_ask {
    enum era_language language;
    uint32_t cpu_count;
    uint32_t mem_mib;
    uint32_t disk_mib;
    uint32_t pids;
    enum era_network network;
    enum era_launcher_kind launcher;
    bool persist;
    bool best_effort;
    char image[ERA_REFERENCE_MAX];
    char volume[ERA_NAME_MAX];   /* "" : none named */
    char kernel[ERA_KERNEL_MAX]; /* a kernel of the caller's own, an absolute path; "": none */
    struct era_strv env;         /* "KEY=VALUE" */
};

/* The defaults for a language. */
void era_vm_ask_init(struct era_vm_ask *ask, enum era_language language);
void era_vm_ask_clear(struct era_vm_ask *ask);

/* What is recorded of a VM. Owned strings: ask.env only. */
struct era_vm_record {
    char id[ERA_VM_ID_MAX];
    struct era_vm_ask ask;           /* ask.launcher: what was asked for; ask.volume: what it got, "" without */
    enum era_launcher_kind launcher; /* what it runs on */
    enum era_vm_status status;
    bool paused;       /* stands still, as far as is known */
    uint32_t uid_slot; /* which range of uids is its own; unique among records */
    char unenforced[ERA_UNENFORCED_MAX];
    int64_t created_at_ns;
    int64_t last_run_at_ns; /* 0: never */
};

void era_vm_record_clear(struct era_vm_record *record);

/* How a run ended, as the shim tells and the store keeps it. */
struct era_run_outcome {
    enum era_verdict verdict;
    int32_t exit_code; /* 0..255 as a shell would report it, see era_result_exit_code() */
    uint64_t wall_us;
    uint64_t cpu_us;
    uint64_t peak_mem_kib;
    uint64_t dropped[2]; /* bytes cut from the middle of the stdout and stderr logs */
};

struct era_run_record {
    char id[ERA_RUN_ID_MAX];
    char vm_id[ERA_VM_ID_MAX];
    int64_t started_at_ns;
    struct era_run_outcome outcome;
};

/*
 * Grammars of what comes from outside, checked before any of it gets near a path.
 *   VM id      (python|node)-[0-9]{1,20}
 *   run id     r[0-9]{1,20}
 *   volume     [a-z0-9][a-z0-9._-]{0,62}
 *   reference  [host[:port]/]path[:tag][@sha256:hex], the grammar of container
 *              registries (distribution/reference), at most 255 bytes
 *   env        KEY=VALUE, KEY = [A-Za-z_][A-Za-z0-9_]*, VALUE without NUL
 */
bool era_vm_id_valid(const char *id);
bool era_run_id_valid(const char *id);
bool era_volume_name_valid(const char *name);
bool era_reference_valid(const char *reference);
bool era_env_valid(const char *key_value);
/* A file in a VM: absolute, or relative to /workspace; plain names (no "", "." or ".."), UTF-8 or not. */
bool era_guest_path_valid(const char *path);

void era_vm_id_make(enum era_language language, int64_t now_ns, char ret_id[ERA_VM_ID_MAX]);
void era_run_id_make(int64_t now_ns, char ret_id[ERA_RUN_ID_MAX]);

/* The exit status a shell would give for a wait status: code, or 128+N. */
int era_exit_code_of_wait(int wait_status);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process.h - running a tool and waiting for it.
 *
 * The child gets the environment, the descriptors and the argument vector that
 * it is given and nothing else of ours; its stdin is empty; what it prints
 * comes back line by line. It dies when the calling thread dies. Only this
 * child is waited for, so callers may have other children. Thread-safe.
 */
#ifndef ERA_BASE_PROCESS_H
#define ERA_BASE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/str.h"

/* stream: 1 or 2. line: without its newline, cut at 4095 bytes, any bytes but NUL. */
typedef void (*era_process_line_fn)(void *userdata, int stream, const char *line);

enum { ERA_PROCESS_FDS_MAX = 160 };

struct era_process_spec {
    const char *path;        /* absolute */
    const char *const *argv; /* ends with NULL */
    const char *const *envp; /* ends with NULL; all of the environment */
    int cwd_fd;              /* borrowed, or -EBADF: the caller's working directory */

    /* Become 3, 4, … in the child; borrowed; at most ERA_PROCESS_FDS_MAX. */
    const int *fds;
    size_t fd_count;

    /*
     * In mount and pid namespaces of its own, as their init: when it ends, or
     * we do, the kernel ends all it started and drops what it mounted. Without
     * privilege that takes a user namespace: see base/idmap.h.
     */
    bool own_namespaces;

    /* Root inside a user namespace when the caller is not root; implied by own_namespaces. */
    bool as_root;

    /* Such a namespace must have a range of ids, or the call fails with "tool_missing" or "id_range_missing". */
    bool need_id_range;

    /* Borrowed; 0 or less: none. Once it can be read, the program and its process group are killed. */
    int cancel_fd;

    era_process_line_fn on_line; /* may be NULL */
    void *userdata;
};

enum { ERA_PROCESS_TAIL_MAX = 384 };

struct era_process_result {
    int wait_status;                 /* as of waitpid(2) */
    char tail[ERA_PROCESS_TAIL_MAX]; /* the last lines of its stderr, joined by "; " */
};

/*
 * Runs it to its end. Returns 0 once it was executed, whatever its status.
 * Errors: system_error (ENOENT when path is gone), out_of_memory, tool_missing, id_range_missing,
 * interrupted (by cancel_fd; it has ended by then).
 */
int era_process_run(const struct era_process_spec *spec, struct era_process_result *ret_result, struct era_error *err);

/* True when it exited with 0. */
bool era_process_succeeded(const struct era_process_result *result);

/* "exited with 1", "was killed by signal 9". */
void era_process_describe(int wait_status, char *to, size_t size);

/* The first executable `name` in `path` ("/a:/b", absolute folders only); free() it. -ENOENT. */
int era_process_find(const char *path, const char *name, char **ret_path);

/*
 * Copies variables of our own environment: each of names (ends with NULL) that
 * is set; a name that ends with "*" stands for all that start so, in any case. -ENOMEM.
 */
int era_process_inherit_env(struct era_strv *env, const char *const *names);

#endif

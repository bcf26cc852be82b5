/* SPDX-License-Identifier: Apache-2.0 */
/* What surrounds running a tool: finding it, its environment, what its end means. See process.h. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/process.h"

bool era_process_succeeded(const struct era_process_result *result)
{
    return WIFEXITED(result->wait_status) && WEXITSTATUS(result->wait_status) == 0;
}

void era_process_describe(int wait_status, char *to, size_t size)
{
    if (WIFSIGNALED(wait_status))
        snprintf(to, size, "was killed by signal %d", WTERMSIG(wait_status));
    else
        snprintf(to, size, "exited with %d", WEXITSTATUS(wait_status));
}

int era_process_find(const char *path, const char *name, char **ret_path)
{
    for (const char *at = path; *at != '\0';) {
        size_t len = strcspn(at, ":");
        char candidate[PATH_MAX];
        struct stat st;
        if (at[0] == '/' && era_str_format(candidate, sizeof candidate, "%.*s/%s", (int)len, at, name) == 0 &&
            stat(candidate, &st) == 0 && S_ISREG(st.st_mode) && access(candidate, X_OK) == 0) {
            char *found = strdup(candidate);
            if (found == NULL)
                return -ENOMEM;
            *ret_path = found;
            return 0;
        }
        at += len;
        at += *at == ':';
    }
    return -ENOENT;
}

static bool is_wanted(const char *variable, const char *const *names)
{
    for (; *names != NULL; names++) {
        size_t len = strlen(*names);
        if ((*names)[len - 1] == '*') {
            if (strncasecmp(variable, *names, len - 1) == 0)
                return true;
        } else if (strncmp(variable, *names, len) == 0 && variable[len] == '=') {
            return true;
        }
    }
    return false;
}

int era_process_inherit_env(struct era_strv *env, const char *const *names)
{
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++) {
        if (!is_wanted(*variable, names))
            continue;
        int r = era_strv_add(env, *variable);
        if (r < 0)
            return r;
    }
    return 0;
}

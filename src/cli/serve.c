/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server is a program of its own, which this one becomes: what it loads, libmicrohttpd and TLS, would cost
 * every other command its quick start.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

static int add_argument(struct era_strv *argv, const char *name, const char *value)
{
    _cleanup_free_ char *text = value != NULL ? era_str_printf("--%s=%s", name, value) : era_str_printf("--%s", name);
    return text != NULL ? era_strv_add(argv, text) : -ENOMEM;
}

/* What was written here, and what the environment says in its place. */
static int fill_arguments(const struct invocation *invocation, const char *state_dir, struct era_strv *argv)
{
    const char *level = option_value(invocation, "log-level");
    const char *file = option_value(invocation, "log-file");
    int r = era_strv_add(argv, "agent-serve");
    for (size_t i = 0; r >= 0 && i < invocation->value_count; i++) {
        const struct value *value = &invocation->values[i];
        bool global = era_str_eq(value->option->name, "state-dir") || era_str_starts_with(value->option->name, "log-");
        if (!global)
            r = add_argument(argv, value->option->name, value->option->metavar != NULL ? value->text : NULL);
    }
    if (level == NULL)
        level = getenv("AGENT_LOG_LEVEL");
    if (file == NULL)
        file = getenv("AGENT_LOG_FILE");
    if (r >= 0 && level != NULL && level[0] != '\0')
        r = add_argument(argv, "log-level", level);
    if (r >= 0 && file != NULL && file[0] != '\0')
        r = add_argument(argv, "log-file", file);
    return r < 0 ? r : add_argument(argv, "state-dir", state_dir);
}

int serve(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_strv argv = {0};
    _cleanup_free_ char *path = NULL;
    int r = session_open(invocation, &era, &err); /* tells what is wrong with the state directory */
    if (r >= 0 && fill_arguments(invocation, era_state_dir(era), &argv) < 0)
        r = era_error_oom(&err);
    if (r >= 0 && (path = era_str_printf("%s/agent-serve", era_helper_dir(era))) == NULL)
        r = era_error_oom(&err);
    era_close(era);
    if (r >= 0 && path != NULL) {
        execv(path, argv.items);
        era_error_set(&err, errno, "helper_missing", "cannot start %s: %s", path, strerror(errno));
    }
    era_strv_clear(&argv);
    return output_error(invocation, &err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/cli.h"

/* An option wins over its variable; an empty variable is none. */
static const char *setting(const struct invocation *invocation, const char *option, const char *variable)
{
    const char *text = option_value(invocation, option);
    if (text == NULL)
        text = getenv(variable);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

static int set_up_log(const struct invocation *invocation, struct era_error *err)
{
    const char *level = setting(invocation, "log-level", "AGENT_LOG_LEVEL");
    enum era_log_level parsed = ERA_LOG_INFO;
    if (level != NULL && era_log_parse_level(level, &parsed) < 0)
        return era_error_invalid(err, "log-level", "unknown log level; it is debug, info, warn or error");
    era_log_set_level(parsed);
    const char *file = setting(invocation, "log-file", "AGENT_LOG_FILE");
    if (file == NULL)
        return 0;
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return era_error_set(err, errno, "log_file_unusable", "cannot open the log file %s: %s", file, strerror(errno));
    era_log_set_mirror(fd);
    return 0;
}

static bool wants_server(void)
{
    const char *mode = getenv("AGENT_MODE");
    return mode != NULL && (era_str_eq(mode, "http") || era_str_eq(mode, "server"));
}

/*
 * Whoever starts us may have closed 0, 1 or 2: then the next thing opened would
 * be taken for stdin, or be written to. Reading such a one ends at once, and
 * writing to it fails, as if it were closed still.
 */
static int hold_standard_streams(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDONLY); /* the helpers that we start inherit it */
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

int cli_main(int argc, char **argv)
{
    if (hold_standard_streams() < 0)
        return EXIT_FAILED;
    static struct invocation invocation;
    struct era_error err = {0};
    if (options_parse(argc, argv, &invocation, &err) < 0 || set_up_log(&invocation, &err) < 0)
        return output_error(&invocation, &err);
    if (invocation.version)
        return version(&invocation);
    const char *group =
        invocation.command == NULL && invocation.positional_count > 0 ? invocation.positionals[0] : NULL;
    if (invocation.help) {
        help_print(invocation.command, group);
        return output_flush();
    }
    if (invocation.command == NULL && wants_server())
        invocation.command = command_find(NULL, "serve");
    if (invocation.command == NULL) {
        era_error_set(&err, EINVAL, "usage", "a command is missing; see agent --help");
        return output_error(&invocation, &err);
    }
    return invocation.command->run(&invocation);
}

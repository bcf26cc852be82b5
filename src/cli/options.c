/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

static int usage(struct era_error *err, const char *field, const char *format, ...) ERA_PRINTF(3, 4);
static int usage(struct era_error *err, const char *field, const char *format, ...)
{
    char message[ERA_ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    era_error_set(err, EINVAL, "usage", "%s", message);
    era_str_copy(err->field, sizeof err->field, field);
    return -EINVAL;
}

const struct option *command_option(const struct command *command, size_t index)
{
    const struct option *tables[] = {command->options, command->more_options};
    for (size_t t = 0; t < 2; t++)
        for (const struct option *option = tables[t]; option != NULL && option->name != NULL; option++)
            if (index-- == 0)
                return option;
    return NULL;
}

static const struct option *find_option(const struct command *command, const char *name, size_t len)
{
    for (const struct option *option = cli_global_options; option->name != NULL; option++)
        if (strncmp(option->name, name, len) == 0 && option->name[len] == '\0')
            return option;
    const struct option *option = NULL;
    for (size_t i = 0; command != NULL && (option = command_option(command, i)) != NULL; i++)
        if (strncmp(option->name, name, len) == 0 && option->name[len] == '\0')
            return option;
    return NULL;
}

/* How many single-character edits make one word the other, counted up to 3. */
static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(a);
    size_t m = strlen(b);
    unsigned row[64];
    if (n > 60 || m > 60)
        return 3;
    for (size_t j = 0; j <= m; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m] > 3 ? 3 : row[m];
}

static int unknown_option(const struct command *command, const char *word, struct era_error *err)
{
    char name[64];
    era_str_copy(name, sizeof name, word);
    name[strcspn(name, "=")] = '\0';
    const struct option *near = NULL;
    const struct option *option = NULL;
    for (size_t i = 0; command != NULL && (option = command_option(command, i)) != NULL; i++)
        if (distance(option->name, name) < 3 &&
            (near == NULL || distance(option->name, name) < distance(near->name, name)))
            near = option;
    if (near != NULL)
        return usage(err, name, "unknown option --%s; did you mean --%s?", name, near->name);
    return usage(err, name, "unknown option --%s; see --help", name);
}

static int unknown_command(const char *group, const char *verb, struct era_error *err)
{
    const struct command *near = NULL;
    for (size_t i = 0; cli_commands[i].verb != NULL; i++) {
        const struct command *command = &cli_commands[i];
        if ((command->group == NULL) != (group == NULL) || (group != NULL && !era_str_eq(command->group, group)))
            continue;
        if (distance(command->verb, verb) < 3 &&
            (near == NULL || distance(command->verb, verb) < distance(near->verb, verb)))
            near = command;
    }
    const char *space = group != NULL ? " " : "";
    const char *before = group != NULL ? group : "";
    if (near != NULL)
        return usage(err, "command", "unknown command %s%s%s; did you mean %s%s%s?", before, space, verb, before, space,
                     near->verb);
    return usage(err, "command", "unknown command %s%s%s; see agent --help", before, space, verb);
}

const struct command *command_find(const char *group, const char *verb)
{
    for (size_t i = 0; cli_commands[i].verb != NULL; i++) {
        const struct command *command = &cli_commands[i];
        bool same_group =
            group == NULL ? command->group == NULL : command->group != NULL && era_str_eq(command->group, group);
        if (same_group && era_str_eq(command->verb, verb))
            return command;
    }
    return NULL;
}

static int add_value(struct invocation *invocation, const struct option *option, const char *text,
                     struct era_error *err)
{
    if (!option->repeatable && option_given(invocation, option->name))
        return usage(err, option->name, "--%s is given twice", option->name);
    if (invocation->value_count == VALUES_MAX)
        return usage(err, option->name, "there are more than %d options", VALUES_MAX);
    invocation->values[invocation->value_count++] = (struct value){.option = option, .text = text};
    return 0;
}

/* "--name", "--name=value" or "--name" "value"; returns how many words it took. */
static int take_option(struct invocation *invocation, char **words, struct era_error *err)
{
    const char *name = words[0] + 2;
    size_t len = strcspn(name, "=");
    if (strncmp(name, "help", len) == 0 && len == 4) {
        invocation->help = true;
        return 1;
    }
    if (strncmp(name, "version", len) == 0 && len == 7 && invocation->command == NULL) {
        invocation->version = true;
        return 1;
    }
    const struct option *option = find_option(invocation->command, name, len);
    if (option == NULL)
        return unknown_option(invocation->command, name, err);
    bool attached = name[len] == '=';
    if (option->metavar == NULL) {
        if (attached)
            return usage(err, option->name, "--%s takes no value", option->name);
        int r = add_value(invocation, option, "", err);
        return r < 0 ? r : 1;
    }
    if (!attached && words[1] == NULL)
        return usage(err, option->name, "--%s needs a value: %s", option->name, option->metavar);
    int r = add_value(invocation, option, attached ? name + len + 1 : words[1], err);
    return r < 0 ? r : attached ? 1 : 2;
}

/* The group and the verb; words[1] is NULL at the end. Returns how many words it took. */
static int take_command(struct invocation *invocation, char **words, struct era_error *err)
{
    invocation->command = command_find(NULL, words[0]);
    if (invocation->command != NULL)
        return 1;
    if (!help_group_exists(words[0]))
        return unknown_command(NULL, words[0], err);
    if (words[1] == NULL)
        return usage(err, "command", "agent %s needs a command; see agent %s --help", words[0], words[0]);
    if (era_str_eq(words[1], "--help") || era_str_eq(words[1], "-h") || era_str_eq(words[1], "help")) {
        invocation->help = true;
        invocation->positionals[invocation->positional_count++] = words[0];
        return 2;
    }
    invocation->command = command_find(words[0], words[1]);
    return invocation->command != NULL ? 2 : unknown_command(words[0], words[1], err);
}

static int check(const struct invocation *invocation, struct era_error *err)
{
    const struct command *command = invocation->command;
    if (command == NULL || invocation->help)
        return 0;
    const struct option *option = NULL;
    for (size_t i = 0; (option = command_option(command, i)) != NULL; i++)
        if (option->required && !option_given(invocation, option->name))
            return usage(err, option->name, "--%s %s is missing", option->name, option->metavar);
    if (invocation->positional_count < (size_t)command->positionals)
        return usage(err, "arguments", "%s is missing; see --help", command->arguments);
    if (invocation->positional_count > (size_t)command->positionals)
        return usage(err, "arguments", "%s is one argument too many; see --help",
                     invocation->positionals[command->positionals]);
    return 0;
}

int options_parse(int argc, char **argv, struct invocation *ret_invocation, struct era_error *err)
{
    struct invocation *invocation = ret_invocation;
    *invocation = (struct invocation){0};
    for (int i = 1; i < argc;) {
        int taken = 1;
        if (era_str_eq(argv[i], "--") && invocation->command != NULL && invocation->command->takes_argv) {
            invocation->argv = (const char *const *)&argv[i + 1];
            break;
        }
        if (era_str_eq(argv[i], "-h"))
            invocation->help = true;
        else if (era_str_eq(argv[i], "-q") && find_option(invocation->command, "quiet", 5) != NULL)
            taken = add_value(invocation, find_option(invocation->command, "quiet", 5), "", err) < 0 ? -EINVAL : 1;
        else if (era_str_starts_with(argv[i], "--") && argv[i][2] != '\0')
            taken = take_option(invocation, &argv[i], err);
        else if (argv[i][0] == '-' && argv[i][1] != '\0' && argv[i][1] != '-')
            taken = usage(err, argv[i], "unknown option %s; options are written --name", argv[i]);
        else if (invocation->command == NULL)
            taken = take_command(invocation, &argv[i], err);
        else if (invocation->positional_count == POSITIONALS_MAX)
            taken = usage(err, "arguments", "there are more than %d arguments", POSITIONALS_MAX);
        else
            invocation->positionals[invocation->positional_count++] = argv[i];
        if (taken < 0)
            return taken;
        i += taken;
        if (invocation->help && invocation->command == NULL && invocation->positional_count > 0)
            break;
    }
    return check(invocation, err);
}

const char *option_nth(const struct invocation *invocation, const char *name, size_t n)
{
    for (size_t i = 0; i < invocation->value_count; i++)
        if (era_str_eq(invocation->values[i].option->name, name) && n-- == 0)
            return invocation->values[i].text;
    return NULL;
}

const char *option_value(const struct invocation *invocation, const char *name)
{
    return option_nth(invocation, name, 0);
}

bool option_given(const struct invocation *invocation, const char *name)
{
    return option_value(invocation, name) != NULL;
}

int option_number(const struct invocation *invocation, const char *name, uint64_t min, uint64_t max,
                  uint64_t *ret_value, struct era_error *err)
{
    const char *text = option_value(invocation, name);
    if (text == NULL || era_parse_u64(text, min, max, ret_value) >= 0)
        return 0;
    return usage(err, name, "--%s must be a whole number from %llu to %llu", name, (unsigned long long)min,
                 (unsigned long long)max);
}

int option_timeout_ms(const struct invocation *invocation, uint32_t *ret_timeout_ms, struct era_error *err)
{
    static const uint64_t week_ms = 604800000;
    const char *text = option_value(invocation, "timeout");
    if (text == NULL)
        return 0;
    char whole[32];
    char fraction[4] = "000";
    bool fits = era_str_copy(whole, sizeof whole, text);
    char *dot = strchr(whole, '.');
    if (dot != NULL) {
        *dot = '\0';
        size_t digits = strlen(dot + 1);
        fits = fits && digits >= 1 && digits <= 3;
        memcpy(fraction, dot + 1, digits <= 3 ? digits : 0);
    }
    uint64_t seconds = 0;
    uint64_t thousandths = 0;
    uint64_t total = 0;
    if (fits && era_parse_u64(whole, 0, week_ms / 1000, &seconds) >= 0 &&
        era_parse_u64(fraction, 0, 999, &thousandths) >= 0)
        total = seconds * 1000 + thousandths;
    if (total == 0 || total > week_ms)
        return usage(err, "timeout", "--timeout must be a number of seconds, more than 0 and at most a week");
    *ret_timeout_ms = (uint32_t)total;
    return 0;
}

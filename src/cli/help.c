/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cli/cli.h"

static const char *const groups[][2] = {
    {"vm", "create VMs and run commands in them"},
    {"image", "root file systems for VMs"},
    {"volume", "what VMs keep"},
    {"snapshot", "VMs as they were"},
};

bool help_group_exists(const char *group)
{
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        if (era_str_eq(groups[i][0], group))
            return true;
    return false;
}

static void print_option(const struct option *option)
{
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", option->name, option->metavar != NULL ? " " : "",
             option->metavar != NULL ? option->metavar : "");
    printf("  %-22s %s%s%s\n", left, option->help, option->required ? "; required" : "",
           option->repeatable ? "; repeatable" : "");
}

static void print_globals(void)
{
    printf("\nGlobal options:\n");
    for (const struct option *option = cli_global_options; option->name != NULL; option++)
        print_option(option);
    printf("  %-22s %s\n", "--help", "this text");
}

static void print_command(const struct command *command)
{
    printf("Usage: agent %s%s%s", command->group != NULL ? command->group : "", command->group != NULL ? " " : "",
           command->verb);
    const struct option *option = NULL;
    for (size_t i = 0; (option = command_option(command, i)) != NULL; i++)
        if (option->required)
            printf(" --%s %s", option->name, option->metavar);
    if (command_option(command, 0) != NULL)
        printf(" [options]");
    if (command->arguments != NULL)
        printf(" %s", command->arguments);
    printf("\n\n%s\n", command->description);
    if (command_option(command, 0) != NULL)
        printf("\nOptions:\n");
    for (size_t i = 0; (option = command_option(command, i)) != NULL; i++)
        print_option(option);
    if (command->example != NULL)
        printf("\nExample:\n  %s\n", command->example);
    print_globals();
}

static void print_group(const char *group)
{
    printf("Usage: agent %s COMMAND [options]\n\nCommands:\n", group);
    for (size_t i = 0; cli_commands[i].verb != NULL; i++)
        if (cli_commands[i].group != NULL && era_str_eq(cli_commands[i].group, group))
            printf("  %-10s %s\n", cli_commands[i].verb, cli_commands[i].summary);
    printf("\nagent %s COMMAND --help says more.\n", group);
}

static void print_program(void)
{
    printf("Usage: agent [global options] COMMAND\n\nLightweight VMs for code that nobody trusts.\n\nCommands:\n");
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        printf("  %-10s %s\n", groups[i][0], groups[i][1]);
    for (size_t i = 0; cli_commands[i].verb != NULL; i++)
        if (cli_commands[i].group == NULL)
            printf("  %-10s %s\n", cli_commands[i].verb, cli_commands[i].summary);
    print_globals();
    printf("  %-22s %s\n", "--version", "print the version");
    printf("\nFirst steps:\n"
           "  agent doctor\n"
           "  agent vm temp --language python --cmd \"python -c 'print(42)'\"\n"
           "\nagent COMMAND --help says more.\n");
}

void help_print(const struct command *command, const char *group)
{
    if (command != NULL)
        print_command(command);
    else if (group != NULL)
        print_group(group);
    else
        print_program();
}

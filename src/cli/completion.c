/* SPDX-License-Identifier: Apache-2.0 */
/* A bash completion script, written out from the tables. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cli/cli.h"

static void print_options(const struct command *command)
{
    const struct option *option = NULL;
    for (size_t i = 0; (option = command_option(command, i)) != NULL; i++)
        printf(" --%s", option->name);
    for (option = cli_global_options; option->name != NULL; option++)
        printf(" --%s", option->name);
    printf(" --help");
}

/* "case" arms for what follows an option that has known values. */
static void print_values(const struct option *option)
{
    if (option->values == NULL)
        return;
    printf("        --%s) ", option->name);
    if (era_str_eq(option->values, "<file>")) {
        printf("COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n");
        return;
    }
    printf("COMPREPLY=($(compgen -W \"");
    for (const char *p = option->values; *p != '\0'; p++)
        putchar(*p == '|' ? ' ' : *p);
    printf("\" -- \"$cur\")); return ;;\n");
}

static bool seen_before(const struct option *wanted, size_t command_index)
{
    for (size_t c = 0; c < command_index; c++) {
        const struct option *option = NULL;
        for (size_t i = 0; (option = command_option(&cli_commands[c], i)) != NULL; i++)
            if (era_str_eq(option->name, wanted->name))
                return true;
    }
    return false;
}

static void print_all_values(void)
{
    for (const struct option *option = cli_global_options; option->name != NULL; option++)
        print_values(option);
    for (size_t c = 0; cli_commands[c].verb != NULL; c++) {
        const struct option *option = NULL;
        for (size_t i = 0; (option = command_option(&cli_commands[c], i)) != NULL; i++)
            if (!seen_before(option, c))
                print_values(option);
    }
    printf("        --vm) COMPREPLY=($(compgen -W \"$(\"$program\" vm list --all --quiet 2>/dev/null)\" -- \"$cur\"));"
           " return ;;\n");
}

/* The options after which the next word is a word of its own: "case" alternatives. */
static void print_flags(void)
{
    printf("--help");
    for (size_t c = 0; cli_commands[c].verb != NULL; c++) {
        const struct option *option = NULL;
        for (size_t i = 0; (option = command_option(&cli_commands[c], i)) != NULL; i++)
            if (option->metavar == NULL && !seen_before(option, c))
                printf("|--%s", option->name);
    }
}

static void print_verbs(const char *group)
{
    for (size_t c = 0; cli_commands[c].verb != NULL; c++)
        if (cli_commands[c].group != NULL && era_str_eq(cli_commands[c].group, group))
            printf(" %s", cli_commands[c].verb);
}

void completion_print(void)
{
    printf("# bash completion for agent\n"
           "_agent() {\n"
           "    local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    local words=() word skip=\n"
           "    COMPREPLY=()\n"
           "    # bash takes --name=value apart\n"
           "    [[ $cur != = ]] || cur=\n"
           "    [[ $prev != = ]] || prev=${COMP_WORDS[COMP_CWORD-2]}\n"
           "    case $prev in\n");
    print_all_values();
    printf("    esac\n"
           "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
           "        [[ $word != = ]] || continue\n"
           "        case $skip$word in\n"
           "        ");
    print_flags();
    printf(") ;;\n"
           "        --*) skip=value: ;;\n"
           "        value:*) skip= ;;\n"
           "        -*) ;;\n"
           "        *) words+=(\"$word\") ;;\n"
           "        esac\n"
           "    done\n"
           "    [[ -z $skip ]] || return 0\n"
           "    case \"${words[*]:0:2}\" in\n");
    for (size_t c = 0; cli_commands[c].verb != NULL; c++) {
        const struct command *command = &cli_commands[c];
        printf("        \"%s%s%s\"%s) COMPREPLY=($(compgen -W \"", command->group != NULL ? command->group : "",
               command->group != NULL ? " " : "", command->verb, command->group == NULL ? "*" : "");
        print_options(command);
        printf("\" -- \"$cur\"));;\n");
    }
    printf("        vm*) COMPREPLY=($(compgen -W \"");
    print_verbs("vm");
    printf("\" -- \"$cur\"));;\n        image*) COMPREPLY=($(compgen -W \"");
    print_verbs("image");
    printf("\" -- \"$cur\"));;\n        volume*) COMPREPLY=($(compgen -W \"");
    print_verbs("volume");
    printf("\" -- \"$cur\"));;\n        snapshot*) COMPREPLY=($(compgen -W \"");
    print_verbs("snapshot");
    printf("\" -- \"$cur\"));;\n        *) COMPREPLY=($(compgen -W \"vm image volume snapshot");
    for (size_t c = 0; cli_commands[c].verb != NULL; c++)
        if (cli_commands[c].group == NULL)
            printf(" %s", cli_commands[c].verb);
    for (const struct option *option = cli_global_options; option->name != NULL; option++)
        printf(" --%s", option->name);
    printf(" --help --version\" -- \"$cur\"));;\n"
           "    esac\n"
           "}\n"
           "complete -o default -F _agent agent\n");
}

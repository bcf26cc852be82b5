/* SPDX-License-Identifier: Apache-2.0 */
/* Manual pages in man(7), written out from the tables: agent.1, and one a group. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cli/cli.h"

/* Text for troff: no character of it is an order. */
static void put(FILE *file, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if ((*p == '.' || *p == '\'') && (p == text || p[-1] == '\n'))
            fputs("\\&", file);
        if (*p == '\\')
            fputs("\\e", file);
        else if (*p == '-')
            fputs("\\-", file);
        else if (*p == '\n')
            fputs("\n.PP\n", file);
        else
            fputc(*p, file);
    }
}

static void put_option(FILE *file, const struct option *option)
{
    fprintf(file, ".TP\n\\fB\\-\\-");
    put(file, option->name);
    fprintf(file, "\\fR");
    if (option->metavar != NULL)
        fprintf(file, " \\fI%s\\fR", option->metavar);
    fputc('\n', file);
    put(file, option->help);
    fprintf(file, "%s%s.\n", option->required ? "; required" : "", option->repeatable ? "; repeatable" : "");
}

static void put_command(FILE *file, const struct command *command)
{
    fprintf(file, ".SS \"agent %s%s%s%s%s\"\n", command->group != NULL ? command->group : "",
            command->group != NULL ? " " : "", command->verb, command->arguments != NULL ? " " : "",
            command->arguments != NULL ? command->arguments : "");
    put(file, command->description);
    fputc('\n', file);
    const struct option *option = NULL;
    for (size_t i = 0; (option = command_option(command, i)) != NULL; i++)
        put_option(file, option);
    if (command->example != NULL) {
        fprintf(file, ".PP\nExample:\n.PP\n.RS\n.nf\n");
        put(file, command->example);
        fprintf(file, "\n.fi\n.RE\n");
    }
}

static void put_commands(FILE *file, const char *group)
{
    fprintf(file, ".SH COMMANDS\n");
    for (size_t i = 0; cli_commands[i].verb != NULL; i++) {
        const struct command *command = &cli_commands[i];
        const char *page = command->group != NULL ? command->group : command->verb;
        if (group == NULL ? command->group == NULL : era_str_eq(page, group))
            put_command(file, command);
    }
}

static const char exit_status[] =
    ".SH EXIT STATUS\n"
    "0 done; 1 the operation failed; 2 wrong usage. \\fBvm run\\fR, \\fBvm exec\\fR, \\fBvm temp\\fR and \\fBvm "
    "shell\\fR\n"
    "exit with the guest command's own status (128+N when signal N killed it), 124 when it timed out, 125 when the\n"
    "agent itself failed. A VM or an image that signal N kept from being made is 128+N, and leaves nothing.\n";

static const char environment[] =
    ".SH ENVIRONMENT\n"
    ".TP\n\\fBAGENT_STATE_DIR\\fR\nState directory; otherwise the first usable of /var/lib/agent, ~/.config/agent, "
    "~/.agent,\n"
    "/tmp/agent.\n"
    ".TP\n\\fBAGENT_LAUNCHER\\fR\nauto, namespace or microvm.\n"
    ".TP\n\\fBAGENT_MODE\\fR\nhttp or server: plain agent behaves as agent serve.\n"
    ".TP\n\\fBAGENT_API_KEY\\fR\nKeys that agent serve demands, comma separated.\n"
    ".TP\n\\fBPORT\\fR\nPort of agent serve.\n"
    ".TP\n\\fBAGENT_KERNEL\\fR\nA kernel for guests of the launcher microvm that were created without \\-\\-kernel.\n"
    ".TP\n\\fBAGENT_TEMPLATE_BUDGET\\fR\nMiB that booted machines of the launcher microvm may take, 4096 by default.\n"
    ".TP\n\\fBAGENT_LOG_LEVEL\\fR, \\fBAGENT_LOG_FILE\\fR\nAs \\-\\-log\\-level and \\-\\-log\\-file.\n";

static const char inside[] = ".SH INSIDE THE VM\n"
                             ".TP\n/workspace/in\nStaged input files; commands start in /workspace.\n"
                             ".TP\n/workspace/out\nFiles to hand back.\n"
                             ".TP\n/workspace/persist\nThe volume; present with \\-\\-persist or \\-\\-volume only.\n";

static int write_page(const char *directory, const char *group)
{
    char path[512];
    char title[64];
    snprintf(title, sizeof title, "agent%s%s", group != NULL ? "-" : "", group != NULL ? group : "");
    if (era_str_format(path, sizeof path, "%s/%s.1", directory, title) < 0)
        return -ENAMETOOLONG;
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return -errno;
    fprintf(file, ".TH \"%s\" 1 \"\" \"agent %s\"\n.SH NAME\n%s \\- lightweight VMs for code that nobody trusts\n",
            title, era_version(), title);
    bool single = group != NULL && command_find(NULL, group) != NULL;
    fprintf(file, ".SH SYNOPSIS\n\\fBagent\\fR [\\fIglobal options\\fR] %s%s%s[\\fIoptions\\fR]\n",
            group != NULL ? group : "", group != NULL ? " " : "", single ? "" : "\\fICOMMAND\\fR ");
    put_commands(file, group);
    fprintf(file, ".SH GLOBAL OPTIONS\n");
    for (const struct option *option = cli_global_options; option->name != NULL; option++)
        put_option(file, option);
    fputs(exit_status, file);
    fputs(environment, file);
    if (group == NULL || era_str_eq(group, "vm"))
        fputs(inside, file);
    fprintf(file,
            ".SH SEE ALSO\n\\fBagent\\fR(1), \\fBagent-vm\\fR(1), \\fBagent-image\\fR(1), \\fBagent-volume\\fR(1), "
            "\\fBagent-snapshot\\fR(1), \\fBagent-serve\\fR(1)\n");
    return fclose(file) == 0 ? 0 : -errno;
}

int manual_write(const char *directory)
{
    static const char *const pages[] = {NULL, "vm", "image", "volume", "snapshot", "serve"};
    int r = 0;
    for (size_t i = 0; r >= 0 && i < sizeof pages / sizeof pages[0]; i++)
        r = write_page(directory, pages[i]);
    return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/plain.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What stands for itself outside of quotes, wherever it stands. */
#define BARE  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./,:+@%-"
#define BLANK " \t"

/* What POSIX, dash, bash and BusyBox do by themselves, sorted. "." and "%…" are no first word, see below. */
static const char *const BUILTINS[] = {
    "alias",   "bg",       "bind",    "break",     "builtin",  "caller",  "case",    "cd",     "chdir",   "command",
    "compgen", "complete", "compopt", "continue",  "coproc",   "declare", "dirs",    "disown", "do",      "done",
    "echo",    "elif",     "else",    "enable",    "esac",     "eval",    "exec",    "exit",   "export",  "false",
    "fc",      "fg",       "fi",      "for",       "function", "getopts", "hash",    "help",   "history", "if",
    "in",      "jobs",     "kill",    "let",       "local",    "logout",  "mapfile", "newgrp", "popd",    "printf",
    "pushd",   "pwd",      "read",    "readarray", "readonly", "return",  "select",  "set",    "shift",   "shopt",
    "source",  "suspend",  "test",    "then",      "time",     "times",   "trap",    "true",   "type",    "typeset",
    "ulimit",  "umask",    "unalias", "unset",     "until",    "wait",    "while",
};

static int compare_names(const void *key, const void *item)
{
    return strcmp(key, *(const char *const *)item);
}

/* Of a program: a path, or a name that no shell takes for its own. */
static bool names_program(const char *word)
{
    if (strspn(word, ".:+@%,-") == strlen(word) || word[0] == '%' || word[0] == '-')
        return false;
    return bsearch(word, BUILTINS, sizeof BUILTINS / sizeof BUILTINS[0], sizeof BUILTINS[0], compare_names) == NULL;
}

/* Copies a part in quotes, and goes past it. In double ones a shell looks for more. */
static bool copy_quoted(const char **in, char **out)
{
    char quote = **in;
    const char *begin = *in + 1;
    const char *end = strchr(begin, quote);
    if (end == NULL || (quote == '"' && strcspn(begin, "$`\\") < (size_t)(end - begin)))
        return false;
    memcpy(*out, begin, (size_t)(end - begin));
    *out += end - begin;
    *in = end + 1;
    return true;
}

/* Copies a word with its terminator, and goes past it. Only an argument may have quotes and "=". */
static bool copy_word(const char **in, char **out, bool argument)
{
    while (**in != '\0' && strchr(BLANK, **in) == NULL) {
        size_t bare = strspn(*in, argument ? BARE "=" : BARE);
        memcpy(*out, *in, bare);
        *out += bare;
        *in += bare;
        bool quoted = argument && (**in == '\'' || **in == '"');
        if (quoted ? !copy_quoted(in, out) : bare == 0)
            return false;
    }
    *(*out)++ = '\0';
    return true;
}

char **plain_words(const char *line)
{
    size_t length = strlen(line);
    size_t most = length / 2 + 2; /* words take two characters each; and the end */
    if (length > SIZE_MAX / 16)
        return NULL;
    char **words = malloc(most * sizeof *words + length + 1);
    if (words == NULL)
        return NULL;
    char *out = (char *)&words[most];
    size_t count = 0;
    for (const char *in = line + strspn(line, BLANK); *in != '\0'; in += strspn(in, BLANK)) {
        words[count] = out;
        if (!copy_word(&in, &out, count > 0) || (count == 0 && !names_program(words[0])))
            goto shell;
        count++;
    }
    if (count == 0)
        goto shell;
    words[count] = NULL;
    return words;

shell:
    free(words);
    return NULL;
}

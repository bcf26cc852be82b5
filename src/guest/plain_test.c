/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants some of the above first. */
#include <cmocka.h>

#include "base/process.h"
#include "guest/plain.h"

/* Words joined by "|", or "" for a line that is left to the shell. */
static const char *joined(const char *line)
{
    static char text[256];
    char **words = plain_words(line);
    text[0] = '\0';
    for (size_t i = 0; words != NULL && words[i] != NULL; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i > 0 ? "|" : "", words[i]);
    free(words);
    return text;
}

static void test_plain_commands_are_split(void **state)
{
    (void)state;
    assert_string_equal(joined("python3 -c 'print(42)'"), "python3|-c|print(42)");
    assert_string_equal(joined("  python3\t main.py  "), "python3|main.py");
    assert_string_equal(joined("/usr/bin/node"), "/usr/bin/node");
    assert_string_equal(joined("./a.out --n=3 a'b c'\"d's\"e"), "./a.out|--n=3|ab cd'se");
    assert_string_equal(joined("python3 -c \"print('a')\" ''"), "python3|-c|print('a')|");
    assert_string_equal(joined("python3 -c 'import os\nprint($x)'"), "python3|-c|import os\nprint($x)");
    assert_string_equal(joined("env A=1 printenv A"), "env|A=1|printenv|A");
}

static void test_the_rest_is_left_to_the_shell(void **state)
{
    (void)state;
    static const char *const LINES[] = {
        "",        " ",     "a; b",     "a && b",     "a | b",     "a &",    "a > b", "a < b",  "a 2>&1",
        "a $b",    "a `b`", "a \"$b\"", "a \"`b`\"",  "a \"\\n\"", "a \\b",  "a *",   "a b?",   "a [b]",
        "a {b,c}", "a ~",   "a ~/b",    "a #b",       "a !b",      "A=1 b",  "A=1",   "a 'b",   "a \"b",
        "a\nb",    "(a)",   "{ a; }",   "! a",        "[ a ]",     ". a",    ": a",   "'a' b",  "\"a\"",
        "a\\",     "cd /",  "echo hi",  "exit 3",     "true",      "exec a", "if a",  "time a", "while a",
        "%1",      "-a",    "..",       "a \xc3\xa4", "a^b",       "a b\rc", "a b;",  "alias",  "for",
    };
    for (size_t i = 0; i < sizeof LINES / sizeof LINES[0]; i++)
        assert_string_equal(joined(LINES[i]), "");
}

struct heard {
    char *text; /* one line after the other */
    size_t size;
    FILE *stream;
};

static void listen_to(void *userdata, int stream, const char *line)
{
    struct heard *heard = userdata;
    (void)stream;
    fprintf(heard->stream, "%s\n", line);
}

/* What a shell prints; to be freed. */
static char *ask_shell(const char *path, const char *option, const char *script)
{
    const char *argv[] = {path, option, script, NULL};
    const char *envp[] = {"LC_ALL=C", NULL};
    struct heard heard = {0};
    heard.stream = open_memstream(&heard.text, &heard.size);
    assert_non_null(heard.stream);
    const struct era_process_spec spec = {
        .path = path, .argv = argv, .envp = envp, .cwd_fd = -EBADF, .on_line = listen_to, .userdata = &heard};
    struct era_process_result result;
    struct era_error err = {0};
    assert_int_equal(era_process_run(&spec, &result, &err), 0);
    assert_true(era_process_succeeded(&result));
    assert_int_equal(fclose(heard.stream), 0);
    return heard.text;
}

/* By bash's own list, which has POSIX's in it. */
static void test_what_a_shell_does_itself(void **state)
{
    (void)state;
    int count = 0;
    char *names = ask_shell("/bin/bash", "-c", "compgen -b -k");
    char *rest = names;
    for (char *name; (name = strsep(&rest, "\n")) != NULL; count++)
        if (plain_words(name) != NULL)
            fail_msg("%s", name);
    assert_true(count > 50);
    free(names);
}

/* Writes a line of random pieces, which look more like commands than random bytes do. */
static void make_line(char *line, size_t size, uint32_t *seed)
{
    static const char *const PIECES[] = {"a", "b7", "=", " ", "  ", "\t", "'", "\"", "'x y'", "\"x y\"", "''",
                                         "-", ".",  "/", "%", "+",  ",",  ":", "@",  "_",     "$",       "\\",
                                         "*", "~",  "#", "!", "{",  "}",  "[", "]",  "^",     ";",       "x'y'"};
    snprintf(line, size, "p ");
    for (int i = 0; i < 6; i++) {
        *seed = *seed * 1664525 + 1013904223; /* Numerical Recipes, section 7.1 */
        snprintf(line + strlen(line), size - strlen(line), "%s",
                 PIECES[(*seed >> 16) % (sizeof PIECES / sizeof PIECES[0])]);
    }
}

/* What plain_words() finds is what a shell finds, for the arguments of thousands of lines. */
static void test_a_shell_finds_the_same(void **state)
{
    (void)state;
    enum { LINES = 20000 };
    char *script = NULL;
    char *expected = NULL;
    size_t script_size, expected_size;
    FILE *in = open_memstream(&script, &script_size);
    FILE *out = open_memstream(&expected, &expected_size);
    fputs("p() { for w; do printf '<%s>' \"$w\"; done; echo; }\n", in);
    uint32_t seed = 1;
    int plain = 0;
    for (int i = 0; i < LINES; i++) {
        char line[64];
        make_line(line, sizeof line, &seed);
        char **words = plain_words(line);
        if (words == NULL)
            continue;
        plain++;
        fprintf(in, "%s\n", line);
        for (size_t w = 1; words[w] != NULL; w++)
            fprintf(out, "<%s>", words[w]);
        fputs("\n", out);
        free(words);
    }
    fclose(in);
    fclose(out);
    assert_true(plain > LINES / 50);

    char path[] = "/tmp/plain-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, script, script_size), script_size);
    close(fd);
    char *found = ask_shell("/bin/sh", path, NULL);
    unlink(path);
    assert_string_equal(found, expected);
    free(found);
    free(script);
    free(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_commands_are_split),
        cmocka_unit_test(test_the_rest_is_left_to_the_shell),
        cmocka_unit_test(test_what_a_shell_does_itself),
        cmocka_unit_test(test_a_shell_finds_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

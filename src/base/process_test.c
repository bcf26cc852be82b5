/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/idmap.h"
#include "base/json.h"
#include "base/process.h"

struct heard {
    char text[1024];
};

static void listen_to(void *userdata, int stream, const char *line)
{
    struct heard *heard = userdata;
    size_t used = strlen(heard->text);
    snprintf(heard->text + used, sizeof heard->text - used, "%d:%.80s\n", stream, line);
}

static int run_shell(const char *command, struct era_process_spec spec, struct heard *heard,
                     struct era_process_result *ret_result)
{
    const char *argv[] = {"sh", "-c", command, NULL};
    const char *envp[] = {"PATH=/usr/bin:/bin", "ONLY=this", NULL};
    struct era_error err = {0};
    spec.path = "/bin/sh";
    spec.argv = argv;
    spec.envp = envp;
    spec.cwd_fd = spec.cwd_fd != 0 ? spec.cwd_fd : -EBADF;
    spec.on_line = listen_to;
    spec.userdata = heard;
    heard->text[0] = '\0';
    int r = era_process_run(&spec, ret_result, &err);
    if (r < 0)
        print_message("%s\n", err.message);
    return r;
}

static void lines_come_back_and_the_end_is_told(void **state)
{
    struct heard heard;
    struct era_process_result result;
    assert_int_equal(
        run_shell("echo out; printf 'a\\r\\n\\nlast'; exit 3", (struct era_process_spec){0}, &heard, &result), 0);
    assert_string_equal(heard.text, "1:out\n1:a\n1:last\n");
    assert_true(WIFEXITED(result.wait_status) && WEXITSTATUS(result.wait_status) == 3);
    assert_false(era_process_succeeded(&result));
    char how[64];
    era_process_describe(result.wait_status, how, sizeof how);
    assert_string_equal(how, "exited with 3");
    assert_int_equal(run_shell("kill -9 $$", (struct era_process_spec){0}, &heard, &result), 0);
    era_process_describe(result.wait_status, how, sizeof how);
    assert_string_equal(how, "was killed by signal 9");
}

static void the_tail_is_the_last_lines_of_stderr(void **state)
{
    struct heard heard;
    struct era_process_result result;
    assert_int_equal(
        run_shell("for i in $(seq 1000); do echo line $i >&2; done", (struct era_process_spec){0}, &heard, &result), 0);
    assert_true(era_process_succeeded(&result));
    size_t len = strlen(result.tail);
    assert_true(len > 300 && len < ERA_PROCESS_TAIL_MAX);
    assert_string_equal(result.tail + len - strlen("line 999; line 1000"), "line 999; line 1000");
    assert_int_equal(strncmp(result.tail, "line ", 5), 0);
    assert_int_equal(
        run_shell("head -c 100000 /dev/zero | tr '\\0' x >&2", (struct era_process_spec){0}, &heard, &result), 0);
    assert_int_equal(strlen(result.tail), ERA_PROCESS_TAIL_MAX - 1);
}

static void nothing_of_ours_crosses(void **state)
{
    int leaked = open("/dev/null", O_RDONLY); /* not close-on-exec */
    _cleanup_close_ int given = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    assert_true(leaked > 2 && given > 2);
    setenv("SECRET", "x", 1);
    struct heard heard;
    struct era_process_result result;
    struct era_process_spec spec = {.fds = &given, .fd_count = 1};
    /* 0 empty, 1 and 2 pipes, 3 what was given; the next is ls's own. */
    assert_int_equal(
        run_shell("cat; readlink /proc/self/fd/3; ls /proc/self/fd | tr '\\n' ' '; echo; echo $SECRET$ONLY", spec,
                  &heard, &result),
        0);
    assert_string_equal(heard.text, "1:/etc/passwd\n1:0 1 2 3 4 \n1:this\n");
    close(leaked);
}

static void a_stray_that_holds_the_output_holds_up_nobody(void **state)
{
    struct heard heard;
    struct era_process_result result;
    alarm(20);
    assert_int_equal(run_shell("(setsid sleep 60 &) ; echo done", (struct era_process_spec){0}, &heard, &result), 0);
    alarm(0);
    assert_string_equal(heard.text, "1:done\n");
}

static void with_namespaces_strays_end_with_it(void **state)
{
    struct heard heard;
    struct era_process_result result;
    struct era_process_spec spec = {.own_namespaces = true};
    const char *argv[] = {"true", NULL};
    const char *envp[] = {NULL};
    spec.path = "/bin/true";
    spec.argv = argv;
    spec.envp = envp;
    spec.cwd_fd = -EBADF;
    struct era_error err;
    if (era_process_run(&spec, &result, &err) < 0) {
        print_message("no namespaces here: %s\n", err.message);
        skip();
    }
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    spec = (struct era_process_spec){.own_namespaces = true, .fds = &pipe_fds[1], .fd_count = 1};
    assert_int_equal(run_shell("setsid sleep 60 & echo $$; ls /proc | grep -c '^[0-9]'", spec, &heard, &result), 0);
    assert_int_equal(strncmp(heard.text, "1:1\n", 4), 0);
    close(pipe_fds[1]);
    /* The stray had the pipe open: its end says that the stray has ended. */
    char byte;
    alarm(20);
    assert_int_equal(read(pipe_fds[0], &byte, 1), 0);
    alarm(0);
    close(pipe_fds[0]);
}

static void who_is_cut_short_ends_with_its_group(void **state)
{
    int cancel[2];
    int held[2];
    assert_int_equal(pipe2(cancel, O_CLOEXEC) | pipe2(held, O_CLOEXEC), 0);
    /* It asks for its own end when nobody has anything left to say. */
    const char *argv[] = {
        "sh", "-c", "sleep 1000 >&- 2>&- & sleep 1000 >&- 2>&- & exec >&- 2>&-; sleep 0.2; echo cut >&4; wait", NULL};
    const char *envp[] = {"PATH=/usr/bin:/bin", NULL};
    const int fds[] = {held[1], cancel[1]};
    const struct era_process_spec spec = {.path = "/bin/sh",
                                          .argv = argv,
                                          .envp = envp,
                                          .cwd_fd = -EBADF,
                                          .fds = fds,
                                          .fd_count = 2,
                                          .cancel_fd = cancel[0]};
    struct era_error err = {0};
    struct era_process_result result;
    assert_int_equal(era_process_run(&spec, &result, &err), -ECANCELED);
    assert_true(era_error_is(&err, "interrupted"));
    /* Each of the three held this pipe. */
    close(held[1]);
    char byte;
    assert_int_equal(read(held[0], &byte, 1), 0);
    close(held[0]);
    close(cancel[0]);
    close(cancel[1]);
}

static void what_cannot_be_executed_is_said(void **state)
{
    const char *argv[] = {"x", NULL};
    const char *envp[] = {NULL};
    struct era_process_spec spec = {.path = "/nonexistent/x", .argv = argv, .envp = envp, .cwd_fd = -EBADF};
    struct era_process_result result;
    struct era_error err = {0};
    assert_int_equal(era_process_run(&spec, &result, &err), -ENOENT);
    assert_string_equal(err.code, "system_error");
}

static void tools_are_found_in_absolute_folders_only(void **state)
{
    _cleanup_free_ char *path = NULL;
    assert_int_equal(era_process_find("/nonexistent:/usr/bin:/bin", "env", &path), 0);
    assert_string_equal(path, "/usr/bin/env");
    char *none = NULL;
    assert_int_equal(era_process_find("", "env", &none), -ENOENT);
    assert_int_equal(era_process_find(":.:bin", "env", &none), -ENOENT);
    assert_int_equal(era_process_find("/etc", "passwd", &none), -ENOENT); /* not executable */
    assert_int_equal(era_process_find("/", "usr", &none), -ENOENT);       /* a folder */
}

static void only_named_variables_are_inherited(void **state)
{
    static const char *const names[] = {"ERA_TEST_ONE", "era_prefix_*", NULL};
    setenv("ERA_TEST_ONE", "1", 1);
    setenv("ERA_TEST_ONE_MORE", "2", 1);
    setenv("ERA_PREFIX_X", "3", 1);
    struct era_strv env = {0};
    assert_int_equal(era_process_inherit_env(&env, names), 0);
    assert_int_equal(env.count, 2);
    era_strv_clear(&env);
}

static void id_ranges_are_read_as_subuid_says(void **state)
{
    static const char text[] = "# comment\nother:1:65536\nuser:100000:1000\nuser:200000:65536\n1000:300000:65536\n"
                               "user:\nuser:x:y\n:::\nuser:4294967295:65536";
    uint32_t start = 0;
    uint32_t count = 0;
    assert_int_equal(era_idmap_parse(text, "user", 1, 65535, &start, &count), 0);
    assert_int_equal(start, 200000);
    assert_int_equal(count, 65536);
    assert_int_equal(era_idmap_parse(text, NULL, 1000, 65535, &start, &count), 0);
    assert_int_equal(start, 300000);
    assert_int_equal(era_idmap_parse(text, "use", 1, 1, &start, &count), -ENOENT);
    assert_int_equal(era_idmap_parse("", "user", 1, 1, &start, &count), -ENOENT);
}

static void json_is_strict_and_shallow(void **state)
{
    static const char *const bad[] = {
        "", "{", "1", "{} x", "{\"a\":1,\"a\":2}", "[[[[[1]]]]]", "{\"a\\u0000\":1}", "[\"\xff\"]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *value = NULL;
        char reason[160];
        assert_int_equal(era_json_parse(bad[i], strlen(bad[i]), 4, &value, reason, sizeof reason), -EINVAL);
    }
    _cleanup_json_ json_t *value = NULL;
    static const char good[] = "{\"a\":\"]]]]]\\\"[[[[\",\"n\":5,\"m\":-5,\"l\":[[[]]]}";
    assert_int_equal(era_json_parse(good, strlen(good), 4, &value, NULL, 0), 0);
    uint64_t number = 0;
    assert_int_equal(era_json_u64(value, "n", &number), 0);
    assert_int_equal(number, 5);
    assert_int_equal(era_json_u64(value, "m", &number), -EINVAL);
    assert_int_equal(era_json_u64(value, "a", &number), -EINVAL);
    assert_null(era_json_string(value, "n"));
    assert_null(era_json_string(NULL, "n"));
    assert_non_null(era_json_array(value, "l"));
    assert_int_equal(era_json_depth("\"\\", 2), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_back_and_the_end_is_told),
        cmocka_unit_test(the_tail_is_the_last_lines_of_stderr),
        cmocka_unit_test(nothing_of_ours_crosses),
        cmocka_unit_test(a_stray_that_holds_the_output_holds_up_nobody),
        cmocka_unit_test(with_namespaces_strays_end_with_it),
        cmocka_unit_test(who_is_cut_short_ends_with_its_group),
        cmocka_unit_test(what_cannot_be_executed_is_said),
        cmocka_unit_test(tools_are_found_in_absolute_folders_only),
        cmocka_unit_test(only_named_variables_are_inherited),
        cmocka_unit_test(id_ranges_are_read_as_subuid_says),
        cmocka_unit_test(json_is_strict_and_shallow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

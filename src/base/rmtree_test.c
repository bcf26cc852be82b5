/* SPDX-License-Identifier: Apache-2.0 */
/* Removing trees that resist, as an ordinary user, and trees that others remove. */
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* After its types. */
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* A tree with a file below two directories of a mode; 0, or the number of the step that failed. */
static int remove_tree_of_mode(const char *base, mode_t mode)
{
    if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 ||
                           setresuid(65534, 65534, 65534) < 0)) /* root may enter what is closed */
        return 1;
    if (chdir(base) < 0 || mkdir("top", 0700) < 0 || mkdir("top/a", 0700) < 0 || mkdir("top/a/b", 0700) < 0)
        return 2;
    _cleanup_close_ int file = open("top/a/b/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0 || chmod("top/a/b", mode) < 0 || chmod("top/a", mode) < 0 || chmod("top", mode) < 0)
        return 3;
    if (era_remove_tree_at(AT_FDCWD, "top") < 0)
        return 4;
    return access("top", F_OK) < 0 ? 0 : 5;
}

static void directories_closed_to_their_owner(void **state)
{
    (void)state;
    for (mode_t mode = 0; mode <= 0700; mode += 0100) {
        char base[] = "/tmp/rmtree.XXXXXX";
        assert_non_null(mkdtemp(base));
        assert_int_equal(chmod(base, 0777), 0);
        pid_t pid = fork();
        if (pid == 0)
            _exit(remove_tree_of_mode(base, mode));
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(era_remove_tree_at(AT_FDCWD, base), 0);
        assert_int_equal(status, 0);
    }
}

enum { ROUNDS = 100, REMOVERS = 3, BRANCHES = 16 };

/* Each branch is a directory in a directory, with a file in each. */
static void make_branches(int top)
{
    for (int i = 0; i < BRANCHES; i++) {
        char outer[16];
        char path[32];
        snprintf(outer, sizeof outer, "%d", i);
        assert_int_equal(mkdirat(top, outer, 0700), 0);
        snprintf(path, sizeof path, "%d/inner", i);
        assert_int_equal(mkdirat(top, path, 0700), 0);
        snprintf(path, sizeof path, "%d/inner/file", i);
        _cleanup_close_ int file = openat(top, path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_true(file >= 0);
    }
}

static void several_remove_the_same_tree(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        char base[] = "/tmp/rmtree.XXXXXX";
        assert_non_null(mkdtemp(base));
        _cleanup_close_ int top = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(top >= 0);
        make_branches(top);
        int gate[2];
        assert_int_equal(pipe(gate), 0);
        pid_t removers[REMOVERS];
        for (int i = 0; i < REMOVERS; i++) {
            removers[i] = fork();
            if (removers[i] == 0) {
                char byte;
                close(gate[1]);
                _exit(read(gate[0], &byte, 1) != 0 ? EXIT_FAILURE : -era_remove_tree_at(AT_FDCWD, base));
            }
        }
        close(gate[0]);
        close(gate[1]); /* all at once */
        for (int i = 0; i < REMOVERS; i++) {
            int status = -1;
            assert_int_equal(waitpid(removers[i], &status, 0), removers[i]);
            assert_int_equal(status, 0);
        }
        assert_int_equal(access(base, F_OK), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directories_closed_to_their_owner),
        cmocka_unit_test(several_remove_the_same_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

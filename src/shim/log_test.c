/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants the first ones above. */
#include <cmocka.h>

#include "shim/shim.h"

/* What is left of a text that is written in pieces of `piece` bytes under a cap. */
static uint64_t keep(const char *text, size_t piece, uint64_t cap, char *ret_kept, size_t size)
{
    char folder[] = "/tmp/era-log-XXXXXX";
    assert_non_null(mkdtemp(folder));
    int dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct run_log log;
    assert_int_equal(log_open(&log, dirfd, "log", cap), 0);
    for (size_t len = strlen(text), at = 0; at < len; at += piece)
        log_write(&log, dirfd, "ring", text + at, len - at < piece ? len - at : piece);
    uint64_t dropped = log_finish(&log, dirfd, "ring");
    ssize_t n = pread(log.fd, ret_kept, size - 1, 0);
    assert_true(n >= 0);
    ret_kept[n] = '\0';
    log_close(&log);
    unlinkat(dirfd, "log", 0);
    close(dirfd);
    assert_int_equal(rmdir(folder), 0); /* the ring is gone */
    return dropped;
}

static void caps_of_nothing_and_of_one_byte_keep_as_much(void **state)
{
    char kept[100];
    for (size_t piece = 1; piece <= 10; piece += 9) {
        assert_int_equal(keep("0123456789", piece, 0, kept, sizeof kept), 10);
        assert_string_equal(kept, "\n[… 10 bytes left out …]\n");
        assert_int_equal(keep("0123456789", piece, 1, kept, sizeof kept), 9);
        assert_string_equal(kept, "0\n[… 9 bytes left out …]\n");
        assert_int_equal(keep("", piece, 0, kept, sizeof kept), 0);
        assert_string_equal(kept, "");
    }
}

static void head_and_tail_are_kept(void **state)
{
    char kept[100];
    for (size_t piece = 1; piece <= 10; piece++) {
        assert_int_equal(keep("0123456789", piece, 2, kept, sizeof kept), 8);
        assert_string_equal(kept, "0\n[… 8 bytes left out …]\n9");
        assert_int_equal(keep("0123456789", piece, 5, kept, sizeof kept), 5);
        assert_string_equal(kept, "012\n[… 5 bytes left out …]\n89");
        assert_int_equal(keep("0123456789", piece, 10, kept, sizeof kept), 0);
        assert_string_equal(kept, "0123456789");
        assert_int_equal(keep("0123456789", piece, 9, kept, sizeof kept), 1);
        assert_string_equal(kept, "01234\n[… 1 bytes left out …]\n6789");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(caps_of_nothing_and_of_one_byte_keep_as_much),
        cmocka_unit_test(head_and_tail_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

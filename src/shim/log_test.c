/* SPDX-License-Identifier: Apache-2.0 */
/* Logs, also on a disk that takes no more: a limit on the size of files is one. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* After its types. */
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "shim/shim.h"

enum { CAP = 64, HALF = CAP / 2, LETTERS = 26 };

struct place {
    char path[32];
    int dirfd;
    struct run_log log;
};

static void files_up_to(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static int begin(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    *state = place;
    if (place == NULL)
        return -1;
    memcpy(place->path, "/tmp/log.XXXXXX", sizeof "/tmp/log.XXXXXX");
    if (mkdtemp(place->path) == NULL)
        return -1;
    place->dirfd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return log_open(&place->log, place->dirfd, "log", CAP);
}

static int end(void **state)
{
    struct place *place = *state;
    files_up_to(RLIM_INFINITY);
    log_close(&place->log);
    era_closep(&place->dirfd);
    int r = era_remove_tree_at(AT_FDCWD, place->path);
    free(place);
    return r;
}

/* The next bytes of a stream in which each place is known by its letter. */
static void put(struct place *place, size_t len)
{
    char data[4 * CAP];
    for (size_t i = 0; i < len; i++)
        data[i] = (char)('a' + (place->log.total + i) % LETTERS);
    log_write(&place->log, place->dirfd, "ring", data, len);
}

/* What the log holds of the stream: "from" to "to", its end included in the letters. */
static void assert_log(struct place *place, uint64_t dropped, const char *expected)
{
    assert_int_equal(log_finish(&place->log, place->dirfd, "ring"), dropped);
    _cleanup_free_ char *text = NULL;
    assert_true(era_read_file_at(place->dirfd, "log", 4096, &text, NULL) >= 0);
    assert_string_equal(text, expected);
    assert_int_not_equal(faccessat(place->dirfd, "ring", F_OK, 0), 0);
}

#define HEAD "abcdefghijklmnopqrstuvwxyzabcdef"

static void all_of_it(void **state)
{
    put(*state, 20);
    put(*state, 20);
    assert_log(*state, 0, HEAD "ghijklmn");
}

static void head_and_tail(void **state)
{
    for (int i = 0; i < 10; i++)
        put(*state, 10);
    assert_log(*state, 36, HEAD "\n[… 36 bytes left out …]\nqrstuvwxyzabcdefghijklmnopqrstuv");
}

static void one_large_piece(void **state)
{
    put(*state, 2 * CAP);
    assert_log(*state, CAP, HEAD "\n[… 64 bytes left out …]\nstuvwxyzabcdefghijklmnopqrstuvwx");
}

/* Of a piece that fits in part, that part is kept, and the rest is what was dropped. */
static void disk_full_in_the_head(void **state)
{
    files_up_to(10);
    put(*state, 20);
    put(*state, 5);
    assert_log(*state, 15, "abcdefghij");
}

static void room_again_in_the_head(void **state)
{
    files_up_to(10);
    put(*state, 20);
    files_up_to(RLIM_INFINITY);
    put(*state, 5);
    assert_log(*state, 10, "abcdefghijuvwxy");
}

/* What the ring did not take is dropped, once; what came after it is kept. */
static void disk_full_in_the_ring(void **state)
{
    put(*state, HALF);
    files_up_to(8);
    put(*state, 16);
    files_up_to(RLIM_INFINITY);
    put(*state, 8);
    assert_log(*state, 16, HEAD "\n[… 16 bytes left out …]\nwxyzabcd");
}

/* Bytes that the ring refused, and that it would have lost by now anyway, count once. */
static void refused_and_overtaken(void **state)
{
    put(*state, HALF);
    files_up_to(8);
    put(*state, 16);
    files_up_to(RLIM_INFINITY);
    put(*state, HALF);
    put(*state, HALF);
    assert_log(*state, 48, HEAD "\n[… 48 bytes left out …]\ncdefghijklmnopqrstuvwxyzabcdefgh");
}

static void disk_full_at_the_end(void **state)
{
    put(*state, HALF + 16);
    files_up_to(HALF + 4);
    assert_log(*state, 12, HEAD "ghij");
}

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

static void pieces_of_any_size_keep_head_and_tail(void **state)
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
    signal(SIGXFSZ, SIG_IGN); /* EFBIG instead */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_of_it, begin, end),
        cmocka_unit_test_setup_teardown(head_and_tail, begin, end),
        cmocka_unit_test_setup_teardown(one_large_piece, begin, end),
        cmocka_unit_test_setup_teardown(disk_full_in_the_head, begin, end),
        cmocka_unit_test_setup_teardown(room_again_in_the_head, begin, end),
        cmocka_unit_test_setup_teardown(disk_full_in_the_ring, begin, end),
        cmocka_unit_test_setup_teardown(refused_and_overtaken, begin, end),
        cmocka_unit_test_setup_teardown(disk_full_at_the_end, begin, end),
        cmocka_unit_test(caps_of_nothing_and_of_one_byte_keep_as_much),
        cmocka_unit_test(pieces_of_any_size_keep_head_and_tail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

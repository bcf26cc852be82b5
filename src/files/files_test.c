/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/fd.h"
#include "base/str.h"
#include "files/files.h"
#include "wire/tree.h"

static char folder[] = "/tmp/files-test-XXXXXX";
static int here = -EBADF; /* the folder */

static int set_up(void **state)
{
    (void)state;
    era_str_copy(folder + strlen(folder) - 6, 7, "XXXXXX");
    here = mkdtemp(folder) != NULL ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -EBADF;
    return here < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    era_closep(&here);
    return era_remove_tree_at(AT_FDCWD, folder);
}

static void write_file(const char *path, const char *text)
{
    int fd = openat(here, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(era_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

static void expect_file(const char *path, const char *text)
{
    char *data = NULL;
    assert_int_equal(era_read_file_at(here, path, 1 << 20, &data, NULL), 0);
    assert_string_equal(data, text);
    free(data);
}

static void expect_nothing(const char *path)
{
    struct stat st;
    assert_int_equal(fstatat(here, path, &st, AT_SYMLINK_NOFOLLOW), -1);
    assert_int_equal(errno, ENOENT);
}

/* All of a tree's stream, fetched in pieces of `piece` bytes. */
static void read_tree(const char *path, size_t piece, struct era_buffer *ret_stream)
{
    struct era_error err = {0};
    struct era_tree_source *source = NULL;
    uint8_t bytes[4096];
    assert_int_equal(era_tree_source_open(here, path, 0, &source, &err), 0);
    ssize_t n;
    while ((n = era_tree_source_read(source, bytes, piece, &err)) > 0)
        assert_int_equal(era_buffer_append(ret_stream, bytes, (size_t)n), 0);
    assert_int_equal(n, 0);
    era_tree_source_free(source);
}

/* Feeds a stream in pieces; what the first step that failed said, or 0. */
static int write_tree(const struct era_buffer *stream, size_t piece, const char *to, bool inside_links_only,
                      struct era_error *err)
{
    struct era_tree_sink *sink = NULL;
    int r = era_tree_sink_open(here, to, "name", inside_links_only, &sink, err);
    assert_int_equal(r, 0);
    const uint8_t *data = era_buffer_data(stream);
    for (size_t at = 0, len = era_buffer_len(stream); r >= 0 && at < len; at += piece)
        r = era_tree_sink_feed(sink, data + at, piece < len - at ? piece : len - at, err);
    if (r >= 0)
        r = era_tree_sink_finish(sink, err);
    era_tree_sink_free(sink);
    return r;
}

static void add(struct era_buffer *stream, enum era_tree_kind kind, const char *name, const char *content)
{
    static struct era_tree_entry entry;
    uint8_t bytes[ERA_TREE_ENTRY_MAX];
    entry = (struct era_tree_entry){.kind = kind, .mode = kind == ERA_TREE_END ? 0 : 0755, .size = strlen(content)};
    era_str_copy(entry.name, sizeof entry.name, name);
    ssize_t n = era_tree_encode(&entry, bytes);
    assert_true(n > 0);
    assert_int_equal(era_buffer_append(stream, bytes, (size_t)n), 0);
    assert_int_equal(era_buffer_append(stream, content, strlen(content)), 0);
}

static void a_tree_comes_back_as_it_was(void **state)
{
    (void)state;
    assert_int_equal(mkdirat(here, "from", 0755), 0);
    assert_int_equal(mkdirat(here, "from/deep", 0700), 0);
    write_file("from/a", "first");
    write_file("from/deep/empty", "");
    write_file("from/deep/\xFFnot utf-8\n", "second");
    assert_int_equal(symlinkat("../a", here, "from/deep/link"), 0);
    static const size_t pieces[] = {1, 7, 4096};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct era_error err = {0};
        struct era_buffer stream = {0};
        char target[8] = "";
        read_tree("from", pieces[i], &stream);
        assert_int_equal(write_tree(&stream, pieces[i], "to", false, &err), 0);
        era_buffer_clear(&stream);
        expect_file("to/a", "first");
        expect_file("to/deep/empty", "");
        expect_file("to/deep/\xFFnot utf-8\n", "second");
        assert_int_equal(readlinkat(here, "to/deep/link", target, sizeof target), 4);
        assert_memory_equal(target, "../a", 4);
        assert_int_equal(era_remove_tree_at(here, "to"), 0);
    }
}

static void what_is_no_file_is_left_out(void **state)
{
    (void)state;
    struct era_error err = {0};
    struct era_tree_source *source = NULL;
    struct era_buffer stream = {0};
    assert_int_equal(mkdirat(here, "from", 0755), 0);
    assert_int_equal(mkfifoat(here, "from/fifo", 0600), 0);
    write_file("from/file", "kept");
    read_tree("from", 100, &stream);
    assert_int_equal(write_tree(&stream, 100, "to", false, &err), 0);
    era_buffer_clear(&stream);
    expect_file("to/file", "kept");
    expect_nothing("to/fifo");
    /* alone it is not passed over in silence */
    assert_int_equal(era_tree_source_open(here, "from/fifo", 0, &source, &err), -EINVAL);
    assert_string_equal(err.code, "not_a_file");
    assert_int_equal(era_tree_source_open(here, "none", 0, &source, &err), -ENOENT);
    assert_string_equal(err.code, "file_not_found");
    assert_int_equal(era_tree_source_open(here, "from/file", 3, &source, &err), -EFBIG);
    assert_string_equal(err.code, "file_too_large");
}

static void a_copy_goes_into_a_folder_that_is_there(void **state)
{
    (void)state;
    struct era_error err = {0};
    struct era_buffer stream = {0};
    struct era_tree_sink *sink = NULL;
    write_file("file", "text");
    assert_int_equal(mkdirat(here, "there", 0755), 0);
    read_tree("file", 100, &stream);
    assert_int_equal(write_tree(&stream, 100, "there", false, &err), 0);
    assert_int_equal(write_tree(&stream, 100, "new", false, &err), 0);
    era_buffer_clear(&stream);
    expect_file("there/name", "text");
    expect_file("new", "text");
    assert_int_equal(era_tree_sink_open(here, "none/x", "x", false, &sink, &err), -ENOENT);
    static const char *const no_names[] = {"", ".", "..", "a/b"};
    for (size_t i = 0; i < sizeof no_names / sizeof no_names[0]; i++)
        assert_int_equal(era_tree_sink_open(here, "there", no_names[i], false, &sink, &err), -EINVAL);
}

static void links_that_lead_out_are_left_out(void **state)
{
    (void)state;
    struct era_error err = {0};
    struct era_buffer stream = {0};
    struct stat st;
    add(&stream, ERA_TREE_FOLDER, "", "");
    add(&stream, ERA_TREE_SYMLINK, "in", "file");
    add(&stream, ERA_TREE_SYMLINK, "absolute", "/etc/passwd");
    add(&stream, ERA_TREE_SYMLINK, "up", "../x");
    add(&stream, ERA_TREE_END, "", "");
    assert_int_equal(write_tree(&stream, 9, "to", true, &err), 0);
    era_buffer_clear(&stream);
    assert_int_equal(fstatat(here, "to/in", &st, AT_SYMLINK_NOFOLLOW), 0);
    expect_nothing("to/absolute");
    expect_nothing("to/up");
}

static void a_link_of_the_copy_is_never_followed(void **state)
{
    (void)state;
    struct era_error err = {0};
    struct era_buffer stream = {0};
    assert_int_equal(mkdirat(here, "outside", 0755), 0);
    add(&stream, ERA_TREE_FOLDER, "", "");
    add(&stream, ERA_TREE_SYMLINK, "door", "../outside");
    add(&stream, ERA_TREE_FILE, "door/planted", "x");
    add(&stream, ERA_TREE_END, "", "");
    assert_int_equal(write_tree(&stream, 100, "to", false, &err), -ELOOP);
    era_buffer_clear(&stream);
    expect_nothing("outside/planted");
}

static void a_file_is_there_when_it_is_whole(void **state)
{
    (void)state;
    struct era_error err = {0};
    struct era_buffer stream = {0};
    add(&stream, ERA_TREE_FILE, "", "0123456789");
    struct era_tree_sink *sink = NULL;
    assert_int_equal(era_tree_sink_open(here, "to", "to", false, &sink, &err), 0);
    assert_int_equal(era_tree_sink_feed(sink, era_buffer_data(&stream), era_buffer_len(&stream) - 1, &err), 0);
    expect_nothing("to");
    assert_int_equal(era_tree_sink_finish(sink, &err), -EPIPE);
    assert_string_equal(err.code, "tree_truncated");
    era_tree_sink_free(sink);
    era_buffer_clear(&stream);
    assert_int_equal(unlinkat(AT_FDCWD, folder, AT_REMOVEDIR), 0); /* nothing of it is left */
    assert_int_equal(mkdir(folder, 0700), 0);
}

static void streams_out_of_order_are_refused(void **state)
{
    (void)state;
    static const struct {
        enum era_tree_kind kinds[3];
        const char *names[3];
    } streams[] = {
        {{ERA_TREE_FILE, 0, 0}, {"no root", NULL, NULL}},
        {{ERA_TREE_END, ERA_TREE_END, 0}, {"", "", NULL}},
        {{ERA_TREE_FOLDER, ERA_TREE_FOLDER, 0}, {"", "", NULL}},
        {{ERA_TREE_FOLDER, ERA_TREE_END, ERA_TREE_FILE}, {"", "", "late"}},
    };
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        struct era_error err = {0};
        struct era_buffer stream = {0};
        for (size_t j = 0; j < 3 && streams[i].names[j] != NULL; j++)
            add(&stream, streams[i].kinds[j], streams[i].names[j], "");
        assert_int_equal(write_tree(&stream, 5, "to", false, &err), -EBADMSG);
        assert_string_equal(err.code, "tree_corrupt");
        era_buffer_clear(&stream);
        assert_int_equal(era_remove_tree_at(here, "to"), 0);
    }
}

static void the_deepest_tree_is_bounded(void **state)
{
    (void)state;
    enum { LEVELS = 70 };
    char path[2 * LEVELS + 8] = "d";
    for (int i = 0; i < LEVELS; i++) {
        assert_int_equal(mkdirat(here, path, 0755), 0);
        era_str_copy(path + strlen(path), 3, "/d");
    }
    struct era_error err = {0};
    struct era_tree_source *source = NULL;
    uint8_t bytes[4096];
    assert_int_equal(era_tree_source_open(here, "d", 0, &source, &err), 0);
    ssize_t n;
    while ((n = era_tree_source_read(source, bytes, sizeof bytes, &err)) > 0)
        ;
    assert_int_equal(n, -ELOOP);
    assert_string_equal(err.code, "tree_too_deep");
    era_tree_source_free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_tree_comes_back_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_copy_goes_into_a_folder_that_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(links_that_lead_out_are_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_link_of_the_copy_is_never_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_is_there_when_it_is_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(streams_out_of_order_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_deepest_tree_is_bounded, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

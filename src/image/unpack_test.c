/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/unpack.h"

static void whiteouts_are_told_from_names(void **state)
{
    static const struct {
        const char *path;
        enum era_whiteout kind;
        const char *name;
    } cases[] = {
        {"a", ERA_WHITEOUT_NONE, NULL},
        {"a.wh.b", ERA_WHITEOUT_NONE, NULL},
        {"dir/.whatever", ERA_WHITEOUT_NONE, NULL},
        {"", ERA_WHITEOUT_NONE, NULL},
        {"/", ERA_WHITEOUT_NONE, NULL},
        {".wh.a", ERA_WHITEOUT_REMOVE, "a"},
        {"dir/.wh.a", ERA_WHITEOUT_REMOVE, "a"},
        {"dir/.wh....", ERA_WHITEOUT_REMOVE, "..."},
        {".wh..hidden", ERA_WHITEOUT_REMOVE, ".hidden"},
        {".wh..wh..opq", ERA_WHITEOUT_OPAQUE, NULL},
        {"/dir//.wh..wh..opq", ERA_WHITEOUT_OPAQUE, NULL},
        {".wh..wh..opq2", ERA_WHITEOUT_IGNORE, NULL},
        {".wh..wh.plnk/1.2", ERA_WHITEOUT_IGNORE, NULL},
        {".wh.", ERA_WHITEOUT_BAD, NULL},
        {".wh..", ERA_WHITEOUT_BAD, NULL},
        {"dir/.wh...", ERA_WHITEOUT_BAD, NULL},
        {".wh.a/b", ERA_WHITEOUT_BAD, NULL},
        {".wh.a/", ERA_WHITEOUT_BAD, NULL},
        {".wh..wh..opq/x", ERA_WHITEOUT_BAD, NULL},
        {"x/.wh.a/.wh.b", ERA_WHITEOUT_BAD, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *name = NULL;
        if (era_whiteout_of(cases[i].path, &name) != cases[i].kind)
            fail_msg("wrong: %s", cases[i].path);
        if (cases[i].name != NULL)
            assert_string_equal(name, cases[i].name);
    }
}

static void paths_are_checked(void **state)
{
    static const char *const good[] = {"a", "./a", "/a", "a/./b", ".", "/", "...", "a..", "..a/b", "a/"};
    static const char *const bad[] = {"", "..", "../a", "a/..", "a/../b", "/..", "./..", "a//..//b"};
    struct era_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (era_tree_check_path(good[i], &err) < 0)
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (era_tree_check_path(bad[i], &err) >= 0)
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(era_tree_check_path(NULL, &err), -EBADMSG);

    char name[NAME_MAX + 2];
    memset(name, 'x', sizeof name - 1);
    name[NAME_MAX + 1] = '\0';
    assert_true(era_tree_check_path(name, &err) < 0);
    name[NAME_MAX] = '\0';
    assert_int_equal(era_tree_check_path(name, &err), 0);
}

static void marks_remember(void **state)
{
    _cleanup_(era_marks_clear) struct era_marks marks = {0};
    assert_false(era_marks_has(&marks, 0));
    for (uint64_t key = 0; key < 100000; key += 2)
        assert_int_equal(era_marks_add(&marks, key * 0x10001), 0);
    for (uint64_t key = 2; key < 100000; key++)
        assert_int_equal(era_marks_has(&marks, key * 0x10001), key % 2 == 0);
}

static void hashes_are_those_of_the_standards(void **state)
{
    char digest[ERA_DIGEST_MAX];
    _cleanup_(era_hash_freep) struct era_hash *sha256 = era_hash_new(false);
    era_hash_update(sha256, "abc", 3);
    era_hash_digest(sha256, digest);
    /* FIPS 180-4, examples */
    assert_string_equal(digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

    char integrity[ERA_INTEGRITY_MAX];
    _cleanup_(era_hash_freep) struct era_hash *sha512 = era_hash_new(true);
    era_hash_update(sha512, "abc", 3);
    era_hash_integrity(sha512, integrity);
    /* The same in base64, as of Subresource Integrity. */
    assert_string_equal(
        integrity, "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==");
}

struct scene {
    char top[32];
    int top_fd;
    struct era_tree tree;
};

static int set_up(void **state)
{
    static struct scene scene;
    scene = (struct scene){.top = "/tmp/unpack-test-XXXXXX"};
    if (mkdtemp(scene.top) == NULL)
        return -1;
    scene.top_fd = open(scene.top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mkdirat(scene.top_fd, "rootfs", 0755) < 0 || mkdirat(scene.top_fd, "outside", 0755) < 0)
        return -1;
    scene.tree = (struct era_tree){.bytes_left = 1 << 20, .entries_left = 1000};
    scene.tree.root_fd = openat(scene.top_fd, "rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = &scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    era_tree_close(&scene->tree);
    era_remove_tree_at(AT_FDCWD, scene->top);
    close(scene->top_fd);
    return 0;
}

/* Whether the place of a path is `name` in the folder that `folder` names from the top. */
static void expect_place(struct scene *scene, const char *path, const char *folder, const char *name)
{
    _cleanup_(era_place_close) struct era_place place = {.dir_fd = -EBADF};
    struct era_error err = {0};
    if (era_tree_find(&scene->tree, path, false, &place, &err) < 0)
        fail_msg("not found: %s: %s", path, err.message);
    struct stat found;
    struct stat expected;
    assert_int_equal(fstat(place.dir_fd, &found), 0);
    assert_int_equal(fstatat(scene->top_fd, folder, &expected, 0), 0);
    assert_true(found.st_ino == expected.st_ino);
    assert_string_equal(place.name, name);
}

static void places_are_found_inside_the_root(void **state)
{
    struct scene *scene = *state;
    int root = scene->tree.root_fd;
    assert_int_equal(mkdirat(root, "usr", 0755), 0);
    assert_int_equal(mkdirat(root, "usr/lib", 0755), 0);
    assert_int_equal(symlinkat("usr/lib", root, "lib"), 0);
    assert_int_equal(symlinkat("/usr", root, "absolute"), 0);
    assert_int_equal(symlinkat("../../../outside/../usr", root, "up"), 0);
    assert_int_equal(symlinkat("../lib/../../..", root, "usr/top"), 0);
    assert_int_equal(mkdirat(root, "outside", 0755), 0);
    expect_place(scene, "x", "rootfs", "x");
    expect_place(scene, "./", "rootfs", "");
    expect_place(scene, "usr/lib", "rootfs/usr", "lib");
    expect_place(scene, "lib", "rootfs", "lib");
    expect_place(scene, "lib/x", "rootfs/usr/lib", "x");
    expect_place(scene, "absolute/lib/x", "rootfs/usr/lib", "x");
    expect_place(scene, "up/x", "rootfs/usr", "x");
    expect_place(scene, "usr/top/x", "rootfs", "x");
    expect_place(scene, "usr/top/usr/top/lib//./x", "rootfs/usr/lib", "x");
}

static void missing_parents_are_made_only_when_asked_for(void **state)
{
    struct scene *scene = *state;
    struct era_error err = {0};
    struct era_place place = {.dir_fd = -EBADF};
    assert_int_equal(era_tree_find(&scene->tree, "a/b/c", false, &place, &err), -ENOENT);
    assert_int_equal(err.errnum, 0);
    assert_int_equal(era_tree_find(&scene->tree, "a/b/c", true, &place, &err), 0);
    era_place_close(&place);
    expect_place(scene, "a/b/c", "rootfs/a/b", "c");
    assert_int_equal(scene->tree.entries_left, 998);
}

static void only_what_is_not_marked_is_purged(void **state)
{
    struct scene *scene = *state;
    int root = scene->tree.root_fd;
    struct era_error err = {0};
    struct era_place place = {.dir_fd = -EBADF};
    assert_int_equal(mkdirat(root, "d", 0755), 0);
    assert_int_equal(mkdirat(root, "d/old", 0755), 0);
    assert_int_equal(mkdirat(root, "d/old/deep", 0755), 0);
    assert_int_equal(era_tree_find(&scene->tree, "d/new/x", true, &place, &err), 0);
    assert_int_equal(era_tree_mark(&scene->tree, &place, &err), 0);
    assert_int_equal(mkdirat(place.dir_fd, "x", 0755), 0);
    assert_int_equal(mkdirat(place.dir_fd, "lower", 0755), 0);
    era_place_close(&place);
    assert_int_equal(era_tree_find(&scene->tree, "d/.wh..wh..opq", false, &place, &err), 0);
    assert_int_equal(era_tree_purge(&scene->tree, &place, NULL, &err), 0);
    assert_int_not_equal(faccessat(root, "d/old", F_OK, 0), 0);
    assert_int_not_equal(faccessat(root, "d/new/lower", F_OK, 0), 0);
    assert_int_equal(faccessat(root, "d/new/x", F_OK, 0), 0);
    era_place_close(&place);
}

static void edits_replace_what_is_there(void **state)
{
    struct scene *scene = *state;
    int root = scene->tree.root_fd;
    struct era_error err = {0};
    char words[][24] = {"file", "etc/hosts", "text", "link", "l", "there", "folder", "dev", "remove", "gone/at/all"};
    char *argv[11] = {0};
    for (size_t i = 0; i < 10; i++)
        argv[i] = words[i];
    assert_int_equal(mkdirat(root, "etc", 0755), 0);
    assert_int_equal(symlinkat("/../../outside/hosts", root, "etc/hosts"), 0);
    assert_int_equal(mkdirat(root, "dev", 0755), 0);
    assert_int_equal(mkdirat(root, "dev/x", 0755), 0);
    assert_int_equal(era_unpack_edit(&scene->tree, argv, &err), 3);
    assert_int_equal(era_unpack_edit(&scene->tree, argv + 3, &err), 3);
    assert_int_equal(era_unpack_edit(&scene->tree, argv + 6, &err), 2);
    assert_int_equal(era_unpack_edit(&scene->tree, argv + 8, &err), 2);
    assert_true(era_unpack_edit(&scene->tree, argv + 9, &err) < 0);
    _cleanup_free_ char *text = NULL;
    assert_int_equal(era_read_file_at(root, "etc/hosts", 100, &text, NULL), 0);
    assert_string_equal(text, "text");
    assert_int_not_equal(faccessat(root, "dev/x", F_OK, 0), 0);
    assert_int_not_equal(faccessat(scene->top_fd, "outside/hosts", F_OK, 0), 0);
}

static void a_package_must_have_its_integrity(void **state)
{
    struct scene *scene = *state;
    _cleanup_close_ int fd = openat(scene->top_fd, "p", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(era_write_full(fd, "abc", 3), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct era_error err = {0};
    assert_true(era_unpack_package(&scene->tree, fd, "sha512-other", NULL, 0, &err) < 0);
    assert_string_equal(err.code, "integrity_mismatch");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whiteouts_are_told_from_names),
        cmocka_unit_test(paths_are_checked),
        cmocka_unit_test(marks_remember),
        cmocka_unit_test(hashes_are_those_of_the_standards),
        cmocka_unit_test_setup_teardown(places_are_found_inside_the_root, set_up, tear_down),
        cmocka_unit_test_setup_teardown(missing_parents_are_made_only_when_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_what_is_not_marked_is_purged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(edits_replace_what_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_package_must_have_its_integrity, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

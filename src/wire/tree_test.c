/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>

#include "base/str.h"
#include "wire/tree.h"

/* On memory of just that size, so that ASan sees a byte read too far. */
static ssize_t decode_exact(const uint8_t *data, size_t len, struct era_tree_entry *ret_entry)
{
    uint8_t *exact = malloc(len > 0 ? len : 1);
    assert_non_null(exact);
    memcpy(exact, data, len);
    ssize_t n = era_tree_decode(exact, len, ret_entry);
    free(exact);
    return n;
}

/* Header and name written by hand, whatever they are. */
static ssize_t decode_raw(unsigned kind, unsigned zero, uint32_t mode, uint64_t size, const char *name, size_t name_len)
{
    uint8_t *bytes = calloc(1, ERA_TREE_HEADER_SIZE + name_len);
    assert_non_null(bytes);
    bytes[0] = (uint8_t)kind;
    bytes[1] = (uint8_t)zero;
    bytes[2] = (uint8_t)name_len;
    bytes[3] = (uint8_t)(name_len >> 8);
    for (int i = 0; i < 4; i++)
        bytes[4 + i] = (uint8_t)(mode >> (8 * i));
    for (int i = 0; i < 8; i++)
        bytes[8 + i] = (uint8_t)(size >> (8 * i));
    memcpy(bytes + ERA_TREE_HEADER_SIZE, name, name_len);
    static struct era_tree_entry entry;
    ssize_t n = decode_exact(bytes, ERA_TREE_HEADER_SIZE + name_len, &entry);
    free(bytes);
    return n;
}

static ssize_t decode_named(const char *name)
{
    return decode_raw(ERA_TREE_FILE, 0, 0644, 1, name, strlen(name));
}

static void entries_come_back_as_they_were(void **state)
{
    static const struct era_tree_entry entries[] = {
        {.kind = ERA_TREE_END},
        {.kind = ERA_TREE_FOLDER, .mode = 0777},
        {.kind = ERA_TREE_FILE, .mode = 0600, .size = INT64_MAX, .name = "a"},
        {.kind = ERA_TREE_FILE, .mode = 0, .size = 0, .name = "a/b c/\n/...//"},
        {.kind = ERA_TREE_SYMLINK, .mode = 0777, .size = 1, .name = "\xFF\x01/-rf"},
        {.kind = ERA_TREE_SYMLINK, .mode = 0777, .size = ERA_TREE_NAME_MAX, .name = "..a/.b"},
    };
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        uint8_t bytes[ERA_TREE_ENTRY_MAX];
        ssize_t len = era_tree_encode(&entries[i], bytes);
        assert_int_equal(len, ERA_TREE_HEADER_SIZE + strlen(entries[i].name));
        struct era_tree_entry entry;
        ssize_t n = decode_exact(bytes, (size_t)len, &entry);
        if (strstr(entries[i].name, "//") != NULL) {
            assert_int_equal(n, -EBADMSG);
            continue;
        }
        assert_int_equal(n, len);
        assert_int_equal(entry.kind, entries[i].kind);
        assert_int_equal(entry.mode, entries[i].mode);
        assert_true(entry.size == entries[i].size);
        assert_string_equal(entry.name, entries[i].name);
        for (ssize_t cut = 0; cut < len; cut++)
            assert_int_equal(decode_exact(bytes, (size_t)cut, &entry), 0);
    }
}

static void only_permission_bits_are_written(void **state)
{
    const struct era_tree_entry setuid = {.kind = ERA_TREE_FILE, .mode = 0106755, .name = "su"};
    uint8_t bytes[ERA_TREE_ENTRY_MAX];
    struct era_tree_entry entry;
    ssize_t len = era_tree_encode(&setuid, bytes);
    assert_int_equal(era_tree_decode(bytes, (size_t)len, &entry), len);
    assert_int_equal(entry.mode, 0755);
}

static void hostile_headers_are_refused(void **state)
{
    assert_true(decode_raw(ERA_TREE_FILE, 0, 0644, 1, "a", 1) > 0);
    assert_int_equal(decode_raw(0, 0, 0, 0, "", 0), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_SYMLINK + 1, 0, 0, 0, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(255, 0, 0, 0, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_FILE, 1, 0, 0, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_FILE, 0, 01000, 0, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_FILE, 0, 04755, 0, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_FILE, 0, UINT32_MAX, 0, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_FILE, 0, 0, (uint64_t)INT64_MAX + 1, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_FILE, 0, 0, UINT64_MAX, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_FOLDER, 0, 0, 1, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_SYMLINK, 0, 0, 0, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_SYMLINK, 0, 0, ERA_TREE_NAME_MAX + 1, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_END, 0, 0, 0, "a", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_END, 0, 1, 0, "", 0), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_END, 0, 0, 1, "", 0), -EBADMSG);
}

static void hostile_names_are_refused(void **state)
{
    static const char *const good[] = {"a", "a/b", "...", "..a", "a..", "a/...", ".a/b", "a b", "-", "\n", "a\\b"};
    static const char *const bad[] = {"/",   "/a",     "a/",    "a//b", ".",      "..",   "../a", "a/..",
                                      "./a", "a/../b", "a/./b", "a/.",  "a/b/..", "a/b/", "//",   "/.."};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (decode_named(good[i]) <= 0)
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (decode_named(bad[i]) != -EBADMSG)
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(decode_raw(ERA_TREE_FILE, 0, 0, 0, "a\0b", 3), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_FILE, 0, 0, 0, "a\0", 2), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_FILE, 0, 0, 0, "\0", 1), -EBADMSG);
    assert_int_equal(decode_raw(ERA_TREE_FILE, 0, 0, 0, "\0/../x", 6), -EBADMSG);
}

static void names_keep_their_limits(void **state)
{
    char name[ERA_TREE_NAME_MAX + 2];
    memset(name, 'x', sizeof name);
    name[255] = '\0';
    assert_true(decode_named(name) > 0);
    name[255] = 'x';
    name[256] = '\0';
    assert_int_equal(decode_named(name), -EBADMSG);

    name[256] = 'x';
    for (size_t i = 200; i < ERA_TREE_NAME_MAX - 1; i += 200)
        name[i] = '/';
    name[ERA_TREE_NAME_MAX] = '\0';
    assert_int_equal(decode_named(name), ERA_TREE_ENTRY_MAX);
    name[ERA_TREE_NAME_MAX] = 'x';
    name[ERA_TREE_NAME_MAX + 1] = '\0';
    assert_int_equal(decode_named(name), -EBADMSG);

    /* refused by its length, before its bytes are there */
    static const uint8_t header[ERA_TREE_HEADER_SIZE] = {ERA_TREE_FILE, 0, 0x00, 0x10};
    struct era_tree_entry entry;
    assert_int_equal(decode_exact(header, sizeof header, &entry), -EBADMSG);
}

static void links_that_stay_inside_are_told_from_others(void **state)
{
    static const struct {
        const char *name;
        const char *target;
        bool inside;
    } cases[] = {
        {"a", "b", true},
        {"a", ".", true},
        {"a", "./b//c/", true},
        {"a", "b/c/d", true},
        {"a", "...", true},
        {"a", "..b", true},
        {"a/b", "..", true},
        {"a/b", "../", true},
        {"a/b", "../c", true},
        {"a/b", "./.././c", true},
        {"a/b/c", "../../d", true},
        {"a/b/c", "../../a/b/c", true},
        {"a", "/", false},
        {"a", "/etc/passwd", false},
        {"a", "//etc", false},
        {"a", "..", false},
        {"a", "../", false},
        {"a", "../a", false},
        {"a", "./..", false},
        {"a", ".//..", false},
        {"a/b", "../..", false},
        {"a/b", "../../x", false},
        {"a/b", "./../.././x", false},
        {"a/b/c", "../../../etc", false},
        {"a", "b/../..", false},
        /* by the letter these stay inside, but "b" can be a link, and ".." then climbs from where it leads */
        {"a", "b/..", false},
        {"a", "b/../c", false},
        {"a/b", "../c/../d", false},
        /* beside the root of a copy is outside of it */
        {"", "a", false},
        {"", ".", false},
        {"", "..", false},
        {"", "/", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (era_tree_link_inside(cases[i].name, cases[i].target) != cases[i].inside)
            fail_msg("wrong: %s -> %s", cases[i].name, cases[i].target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back_as_they_were), cmocka_unit_test(only_permission_bits_are_written),
        cmocka_unit_test(hostile_headers_are_refused),    cmocka_unit_test(hostile_names_are_refused),
        cmocka_unit_test(names_keep_their_limits),        cmocka_unit_test(links_that_stay_inside_are_told_from_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
/* cmocka wants some of the above first. */
#include <cmocka.h>

#include "launcher/microvm/cpio.h"

enum { HEADER_SIZE = 110, FIELD_MODE = 1, FIELD_SIZE = 6, FIELD_NAME_SIZE = 11 };

/* A field of a header: eight hexadecimal digits after the magic. */
static unsigned long field(const uint8_t *header, int index)
{
    static const char digits[] = "0123456789abcdef";
    unsigned long value = 0;
    for (int i = 0; i < 8; i++) {
        const char *digit = strchr(digits, header[6 + 8 * index + i]);
        assert_non_null(digit);
        value = value * 16 + (unsigned long)(digit - digits);
    }
    return value;
}

static size_t aligned(size_t size)
{
    return (size + 3) / 4 * 4;
}

/* Reads the entry at the offset as the kernel does, and says where the next one is. */
static size_t expect(const struct era_buffer *archive, size_t at, const char *name, mode_t mode, const char *data)
{
    const uint8_t *header = era_buffer_data(archive) + at;
    assert_memory_equal(header, "070701", 6);
    assert_int_equal(field(header, FIELD_MODE), mode);
    assert_int_equal(field(header, FIELD_SIZE), strlen(data));
    assert_int_equal(field(header, FIELD_NAME_SIZE), strlen(name) + 1);
    assert_string_equal((const char *)header + HEADER_SIZE, name);
    size_t content = aligned(HEADER_SIZE + strlen(name) + 1);
    assert_memory_equal(header + content, data, strlen(data));
    return at + aligned(content + strlen(data));
}

static void entries_come_back_whatever_their_lengths(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "ab", "abc", "abcd", "abcde"};
    static const char *const contents[] = {"", "1", "12", "123", "1234"};
    struct era_buffer archive = {0};
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 5; j++)
            assert_int_equal(cpio_append(&archive, names[i], S_IFREG | 0644, contents[j], strlen(contents[j])), 0);
    assert_int_equal(cpio_append(&archive, "dir", S_IFDIR | 0755, NULL, 0), 0);
    assert_int_equal(cpio_finish(&archive), 0);
    size_t at = 0;
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 5; j++)
            at = expect(&archive, at, names[i], S_IFREG | 0644, contents[j]);
    at = expect(&archive, at, "dir", S_IFDIR | 0755, "");
    at = expect(&archive, at, "TRAILER!!!", 0, "");
    assert_int_equal(at, era_buffer_len(&archive));
    era_buffer_clear(&archive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(entries_come_back_whatever_their_lengths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - what every fuzz target shares.
 *
 * A target is one file, src/<module>/<name>_fuzz.c, that defines
 * LLVMFuzzerTestOneInput() and asserts what must hold of the parser by
 * FUZZ_ASSERT, and one line in the meson.build beside it:
 *
 *     fuzz_targets += {'name': [files('name_fuzz.c'), the_dep]}
 *
 * Its corpus is tests/corpus/<name>/: committed, and replayed as an ordinary
 * test by every compiler. With -Dfuzz=true (clang) it is also built with
 * libFuzzer, and with ASan and UBSan, as tests/fuzz/<name>_fuzz.
 */
#ifndef ERA_FUZZ_FUZZ_H
#define ERA_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Like assert(), and not to be compiled away. */
#define FUZZ_ASSERT(condition)                                                                                         \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The input as a string that ends where its memory ends, so that ASan sees one byte too far. free() it. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
    size_t len = strnlen((const char *)data, size);
    char *text = malloc(len + 1);
    FUZZ_ASSERT(text != NULL);
    memcpy(text, data, len);
    text[len] = '\0';
    return text;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The words of plain.h against those that libc's wordexp(3) finds by the rules of POSIX's shell. */
#include <stdbool.h>
#include <wordexp.h>

#include "fuzz/fuzz.h"
#include "guest/plain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = fuzz_text(data, size);
    char **words = plain_words(line);
    /* Of ""a glibc makes two words, and a shell one: plain_test.c asks a shell about those. */
    bool empty = strstr(line, "\"\"") != NULL || strstr(line, "''") != NULL;
    if (words != NULL && !empty) {
        wordexp_t found = {0};
        FUZZ_ASSERT(wordexp(line, &found, WRDE_NOCMD | WRDE_UNDEF) == 0);
        for (size_t i = 0; i < found.we_wordc; i++)
            FUZZ_ASSERT(words[i] != NULL && strcmp(words[i], found.we_wordv[i]) == 0);
        FUZZ_ASSERT(words[found.we_wordc] == NULL);
        wordfree(&found);
    }
    free(words);
    free(line);
    return 0;
}

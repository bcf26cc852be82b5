/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests, each read as all that a body can be. */
#include "fuzz/fuzz.h"
#include "http/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned kinds[] = {ASK_VM, ASK_RUN, ASK_VM | ASK_RUN};
    for (size_t i = 0; i < 3; i++) {
        struct ask ask = {0};
        char *names = NULL;
        char *details = NULL;
        int r = ask_parse((const char *)data, size, kinds[i], &ask, &names, &details);
        if (r >= 0) {
            FUZZ_ASSERT((ask.vm != NULL) == ((kinds[i] & ASK_VM) != 0));
            FUZZ_ASSERT((ask.run != NULL) == ((kinds[i] & ASK_RUN) != 0));
            FUZZ_ASSERT(names == NULL && details == NULL);
        } else { /* whoever is refused is told why, in text */
            FUZZ_ASSERT(ask.vm == NULL && ask.run == NULL && ask.input == NULL);
            FUZZ_ASSERT(names != NULL && details != NULL && details[0] != '\0');
            FUZZ_ASSERT(era_str_is_utf8(names, strlen(names)));
        }
        free(names);
        free(details);
        ask_clear(&ask);
    }
    return 0;
}

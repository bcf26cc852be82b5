/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a hostile QEMU: nothing but whole objects are taken, and no word overflows its place. */
#include <errno.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "launcher/microvm/qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    for (size_t at = 0; at < size;) {
        struct qmp_line line;
        ssize_t taken = qmp_decode(text + at, size - at, &line);
        FUZZ_ASSERT(taken >= -EBADMSG);
        if (taken <= 0)
            break;
        FUZZ_ASSERT((size_t)taken <= size - at && text[at + (size_t)taken - 1] == '\n');
        FUZZ_ASSERT(strlen(line.word) < QMP_WORD_MAX && strlen(line.status) < QMP_WORD_MAX);
        FUZZ_ASSERT(line.id <= QMP_ID_MAX);
        FUZZ_ASSERT(strlen(line.text) < QMP_TEXT_MAX && (line.kind == QMP_EVENT || line.word[0] == '\0'));
        at += (size_t)taken;
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* An open-addressing set of 64-bit keys; 0 marks a free slot, and so stands for 1. */
#include <errno.h>
#include <stdlib.h>

#include "image/unpack.h"

static size_t slot_of(const uint64_t *slots, size_t capacity, uint64_t key)
{
    size_t at = (size_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 16) & (capacity - 1);
    while (slots[at] != 0 && slots[at] != key)
        at = (at + 1) & (capacity - 1);
    return at;
}

static int grow(struct era_marks *marks)
{
    size_t capacity = marks->capacity == 0 ? 1024 : marks->capacity * 2;
    uint64_t *slots = calloc(capacity, sizeof *slots);
    if (slots == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < marks->capacity; i++)
        if (marks->slots[i] != 0)
            slots[slot_of(slots, capacity, marks->slots[i])] = marks->slots[i];
    free(marks->slots);
    marks->slots = slots;
    marks->capacity = capacity;
    return 0;
}

int era_marks_add(struct era_marks *marks, uint64_t key)
{
    key += key == 0;
    if (marks->count * 2 >= marks->capacity) {
        int r = grow(marks);
        if (r < 0)
            return r;
    }
    size_t at = slot_of(marks->slots, marks->capacity, key);
    marks->count += marks->slots[at] == 0;
    marks->slots[at] = key;
    return 0;
}

bool era_marks_has(const struct era_marks *marks, uint64_t key)
{
    key += key == 0;
    return marks->capacity > 0 && marks->slots[slot_of(marks->slots, marks->capacity, key)] == key;
}

void era_marks_clear(struct era_marks *marks)
{
    free(marks->slots);
    *marks = (struct era_marks){0};
}

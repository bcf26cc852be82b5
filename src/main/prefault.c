/* SPDX-License-Identifier: Apache-2.0 */
#include "main/prefault.h"

#include <elf.h>
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* What a command touches of its heap, measured: SQLite's pages for the most part. */
enum { HEAP_BYTES = 256 << 10, HEAP_BLOCK = 100 << 10 };

/* NOLINTBEGIN(performance-no-int-to-ptr): addresses of segments are numbers in the program's headers. */
static void populate(uintptr_t from, uintptr_t to, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    from &= ~(page - 1);
    if (from < to)
        (void)madvise((void *)from, to - from, advice);
}
/* NOLINTEND(performance-no-int-to-ptr) */

/* The first object is the program itself. */
static int populate_segments(struct dl_phdr_info *info, size_t size, void *data)
{
    uintptr_t relocated = 0; /* the end of what was written at the start and is read-only since then */
    for (ElfW(Half) i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO)
            relocated = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    for (ElfW(Half) i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + segment->p_vaddr;
        uintptr_t end = start + segment->p_memsz;
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) != 0)
            populate(relocated > start && relocated < end ? relocated : start, end, MADV_POPULATE_WRITE);
        else if (segment->p_type == PT_LOAD)
            populate(start, end, MADV_POPULATE_READ);
    }
    return 1;
}

/* Two blocks, since the first may fit into what libc's own start has left. Then the heap keeps what it has. */
static void populate_heap(void)
{
    (void)mallopt(M_TOP_PAD, HEAP_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, 4 * HEAP_BYTES);
    void *volatile blocks[2]; /* volatile: a malloc() that is only freed is optimised away */
    for (int i = 0; i < 2; i++)
        blocks[i] = malloc(HEAP_BLOCK);
    if (blocks[0] != NULL)
        populate((uintptr_t)blocks[0], (uintptr_t)sbrk(0), MADV_POPULATE_WRITE);
    for (int i = 0; i < 2; i++)
        free(blocks[i]);
}

void prefault_program(void)
{
    (void)dl_iterate_phdr(populate_segments, NULL);
    populate_heap();
}

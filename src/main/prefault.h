/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ERA_MAIN_PREFAULT_H
#define ERA_MAIN_PREFAULT_H

/*
 * Maps what the program is made of, and the first HEAP_BYTES of its heap, at once instead of page by page
 * as they are touched. A page fault costs as much as mapping a hundred pages that are in memory anyway
 * (20 us against 0.2 us in a virtual machine within another, 0.5 us against 0.05 us on the metal), and a
 * program that lives for some milliseconds takes one for nearly every page that it has.
 *
 * To be called first in main(), before there are threads. A kernel before 5.14 cannot do it, and nothing is
 * lost: then pages come as they are touched.
 */
void prefault_program(void);

#endif

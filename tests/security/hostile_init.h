/* SPDX-License-Identifier: Apache-2.0 */
/* hostile_init.h - what a hostile init has to do where it is the first process of a kernel: hostile_machine.c. */
#ifndef ERA_TESTS_HOSTILE_INIT_H
#define ERA_TESTS_HOSTILE_INIT_H

#include <stddef.h>
#include <stdint.h>

extern int shim; /* the descriptor that leads there */
void say(const void *data, size_t len);

int machine_is_ours(void);
/* Loads the drivers; the serial port's descriptor. */
int machine_open(void);
/* The value of HOSTILE in an IDENTITY. */
const char *machine_deed(const uint8_t *payload, size_t len);
/* What is said when the shim wants it to hold still. */
void machine_hold(const char *deed);

#endif

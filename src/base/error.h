/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h - filling the error object (include/era/error.h).
 *
 * An error is set where the fact is known, prefixed on the way up, and turned
 * into JSON or an exit status at one place, at the edge. All functions accept
 * err == NULL, touch nothing global, and are thread-safe.
 */
#ifndef ERA_BASE_ERROR_H
#define ERA_BASE_ERROR_H

#include <stdbool.h>

#include "era/error.h"

#define ERA_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/*
 * Fills *err and returns -errnum, so that a failing line reads
 * `return era_error_set(err, ENOENT, "vm_not_found", "no VM has the id %s", id);`
 * errnum must be positive.
 */
int era_error_set(struct era_error *err, int errnum, const char *code, const char *format, ...) ERA_PRINTF(4, 5);

/* The same for an input that is wrong: code "invalid_argument", EINVAL, and the input's name. */
int era_error_invalid(struct era_error *err, const char *field, const char *format, ...) ERA_PRINTF(3, 4);

/* The same for a failed system call: code "system_error", and ": strerror" is appended. */
int era_error_errno(struct era_error *err, int errnum, const char *format, ...) ERA_PRINTF(3, 4);

/* Code "out_of_memory", ENOMEM. */
int era_error_oom(struct era_error *err);

/* Puts "prefix: " before the message; returns -errnum of what err holds. */
int era_error_prefix(struct era_error *err, const char *format, ...) ERA_PRINTF(2, 3);

/* Whether err holds this code. */
bool era_error_is(const struct era_error *err, const char *code);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * era/error.h - the one error object of libera.
 *
 * Every function that can fail for a reason a user may ask about takes a
 * `struct era_error *` as its last argument and returns a negative errno.
 * The object is owned by the caller, of fixed size, holds no pointers and
 * needs no clean-up; NULL is accepted where the caller does not care.
 */
#ifndef ERA_ERROR_H
#define ERA_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ERA_ERROR_CODE_MAX = 40,     /* bytes, with the terminating NUL */
    ERA_ERROR_FIELD_MAX = 32,    /* bytes, with the terminating NUL */
    ERA_ERROR_MESSAGE_MAX = 512, /* bytes, with the terminating NUL */
};

/*
 * What went wrong.
 *
 * errnum:  a positive errno value; the function returned -errnum. 0: no error.
 * code:    a stable identifier for programs, such as "vm_not_found".
 * field:   the name of the wrong input ("cpu", "language"), or "".
 * message: one sentence for people, UTF-8, truncated if need be.
 */
struct era_error {
    int errnum;
    char code[ERA_ERROR_CODE_MAX];
    char field[ERA_ERROR_FIELD_MAX];
    char message[ERA_ERROR_MESSAGE_MAX];
};

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup.h - scope-bound release of resources (gcc and clang `cleanup`).
 *
 *   _cleanup_(era_closep) int fd = -EBADF;     closed when the scope ends
 *   return era_take_fd(&fd);                   handed over instead
 */
#ifndef ERA_BASE_CLEANUP_H
#define ERA_BASE_CLEANUP_H

#include <errno.h>
#include <stdlib.h>

#define _cleanup_(fn)   __attribute__((cleanup(fn)))
#define _cleanup_free_  _cleanup_(era_freep)
#define _cleanup_close_ _cleanup_(era_closep)

/* Defines `namep(type **)` for a destructor `name(type *)` that accepts NULL. */
#define ERA_DEFINE_CLEANUP(type, name)                                                                                 \
    static inline void name##p(type **pointer)                                                                         \
    {                                                                                                                  \
        name(*pointer);                                                                                                \
    }

/* Frees what a `char *` (or any object pointer) holds; preserves errno. */
static inline void era_freep(void *pointer)
{
    int saved = errno;
    free(*(void **)pointer);
    errno = saved;
}

/* Closes *fd when it is one; preserves errno. */
void era_closep(int *fd);

/* Hands a file descriptor over: returns it and leaves -EBADF behind. */
static inline int era_take_fd(int *fd)
{
    int taken = *fd;
    *fd = -EBADF;
    return taken;
}

/* Hands a pointer over: yields it and leaves NULL behind. */
#define era_take_ptr(pointer)                                                                                          \
    ({                                                                                                                 \
        __typeof__(pointer) taken = pointer;                                                                           \
        (pointer) = NULL;                                                                                              \
        taken;                                                                                                         \
    })

#endif

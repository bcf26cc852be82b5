/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A static program loads nothing at run time. SQLite's archive was compiled with the loading of extensions,
 * which nothing here asks for; libc's own dlopen() would, when asked, look for a shared libc that fits. The
 * linker (--wrap, see meson.build) puts these in its place, so that there is nothing to ask.
 */
#include <stddef.h>

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker makes these names. */
void *__wrap_dlopen(const char *file, int mode);
void *__wrap_dlsym(void *handle, const char *name);
int __wrap_dlclose(void *handle);
char *__wrap_dlerror(void);

void *__wrap_dlopen(const char *file, int mode)
{
    return NULL;
}

void *__wrap_dlsym(void *handle, const char *name)
{
    return NULL;
}

int __wrap_dlclose(void *handle)
{
    return 0;
}

char *__wrap_dlerror(void)
{
    static char text[] = "a static program loads nothing";
    return text;
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void copy(char *to, size_t size, const char *from)
{
    size_t len = strnlen(from, size - 1);
    memcpy(to, from, len);
    to[len] = '\0';
}

ERA_PRINTF(5, 0)
static int fill(struct era_error *err, int errnum, const char *code, const char *field, const char *format,
                va_list args)
{
    if (err == NULL)
        return -errnum;
    err->errnum = errnum;
    copy(err->code, sizeof err->code, code);
    copy(err->field, sizeof err->field, field);
    vsnprintf(err->message, sizeof err->message, format, args);
    return -errnum;
}

int era_error_set(struct era_error *err, int errnum, const char *code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, errnum, code, "", format, args);
    va_end(args);
    return -errnum;
}

int era_error_invalid(struct era_error *err, const char *field, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, EINVAL, "invalid_argument", field, format, args);
    va_end(args);
    return -EINVAL;
}

int era_error_errno(struct era_error *err, int errnum, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, errnum, "system_error", "", format, args);
    va_end(args);
    if (err != NULL) {
        size_t used = strlen(err->message);
        snprintf(err->message + used, sizeof err->message - used, ": %s", strerror(errnum));
    }
    return -errnum;
}

int era_error_oom(struct era_error *err)
{
    return era_error_set(err, ENOMEM, "out_of_memory", "out of memory");
}

int era_error_prefix(struct era_error *err, const char *format, ...)
{
    if (err == NULL)
        return -EIO;
    char message[ERA_ERROR_MESSAGE_MAX];
    copy(message, sizeof message, err->message);
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    size_t used = strlen(err->message);
    snprintf(err->message + used, sizeof err->message - used, ": %s", message);
    return -err->errnum;
}

bool era_error_is(const struct era_error *err, const char *code)
{
    return err != NULL && err->errnum != 0 && strcmp(err->code, code) == 0;
}

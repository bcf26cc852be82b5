/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static struct {
    enum era_log_level level;
    int mirror_fd; /* borrowed */
} settings = {.level = ERA_LOG_INFO, .mirror_fd = -EBADF};

int era_log_parse_level(const char *name, enum era_log_level *ret_level)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++)
        if (era_str_eq(name, level_names[i])) {
            *ret_level = (enum era_log_level)i;
            return 0;
        }
    return -EINVAL;
}

void era_log_set_level(enum era_log_level level)
{
    settings.level = level;
}

void era_log_set_mirror(int fd)
{
    settings.mirror_fd = fd;
}

/* The length of the well-formed sequence at p, or 0. */
static size_t utf8_length(const unsigned char *p)
{
    size_t want = *p < 0x80 ? 1 : *p >= 0xF0 ? 4 : *p >= 0xE0 ? 3 : 2;
    size_t have = strnlen((const char *)p, want);
    return have == want && era_str_is_utf8(p, want) ? want : 0;
}

size_t era_json_escape(const char *text, char *to, size_t size)
{
    size_t used = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0';) {
        char piece[8];
        size_t taken = 1;
        size_t len = utf8_length(p);
        if (len == 0) {
            memcpy(piece, "\xEF\xBF\xBD", len = 3);
        } else if (*p == '"' || *p == '\\') {
            piece[0] = '\\';
            piece[1] = (char)*p;
            len = 2;
        } else if (*p < 0x20 || *p == 0x7F) {
            len = (size_t)snprintf(piece, sizeof piece, "\\u%04x", *p);
        } else {
            memcpy(piece, p, len);
            taken = len;
        }
        if (used + len >= size)
            break;
        memcpy(to + used, piece, len);
        used += len;
        p += taken;
    }
    to[used] = '\0';
    return used;
}

static void emit(const char *line, size_t len)
{
    int saved = errno;
    (void)era_write_full(STDERR_FILENO, line, len);
    if (settings.mirror_fd >= 0)
        (void)era_write_full(settings.mirror_fd, line, len);
    errno = saved;
}

void era_log(enum era_log_level level, const char *format, ...)
{
    if (level < settings.level)
        return;
    int saved = errno;
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);

    char escaped[2048];
    era_json_escape(message, escaped, sizeof escaped);
    char when[ERA_TIME_MAX];
    era_clock_format(era_clock_realtime_ns(), when);
    char line[2304];
    int len = snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"%s\"}\n", when,
                       level_names[level], escaped);
    if (len > 0)
        emit(line, (size_t)len);
    errno = saved;
}

void era_log_fields(enum era_log_level level, const char *message, const char *fields)
{
    if (level < settings.level)
        return;
    char when[ERA_TIME_MAX];
    era_clock_format(era_clock_realtime_ns(), when);
    char line[2304];
    int len = snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"%s\",%s}\n", when,
                       level_names[level], message, fields);
    if (len > 0 && (size_t)len < sizeof line)
        emit(line, (size_t)len);
}

void era_log_error(const struct era_error *err)
{
    char message[2 * ERA_ERROR_MESSAGE_MAX];
    era_json_escape(err->message, message, sizeof message);
    char field[64 + ERA_ERROR_FIELD_MAX] = "";
    if (err->field[0] != '\0')
        snprintf(field, sizeof field, ",\"field\":\"%s\"", err->field);
    char line[2 * ERA_ERROR_MESSAGE_MAX + 256];
    int len = snprintf(line, sizeof line, "{\"level\":\"error\",\"message\":\"%s\",\"code\":\"%s\"%s}\n", message,
                       err->code, field);
    if (len > 0)
        emit(line, (size_t)len);
}

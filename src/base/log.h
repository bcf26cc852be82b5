/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - JSON lines on stderr, for the edges only (main programs, event
 * loops); libraries stay silent. A line is written by one write(2), so lines
 * of several processes do not mix. Preserves errno. The settings are of the
 * process: set them once, before threads start.
 */
#ifndef ERA_BASE_LOG_H
#define ERA_BASE_LOG_H

#include <stddef.h>

#include "base/error.h"

enum era_log_level { ERA_LOG_DEBUG, ERA_LOG_INFO, ERA_LOG_WARN, ERA_LOG_ERROR };

/* "debug", "info", "warn", "error"; -EINVAL otherwise. */
int era_log_parse_level(const char *name, enum era_log_level *ret_level);

void era_log_set_level(enum era_log_level level); /* lines below are dropped; default info */
void era_log_set_mirror(int fd);                  /* lines go there too; borrowed; -EBADF: nowhere */

/* {"time":"…","level":"info","message":"…"} */
void era_log(enum era_log_level level, const char *format, ...) ERA_PRINTF(2, 3);

/* The same with members of its own behind: "\"status\":200,\"client\":\"…\"", which is JSON already. */
void era_log_fields(enum era_log_level level, const char *message, const char *fields);

/* {"level":"error","message":"…","code":"…","field":"…"}: the one form of an error for programs. */
void era_log_error(const struct era_error *err);

/* Escapes text for a JSON string, without the quotes; bytes that are not UTF-8 become U+FFFD. */
size_t era_json_escape(const char *text, char *to, size_t size);

#endif

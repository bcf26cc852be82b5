/* SPDX-License-Identifier: Apache-2.0 */
/* listen.h - the socket. */
#ifndef ERA_HTTP_LISTEN_H
#define ERA_HTTP_LISTEN_H

#include "http/settings.h"

/*
 * Opens what was asked for, or takes what the service manager passed. address: where that is, as text.
 * Errors: usage (field "listen"), address_unusable, key_missing: others could reach it, and nothing keeps them out.
 */
int listen_open(const struct settings *settings, bool has_key, int *ret_fd, bool *ret_loopback, char *address,
                size_t size, struct era_error *err);

#endif

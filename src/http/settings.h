/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h - what the server was told on its command line. Checked here; borrowed from argv. */
#ifndef ERA_HTTP_SETTINGS_H
#define ERA_HTTP_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"

enum { SETTINGS_ORIGINS_MAX = 32 };

struct settings {
    const char *listen;    /* "ADDR:PORT"; NULL: PORT of the environment, or the default */
    const char *state_dir; /* NULL: the default */
    const char *api_key_file;
    const char *tls_cert;
    const char *tls_key;
    const char *log_level;
    const char *log_file;
    const char *origins[SETTINGS_ORIGINS_MAX]; /* other origins that may call */
    uint64_t origin_count;
    bool insecure_no_auth;
    uint64_t max_connections;
    uint64_t max_runs;        /* in flight at once, streams and shells included */
    uint64_t max_body;        /* MiB of JSON */
    uint64_t max_header;      /* KiB: request line and headers together */
    uint64_t request_timeout; /* seconds until the body must be there; for files: until some more must */
    uint64_t idle_timeout;    /* seconds between the end of an answer and the end of the next headers */
    uint64_t grace;           /* seconds that SIGTERM gives to what runs */
    uint64_t workers;         /* threads for calls that block a while */
};

/* Fills in what is not said. An error has code "usage" and the setting as its field. */
int settings_parse(int argc, char **argv, struct settings *ret_settings, struct era_error *err);

/*
 * "ADDR:PORT", "[ADDR]:PORT" or "localhost:PORT" with a numeric address; port 0: any. Pure; -EINVAL.
 */
int address_parse(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_len);
/* The same backwards. */
void address_format(const struct sockaddr *address, char *to, size_t size);
bool address_is_loopback(const struct sockaddr *address);

#endif

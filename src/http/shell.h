/* SPDX-License-Identifier: Apache-2.0 */
/* shell.h - what the two parts of a shell share: its request (shell.c), and the session that follows (terminal.c). */
#ifndef ERA_HTTP_SHELL_H
#define ERA_HTTP_SHELL_H

#include <wslay/wslay.h>

#include "http/internal.h"

struct shell_work {
    struct work base; /* first */
    struct request *request;
    struct era_run *run; /* owned */
    struct source terminal;
    struct source client;
    struct MHD_UpgradeResponseHandle *handle; /* until the session is over */
    wslay_event_context_ptr frames;           /* owned */
    struct era_buffer early;                  /* what the client sent before it was asked to */
    struct era_buffer input;
    size_t turn_bytes; /* that may still be read in this turn */
    uint16_t cols, rows;
    bool closing;   /* our close frame is on its way, or out */
    bool lingering; /* all was said; what still comes is read away, so that our last words are not lost */
    int64_t heard_ns;
    int64_t pinged_ns;
    int64_t closed_ns;
    char command[TARGET_VALUE_MAX];
};

/* libmicrohttpd has handed the socket over: the session begins. As MHD_UpgradeHandler; userdata: the work. */
void terminal_begin(void *userdata, struct MHD_Connection *connection, void *slot, const char *early, size_t early_len,
                    MHD_socket fd, struct MHD_UpgradeResponseHandle *handle);
/* Once a second. */
void terminal_tick(struct request *request);
/* The server ends. */
void terminal_cut(struct request *request);
/* The end: the command is killed if it lives, the socket is given back. Also without a session. */
void terminal_end(struct shell_work *work);

#endif

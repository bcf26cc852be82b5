/* SPDX-License-Identifier: Apache-2.0 */
/* relay.h - one connection with TLS: the client's socket on one side, one end of a socket pair on the other. */
#ifndef ERA_HTTP_RELAY_H
#define ERA_HTTP_RELAY_H

#include <gnutls/gnutls.h>

#include "base/buffer.h"
#include "http/loop.h"

struct relay {
    struct loop *loop;                                 /* borrowed */
    struct source client;                              /* owned */
    struct source plain;                               /* owned; -EBADF before and after it is open */
    gnutls_session_t session;                          /* owned */
    void (*agreed)(struct relay *relay, int plain_fd); /* takes the other end of the pair */
    void (*ended)(struct relay *relay);                /* all of it is closed; frees it */
    enum { HANDSHAKE, OPEN, CLOSING, LINGER } state;
    bool spoke;            /* something came from the client */
    bool over;             /* the client's stream has ended */
    bool deaf;             /* nothing more comes from the client, or nobody takes it */
    struct era_buffer in;  /* decrypted, and not taken by the server yet */
    struct era_buffer out; /* of the server; while it is here, the very call that did not succeed is made again */
    int64_t deadline_ns;   /* 0: none */
    int unsent;            /* bytes that the kernel had for the client when it was looked at last */
};

/* Begins: loop, client, session, agreed, ended and the deadline for the handshake are set, plain.fd is -EBADF. */
void relay_begin(struct relay *relay);
/* Called now and then: ends it when its time is up. */
void relay_expire(struct relay *relay, int64_t now_ns);
/* Ends it at once. */
void relay_drop(struct relay *relay);

#endif

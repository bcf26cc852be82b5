/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.h - TLS, ended before libmicrohttpd, which sees plain connections only.
 *
 * Its own TLS cannot carry a WebSocket: 0.9.75 passes the bytes of such a connection on four at a time, and stops now
 * and then. So we accept, shake hands, and give it one end of a socket pair; all else is the same with TLS and without.
 */
#ifndef ERA_HTTP_TLS_H
#define ERA_HTTP_TLS_H

#include <sys/socket.h>

#include "base/error.h"
#include "http/loop.h"
#include "http/settings.h"

struct tls;

/* What is to be done with the plain side of a connection that was agreed on; takes the descriptor. */
typedef void tls_take(void *userdata, int fd, const struct sockaddr *address, socklen_t len);

/* Reads certificate and key ("tls_unusable"), and accepts at listen_fd, which it takes when it succeeds. */
int tls_open(struct loop *loop, const struct settings *settings, int listen_fd, tls_take *take, void *userdata,
             struct tls **ret_tls, struct era_error *err);
void tls_close(struct tls *tls);

/* Reads certificate and key again, for those who come from now on. When it fails, the old ones go on. */
int tls_reload(struct tls *tls, const struct settings *settings, struct era_error *err);

/* Accepts nobody any more. */
void tls_quiesce(struct tls *tls);
/* Ends those whose time is up; called once a second. */
void tls_expire(struct tls *tls);
/* Whether something is still to be brought to a client. For the end, when nobody has the plain sides any more. */
bool tls_is_busy(const struct tls *tls);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections, and how long each may take for what it does. libmicrohttpd's own timeout begins anew with every
 * byte; who sends one now and then could stay for ever. So connections stand in two queues, by when they began to
 * wait for headers or for (more of) a body, and leave when that is over. Who is at the head for too long is cut.
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "http/internal.h"

static void leave(struct server *server, struct connection *peer)
{
    struct connection **first = &server->connections[peer->patience];
    struct connection **last = &server->connections_end[peer->patience];
    if (peer->prev != NULL)
        peer->prev->next = peer->next;
    else if (*first == peer)
        *first = peer->next;
    if (peer->next != NULL)
        peer->next->prev = peer->prev;
    else if (*last == peer)
        *last = peer->prev;
    peer->next = peer->prev = NULL;
}

static void join(struct server *server, struct connection *peer, enum patience patience)
{
    struct connection **last = &server->connections_end[patience];
    peer->patience = patience;
    peer->since_ns = era_clock_monotonic_ns();
    peer->prev = *last;
    if (*last != NULL)
        (*last)->next = peer;
    else
        server->connections[patience] = peer;
    *last = peer;
}

void peer_set(struct server *server, struct connection *peer, enum patience patience)
{
    if (peer == NULL)
        return;
    leave(server, peer);
    join(server, peer, patience);
}

/*
 * An end of input that came together with a request goes unnoticed by libmicrohttpd, which is told of changes only:
 * the connection would stand here until its time is up. Shutting down what is shut down already tells it again.
 */
void peer_answered(struct server *server, struct connection *peer)
{
    char next;
    if (peer != NULL && recv(peer->fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        (void)shutdown(peer->fd, SHUT_RD);
    peer_set(server, peer, IDLE);
}

void peer_notify(void *userdata, struct MHD_Connection *connection, void **slot,
                 enum MHD_ConnectionNotificationCode code)
{
    struct server *server = userdata;
    struct connection *peer = *slot;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (peer == NULL)
            return;
        leave(server, peer);
        server->metrics.connections--;
        free(peer);
        *slot = NULL;
        return;
    }
    peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    peer->fd = info != NULL ? info->connect_fd : -1;
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info != NULL && info->client_addr != NULL)
        address_format(info->client_addr, peer->client, sizeof peer->client);
    server->metrics.connections++;
    join(server, peer, IDLE);
    *slot = peer;
}

static void expire(struct server *server, enum patience patience, uint64_t seconds)
{
    int64_t limit_ns = era_clock_monotonic_ns() - (int64_t)seconds * 1000000000;
    struct connection *peer = NULL;
    while ((peer = server->connections[patience]) != NULL && peer->since_ns < limit_ns) {
        (void)shutdown(peer->fd, SHUT_RDWR); /* the daemon sees its end */
        peer_set(server, peer, PATIENT);
    }
}

void peers_expire(struct server *server)
{
    expire(server, IDLE, server->settings.idle_timeout);
    expire(server, SENDING, server->settings.request_timeout);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A connection goes through these states:
 *   HANDSHAKE  nobody else knows of it; it has some seconds
 *   OPEN       bytes move both ways between `client` and `plain`, our end of the pair
 *   CLOSING    the server has said all: our close_notify is on its way
 *   LINGER     it is out; what the client still sends is read away, lest a reset overtakes our last words
 * At most one record waits in each direction, and the side that it came from is read again only when it is gone: who
 * does not read holds the other one back, and fills nobody's memory. A client that has said all, by close_notify or by
 * the end of its stream, is still answered; one that is gone (a reset) takes its connection with it.
 */
#include "http/relay.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    RECORD = 16384,        /* bytes in the largest record: RFC 8446, section 5.1 */
    TURN_BYTES = 64 << 10, /* moved in one direction before others have their turn */
    TURN_STEPS = 64,       /* the same for records that carry little, or nothing */
    STUCK_SECONDS = 30,    /* in which a client takes nothing of the rest */
    LINGER_SECONDS = 5,
};

static int64_t in_seconds(int seconds)
{
    return era_clock_monotonic_ns() + seconds * INT64_C(1000000000);
}

void relay_drop(struct relay *relay)
{
    loop_forget(relay->loop, &relay->client);
    loop_forget(relay->loop, &relay->plain);
    era_closep(&relay->client.fd);
    era_closep(&relay->plain.fd);
    gnutls_deinit(relay->session);
    era_buffer_clear(&relay->in);
    era_buffer_clear(&relay->out);
    relay->ended(relay);
}

/*
 * recv() for GnuTLS, to whom an end without close_notify is an error, behind which it would not send either. HTTP knows
 * by itself what is whole; so GnuTLS does not hear of it.
 */
static ssize_t pull(gnutls_transport_ptr_t userdata, void *to, size_t size)
{
    struct relay *relay = userdata;
    ssize_t n = recv(relay->client.fd, to, size, 0);
    relay->over |= n == 0;
    if (n > 0)
        return n;
    gnutls_transport_set_errno(relay->session, n == 0 ? EAGAIN : errno);
    return -1;
}

static bool comes_later(ssize_t r)
{
    return r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED;
}

/* ---- moving: each returns 0, or an error that ends the connection -------------- */

static void plain_ready(struct source *source, uint32_t events);

static void linger(struct relay *relay)
{
    (void)shutdown(relay->client.fd, SHUT_WR);
    relay->state = LINGER;
    relay->deadline_ns = in_seconds(LINGER_SECONDS);
}

/* Whoever forgot the s of https is told so. A record of TLS begins with another byte. */
static bool speaks_plainly(struct relay *relay)
{
    static const char refusal[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        "{\"error\":\"Bad Request\",\"code\":\"tls_expected\",\"status\":400,"
        "\"message\":\"this server speaks TLS: call it by https\"}";
    char first = 0;
    if (relay->spoke || recv(relay->client.fd, &first, 1, MSG_PEEK) != 1)
        return false;
    relay->spoke = true;
    if (first < 'A' || first > 'Z')
        return false;
    (void)send(relay->client.fd, refusal, sizeof refusal - 1, MSG_NOSIGNAL);
    linger(relay);
    return true;
}

static int shake_hands(struct relay *relay)
{
    if (speaks_plainly(relay))
        return 0;
    int r = GNUTLS_E_WARNING_ALERT_RECEIVED;
    for (int i = 0; i < TURN_STEPS && r < 0 && !comes_later(r) && gnutls_error_is_fatal(r) == 0; i++)
        r = gnutls_handshake(relay->session);
    if (r < 0 && gnutls_error_is_fatal(r) == 0)
        return relay->over ? -EPIPE : 0;
    if (r < 0) {
        era_log(ERA_LOG_DEBUG, "no TLS with a client: %s", gnutls_strerror(r));
        (void)gnutls_alert_send_appropriate(relay->session, r);
        return r;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    relay->plain = (struct source){.fd = pair[0], .ready = plain_ready};
    relay->state = OPEN;
    relay->deadline_ns = 0;
    relay->agreed(relay, pair[1]);
    return 0;
}

/* Nobody reads the client any more: it has said all that it had to say, or it is not heard. */
static void stop_listening(struct relay *relay)
{
    relay->deaf = true;
    era_buffer_clear(&relay->in);
    (void)shutdown(relay->plain.fd, SHUT_WR);
}

/* Fetches one record of the client: its length, 0 at the end, or an error of GnuTLS. */
static ssize_t receive(struct relay *relay)
{
    uint8_t *room = era_buffer_reserve(&relay->in, RECORD);
    ssize_t n = room != NULL ? gnutls_record_recv(relay->session, room, RECORD) : GNUTLS_E_MEMORY_ERROR;
    if (n > 0)
        era_buffer_commit(&relay->in, (size_t)n);
    else
        era_buffer_clear(&relay->in);
    return n;
}

static int from_client(struct relay *relay)
{
    size_t taken = 0;
    for (int i = 0; i < TURN_STEPS && !relay->deaf; i++) {
        int r = era_buffer_flush(&relay->in, relay->plain.fd);
        if (r == -EAGAIN || taken >= TURN_BYTES)
            return 0;
        ssize_t n = r == 0 ? receive(relay) : 0;
        if (comes_later(n) && !relay->over)
            return 0;
        if (n == 0 || comes_later(n))
            stop_listening(relay);
        else if (n > 0)
            taken += (size_t)n;
        else if (gnutls_error_is_fatal((int)n) != 0 || n == GNUTLS_E_REHANDSHAKE)
            return (int)n; /* it is not for clients to ask for a new handshake */
    }
    return 0;
}

static int to_client(struct relay *relay)
{
    for (size_t sent = 0; sent < TURN_BYTES;) {
        ssize_t n = 1;
        if (era_buffer_len(&relay->out) == 0)
            n = era_buffer_fill(&relay->out, relay->plain.fd, RECORD);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0) { /* a reset says no more than that the server did not read all that was there for it */
            relay->state = CLOSING;
            relay->deadline_ns = in_seconds(STUCK_SECONDS);
            return 0;
        }
        n = gnutls_record_send(relay->session, era_buffer_data(&relay->out), era_buffer_len(&relay->out));
        if (n < 0)
            return comes_later(n) ? 0 : (int)n;
        era_buffer_consume(&relay->out, (size_t)n);
        sent += (size_t)n;
    }
    return 0;
}

static int say_goodbye(struct relay *relay)
{
    int r = gnutls_bye(relay->session, GNUTLS_SHUT_WR);
    if (r < 0)
        return comes_later(r) ? 0 : r;
    loop_forget(relay->loop, &relay->plain);
    era_closep(&relay->plain.fd);
    linger(relay);
    return 0;
}

static int read_away(struct relay *relay)
{
    char rubbish[4096];
    ssize_t n = 1;
    for (size_t taken = 0; n > 0 && taken < TURN_BYTES; taken += (size_t)n)
        n = recv(relay->client.fd, rubbish, sizeof rubbish, 0);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)) ? 0 : -EPIPE;
}

/* ---- waiting ------------------------------------------------------------------- */

/*
 * An end of the pair that the server has closed says so for as long as it is asked, whatever is waited for. While the
 * client must take what is here first, it is asked for news only.
 */
static void wait_for_it(struct relay *relay)
{
    bool in = era_buffer_len(&relay->in) > 0;
    bool out = era_buffer_len(&relay->out) > 0;
    uint32_t client = EPOLLIN;
    if (relay->state == OPEN) {
        client = (relay->deaf || in ? 0 : EPOLLIN) | (out ? EPOLLOUT : 0);
        (void)loop_watch(relay->loop, &relay->plain,
                         (out ? (uint32_t)EPOLLET | EPOLLRDHUP : EPOLLIN) | (in ? EPOLLOUT : 0));
    } else if (relay->state == CLOSING) {
        client = EPOLLOUT;
        loop_forget(relay->loop, &relay->plain);
    } else if (relay->state == HANDSHAKE && gnutls_record_get_direction(relay->session) == 1) {
        client = EPOLLOUT;
    }
    (void)loop_watch(relay->loop, &relay->client, client);
}

/* Moves what can be moved. The connection may be gone then. */
static void move(struct relay *relay)
{
    int r = 0;
    if (relay->state == HANDSHAKE)
        r = shake_hands(relay);
    if (r >= 0 && relay->state == OPEN)
        r = from_client(relay);
    if (r >= 0 && relay->state == OPEN)
        r = to_client(relay);
    if (r >= 0 && relay->state == CLOSING)
        r = say_goodbye(relay);
    if (r >= 0 && relay->state == LINGER)
        r = read_away(relay);
    if (r < 0)
        relay_drop(relay);
    else
        wait_for_it(relay);
}

static void plain_ready(struct source *source, uint32_t events)
{
    struct relay *relay = (struct relay *)(void *)((char *)source - offsetof(struct relay, plain));
    if ((events & EPOLLRDHUP) != 0 && relay->deadline_ns == 0)
        relay->deadline_ns = in_seconds(STUCK_SECONDS); /* the server is done, the client is not */
    move(relay);
}

static void client_ready(struct source *source, uint32_t events)
{
    struct relay *relay = (struct relay *)(void *)((char *)source - offsetof(struct relay, client));
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
        relay_drop(relay);
        return;
    }
    move(relay);
}

void relay_begin(struct relay *relay)
{
    gnutls_transport_set_ptr2(relay->session, relay, (gnutls_transport_ptr_t)(intptr_t)relay->client.fd);
    gnutls_transport_set_pull_function(relay->session, pull);
    relay->client.ready = client_ready;
    relay->state = HANDSHAKE;
    wait_for_it(relay);
}

/* A client that reads slowly takes from the kernel what we gave to it before: that is not to be stuck. */
void relay_expire(struct relay *relay, int64_t now_ns)
{
    int unsent = 0;
    if (relay->deadline_ns == 0)
        return;
    if ((relay->state == OPEN || relay->state == CLOSING) && ioctl(relay->client.fd, SIOCOUTQ, &unsent) == 0 &&
        unsent != relay->unsent) {
        relay->unsent = unsent;
        relay->deadline_ns = in_seconds(STUCK_SECONDS);
    }
    if (relay->deadline_ns < now_ns)
        relay_drop(relay);
}

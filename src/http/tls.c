/* SPDX-License-Identifier: Apache-2.0 */
#include "http/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "http/relay.h"

enum {
    PEM_MAX = 1 << 20,
    TURN_CLIENTS = 16, /* accepted at once: each costs a signature */
    HANDSHAKE_SECONDS = 10,
};

/* Older versions are not spoken: RFC 8996. */
static const char versions[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";

/* A chain with its key. Sessions refer to the one that they began with, when another has come. */
struct certificate {
    gnutls_certificate_credentials_t credentials; /* owned */
    uint64_t users;
};

struct tls {
    struct loop *loop;     /* borrowed */
    struct source listens; /* owned */
    tls_take *take;
    void *userdata;
    struct certificate *certificate;    /* one reference */
    gnutls_priority_t priority;         /* owned */
    struct tls_connection *connections; /* newest first */
    uint64_t count;
    uint64_t max;
    int64_t handshake_ns;
};

struct tls_connection {
    struct relay relay; /* first */
    struct tls *tls;
    struct certificate *certificate; /* one reference */
    struct tls_connection *next;
    struct tls_connection *prev;
    struct sockaddr_storage address;
    socklen_t address_len;
};

/* ---- the certificate -------------------------------------------------------------- */

static int read_pem(const char *path, char **ret_text, gnutls_datum_t *ret_datum, struct era_error *err)
{
    size_t len = 0;
    int r = era_read_file_at(AT_FDCWD, path, PEM_MAX, ret_text, &len);
    if (r < 0)
        return era_error_set(err, -r, "tls_unusable", "cannot read %s: %s", path, strerror(-r));
    *ret_datum = (gnutls_datum_t){(unsigned char *)*ret_text, (unsigned)len};
    return 0;
}

static void certificate_unref(struct certificate *certificate)
{
    if (certificate == NULL || --certificate->users > 0)
        return;
    gnutls_certificate_free_credentials(certificate->credentials);
    free(certificate);
}

static int certificate_load(const struct settings *settings, struct certificate **ret_certificate,
                            struct era_error *err)
{
    _cleanup_free_ char *chain_text = NULL;
    _cleanup_free_ char *key_text = NULL;
    gnutls_datum_t chain = {0};
    gnutls_datum_t key = {0};
    int r = read_pem(settings->tls_cert, &chain_text, &chain, err);
    if (r < 0 || (r = read_pem(settings->tls_key, &key_text, &key, err)) < 0)
        return r;
    struct certificate *certificate = calloc(1, sizeof *certificate);
    if (certificate == NULL || gnutls_certificate_allocate_credentials(&certificate->credentials) < 0) {
        free(certificate);
        return era_error_oom(err);
    }
    certificate->users = 1;
    r = gnutls_certificate_set_x509_key_mem(certificate->credentials, &chain, &key, GNUTLS_X509_FMT_PEM);
    if (key_text != NULL)
        explicit_bzero(key_text, key.size);
    if (r < 0) {
        certificate_unref(certificate);
        return era_error_set(err, EINVAL, "tls_unusable", "cannot use %s with %s: %s", settings->tls_cert,
                             settings->tls_key, gnutls_strerror(r));
    }
    *ret_certificate = certificate;
    return 0;
}

/* ---- connections --------------------------------------------------------------- */

/* Not while there are too many: the others wait at the door. */
static void listen_again(struct tls *tls)
{
    if (tls->listens.fd >= 0 && tls->count < tls->max)
        (void)loop_watch(tls->loop, &tls->listens, EPOLLIN);
}

static void agreed(struct relay *relay, int plain_fd)
{
    struct tls_connection *connection = (struct tls_connection *)relay;
    struct tls *tls = connection->tls;
    tls->take(tls->userdata, plain_fd, (struct sockaddr *)&connection->address, connection->address_len);
}

static void ended(struct relay *relay)
{
    struct tls_connection *connection = (struct tls_connection *)relay;
    struct tls *tls = connection->tls;
    if (connection->prev != NULL)
        connection->prev->next = connection->next;
    else
        tls->connections = connection->next;
    if (connection->next != NULL)
        connection->next->prev = connection->prev;
    tls->count--;
    certificate_unref(connection->certificate);
    free(connection);
    listen_again(tls);
}

static int make_session(struct tls *tls, gnutls_session_t *ret_session)
{
    static unsigned char name[] = "http/1.1";
    static const gnutls_datum_t protocol = {name, sizeof name - 1};
    gnutls_session_t session = NULL;
    int r = gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (r >= 0)
        r = gnutls_priority_set(session, tls->priority);
    if (r >= 0)
        r = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->certificate->credentials);
    if (r >= 0)
        r = gnutls_alpn_set_protocols(session, &protocol, 1, 0);
    if (r >= 0)
        *ret_session = session;
    else if (session != NULL)
        gnutls_deinit(session);
    return r;
}

static void add(struct tls *tls, int fd, const struct sockaddr_storage *address, socklen_t len)
{
    int one = 1;
    gnutls_session_t session = NULL;
    struct tls_connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL || make_session(tls, &session) < 0) {
        free(connection);
        close(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *connection = (struct tls_connection){.relay = {.loop = tls->loop,
                                                    .client.fd = fd,
                                                    .plain.fd = -EBADF,
                                                    .session = session,
                                                    .agreed = agreed,
                                                    .ended = ended,
                                                    .deadline_ns = era_clock_monotonic_ns() + tls->handshake_ns},
                                          .tls = tls,
                                          .certificate = tls->certificate,
                                          .next = tls->connections,
                                          .address = *address,
                                          .address_len = len};
    if (tls->connections != NULL)
        tls->connections->prev = connection;
    tls->connections = connection;
    tls->certificate->users++;
    tls->count++;
    relay_begin(&connection->relay);
}

static void accept_some(struct source *source, uint32_t events)
{
    struct tls *tls = (struct tls *)(void *)((char *)source - offsetof(struct tls, listens));
    (void)events;
    for (int i = 0; i < TURN_CLIENTS && tls->count < tls->max; i++) {
        struct sockaddr_storage address = {0};
        socklen_t len = sizeof address;
        int fd = accept4(source->fd, (struct sockaddr *)&address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            add(tls, fd, &address, len);
        else if (errno == EAGAIN)
            return;
        else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            loop_forget(tls->loop, source); /* until somebody leaves, or the next look at the clock */
    }
    if (tls->count >= tls->max)
        loop_forget(tls->loop, source);
}

/* ---- the whole --------------------------------------------------------------------- */

int tls_open(struct loop *loop, const struct settings *settings, int listen_fd, tls_take *take, void *userdata,
             struct tls **ret_tls, struct era_error *err)
{
    struct tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return era_error_oom(err);
    uint64_t seconds = settings->idle_timeout < HANDSHAKE_SECONDS ? settings->idle_timeout : HANDSHAKE_SECONDS;
    *tls = (struct tls){.loop = loop,
                        .listens = {.fd = -EBADF},
                        .take = take,
                        .userdata = userdata,
                        .max = settings->max_connections,
                        .handshake_ns = (int64_t)seconds * 1000000000};
    int r = certificate_load(settings, &tls->certificate, err);
    if (r >= 0 && gnutls_priority_init(&tls->priority, versions, NULL) < 0)
        r = era_error_oom(err);
    if (r >= 0) {
        tls->listens = (struct source){.fd = listen_fd, .ready = accept_some};
        r = loop_watch(loop, &tls->listens, EPOLLIN);
        if (r < 0)
            r = era_error_errno(err, -r, "cannot wait for clients");
    }
    if (r < 0) {
        tls->listens.fd = -EBADF; /* it stays the caller's */
        tls_close(tls);
        return r;
    }
    *ret_tls = tls;
    return 0;
}

int tls_reload(struct tls *tls, const struct settings *settings, struct era_error *err)
{
    struct certificate *certificate = NULL;
    int r = certificate_load(settings, &certificate, err);
    if (r < 0)
        return r;
    certificate_unref(tls->certificate);
    tls->certificate = certificate;
    return 0;
}

void tls_quiesce(struct tls *tls)
{
    loop_forget(tls->loop, &tls->listens);
    era_closep(&tls->listens.fd);
}

void tls_expire(struct tls *tls)
{
    int64_t now_ns = era_clock_monotonic_ns();
    for (struct tls_connection *connection = tls->connections, *next; connection != NULL; connection = next) {
        next = connection->next;
        relay_expire(&connection->relay, now_ns);
    }
    listen_again(tls);
}

bool tls_is_busy(const struct tls *tls)
{
    for (const struct tls_connection *connection = tls->connections; connection != NULL; connection = connection->next)
        if (connection->relay.state == OPEN || connection->relay.state == CLOSING)
            return true;
    return false;
}

void tls_close(struct tls *tls)
{
    if (tls == NULL)
        return;
    tls_quiesce(tls);
    while (tls->connections != NULL)
        relay_drop(&tls->connections->relay);
    certificate_unref(tls->certificate);
    if (tls->priority != NULL)
        gnutls_priority_deinit(tls->priority);
    free(tls);
}

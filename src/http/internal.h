/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - inside the server.
 *
 * Theory of operation. One thread has the loop (loop.h): libmicrohttpd in its external epoll mode, runs in flight,
 * terminals, signals. What would block it, calls of libera for the most part, goes to the pool (pool.h) while the
 * connection is suspended; the answer is made there and sent when the loop comes by again. A run is begun by the
 * pool, then parted from its handle (era_run_detach) and looked after by the loop: while it is in flight it costs a
 * descriptor and some memory, and no thread.
 *
 * A request goes through these states:
 *   headers  guard.c lets it in or answers; a route with `streams` may open something first
 *   body     collected, up to a limit; or handed on as it comes
 *   work     its handler was called, and suspends it until there is an answer
 *   answer   libmicrohttpd has it; a stream is pulled from its reader
 * It is freed by the completion callback, which libmicrohttpd never calls for a connection that is suspended: so a
 * request outlives its jobs. While a job works on a request, nobody else touches it.
 *
 * Handlers translate and nothing else: what a VM is, libera says.
 */
#ifndef ERA_HTTP_INTERNAL_H
#define ERA_HTTP_INTERNAL_H

#include <microhttpd.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/str.h"
#include "http/loop.h"
#include "http/metrics.h"
#include "http/pool.h"
#include "http/settings.h"
#include "http/target.h"

struct request;

/* ---- routes.c: the one table -------------------------------------------- */

enum body_kind { BODY_NONE, BODY_JSON, BODY_BYTES };

struct route {
    const char *name; /* for programs that are made from the description */
    const char *method;
    const char *pattern;
    void (*handle)(struct request *request);
    bool open;           /* needs no key */
    enum body_kind body; /* of the request; BODY_BYTES is not collected */
    const char *query;   /* parameters that it knows: "status limit" */
    const char *summary; /* for the description */
    const char *asks;    /* name of the schema of its body, or NULL */
    const char *answers; /* the same of its success, or NULL when it is not JSON */
    const char *type;    /* media type of the success when it is not JSON */
    unsigned success;    /* its status */
    const char *errors;  /* statuses besides those that every route may give: "404 409" */
};

extern const struct route routes[]; /* ends with an empty one */
enum { ROUTES_MAX = 24 };
size_t route_index(const struct route *route);

/* ---- server.c ----------------------------------------------------------- */

struct keys {
    char **items; /* owned */
    size_t count;
};

struct server {
    struct settings settings;
    struct loop loop;
    struct pool *pool;
    struct MHD_Daemon *daemon;
    struct keys keys;
    struct metrics metrics;
    int listen_fd; /* owned by the daemon */
    bool on_loopback;
    bool draining;
    unsigned requests;                 /* that were let in and are not answered */
    unsigned runs;                     /* in flight */
    uint64_t body_bytes;               /* of all bodies that are kept */
    struct connection *connections[3]; /* oldest change first: see peers.c */
    struct connection *connections_end[3];
    struct request *live; /* requests with something that a shut-down must end */
};

/* ---- request.c: the life of a request ----------------------------------- */

/* What a handler keeps beside the request; freed with it. */
struct work {
    void (*free)(struct work *work);
    void (*cut)(struct request *request);  /* the server ends, or the client is gone: end what runs; may be NULL */
    void (*tick)(struct request *request); /* once a second while it is live; may be NULL */
};

struct request {
    struct server *server;
    struct MHD_Connection *connection; /* borrowed */
    struct connection *peer;           /* borrowed: of the connection */
    char *target;                      /* owned: as it came, with its query */
    const char *method;                /* borrowed from the connection */
    const char *version;               /* the same */
    const struct route *route;
    struct params params;
    int64_t began_ns;
    enum { AT_HEADERS, AT_BODY, AT_WORK, AT_ANSWER } state;
    bool suspended;
    bool overlong; /* the body is more than is taken */
    bool again;    /* it was suspended at its headers, and is called with them once more */
    bool crowded;  /* the bodies of all are more than is taken */
    bool counted;
    bool close;
    struct era_buffer body;
    uint64_t body_bytes;
    /* Of BODY_BYTES: takes what comes and subtracts it from *size; at the end it is called with 0 bytes. */
    enum MHD_Result (*on_body)(struct request *request, const char *data, size_t *size);
    struct job job;
    void (*then)(struct request *request); /* in the loop, when the job is done; NULL: answer */
    struct MHD_Response *response;         /* owned: the answer, when there is one */
    unsigned status;
    uint64_t sent_bytes;
    double create_seconds; /* that a creation took */
    struct work *work;     /* owned */
    struct source socket;  /* watched for a client that goes away: request_watch_client() */
    struct request *next_live;
    bool live;
};

/* Suspends it and has work(request, era) done by the pool; then, in the loop, `then`, or the answer. */
void request_submit(struct request *request, enum pool_kind kind, void (*work)(struct job *job, struct era *era),
                    void (*then)(struct request *request));
struct request *request_of(struct job *job);
void request_suspend(struct request *request);
void request_resume(struct request *request);
/* Calls work->cut when the client hangs up while the request is suspended. */
void request_watch_client(struct request *request, bool watch);
/* For shut-down: has work->cut called then. */
void request_set_live(struct request *request, bool live);
const char *request_header(const struct request *request, const char *name);

/* The callbacks that the daemon gets. */
void *request_begin(void *server, const char *uri, struct MHD_Connection *connection);
enum MHD_Result request_step(void *server, struct MHD_Connection *connection, const char *url, const char *method,
                             const char *version, const char *data, size_t *size, void **request);
void request_end(void *server, struct MHD_Connection *connection, void **request, enum MHD_RequestTerminationCode why);

/* ---- peers.c: connections, and how long they may take --------------------- */

enum patience { PATIENT, IDLE, SENDING }; /* no limit; until the next headers; until (more of) the body */

struct connection {
    struct connection *next;
    struct connection *prev;
    int fd; /* borrowed */
    enum patience patience;
    int64_t since_ns;
    struct request *request; /* borrowed, NULL between requests */
    char client[64];
};

void peer_notify(void *server, struct MHD_Connection *connection, void **peer,
                 enum MHD_ConnectionNotificationCode code);
void peer_set(struct server *server, struct connection *peer, enum patience patience);
/* A request was answered: the next one is awaited, if there can be one. */
void peer_answered(struct server *server, struct connection *peer);
/* Ends those whose time is up; called once a second. */
void peers_expire(struct server *server);

/* ---- guard.c: who is let in ----------------------------------------------- */

/* Answers what may not come in. True when it may, and then route and params are set. */
bool guard_admit(struct request *request);
/* Adds the headers that the answer to an origin needs. */
void guard_mark(struct request *request);
int keys_load(const char *variable, const char *file, struct keys *ret_keys, struct era_error *err);
void keys_clear(struct keys *keys);
/* Takes as long for a wrong key as for a right one. */
bool keys_accept(const struct keys *keys, const char *key);

/* ---- reply.c: answers ----------------------------------------------------- */

/* Each sets the answer, which replaces one that was set before. Usable in jobs. */
void reply_json(struct request *request, unsigned status, json_t *body); /* takes the reference; NULL: no memory */
void reply_text(struct request *request, unsigned status, const char *type, char *text); /* takes the memory */
void reply_response(struct request *request, unsigned status, struct MHD_Response *response, const char *type);
void reply_error(struct request *request, const struct era_error *err);
void reply_refusal(struct request *request, unsigned status, const char *code, const char *details, const char *format,
                   ...) ERA_PRINTF(5, 6);
unsigned status_of_code(const char *code);
const char *status_phrase(unsigned status);
void reply_header(struct request *request, const char *name, const char *value);

/* ---- fields.c: bodies, translated ------------------------------------------ */

enum { ERA_HTTP_NAME_MAX = 256 };

/* What is asked for; members may be NULL. */
struct ask {
    struct era_vm_spec *vm;
    struct era_run_spec *run;
    char *input; /* stdin */
    size_t input_len;
    char name[ERA_HTTP_NAME_MAX]; /* of a snapshot */
    uint32_t count;               /* of forks */
};

enum { ASK_VM = 1, ASK_RUN = 2, ASK_SNAPSHOT = 4, ASK_FORK = 8 };

/* Reads the body; what is wrong with it is answered, every wrong field by name: -EINVAL. */
int ask_read(struct request *request, unsigned what, struct ask *ret_ask);
int ask_parse(const char *text, size_t len, unsigned what, struct ask *ret_ask, char **ret_fields, char **ret_details);
void ask_clear(struct ask *ask);
/* JSON schema of the properties: for the description. */
json_t *ask_schema(unsigned what);

/* ---- result.c --------------------------------------------------------------- */

/* The answer to a run that ended, its output read from its logs while it is sent. Opens them; call it in a job. */
void result_reply(struct request *request, struct era *era, const char *vm_id, const struct era_result *result);
/* The result without output, as JSON text. */
json_t *result_json(const struct era_result *result);

/* ---- base64.c ----------------------------------------------------------------- */

static inline size_t base64_length(size_t len)
{
    return (len + 2) / 3 * 4;
}
/* Writes base64_length(len) characters, no NUL. */
void base64_encode(const void *data, size_t len, char *to);
/* Strict: with padding, without spaces. to has room for len / 4 * 3 bytes. The count, or -EINVAL. */
ssize_t base64_decode(const char *text, size_t len, void *to);

/* ---- the handlers --------------------------------------------------------------- */

void handle_health(struct request *request);
void handle_vm_create(struct request *request);
void handle_vm_get(struct request *request);
void handle_vm_list(struct request *request);
void handle_vm_stop(struct request *request);
void handle_vm_delete(struct request *request);
void handle_vm_pause(struct request *request);
void handle_vm_resume(struct request *request);
void handle_vm_snapshot(struct request *request);
void handle_vm_fork(struct request *request);
void handle_run(struct request *request);
void handle_temp(struct request *request);
void handle_file_get(struct request *request);
void handle_file_put(struct request *request);
void handle_file_delete(struct request *request);
void handle_shell(struct request *request);
void handle_metrics(struct request *request);
void handle_openapi(struct request *request);

json_t *vm_json(const struct era_vm *vm);
json_t *time_json(int64_t realtime_ns);

#endif

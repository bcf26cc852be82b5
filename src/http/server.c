/* SPDX-License-Identifier: Apache-2.0 */
/* The server as a whole: start, loop, shut-down. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/http.h"
#include "http/internal.h"
#include "http/listen.h"
#include "http/systemd.h"
#include "http/tls.h"

enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    SPARE_FDS = 256,
    FDS_PER_RUN = 4,
    FDS_WITH_TLS = 3, /* of a connection: its socket, and a pair */
    LAST_SECONDS = 2
};

struct program {
    struct server server;
    struct source signals;
    struct source clock; /* once a second */
    struct source daemon;
    struct tls *tls;           /* NULL: without */
    int64_t drain_deadline_ns; /* 0: not asked to end */
};

/* ---- signals, time ---------------------------------------------------------- */

static void reread_keys(struct server *server)
{
    struct keys keys = {0};
    struct era_error err = {0};
    if (keys_load(getenv("AGENT_API_KEY"), server->settings.api_key_file, &keys, &err) < 0) {
        era_log_error(&err); /* the old ones go on */
        return;
    }
    if (keys.count == 0 && server->keys.count > 0) {
        era_log(ERA_LOG_ERROR, "there are no keys any more; the old ones go on");
        return;
    }
    keys_clear(&server->keys);
    server->keys = keys;
    era_log(ERA_LOG_INFO, "the keys were read again");
}

static void reread_certificate(struct program *program)
{
    struct era_error err = {0};
    if (program->tls == NULL)
        return;
    if (tls_reload(program->tls, &program->server.settings, &err) < 0)
        era_log_error(&err); /* the old one goes on */
    else
        era_log(ERA_LOG_INFO, "the certificate was read again");
}

static void begin_to_drain(struct program *program)
{
    struct server *server = &program->server;
    if (server->draining)
        return;
    server->draining = true;
    program->drain_deadline_ns = era_clock_monotonic_ns() + (int64_t)server->settings.grace * 1000000000;
    systemd_notify("STOPPING=1");
    era_log(ERA_LOG_INFO, "shutting down: %u requests are in flight", server->requests);
    int fd = -1;
    if (program->tls != NULL)
        tls_quiesce(program->tls);
    else
        fd = MHD_quiesce_daemon(server->daemon);
    if (fd >= 0)
        close(fd);
}

static void take_signal(struct source *source, uint32_t events)
{
    (void)events;
    struct program *program = (struct program *)(void *)((char *)source - offsetof(struct program, signals));
    struct signalfd_siginfo info;
    while (read(source->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            reread_keys(&program->server);
            reread_certificate(program);
        } else {
            begin_to_drain(program);
        }
    }
}

static void tick(struct source *source, uint32_t events)
{
    (void)events;
    struct program *program = (struct program *)(void *)((char *)source - offsetof(struct program, clock));
    uint64_t times;
    (void)read(source->fd, &times, sizeof times);
    peers_expire(&program->server);
    if (program->tls != NULL)
        tls_expire(program->tls);
    for (struct request *request = program->server.live, *next; request != NULL; request = next) {
        next = request->next_live; /* it may leave the list */
        if (request->work != NULL && request->work->tick != NULL)
            request->work->tick(request);
    }
}

static void run_daemon(struct source *source, uint32_t events)
{
    (void)source;
    (void)events; /* after each turn of the loop the daemon has its turn */
}

/* ---- start ------------------------------------------------------------------------ */

static int set_up_log(const struct settings *settings, struct era_error *err)
{
    enum era_log_level level = ERA_LOG_INFO;
    if (settings->log_level != NULL && era_log_parse_level(settings->log_level, &level) < 0)
        return era_error_set(err, EINVAL, "usage", "unknown log level; it is debug, info, warn or error");
    era_log_set_level(level);
    if (settings->log_file == NULL)
        return 0;
    int fd = open(settings->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return era_error_set(err, errno, "log_file_unusable", "cannot open the log file %s: %s", settings->log_file,
                             strerror(errno));
    era_log_set_mirror(fd);
    return 0;
}

/* Room for connections and runs; fewer connections where the system grants fewer descriptors. */
static void raise_limits(struct settings *settings)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    uint64_t spare = SPARE_FDS + FDS_PER_RUN * settings->max_runs;
    uint64_t room = limit.rlim_cur > 2 * spare ? limit.rlim_cur - spare : limit.rlim_cur / 2;
    if (settings->tls_cert != NULL)
        room /= FDS_WITH_TLS;
    if (settings->max_connections > room) {
        era_log(ERA_LOG_WARN, "the system grants %llu descriptors: at most %llu connections",
                (unsigned long long)limit.rlim_cur, (unsigned long long)room);
        settings->max_connections = room;
    }
}

static void log_daemon(void *userdata, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void log_daemon(void *userdata, const char *format, va_list args)
{
    (void)userdata;
    char text[512];
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0';
    era_log(ERA_LOG_DEBUG, "libmicrohttpd: %s", text);
}

/* Escapes are left as they are: see target.h. */
static size_t keep_escapes(void *userdata, struct MHD_Connection *connection, char *text)
{
    (void)userdata;
    (void)connection;
    return strlen(text);
}

/* A client with whom TLS was agreed on: the daemon has its other side. */
static void take_plain(void *userdata, int fd, const struct sockaddr *address, socklen_t len)
{
    struct server *server = userdata;
    (void)MHD_add_connection(server->daemon, fd, address, len); /* closes it when there are too many */
}

/* Takes listen_fd when it succeeds. */
static int start_daemon(struct program *program, int listen_fd, struct era_error *err)
{
    struct server *server = &program->server;
    const struct settings *settings = &server->settings;
    bool tls = settings->tls_cert != NULL;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem listens[] = {{MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL}, {MHD_OPTION_END, 0, NULL}};
    server->daemon = MHD_start_daemon(
        flags | (tls ? MHD_USE_NO_LISTEN_SOCKET : 0), 0, NULL, NULL, request_step, server, MHD_OPTION_EXTERNAL_LOGGER,
        log_daemon, NULL, MHD_OPTION_ARRAY, tls ? listens + 1 : listens, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)settings->max_connections, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)settings->idle_timeout,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)settings->max_header << 10, MHD_OPTION_URI_LOG_CALLBACK,
        request_begin, server, MHD_OPTION_NOTIFY_COMPLETED, request_end, server, MHD_OPTION_NOTIFY_CONNECTION,
        peer_notify, server, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
        MHD_OPTION_END);
    if (server->daemon == NULL)
        return era_error_set(err, EINVAL, "system_error", "the HTTP library cannot start");
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    program->daemon = (struct source){.fd = info->epoll_fd, .ready = run_daemon};
    int r = loop_watch(&server->loop, &program->daemon, EPOLLIN);
    if (r < 0)
        return era_error_errno(err, -r, "cannot watch the HTTP library");
    return tls ? tls_open(&server->loop, settings, listen_fd, take_plain, server, &program->tls, err) : 0;
}

static int watch_signals_and_time(struct program *program, struct era_error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before threads are started, which inherit it */
    program->signals = (struct source){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = take_signal};
    program->clock = (struct source){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .ready = tick};
    const struct itimerspec every = {.it_interval = {.tv_sec = 1}, .it_value = {.tv_sec = 1}};
    if (program->signals.fd < 0 || program->clock.fd < 0 || timerfd_settime(program->clock.fd, 0, &every, NULL) < 0 ||
        loop_watch(&program->server.loop, &program->signals, EPOLLIN) < 0 ||
        loop_watch(&program->server.loop, &program->clock, EPOLLIN) < 0)
        return era_error_errno(err, errno, "cannot wait for signals");
    return 0;
}

static int start(struct program *program, struct era_error *err)
{
    struct server *server = &program->server;
    struct settings *settings = &server->settings;
    char address[128] = "";
    int listen_fd = -EBADF;
    int r = keys_load(getenv("AGENT_API_KEY"), settings->api_key_file, &server->keys, err);
    if (r >= 0)
        r = listen_open(settings, server->keys.count > 0, &listen_fd, &server->on_loopback, address, sizeof address,
                        err);
    if (r >= 0 && loop_open(&server->loop) < 0)
        r = era_error_errno(err, errno, "cannot wait for events");
    if (r >= 0)
        r = watch_signals_and_time(program, err);
    raise_limits(settings);
    if (r >= 0)
        r = pool_open(&server->loop, settings->state_dir, (unsigned)settings->workers, &server->pool, err);
    if (r >= 0)
        r = start_daemon(program, listen_fd, err);
    if (r < 0) {
        if (server->daemon == NULL || settings->tls_cert != NULL)
            era_closep(&listen_fd);
        return r;
    }
    systemd_notify("READY=1");
    char fields[192];
    (void)era_str_format(fields, sizeof fields, "\"address\":\"%s\",\"tls\":%s", address,
                         settings->tls_cert != NULL ? "true" : "false");
    era_log_fields(ERA_LOG_INFO, "listening", fields);
    return 0;
}

/* ---- loop, end ------------------------------------------------------------------------ */

/* What runs when the time of grace is over is ended: each in its own way. */
static void cut_all(struct server *server)
{
    pool_cancel(server->pool);
    for (struct request *request = server->live, *next; request != NULL; request = next) {
        next = request->next_live; /* it may leave the list */
        if (request->work != NULL && request->work->cut != NULL)
            request->work->cut(request);
    }
}

/* Requests end with their answers; connections that are idle end with the daemon. */
static bool is_over(struct program *program)
{
    struct server *server = &program->server;
    if (!server->draining)
        return false;
    int64_t late_ns = era_clock_monotonic_ns() - program->drain_deadline_ns;
    if (server->requests > 0 && late_ns > 0)
        cut_all(server);
    if (server->requests > 0 && late_ns > LAST_SECONDS * INT64_C(1000000000)) {
        /* A client that does not read. Whatever is half done, the next look mends. */
        era_log(ERA_LOG_WARN, "stopped; %u requests were left without an answer", server->requests);
        _exit(EXIT_OK);
    }
    return server->requests == 0;
}

static int serve(struct program *program, struct era_error *err)
{
    struct server *server = &program->server;
    int r = 0;
    while (r >= 0 && !is_over(program)) {
        MHD_UNSIGNED_LONG_LONG wait_ms = 1000;
        (void)MHD_run(server->daemon);
        if (MHD_get_timeout(server->daemon, &wait_ms) != MHD_YES || wait_ms > 1000)
            wait_ms = 1000;
        r = loop_turn(&server->loop, (int)wait_ms);
    }
    return r < 0 ? era_error_errno(err, -r, "cannot wait for events") : 0;
}

/* Answers that were given may not have been encrypted yet: libmicrohttpd has closed its side, and theirs follows. */
static void say_the_last_words(struct program *program)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + LAST_SECONDS * INT64_C(1000000000);
    while (tls_is_busy(program->tls) && era_clock_monotonic_ns() < deadline_ns)
        if (loop_turn(&program->server.loop, 100) < 0)
            break;
    tls_close(program->tls);
}

static void stop(struct program *program)
{
    struct server *server = &program->server;
    if (server->daemon != NULL) {
        loop_forget(&server->loop, &program->daemon);
        MHD_stop_daemon(server->daemon);
    }
    if (program->tls != NULL)
        say_the_last_words(program);
    pool_close(server->pool);
    loop_close(&server->loop);
    keys_clear(&server->keys);
    era_closep(&program->signals.fd);
    era_closep(&program->clock.fd);
}

int http_main(int argc, char **argv)
{
    static struct program program = {.signals.fd = -EBADF, .clock.fd = -EBADF, .server.loop.epoll_fd = -EBADF};
    struct era_error err = {0};
    (void)mallopt(M_ARENA_MAX, 2); /* threads that work now and then need no heap of their own */
    int r = settings_parse(argc, argv, &program.server.settings, &err);
    if (r >= 0)
        r = set_up_log(&program.server.settings, &err);
    if (r >= 0)
        r = start(&program, &err);
    if (r >= 0)
        r = serve(&program, &err);
    stop(&program);
    if (r < 0) {
        era_log_error(&err);
        return era_str_eq(err.code, "usage") ? EXIT_USAGE : EXIT_FAILED;
    }
    era_log(ERA_LOG_INFO, "stopped");
    return EXIT_OK;
}

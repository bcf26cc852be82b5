/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load - many clients of an HTTP server in one thread, on 127.0.0.1.
 *
 * Usage: load rate PORT CLIENTS COUNT < REQUESTS
 *        load crowd PORT IDLE BUSY < REQUESTS
 *
 * REQUESTS: a line each, "METHOD TAB PATH" or "METHOD TAB PATH TAB JSON"; they are sent in turn.
 *
 * rate: CLIENTS keep-alive connections that send the next request when they have the answer to the last, until COUNT
 * are sent. Prints {"seconds": …, "failed": …, "us": [the time of each]}.
 *
 * crowd: IDLE keep-alive connections, each of which was answered once; beside them BUSY connections with one request
 * each, all at the same time. Prints "crowded" when all are sent, and, when all are answered and each of the idle
 * connections was used once more, {"idle": …, "idle_answered": …, "busy_answered": …, "seconds": …}.
 *
 * What is not answered by 200 was not answered. Answers have a Content-Length.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    REQUESTS_MAX = 4096,
    COUNT_MAX = 1000000,
    CONNECTING_MAX = 256, /* at a time: so that the queue of the server is not what is measured */
    HEAD_MAX = 2048,
    BATCH = 256,
    SILENCE_MS = 120000, /* nothing at all came for so long: the rest will not */
};

struct request {
    char *text; /* as it is sent */
    size_t len;
};

struct client {
    int fd;                        /* -1: not open */
    const struct request *request; /* NULL: none is under way */
    size_t sent;
    uint64_t began_us;
    char head[HEAD_MAX]; /* of the answer */
    size_t head_len;
    bool in_body;
    uint64_t body_left;
    unsigned status;
};

static struct request requests[REQUESTS_MAX];
static size_t request_count;
static struct client *clients;
static size_t client_count;
static int epoll_fd;
static struct sockaddr_in server = {.sin_family = AF_INET};
static size_t under_way; /* requests that are neither answered nor failed */

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The digits that a text begins with, after spaces. */
static uint64_t number(const char *text)
{
    uint64_t value = 0;
    for (text += strspn(text, " "); *text >= '0' && *text <= '9' && value < UINT64_MAX / 100; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return value;
}

/* ---- what is sent -------------------------------------------------------------- */

static bool make_request(char *line, struct request *ret_request)
{
    char *method = strsep(&line, "\t");
    char *path = strsep(&line, "\t\n");
    char *body = strsep(&line, "\n");
    if (path == NULL)
        return false;
    char type[128] = "";
    if (body != NULL && body[0] != '\0')
        (void)snprintf(type, sizeof type, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    int len = asprintf(&ret_request->text, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s", method, path, type,
                       type[0] != '\0' ? body : "");
    ret_request->len = len < 0 ? 0 : (size_t)len;
    return len >= 0;
}

static bool read_requests(void)
{
    char *line = NULL;
    size_t size = 0;
    while (request_count < REQUESTS_MAX && getline(&line, &size, stdin) > 1)
        if (!make_request(line, &requests[request_count++]))
            return false;
    free(line);
    return request_count > 0;
}

/* ---- one client ------------------------------------------------------------------ */

static void hang_up(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

static void watch(struct client *client, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    (void)epoll_ctl(epoll_fd, operation, client->fd, &event);
}

static bool connect_client(struct client *client)
{
    int one = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return false;
    (void)setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(client->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS) {
        hang_up(client);
        return false;
    }
    watch(client, EPOLLOUT, EPOLL_CTL_ADD);
    return true;
}

/* Sends what there is room for: false when the connection is no more. */
static bool push(struct client *client)
{
    const struct request *request = client->request;
    while (client->sent < request->len) {
        ssize_t n = send(client->fd, request->text + client->sent, request->len - client->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n < 0)
            return false;
        client->sent += (size_t)n;
    }
    watch(client, EPOLLIN, EPOLL_CTL_MOD);
    return true;
}

/* Begins a request; on a connection that is there, or a new one. False: it failed. */
static bool begin(struct client *client, const struct request *request)
{
    client->request = request;
    client->sent = client->head_len = 0;
    client->in_body = false;
    client->status = 0;
    client->began_us = now_us();
    bool fresh = client->fd < 0;
    if (fresh ? !connect_client(client) : !push(client)) {
        client->request = NULL;
        return false;
    }
    under_way++;
    return true;
}

static void read_head(struct client *client, const char *end)
{
    client->status = (unsigned)number(client->head + strcspn(client->head, " "));
    client->body_left = UINT64_MAX; /* none told: it ends with the connection, and counts as none */
    for (const char *line = client->head; line != NULL && line < end; line = strstr(line, "\r\n")) {
        line += line != client->head ? 2 : 0;
        if (strncasecmp(line, "Content-Length:", 15) == 0)
            client->body_left = number(line + 15);
    }
    client->in_body = true;
}

/* Takes bytes of the answer: true when it is whole. */
static bool take(struct client *client, const char *data, size_t len)
{
    if (!client->in_body) {
        size_t room = sizeof client->head - 1 - client->head_len;
        size_t n = len < room ? len : room;
        memcpy(client->head + client->head_len, data, n);
        client->head_len += n;
        client->head[client->head_len] = '\0';
        char *end = strstr(client->head, "\r\n\r\n");
        if (end == NULL)
            return false;
        read_head(client, end);
        size_t in_head = (size_t)(end + 4 - client->head) - (client->head_len - n);
        len -= in_head;
    }
    client->body_left -= len < client->body_left ? len : client->body_left;
    return client->body_left == 0;
}

/* Moves on: 1 the answer is whole, 0 not yet, -1 there will be none. */
static int step(struct client *client)
{
    static char data[65536];
    if (client->request == NULL)
        return -1; /* closed while it was idle */
    if (client->sent < client->request->len)
        return push(client) ? 0 : -1;
    for (;;) {
        ssize_t n = recv(client->fd, data, sizeof data, 0);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0 || (!client->in_body && client->head_len == sizeof client->head - 1))
            return -1;
        if (take(client, data, (size_t)n))
            return 1;
    }
}

/* Waits, and calls ended(client, whether it was answered by 200) for each that is. False: nothing comes any more. */
static bool turn(void (*ended)(struct client *client, bool well))
{
    struct epoll_event events[BATCH];
    int n = epoll_wait(epoll_fd, events, BATCH, SILENCE_MS);
    for (int i = 0; i < n; i++) {
        struct client *client = events[i].data.ptr;
        int r = client->fd >= 0 ? step(client) : 0;
        if (r == 0)
            continue;
        bool was_busy = client->request != NULL;
        client->request = NULL;
        if (r < 0)
            hang_up(client);
        if (!was_busy)
            continue;
        under_way--;
        ended(client, r > 0 && client->status == 200);
    }
    return n > 0;
}

/* ---- rate --------------------------------------------------------------------------- */

static struct {
    size_t count, begun, answered, failed;
    uint32_t *us;
} rate;

static void begin_next(struct client *client)
{
    while (rate.begun < rate.count) {
        const struct request *request = &requests[rate.begun++ % request_count];
        if (begin(client, request))
            return;
        rate.failed++;
    }
}

static void rate_ended(struct client *client, bool well)
{
    if (well)
        rate.us[rate.answered++] = (uint32_t)(now_us() - client->began_us);
    else
        rate.failed++;
    begin_next(client);
}

static int measure_rate(size_t count)
{
    rate.count = count;
    rate.us = calloc(count + 1, sizeof *rate.us);
    if (rate.us == NULL)
        return 1;
    uint64_t start = now_us();
    for (size_t i = 0; i < client_count; i++)
        begin_next(&clients[i]);
    while (under_way > 0 && turn(rate_ended))
        ;
    printf("{\"seconds\": %.6f, \"failed\": %zu, \"us\": [", (double)(now_us() - start) / 1e6, rate.failed + under_way);
    for (size_t i = 0; i < rate.answered; i++)
        printf("%s%u", i > 0 ? "," : "", rate.us[i]);
    puts("]}");
    return 0;
}

/* ---- crowd --------------------------------------------------------------------------- */

static size_t answered[3]; /* of each act */
static size_t act;

static void crowd_ended(struct client *client, bool well)
{
    (void)client;
    answered[act] += well;
}

/* Lets these clients send one request each, and waits for the answers. */
static void play(struct client *first, size_t count, const struct request *from, size_t variants, const char *word)
{
    for (size_t i = 0; i < count; i++) {
        (void)begin(&first[i], &from[i % variants]);
        while (word == NULL && under_way >= CONNECTING_MAX && turn(crowd_ended))
            ;
    }
    if (word != NULL) {
        puts(word);
        fflush(stdout);
    }
    while (under_way > 0 && turn(crowd_ended))
        ;
}

static int measure_crowd(size_t idle)
{
    char line[] = "GET\t/health";
    struct request health = {0};
    if (!make_request(line, &health))
        return 1;
    play(clients, idle, &health, 1, NULL);
    uint64_t start = now_us();
    act++;
    play(clients + idle, client_count - idle, requests, request_count, "crowded");
    uint64_t end = now_us();
    act++;
    for (size_t i = 0; i < idle; i++)
        if (clients[i].fd < 0)
            answered[0]--; /* it did not last: it must not be counted by a new connection */
    play(clients, idle, &health, 1, NULL);
    printf("{\"idle\": %zu, \"idle_lasted\": %zu, \"idle_answered\": %zu, \"busy_answered\": %zu, \"seconds\": %.3f}\n",
           idle, answered[0], answered[2], answered[1], (double)(end - start) / 1e6);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t numbers[3] = {0};
    for (int i = 0; argc == 5 && i < 3; i++)
        numbers[i] = number(argv[i + 2]);
    bool crowd = argc == 5 && strcmp(argv[1], "crowd") == 0;
    if (argc != 5 || (!crowd && strcmp(argv[1], "rate") != 0) || numbers[0] > UINT16_MAX || numbers[1] > COUNT_MAX ||
        numbers[2] > COUNT_MAX || !read_requests())
        return 2;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    server.sin_port = htons((uint16_t)numbers[0]);
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client_count = crowd ? numbers[1] + numbers[2] : numbers[1];
    clients = calloc(client_count + 1, sizeof *clients);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (clients == NULL || epoll_fd < 0)
        return 1;
    for (size_t i = 0; i < client_count; i++)
        clients[i].fd = -1;
    return crowd ? measure_crowd(numbers[1]) : measure_rate(numbers[2]);
}

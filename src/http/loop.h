/* SPDX-License-Identifier: Apache-2.0 */
/* loop.h - epoll: the one thread that everything but blocking calls happens in. */
#ifndef ERA_HTTP_LOOP_H
#define ERA_HTTP_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct source {
    int fd;          /* borrowed */
    uint32_t events; /* that are waited for */
    bool watched;
    void (*ready)(struct source *source, uint32_t events);
};

enum { LOOP_BATCH = 128 };

struct loop {
    int epoll_fd;
    struct epoll_event batch[LOOP_BATCH];
    int batch_count;
};

int loop_open(struct loop *loop);
void loop_close(struct loop *loop);
/* Adds the source, or changes what is waited for. */
int loop_watch(struct loop *loop, struct source *source, uint32_t events);
/* Safe also from within the call of another source: what came for this one already is forgotten. */
void loop_forget(struct loop *loop, struct source *source);
/* One round: waits and calls. timeout_ms -1: without end. */
int loop_turn(struct loop *loop, int timeout_ms);

#endif

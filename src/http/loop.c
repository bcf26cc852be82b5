/* SPDX-License-Identifier: Apache-2.0 */
#include "http/loop.h"

#include <errno.h>
#include <unistd.h>

int loop_open(struct loop *loop)
{
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return loop->epoll_fd < 0 ? -errno : 0;
}

void loop_close(struct loop *loop)
{
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    loop->epoll_fd = -EBADF;
}

int loop_watch(struct loop *loop, struct source *source, uint32_t events)
{
    if (source->watched && source->events == events)
        return 0;
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(loop->epoll_fd, source->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, source->fd, &event) < 0)
        return -errno;
    source->watched = true;
    source->events = events;
    return 0;
}

void loop_forget(struct loop *loop, struct source *source)
{
    if (!source->watched)
        return;
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->watched = false;
    for (int i = 0; i < loop->batch_count; i++)
        if (loop->batch[i].data.ptr == source)
            loop->batch[i].data.ptr = NULL;
}

int loop_turn(struct loop *loop, int timeout_ms)
{
    int n = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    loop->batch_count = n;
    for (int i = 0; i < n; i++) {
        struct source *source = loop->batch[i].data.ptr;
        if (source != NULL)
            source->ready(source, loop->batch[i].events);
    }
    loop->batch_count = 0;
    return 0;
}

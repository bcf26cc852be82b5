/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - a bounded number of threads for calls of libera that block.
 *
 * Each thread has a handle of its own. Two kinds of work, so that what takes seconds (stopping, creating) does not
 * stand before what takes a millisecond (looking, starting a run); each kind has its threads and its queue. A job
 * belongs to the thread that works on it until its `done` is called, in the thread of the loop.
 */
#ifndef ERA_HTTP_POOL_H
#define ERA_HTTP_POOL_H

#include "era/era.h"
#include "http/loop.h"

enum pool_kind { POOL_QUICK, POOL_SLOW, POOL_KINDS };

struct job {
    struct job *next;
    void (*work)(struct job *job, struct era *era); /* in a thread of the pool */
    void (*done)(struct job *job);                  /* in the thread of the loop */
};

struct pool;

/* Starts `slow` threads for slow work and a few for quick work. */
int pool_open(struct loop *loop, const char *state_dir, unsigned slow, struct pool **ret_pool, struct era_error *err);
/* Waits for the jobs that were begun; drops none: call it when nothing is queued. */
void pool_close(struct pool *pool);
/* Slow work, now and from here on, is given up as soon as may be, and fails with "interrupted". */
void pool_cancel(struct pool *pool);

void pool_submit(struct pool *pool, enum pool_kind kind, struct job *job);
/* Jobs that wait for a thread. */
unsigned pool_waiting(const struct pool *pool);

#endif

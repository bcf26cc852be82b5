/* SPDX-License-Identifier: Apache-2.0 */
/* runs.h - what the two ways to answer a run (runs.c, stream.c) share. */
#ifndef ERA_HTTP_RUNS_H
#define ERA_HTTP_RUNS_H

#include <poll.h>

#include "http/internal.h"

struct run_work {
    struct work base; /* first: a request's work is one of these */
    struct request *request;
    struct ask ask;
    struct era_run *run;  /* owned */
    struct source source; /* its descriptor */
    size_t sent;          /* bytes of stdin */
    bool fed;             /* all of them, and the end */
    bool temporary;
    bool keep_volume; /* one that was named: it was there before */
    bool streams;
    bool in_flight; /* counted */
    bool cut;       /* it was told to end */
    bool failed;    /* there is no result, but an error */
    struct era_error err;
    char vm_id[TARGET_ID_MAX];
    char verdict[24]; /* "" until it ended */
    double seconds;

    /* of streams */
    struct era_buffer out; /* events that were not sent yet */
    bool ended;            /* nothing more is to be fetched */
    bool over;             /* the last event is in `out` */
};

/* Feeds, and fetches one event: as era_run_next(). */
int run_pump(struct request *request, struct era_event *ret_event);
/* Has `ready` called when there is something to fetch. */
void run_wait_for_it(struct request *request);
/* It is not looked after any more. */
void run_leave_loop(struct request *request);
/* It ended: has that recorded and answered. */
void run_finish(struct request *request);

/* stream.c: the run was started; something may have come; it ended (in a job). */
void stream_begin(struct request *request);
void stream_ready(struct request *request);
void stream_result(struct request *request, const struct era_result *result, const struct era_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "http/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"

enum { QUICK_THREADS = 4, STACK_BYTES = 512 * 1024 };

struct queue {
    struct job *first;
    struct job **last;
    pthread_cond_t filled;
};

struct worker {
    struct pool *pool;
    struct era *era; /* owned */
    enum pool_kind kind;
    pthread_t thread;
    bool started;
};

struct pool {
    struct loop *loop;
    struct source finished; /* an eventfd */
    int cancel_fd;          /* an eventfd that ends slow work */
    pthread_mutex_t mutex;  /* of all that follows */
    struct queue queues[POOL_KINDS];
    struct job *done; /* newest first */
    unsigned waiting;
    bool closing;
    size_t worker_count;
    struct worker workers[];
};

static struct job *take_job(struct worker *worker)
{
    struct pool *pool = worker->pool;
    struct queue *queue = &pool->queues[worker->kind];
    pthread_mutex_lock(&pool->mutex);
    while (queue->first == NULL && !pool->closing)
        pthread_cond_wait(&queue->filled, &pool->mutex);
    struct job *job = queue->first;
    if (job != NULL) {
        queue->first = job->next;
        if (queue->first == NULL)
            queue->last = &queue->first;
        pool->waiting--;
    }
    pthread_mutex_unlock(&pool->mutex);
    return job;
}

static void *work(void *userdata)
{
    struct worker *worker = userdata;
    struct pool *pool = worker->pool;
    struct job *job = NULL;
    while ((job = take_job(worker)) != NULL) {
        job->work(job, worker->era);
        pthread_mutex_lock(&pool->mutex);
        job->next = pool->done;
        pool->done = job;
        pthread_mutex_unlock(&pool->mutex);
        uint64_t one = 1;
        (void)write(pool->finished.fd, &one, sizeof one);
    }
    return NULL;
}

static void collect(struct source *source, uint32_t events)
{
    (void)events;
    struct pool *pool = (struct pool *)((char *)source - offsetof(struct pool, finished));
    uint64_t count;
    (void)read(source->fd, &count, sizeof count);
    pthread_mutex_lock(&pool->mutex);
    struct job *newest = pool->done;
    pool->done = NULL;
    pthread_mutex_unlock(&pool->mutex);
    struct job *oldest = NULL;
    while (newest != NULL) {
        struct job *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct job *next = oldest->next; /* the job may be gone after its call */
        oldest->done(oldest);
        oldest = next;
    }
}

void pool_submit(struct pool *pool, enum pool_kind kind, struct job *job)
{
    struct queue *queue = &pool->queues[kind];
    job->next = NULL;
    pthread_mutex_lock(&pool->mutex);
    *queue->last = job;
    queue->last = &job->next;
    pool->waiting++;
    pthread_cond_signal(&queue->filled);
    pthread_mutex_unlock(&pool->mutex);
}

unsigned pool_waiting(const struct pool *pool)
{
    return __atomic_load_n(&pool->waiting, __ATOMIC_RELAXED);
}

/* The first VM of a language waits for its image, which takes a minute: whoever looks at the log should know. */
static void log_progress(void *userdata, const char *line)
{
    (void)userdata;
    era_log(ERA_LOG_INFO, "%s", line);
}

static int start_workers(struct pool *pool, const char *state_dir, struct era_error *err)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int r = 0;
    for (size_t i = 0; r >= 0 && i < pool->worker_count; i++) {
        struct worker *worker = &pool->workers[i];
        *worker = (struct worker){.pool = pool, .kind = i < QUICK_THREADS ? POOL_QUICK : POOL_SLOW};
        r = era_open(state_dir, &worker->era, err);
        if (r < 0)
            break;
        era_set_progress(worker->era, log_progress, NULL);
        era_set_cancel(worker->era, pool->cancel_fd);
        int error = pthread_create(&worker->thread, &attr, work, worker);
        worker->started = error == 0;
        if (error != 0)
            r = era_error_errno(err, error, "cannot start a thread");
    }
    pthread_attr_destroy(&attr);
    return r;
}

int pool_open(struct loop *loop, const char *state_dir, unsigned slow, struct pool **ret_pool, struct era_error *err)
{
    size_t count = QUICK_THREADS + slow;
    struct pool *pool = calloc(1, sizeof *pool + count * sizeof pool->workers[0]);
    if (pool == NULL)
        return era_error_oom(err);
    pool->loop = loop;
    pool->worker_count = count;
    pthread_mutex_init(&pool->mutex, NULL);
    for (size_t i = 0; i < POOL_KINDS; i++) {
        pool->queues[i].last = &pool->queues[i].first;
        pthread_cond_init(&pool->queues[i].filled, NULL);
    }
    pool->finished = (struct source){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = collect};
    pool->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool failed = pool->finished.fd < 0 || pool->cancel_fd < 0;
    int r = failed ? -errno : loop_watch(loop, &pool->finished, EPOLLIN);
    r = r < 0 ? era_error_errno(err, -r, "cannot make an event") : start_workers(pool, state_dir, err);
    if (r < 0) {
        pool_close(pool);
        return r;
    }
    *ret_pool = pool;
    return 0;
}

void pool_cancel(struct pool *pool)
{
    uint64_t one = 1;
    (void)write(pool->cancel_fd, &one, sizeof one);
}

void pool_close(struct pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    for (size_t i = 0; i < POOL_KINDS; i++)
        pthread_cond_broadcast(&pool->queues[i].filled);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; i < pool->worker_count; i++) {
        if (pool->workers[i].started)
            pthread_join(pool->workers[i].thread, NULL);
        era_close(pool->workers[i].era);
    }
    loop_forget(pool->loop, &pool->finished);
    era_closep(&pool->finished.fd);
    era_closep(&pool->cancel_fd);
    free(pool);
}

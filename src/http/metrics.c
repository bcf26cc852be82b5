/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: Prometheus' text format. VMs are counted when they are asked for, the rest as it happens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

static const double bounds[METRICS_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 300};
static const unsigned statuses[METRICS_STATUSES] = {101, 200, 201, 204, 400, 401, 403, 404, 405, 409,
                                                    411, 413, 415, 426, 429, 500, 501, 503, 0};
static const char *const verdicts[METRICS_VERDICTS] = {"exited", "signaled", "timed_out", "oom_killed", "vm_lost"};

void metrics_observe(struct histogram *histogram, double seconds)
{
    size_t i = 0;
    while (i < METRICS_BUCKETS && seconds > bounds[i])
        i++;
    histogram->buckets[i]++;
    histogram->sum += seconds;
}

void metrics_count_request(struct metrics *metrics, size_t route, unsigned status, double seconds)
{
    size_t i = 0;
    while (statuses[i] != 0 && statuses[i] != status)
        i++;
    metrics->requests[route][i]++;
    metrics_observe(&metrics->request_seconds, seconds);
}

void metrics_count_run(struct metrics *metrics, const char *verdict, double seconds)
{
    for (size_t i = 0; i < METRICS_VERDICTS; i++)
        metrics->runs[i] += era_str_eq(verdicts[i], verdict);
    metrics->shim_failures += era_str_eq(verdict, "vm_lost");
    metrics_observe(&metrics->run_seconds, seconds);
}

/* ---- the text -------------------------------------------------------------------- */

static void put(struct era_buffer *to, const char *format, ...) ERA_PRINTF(2, 3);
static void put(struct era_buffer *to, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len > 0 && (size_t)len < sizeof line)
        (void)era_buffer_append(to, line, (size_t)len);
}

static void put_head(struct era_buffer *to, const char *name, const char *type, const char *help)
{
    put(to, "# HELP agent_%s %s\n# TYPE agent_%s %s\n", name, help, name, type);
}

static void put_number(struct era_buffer *to, const char *name, const char *type, const char *help, uint64_t value)
{
    put_head(to, name, type, help);
    put(to, "agent_%s %llu\n", name, (unsigned long long)value);
}

static void put_histogram(struct era_buffer *to, const char *name, const char *help, const struct histogram *histogram)
{
    uint64_t count = 0;
    put_head(to, name, "histogram", help);
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        count += histogram->buckets[i];
        put(to, "agent_%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], (unsigned long long)count);
    }
    count += histogram->buckets[METRICS_BUCKETS];
    put(to, "agent_%s_bucket{le=\"+Inf\"} %llu\nagent_%s_sum %.6f\nagent_%s_count %llu\n", name,
        (unsigned long long)count, name, histogram->sum, name, (unsigned long long)count);
}

static void put_requests(struct era_buffer *to, const struct metrics *metrics)
{
    put_head(to, "http_requests_total", "counter", "Requests by route and status; route none fits no route.");
    for (size_t r = 0; r < METRICS_ROUTES; r++)
        for (size_t s = 0; s < METRICS_STATUSES; s++) {
            if (metrics->requests[r][s] == 0)
                continue;
            const struct route *route = r < METRICS_ROUTES - 1 ? &routes[r] : NULL;
            put(to, "agent_http_requests_total{route=\"%s%s%s\",status=\"%u\"} %llu\n",
                route != NULL ? route->method : "none", route != NULL ? " " : "", route != NULL ? route->pattern : "",
                statuses[s], (unsigned long long)metrics->requests[r][s]);
        }
}

static const char *const vm_statuses[] = {"provisioning", "ready", "running", "stopped", "failed", "paused"};
static const char *const launchers[] = {"auto", "namespace", "microvm"};
enum { VM_STATUSES = 5, LAUNCHERS = 3 };

struct metrics_work {
    struct work base; /* first */
    uint64_t vms[VM_STATUSES][LAUNCHERS];
};

static void work_free(struct work *base)
{
    free(base);
}

static void put_vms(struct era_buffer *to, const struct metrics_work *work)
{
    put_head(to, "vms", "gauge", "VMs by status and launcher.");
    for (size_t s = 0; s < VM_STATUSES; s++)
        for (size_t l = 0; l < LAUNCHERS; l++)
            if (l > 0 || work->vms[s][l] > 0) /* one that is being made may have none yet */
                put(to, "agent_vms{status=\"%s\",launcher=\"%s\"} %llu\n", vm_statuses[s], launchers[l],
                    (unsigned long long)work->vms[s][l]);
}

static void render(struct request *request)
{
    const struct server *server = request->server;
    const struct metrics *metrics = &server->metrics;
    struct era_buffer text = {0};
    if (request->response != NULL) { /* the VMs could not be counted */
        request_resume(request);
        return;
    }
    put_head(&text, "build_info", "gauge", "The version of this server.");
    put(&text, "agent_build_info{version=\"%s\"} 1\n", era_version());
    put_vms(&text, (struct metrics_work *)request->work);
    put_head(&text, "runs_total", "counter", "Runs of this server that ended, by verdict.");
    for (size_t i = 0; i < METRICS_VERDICTS; i++)
        put(&text, "agent_runs_total{verdict=\"%s\"} %llu\n", verdicts[i], (unsigned long long)metrics->runs[i]);
    put_number(&text, "runs_in_flight", "gauge", "Runs of this server that are in flight.", server->runs);
    put_histogram(&text, "run_duration_seconds", "How long commands ran.", &metrics->run_seconds);
    put_histogram(&text, "create_duration_seconds", "How long it took to create a VM.", &metrics->create_seconds);
    put_requests(&text, metrics);
    put_histogram(&text, "http_request_duration_seconds",
                  "From the first line of a request to the last byte of its answer.", &metrics->request_seconds);
    put_number(&text, "http_connections", "gauge", "Open connections.", metrics->connections);
    put_number(&text, "http_received_bytes_total", "counter", "Bytes of bodies that came.", metrics->received_bytes);
    put_number(&text, "http_sent_bytes_total", "counter", "Bytes of bodies that went.", metrics->sent_bytes);
    put_number(&text, "shim_failures_total", "counter", "Runs whose VM was lost.", metrics->shim_failures);
    (void)era_buffer_append(&text, "", 1);
    reply_text(request, 200, "text/plain; version=0.0.4; charset=utf-8", strdup((const char *)era_buffer_data(&text)));
    era_buffer_clear(&text);
    request_resume(request);
}

static size_t index_of(const char *const *words, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++)
        if (era_str_eq(words[i], word))
            return i;
    return 0;
}

static void count_vms(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct metrics_work *work = (struct metrics_work *)request->work;
    struct era_vm_list *vms = NULL;
    struct era_error err = {0};
    if (era_vm_list(era, NULL, &vms, &err) < 0) {
        reply_error(request, &err);
        return;
    }
    for (size_t i = 0; i < era_vm_list_count(vms); i++) {
        const struct era_vm *vm = era_vm_list_at(vms, i);
        work->vms[index_of(vm_statuses, VM_STATUSES, era_vm_status(vm))]
                 [index_of(launchers, LAUNCHERS, era_vm_launcher(vm))]++;
    }
    era_vm_list_free(vms);
}

void handle_metrics(struct request *request)
{
    struct metrics_work *work = calloc(1, sizeof *work);
    if (work == NULL) {
        reply_refusal(request, 503, "out_of_memory", NULL, "out of memory");
        return;
    }
    work->base.free = work_free;
    request->work = &work->base;
    request_submit(request, POOL_QUICK, count_vms, render);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "http/metrics.h"

#include "base/str.h"

static const double bounds[METRICS_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 300};
static const unsigned statuses[METRICS_STATUSES] = {101, 200, 201, 204, 400, 401, 403, 404, 405,
                                                    409, 411, 413, 415, 426, 429, 500, 503, 0};
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

/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h - what is counted, for Prometheus. Of the loop's thread alone. */
#ifndef ERA_HTTP_METRICS_H
#define ERA_HTTP_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum { METRICS_ROUTES = 25, METRICS_STATUSES = 20, METRICS_BUCKETS = 12, METRICS_VERDICTS = 5 };

struct histogram {
    uint64_t buckets[METRICS_BUCKETS + 1]; /* not cumulative; the last is +Inf */
    double sum;
};

struct metrics {
    uint64_t requests[METRICS_ROUTES][METRICS_STATUSES];
    struct histogram request_seconds;
    struct histogram run_seconds;
    struct histogram create_seconds;
    uint64_t runs[METRICS_VERDICTS];
    uint64_t received_bytes;
    uint64_t sent_bytes;
    uint64_t shim_failures;
    uint64_t connections; /* open */
};

void metrics_observe(struct histogram *histogram, double seconds);
/* route: an index of routes[], or their count for what fits none. */
void metrics_count_request(struct metrics *metrics, size_t route, unsigned status, double seconds);
void metrics_count_run(struct metrics *metrics, const char *verdict, double seconds);

#endif

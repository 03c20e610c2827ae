/* Latency histogram: log-linear, HISTOGRAM_SUB buckets per power of two, so every value is kept to 1/64 of itself. */
#ifndef ECHOLOAD_HISTOGRAM_H
#define ECHOLOAD_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB_BITS = 6, HISTOGRAM_SUB = 1 << HISTOGRAM_SUB_BITS };

struct histogram {
    uint64_t count[64 * HISTOGRAM_SUB];
    uint64_t total;
};

/* Counts one value, in nanoseconds. */
void histogram_record(struct histogram *h, uint64_t ns);

/* Returns the value below which the share q of all values lies; 0 for an empty histogram. */
double histogram_quantile_ns(const struct histogram *h, double q);

#endif

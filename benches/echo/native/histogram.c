#include "histogram.h"

/* Values below HISTOGRAM_SUB have a bucket each; above, the exponent picks a group and the next bits the bucket. */
static unsigned bucket_of(uint64_t ns) {
    if (ns < HISTOGRAM_SUB) return (unsigned)ns;
    unsigned exponent = 63u - (unsigned)__builtin_clzll(ns);
    unsigned shift = exponent - HISTOGRAM_SUB_BITS;
    return (shift + 1) * HISTOGRAM_SUB + (unsigned)((ns >> shift) & (HISTOGRAM_SUB - 1));
}

static double value_of(unsigned bucket) {
    if (bucket < HISTOGRAM_SUB) return bucket;
    unsigned shift = bucket / HISTOGRAM_SUB - 1;
    return (double)((uint64_t)(HISTOGRAM_SUB + bucket % HISTOGRAM_SUB) << shift);
}

void histogram_record(struct histogram *h, uint64_t ns) {
    h->count[bucket_of(ns)]++;
    h->total++;
}

double histogram_quantile_ns(const struct histogram *h, double q) {
    uint64_t seen = 0;
    for (unsigned i = 0; i < 64 * HISTOGRAM_SUB; i++) {
        seen += h->count[i];
        if (h->total && (double)seen >= q * (double)h->total) return value_of(i);
    }
    return 0;
}

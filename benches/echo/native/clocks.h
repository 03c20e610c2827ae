/* The clocks of a measurement: the wall, this process's CPU time, another process's CPU time. */
#ifndef ECHOLOAD_CLOCKS_H
#define ECHOLOAD_CLOCKS_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static inline uint64_t own_cpu_ns(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

/* All threads of the process pid, user and system; 0 where there is no such process.
 * Source: clock_getcpuclockid(3), whose encoding of a pid this is. */
static inline uint64_t process_cpu_ns(pid_t pid) {
    return clock_ns((clockid_t)((~(unsigned)pid << 3) | 2));
}

#endif

/* What every part of the load generator needs: the clock, a latency histogram, and the one way to give up. */
#ifndef MQGATE_BENCH_LOAD_UTIL_H
#define MQGATE_BENCH_LOAD_UTIL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define LOAD_NS_PER_S 1000000000ULL

/* Monotonic nanoseconds; comparable between processes of one machine. */
uint64_t load_now_ns(void);

/* User and system time of this process, in nanoseconds. */
uint64_t load_own_cpu_ns(void);

/* Prints {"error":"..."} on stdout, the text on stderr, and exits with 1. */
_Noreturn void load_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Never returns NULL: a generator without memory has nothing to measure. */
void *load_alloc(size_t bytes);

/* FNV-1a, continued from `hash`; start with LOAD_HASH_SEED. */
#define LOAD_HASH_SEED 2166136261U
uint32_t load_hash(uint32_t hash, const uint8_t *data, size_t bytes);

/* Log-linear: 128 buckets per power of two, so that a percentile is off by less than 1%. */
#define LOAD_HIST_SUB_BITS 7
#define LOAD_HIST_BUCKETS  ((64 - LOAD_HIST_SUB_BITS + 1) << LOAD_HIST_SUB_BITS)

struct load_hist {
    uint64_t count;
    uint64_t max_ns;
    uint64_t buckets[LOAD_HIST_BUCKETS];
};

void load_hist_add(struct load_hist *hist, uint64_t value_ns);
void load_hist_clear(struct load_hist *hist);

/* The value below which `fraction` (0..1) of what was added lies; 0 if nothing was added. */
uint64_t load_hist_quantile_ns(const struct load_hist *hist, double fraction);

/* `,"NAME":{"count":..,"p50_us":..,...}`; nothing if nothing was added. */
void load_hist_print(FILE *out, const char *name, const struct load_hist *hist);

#endif

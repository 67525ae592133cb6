/* Clock, hash, histogram. The histogram is a flat array with a fixed relative error: adding costs a few
 * nanoseconds, so that taking a latency does not make the generator the slower side. */
#include "load_util.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

uint64_t load_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * LOAD_NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t util_timeval_ns(struct timeval value)
{
    return (uint64_t)value.tv_sec * LOAD_NS_PER_S + (uint64_t)value.tv_usec * 1000U;
}

uint64_t load_own_cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return util_timeval_ns(usage.ru_utime) + util_timeval_ns(usage.ru_stime);
}

/* JSON has no place for quotes or control bytes that a peer put into an error text. */
static void util_make_plain(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == '"' || *text == '\\')
            *text = '\'';
}

void load_fail(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    util_make_plain(text);
    fprintf(stderr, "amqpload: %s\n", text);
    printf("{\"error\":\"%s\"}\n", text);
    fflush(stdout);
    exit(1);
}

void *load_alloc(size_t bytes)
{
    void *memory = calloc(1, bytes == 0 ? 1 : bytes);
    if (memory == NULL)
        load_fail("out of memory for %zu bytes", bytes);
    return memory;
}

uint32_t load_hash(uint32_t hash, const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ data[i]) * 16777619U;
    return hash;
}

static size_t hist_bucket(uint64_t value)
{
    const uint64_t linear = 1U << LOAD_HIST_SUB_BITS;
    if (value < linear)
        return (size_t)value;
    const unsigned shift = 63U - (unsigned)__builtin_clzll(value) - LOAD_HIST_SUB_BITS;
    return (size_t)((((uint64_t)shift + 1) << LOAD_HIST_SUB_BITS) + ((value >> shift) - linear));
}

static uint64_t hist_bucket_value(size_t bucket)
{
    const uint64_t linear = 1U << LOAD_HIST_SUB_BITS;
    if (bucket < linear)
        return bucket;
    const unsigned shift = (unsigned)(bucket >> LOAD_HIST_SUB_BITS) - 1U;
    return (linear + (bucket & (linear - 1))) << shift;
}

void load_hist_add(struct load_hist *hist, uint64_t value_ns)
{
    hist->count++;
    hist->buckets[hist_bucket(value_ns)]++;
    if (value_ns > hist->max_ns)
        hist->max_ns = value_ns;
}

void load_hist_clear(struct load_hist *hist)
{
    memset(hist, 0, sizeof *hist);
}

uint64_t load_hist_quantile_ns(const struct load_hist *hist, double fraction)
{
    const double wanted = fraction * (double)hist->count;
    uint64_t seen = 0;
    for (size_t i = 0; i < LOAD_HIST_BUCKETS; i++) {
        seen += hist->buckets[i];
        if (seen != 0 && (double)seen >= wanted)
            return hist_bucket_value(i);
    }
    return hist->max_ns;
}

static double hist_us(const struct load_hist *hist, double fraction)
{
    return (double)load_hist_quantile_ns(hist, fraction) / 1000.0;
}

void load_hist_print(FILE *out, const char *name, const struct load_hist *hist)
{
    if (hist->count == 0)
        return;
    fprintf(out,
            ",\"%s\":{\"count\":%llu,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_"
            "us\":%.1f}",
            name, (unsigned long long)hist->count, hist_us(hist, 0.5), hist_us(hist, 0.9),
            hist_us(hist, 0.99), hist_us(hist, 0.999), (double)hist->max_ns / 1000.0);
}

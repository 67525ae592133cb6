/* clock.c - the one place that asks the time.
 *
 * TTLs, keep-alives and expiries are tested by moving a clock, not by sleeping: mqg_clock_set freezes both
 * clocks for the whole process. Readings of the real monotonic clock are in milliseconds since boot. */
#include <mqgate/base.h>

#include <time.h>

static _Atomic bool clock_frozen;
static _Atomic uint64_t clock_frozen_mono_ms;
static _Atomic uint64_t clock_frozen_wall_us;

static uint64_t clock_read_us(clockid_t id)
{
    struct timespec ts;
    int rc = clock_gettime(id, &ts);
    MQG_ASSERT(rc == 0 && ts.tv_sec >= 0);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

struct mqg_time mqg_clock_now(void)
{
    if (MQG_UNLIKELY(atomic_load_explicit(&clock_frozen, memory_order_acquire)))
        return (struct mqg_time){atomic_load(&clock_frozen_mono_ms), atomic_load(&clock_frozen_wall_us)};
    return (struct mqg_time){clock_read_us(CLOCK_MONOTONIC) / 1000, clock_read_us(CLOCK_REALTIME)};
}

uint64_t mqg_clock_mono_us(void)
{
    if (MQG_UNLIKELY(atomic_load_explicit(&clock_frozen, memory_order_acquire)))
        return atomic_load(&clock_frozen_mono_ms) * 1000;
    return clock_read_us(CLOCK_MONOTONIC);
}

void mqg_clock_set(const struct mqg_time *t)
{
    if (t != NULL) {
        atomic_store(&clock_frozen_mono_ms, t->mono_ms);
        atomic_store(&clock_frozen_wall_us, t->wall_us);
    }
    atomic_store_explicit(&clock_frozen, t != NULL, memory_order_release);
}

/* counters.c - one row of counters per worker, summed by readers.
 *
 * A worker owns its row: it adds with a plain load and store (relaxed atomics, so that a reader in between is no
 * race), which costs no locked instruction. All other threads share one last row and pay for it. Rows are cache lines
 * apart. */
#include <mqgate/obs.h>
#include <mqgate/worker.h>

struct counter_row {
    _Alignas(128) _Atomic uint64_t n[MQG_COUNTER_COUNT];
};

static struct counter_row counter_rows[MQG_LANES_MAX];

struct counter_about {
    const char *name, *kind, *help;
};

#define COUNTER_ABOUT(sym, name, kind, help) {name, #kind, help},
static const struct counter_about counter_about[] = {MQG_COUNTERS(COUNTER_ABOUT)};
#undef COUNTER_ABOUT

void mqg_count(enum mqg_counter c, uint64_t n)
{
    const struct mqg_worker *self = mqg_worker_self();
    if (MQG_UNLIKELY(self == NULL)) {
        atomic_fetch_add_explicit(&counter_rows[MQG_WORKERS_MAX].n[c], n, memory_order_relaxed);
        return;
    }
    _Atomic uint64_t *mine = &counter_rows[self->index].n[c];
    atomic_store_explicit(mine, atomic_load_explicit(mine, memory_order_relaxed) + n, memory_order_relaxed);
}

uint64_t mqg_count_sum(enum mqg_counter c)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < MQG_COUNTOF(counter_rows); i++)
        sum += atomic_load_explicit(&counter_rows[i].n[c], memory_order_relaxed);
    return sum;
}

void mqg_count_prometheus(struct mqg_dynbuf *out)
{
    for (size_t i = 0; i < MQG_COUNTER_COUNT; i++) {
        const struct counter_about *about = &counter_about[i];
        mqg_dynbuf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", about->name, about->help, about->name,
                          about->kind, about->name, (unsigned long long)mqg_count_sum((enum mqg_counter)i));
    }
}

/* budget.c - a bound on bytes that peers choose, in levels: connection, protocol, process.
 *
 * Each level is charged by compare-and-swap and not by add-then-check: with the latter, a taker that is about
 * to be refused makes others fail for bytes that nobody gets. A refusal above gives back what was taken
 * below. */
#include <mqgate/base.h>

static bool budget_take_level(struct mqg_budget *b, int64_t n)
{
    int64_t used = atomic_load_explicit(&b->used_bytes, memory_order_relaxed);
    do {
        int64_t limit = b->limit_bytes > 0 ? b->limit_bytes : INT64_MAX;
        if (used > limit || n > limit - used)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->used_bytes, &used, used + n, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static void budget_give_level(struct mqg_budget *b, int64_t n)
{
    int64_t before = atomic_fetch_sub_explicit(&b->used_bytes, n, memory_order_relaxed);
    MQG_ASSERT(before >= n); /* given back twice */
}

bool mqg_budget_take(struct mqg_budget *b, size_t n)
{
    if (n > INT64_MAX)
        return false;
    for (struct mqg_budget *level = b; level != NULL; level = level->parent) {
        if (budget_take_level(level, (int64_t)n))
            continue;
        for (struct mqg_budget *taken = b; taken != level; taken = taken->parent)
            budget_give_level(taken, (int64_t)n);
        return false;
    }
    return true;
}

void mqg_budget_give(struct mqg_budget *b, size_t n)
{
    MQG_ASSERT(n <= INT64_MAX);
    for (; b != NULL; b = b->parent)
        budget_give_level(b, (int64_t)n);
}

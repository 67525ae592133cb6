/* core/store/extent.c - who brings an extent's count to zero tells the adapter. */
#include <mqgate/store.h>

void mqg_extent_give(struct mqg_extent *x, int64_t n)
{
    int64_t before = atomic_fetch_sub_explicit(&x->live, n, memory_order_acq_rel);
    MQG_ASSERT(before >= n);
    if (before == n)
        x->ops->extent_dead(x->store, x);
}

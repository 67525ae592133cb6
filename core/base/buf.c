/* buf.c - counted bytes.
 *
 * The count is atomic because a buffer may be filled by one worker and sent by another; the bytes are not,
 * because nobody writes them once a second reference exists. The last unref must see all reads of the others
 * as done, hence release on each decrement and an acquire before the free. */
#include <mqgate/base.h>

#include <stdlib.h>

#define BUF_LEN_MAX (UINT32_C(1) << 31)

struct mqg_buf *mqg_buf_new(size_t len)
{
    if (len > BUF_LEN_MAX)
        return NULL;
    struct mqg_buf *b = malloc(sizeof *b + len);
    if (b == NULL)
        return NULL;
    atomic_init(&b->refs, 1);
    b->len = (uint32_t)len;
    return b;
}

struct mqg_buf *mqg_buf_ref(struct mqg_buf *b)
{
    uint32_t before = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    MQG_ASSERT(before > 0 && before < UINT32_MAX);
    return b;
}

void mqg_buf_unref(struct mqg_buf **b)
{
    if (*b == NULL)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&(*b)->refs, 1, memory_order_acq_rel);
    MQG_ASSERT(before > 0);
    if (before == 1)
        free(*b);
    *b = NULL;
}

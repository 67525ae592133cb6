/* mem.c - memory that must be there.
 *
 * For small sizes that we chose: a daemon that cannot get a hundred bytes cannot say so either. What a peer
 * chose goes through a budget (budget.c) and may be refused. */
#include <mqgate/base.h>

#include <stdlib.h>

void *mqg_xmalloc(size_t n)
{
    void *ptr = malloc(n > 0 ? n : 1);
    MQG_ASSERT(ptr != NULL);
    return ptr;
}

void *mqg_xcalloc(size_t n, size_t size)
{
    void *ptr = calloc(n > 0 ? n : 1, size > 0 ? size : 1);
    MQG_ASSERT(ptr != NULL);
    return ptr;
}

void *mqg_xrealloc(void *p, size_t n)
{
    void *ptr = realloc(p, n > 0 ? n : 1);
    MQG_ASSERT(ptr != NULL);
    return ptr;
}

char *mqg_xstrdup(const char *s)
{
    return mqg_slice_dup(mqg_slice_str(s));
}

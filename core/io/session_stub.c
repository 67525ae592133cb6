/* session_stub.c - sessions for the io tests, which link without the account layer: a count and nothing else. */
#include <mqgate/auth.h>

struct mqg_session *mqg_session_ref(struct mqg_session *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void mqg_session_unref(struct mqg_session **s)
{
    if (*s != NULL)
        atomic_fetch_sub(&(*s)->refs, 1);
    *s = NULL;
}

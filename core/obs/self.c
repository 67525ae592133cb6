/* self.c - which worker the calling thread is.
 *
 * Messages take their time from it, counters their row, asserts their place. It lies below all of them, so it is not
 * part of the workers themselves (core/io). */
#include "self.h"

static _Thread_local struct mqg_worker *self_worker;

struct mqg_worker *mqg_worker_self(void)
{
    return self_worker;
}

void mqg_self_set(struct mqg_worker *w)
{
    self_worker = w;
}

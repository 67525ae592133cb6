/* self.h - which worker the calling thread is; private to the core. */
#ifndef MQG_OBS_SELF_H
#define MQG_OBS_SELF_H

#include <mqgate/worker.h>

/* Makes the calling thread worker w, or nobody with NULL. */
void mqg_self_set(struct mqg_worker *w);

#endif

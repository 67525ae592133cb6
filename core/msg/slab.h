/* slab.h - where message blocks come from; private to core/msg. */
#ifndef MQG_MSG_SLAB_H
#define MQG_MSG_SLAB_H

#include <mqgate/base.h>

#define MSG_SLAB_BYTES    65536u
#define MSG_BLOCK_ALIGN   16u
#define MSG_SLAB_ITEM_MAX 16384u /* larger blocks are their own */

struct mqg_slab;

/* n bytes, aligned to 16. *slab is where they lie, NULL for a block of its own. `force` takes them over the limit too
 * (what is already accepted must be loadable). NULL: limit reached. Any thread; each has an open slab of its own. */
void *msg_slab_alloc(size_t n, bool force, struct mqg_slab **slab);
/* Any thread. n as it was allocated. */
void msg_slab_free(struct mqg_slab *slab, void *ptr, size_t n);

#endif

/* routing/vhost.h - the vhost object. Internal to routing/. */
#ifndef MQG_ROUTING_VHOST_H
#define MQG_ROUTING_VHOST_H

#include "topology_int.h"

#include <mqgate/map.h>

struct binding;

/* All bindings, found by what tells them apart: open addressing, the hash and the rest of the key in the binding itself
 * (definitions_binding.c). */
struct binding_table {
    struct binding **slots;
    size_t cap, count; /* cap: a power of two, or 0 */
};

#define VHOST_MAGIC 0x56484f53u

struct mqg_vhost {
    uint32_t magic;
    struct mqg_slice name;
    _Atomic bool alive;
    _Atomic(struct topology *) root;
    struct mqg_vhost *next; /* in its bucket; never changes */
    struct mqg_vhost *next_all;
    /* under the topology mutex; keys borrow from the values */
    struct mqg_map exchanges; /* name -> struct exchange_entry */
    struct binding_table bindings;
};

static inline const struct topology *vhost_root(const struct mqg_vhost *v)
{
    return atomic_load_explicit(&((struct mqg_vhost *)(uintptr_t)v)->root, memory_order_acquire);
}

/* A new vhost in the table, alive, without exchanges. Under the topology mutex. */
struct mqg_vhost *vhost_add(struct mqg_slice name);
/* The first of all that were ever made, linked by next_all; dead ones too. */
struct mqg_vhost *vhost_first(void);
/* Closes the connections of v, on every worker (MQG_EV_KILL). Any thread; the effect comes later.
 * vhost_kill.c, so that tests of the rest need no connections. */
void vhost_kill_connections(struct mqg_vhost *v);
/* Frees the table: tests and the end of the process, without readers. The maps must be empty. */
void vhost_fini(void);

#endif

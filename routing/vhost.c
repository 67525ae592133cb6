/* vhost.c - the table of vhosts.
 *
 * Sessions, queues and messages hold plain pointers to their vhost, so one that is deleted stays as a small
 * dead shell, and a new vhost of the same name is a new object: what still belongs to the old one cannot act
 * on the new one. Since nothing is ever unlinked, readers need no lock and no epoch. */
#include "vhost.h"

#include <stdlib.h>

enum { VHOST_BUCKETS = 256 };

static _Atomic(struct mqg_vhost *) vhost_buckets[VHOST_BUCKETS];
static _Atomic(struct mqg_vhost *) vhost_all;

static _Atomic(struct mqg_vhost *) *vhost_bucket(struct mqg_slice name)
{
    return &vhost_buckets[mqg_hash(name) % VHOST_BUCKETS];
}

struct mqg_vhost *mqg_vhost_find(struct mqg_slice name)
{
    struct mqg_vhost *v = atomic_load_explicit(vhost_bucket(name), memory_order_acquire);
    while (v != NULL && !(mqg_vhost_alive(v) && mqg_slice_eq(v->name, name)))
        v = v->next;
    return v;
}

struct mqg_slice mqg_vhost_name(const struct mqg_vhost *v)
{
    return v->name;
}

bool mqg_vhost_alive(const struct mqg_vhost *v)
{
    return atomic_load_explicit(&((struct mqg_vhost *)(uintptr_t)v)->alive, memory_order_acquire);
}

struct mqg_vhost *vhost_first(void)
{
    return atomic_load_explicit(&vhost_all, memory_order_acquire);
}

struct mqg_vhost *vhost_add(struct mqg_slice name)
{
    struct mqg_vhost *v = mqg_xcalloc(1, sizeof *v);
    v->magic = VHOST_MAGIC;
    v->name = mqg_slice_of(mqg_slice_dup(name), name.len);
    mqg_map_init(&v->exchanges, MQG_MAP_BORROW);
    atomic_init(&v->root, topology_new());
    atomic_init(&v->alive, true);
    _Atomic(struct mqg_vhost *) *bucket = vhost_bucket(v->name);
    v->next = atomic_load_explicit(bucket, memory_order_relaxed);
    v->next_all = atomic_load_explicit(&vhost_all, memory_order_relaxed);
    atomic_store_explicit(&vhost_all, v, memory_order_release);
    atomic_store_explicit(bucket, v, memory_order_release);
    return v;
}

static void vhost_free(struct mqg_vhost *v)
{
    MQG_ASSERT(v->exchanges.count == 0 && v->bindings.count == 0);
    mqg_map_fini(&v->exchanges);
    free(v->bindings.slots);
    topology_free(atomic_load_explicit(&v->root, memory_order_relaxed));
    free((void *)(uintptr_t)v->name.ptr);
    free(v);
}

void vhost_fini(void)
{
    struct mqg_vhost *v = vhost_first();
    atomic_store_explicit(&vhost_all, NULL, memory_order_relaxed);
    for (size_t i = 0; i < VHOST_BUCKETS; i++)
        atomic_store_explicit(&vhost_buckets[i], NULL, memory_order_relaxed);
    while (v != NULL) {
        struct mqg_vhost *next = v->next_all;
        vhost_free(v);
        v = next;
    }
}

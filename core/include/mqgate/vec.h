/* mqgate/vec.h - a growable vector of pointers, for lists of unknown length that are built and walked.
 *
 * Zero-initialised is empty. It owns its array, never what the pointers point to. Not thread-safe. Inline,
 * because each function is a line or two. Memory must be there (mqg_xrealloc): lengths that peers choose are
 * bounded by the caller. */
#ifndef MQGATE_VEC_H
#define MQGATE_VEC_H

#include <mqgate/base.h>

#include <stdlib.h>

struct mqg_vec {
    void **items;
    size_t n;
    size_t cap;
};

static inline void mqg_vec_fini(struct mqg_vec *v)
{
    free(v->items);
    *v = (struct mqg_vec){NULL, 0, 0};
}

/* Room for n items in all. */
static inline void mqg_vec_reserve(struct mqg_vec *v, size_t n)
{
    if (n <= v->cap)
        return;
    MQG_ASSERT(n < SIZE_MAX / sizeof(void *) / 2);
    size_t cap = v->cap > 0 ? v->cap * 2 : 8;
    v->cap = cap > n ? cap : n;
    v->items = (void **)mqg_xrealloc(v->items, v->cap * sizeof(void *));
}

static inline void mqg_vec_push(struct mqg_vec *v, void *item)
{
    if (MQG_UNLIKELY(v->n == v->cap))
        mqg_vec_reserve(v, v->n + 1);
    v->items[v->n++] = item;
}

/* The last item, removed; NULL when empty. */
static inline void *mqg_vec_pop(struct mqg_vec *v)
{
    return v->n > 0 ? v->items[--v->n] : NULL;
}

static inline void *mqg_vec_at(const struct mqg_vec *v, size_t i)
{
    MQG_ASSERT(i < v->n);
    return v->items[i];
}

/* Index of the first such pointer; SIZE_MAX when there is none. */
static inline size_t mqg_vec_find(const struct mqg_vec *v, const void *item)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->items[i] == item)
            return i;
    return SIZE_MAX;
}

/* Removes item i and keeps the order of the others. */
static inline void mqg_vec_remove(struct mqg_vec *v, size_t i)
{
    MQG_ASSERT(i < v->n);
    v->n--;
    memmove(&v->items[i], &v->items[i + 1], (v->n - i) * sizeof(void *));
}

/* Removes item i by putting the last one in its place: constant time, for sets. */
static inline void mqg_vec_remove_swap(struct mqg_vec *v, size_t i)
{
    MQG_ASSERT(i < v->n);
    v->items[i] = v->items[--v->n];
}

#endif

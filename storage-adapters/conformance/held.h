/* held.h - what a test hands to a store and would free at once: ropes of MQG_ROPE_HELD and more stay valid until done (store.h), so a
 * test that does not wait hands in copies. */
#ifndef MQGATE_CONFORMANCE_HELD_H
#define MQGATE_CONFORMANCE_HELD_H

#include <mqgate/store.h>

#include <stdlib.h>

struct held {
    struct held *next;
    max_align_t data[];
};

static inline void *held_room(struct held **list, size_t bytes)
{
    struct held *h = mqg_xmalloc(sizeof *h + bytes);
    h->next = *list;
    *list = h;
    return h->data;
}

/* The operations, or a copy of them that names copies of what is to stay. */
static inline const struct mqg_store_op *held_ops(struct held **list, const struct mqg_store_op *ops,
                                                  size_t n)
{
    struct mqg_store_op *mine = NULL;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = 0;
        for (uint32_t k = 0; ops[i].kind == MQG_OP_APPEND && k < ops[i].append.nrope; k++)
            bytes += ops[i].append.rope[k].len;
        if (bytes < MQG_ROPE_HELD)
            continue;
        if (!mine) {
            mine = held_room(list, n * sizeof *mine);
            memcpy(mine, ops, n * sizeof *mine);
        }
        uint8_t *to = held_room(list, bytes);
        struct mqg_slice *rope = held_room(list, sizeof *rope);
        *rope = mqg_slice_of(to, bytes);
        for (uint32_t k = 0; k < ops[i].append.nrope; to += ops[i].append.rope[k++].len)
            memcpy(to, ops[i].append.rope[k].ptr, ops[i].append.rope[k].len);
        mine[i].append.rope = rope;
        mine[i].append.nrope = 1;
    }
    return mine ? mine : ops;
}

/* When all is done, or the store is gone. */
static inline void held_free(struct held **list)
{
    for (struct held *h = *list, *next; h; h = next) {
        next = h->next;
        free(h);
    }
    *list = NULL;
}

#endif

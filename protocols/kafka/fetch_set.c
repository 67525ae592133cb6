/* fetch_set.c - sets of partitions, and the sessions that keep one from fetch to fetch.
 *
 * A connection has at most one session, and it dies with it: clients hold one per connection to a broker, and one that finds its
 * session gone begins anew with a full fetch (KIP-227). So a session never crosses threads, and what clients that went away had
 * is freed at once. */
#include "fetch.h"

#include <stdlib.h>

static _Thread_local uint32_t session_count;

/* ---- partitions ---------------------------------------------------------------------------------------------------------------- */

void fetch_part_release(struct fetch_part *p)
{
    mqg_buf_unref(&p->data);
    p->records = MQG_SLICE_NONE;
    p->aborted = NULL;
    p->naborted = 0;
}

void fetch_part_unready(struct fetch_part *p)
{
    if (p->ready_prev == NULL)
        return;
    *p->ready_prev = p->ready_next;
    if (p->ready_next != NULL)
        p->ready_next->ready_prev = p->ready_prev;
    else
        p->set->ready_last = p->ready_prev;
    p->ready_next = NULL;
    p->ready_prev = NULL;
}

void fetch_part_ready(struct fetch_part *p)
{
    fetch_part_unready(p);
    p->ready_prev = p->set->ready_last;
    *p->set->ready_last = p;
    p->set->ready_last = &p->ready_next;
}

static void part_fired(struct mqg_partition_wait *w, enum mqg_err err)
{
    (void)err; /* what it is, is seen when it is looked at */
    struct fetch_part *p = MQG_CONTAINER_OF(w, struct fetch_part, wait);
    fetch_part_ready(p);
    fetch_news(p->set);
}

static uint16_t part_key(uint8_t *out, const struct kafka_uuid *id, struct mqg_slice name, int32_t index)
{
    mqg_put_be32(out, (uint32_t)index);
    if (id != NULL)
        name = mqg_slice_of(id->bytes, sizeof id->bytes);
    if (name.len > 0)
        memcpy(out + 4, name.ptr, name.len);
    return (uint16_t)(4 + name.len);
}

struct fetch_part *fetch_part_add(struct fetch_set *set, const struct kafka_uuid *id, struct mqg_slice name,
                                  int32_t index)
{
    MQG_ASSERT(name.len <= INT16_MAX);
    struct fetch_part *p = mqg_xmalloc(sizeof *p + 4 + (id != NULL ? sizeof *id : name.len));
    *p = (struct fetch_part){.set = set, .index = index, .told_high = -1, .told_start = -1};
    p->wait.fire = part_fired;
    p->key_len = part_key(p->key, id, name, index);
    p->prev = set->last;
    *set->last = p;
    set->last = &p->next;
    set->nparts++;
    if (set->session)
        mqg_map_set(&set->by_key, mqg_slice_of(p->key, p->key_len), p);
    fetch_part_ready(p);
    return p;
}

struct fetch_part *fetch_part_find(struct fetch_set *set, const struct kafka_uuid *id, struct mqg_slice name,
                                   int32_t index)
{
    uint8_t key[4 + 256];
    if (!set->session || (id == NULL && name.len > 256))
        return NULL;
    return mqg_map_get(&set->by_key, mqg_slice_of(key, part_key(key, id, name, index)));
}

void fetch_part_free(struct fetch_part *p)
{
    mqg_partition_unwait(&p->wait);
    fetch_part_release(p);
    if (p->reading)
        p->dead = true;
    else
        free(p);
}

void fetch_part_remove(struct fetch_part *p)
{
    struct fetch_set *set = p->set;
    fetch_part_unready(p);
    *p->prev = p->next;
    if (p->next != NULL)
        p->next->prev = p->prev;
    else
        set->last = p->prev;
    set->nparts--;
    if (set->session)
        mqg_map_del(&set->by_key, mqg_slice_of(p->key, p->key_len));
    fetch_part_free(p);
}

struct mqg_slice fetch_part_topic(const struct fetch_part *p)
{
    return mqg_slice_of(p->key + 4, p->key_len - 4u);
}

/* ---- sets ------------------------------------------------------------------------------------------------------------------------ */

struct fetch_set *fetch_set_new(struct kafka_conn *kc, bool by_id)
{
    struct fetch_set *set = mqg_xcalloc(1, sizeof *set);
    set->conn = kc;
    set->by_id = by_id;
    set->last = &set->first;
    set->ready_last = &set->ready;
    return set;
}

void fetch_set_free(struct fetch_set **ref)
{
    struct fetch_set *set = *ref;
    *ref = NULL;
    if (set == NULL)
        return;
    while (set->first != NULL) {
        struct fetch_part *p = set->first;
        set->first = p->next;
        fetch_part_free(p);
    }
    if (set->session)
        mqg_map_fini(&set->by_key);
    set->session = false;
    set->dead = true;
    set->call = NULL;
    if (set->reading == 0)
        fetch_set_bury(set);
}

void fetch_set_bury(struct fetch_set *set)
{
    MQG_ASSERT(set->dead && set->reading == 0);
    free(set);
}

/* ---- sessions --------------------------------------------------------------------------------------------------------------------- */

bool fetch_session_open(struct fetch_set *set)
{
    if (session_count >= kafka_settings.fetch_sessions || set->nparts > FETCH_SESSION_PARTS_MAX)
        return false;
    fetch_session_close(set->conn);
    session_count++;
    set->session = true;
    set->id = (int32_t)(mqg_random_u64() % INT32_MAX) + 1;
    set->epoch = 1;
    mqg_map_init(&set->by_key, MQG_MAP_BORROW);
    for (struct fetch_part *p = set->first, *next; p != NULL; p = next) {
        next = p->next;
        struct fetch_part *twice = mqg_map_get(&set->by_key, mqg_slice_of(p->key, p->key_len));
        if (twice != NULL) /* the last word counts */
            fetch_part_remove(twice);
        mqg_map_set(&set->by_key, mqg_slice_of(p->key, p->key_len), p);
    }
    set->conn->fetch_session = set;
    return true;
}

void fetch_session_close(struct kafka_conn *kc)
{
    if (kc->fetch_session == NULL)
        return;
    session_count--;
    fetch_set_free(&kc->fetch_session);
}

/* txn.c - which steps a transactional id may take. txn.h draws them. */
#include "txn.h"

#include <stdlib.h>

const char *kafka_txn_state_name(enum kafka_txn_state state)
{
    static const char *const names[KAFKA_TXN_STATES] = {
        [KAFKA_TXN_EMPTY] = "Empty",
        [KAFKA_TXN_ONGOING] = "Ongoing",
        [KAFKA_TXN_PREPARE_COMMIT] = "PrepareCommit",
        [KAFKA_TXN_PREPARE_ABORT] = "PrepareAbort",
        [KAFKA_TXN_COMPLETE_COMMIT] = "CompleteCommit",
        [KAFKA_TXN_COMPLETE_ABORT] = "CompleteAbort",
    };
    return names[state];
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

static struct mqg_slice bytes_put(uint8_t **at, struct mqg_slice s)
{
    struct mqg_slice copy = mqg_slice_of(*at, s.len);
    if (s.len > 0)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return copy;
}

/* The key is vhost and id with a zero between them: no vhost's name has one. */
struct kafka_txn *kafka_txn_new(struct mqg_slice vhost, struct mqg_slice id)
{
    struct kafka_txn *t = mqg_xcalloc(1, sizeof(*t) + vhost.len + 1 + id.len);
    uint8_t *at = t->bytes;
    t->vhost = bytes_put(&at, vhost);
    at++;
    t->id = bytes_put(&at, id);
    t->key = mqg_slice_of(t->bytes, vhost.len + 1 + id.len);
    t->producer_id = t->rotated_id = -1;
    t->epoch = t->last_epoch = KAFKA_NO_EPOCH;
    return t;
}

static void group_free(struct kafka_txn_group *g)
{
    for (size_t i = 0; i < g->rows.n; i++)
        free(g->rows.items[i]);
    mqg_vec_fini(&g->rows);
    free(g);
}

void kafka_txn_forget(struct kafka_txn *t)
{
    for (size_t i = 0; i < t->groups.n; i++)
        group_free(t->groups.items[i]);
    mqg_vec_fini(&t->groups);
    free(t->parts);
    t->parts = NULL;
    t->nparts = t->cap_parts = 0;
}

void kafka_txn_free(struct kafka_txn **t)
{
    if (*t == NULL)
        return;
    kafka_txn_forget(*t);
    free(*t);
    *t = NULL;
}

/* ---- who may ------------------------------------------------------------------------------------------------------------ */

enum kafka_error kafka_txn_check(const struct kafka_txn *t, int64_t producer_id, int16_t epoch)
{
    if (t->producer_id != producer_id)
        return KAFKA_INVALID_PRODUCER_ID_MAPPING;
    if (t->epoch != epoch || epoch > KAFKA_EPOCH_MAX)
        return KAFKA_PRODUCER_FENCED;
    return t->busy ? KAFKA_CONCURRENT_TRANSACTIONS : KAFKA_NONE;
}

/* Did the owner have that epoch just before the present one? Then its answer was lost, and it asks for the second time. */
static bool txn_had(const struct kafka_txn *t, int64_t producer_id, int16_t epoch)
{
    if (producer_id == t->producer_id)
        return epoch == t->last_epoch && epoch != KAFKA_NO_EPOCH;
    return producer_id == t->rotated_id && producer_id >= 0 && epoch == KAFKA_EPOCH_MAX && t->epoch == 0;
}

enum kafka_txn_init kafka_txn_init(const struct kafka_txn *t, int64_t producer_id, int16_t epoch,
                                   enum kafka_error *error)
{
    bool present = producer_id == t->producer_id && epoch == t->epoch;
    bool before = txn_had(t, producer_id, epoch);
    *error = KAFKA_NONE;
    if (t->busy)
        *error = KAFKA_CONCURRENT_TRANSACTIONS;
    else if (producer_id >= 0 && !present && !before && t->producer_id >= 0)
        *error = KAFKA_PRODUCER_FENCED;
    if (*error != KAFKA_NONE)
        return KAFKA_INIT_REFUSED;
    if (t->state == KAFKA_TXN_ONGOING)
        return KAFKA_INIT_ABORT;
    return before && t->epoch <= KAFKA_EPOCH_MAX ? KAFKA_INIT_ANSWER : KAFKA_INIT_RAISE;
}

void kafka_txn_raise(struct kafka_txn *t, bool same, int64_t (*fresh_id)(void))
{
    t->last_epoch = KAFKA_NO_EPOCH;
    if (t->producer_id < 0 || t->epoch >= KAFKA_EPOCH_MAX) {
        t->rotated_id = same ? t->producer_id : -1;
        t->producer_id = fresh_id();
        t->epoch = 0;
    } else {
        if (same)
            t->last_epoch = t->epoch;
        t->epoch++;
    }
    t->state = KAFKA_TXN_EMPTY;
}

/* An id is left behind at KAFKA_EPOCH_MAX, so there is always one more. */
void kafka_txn_fence(struct kafka_txn *t, bool same)
{
    MQG_ASSERT(t->epoch < INT16_MAX);
    t->last_epoch = same ? t->epoch : KAFKA_NO_EPOCH;
    t->epoch++;
}

/* ---- the transaction --------------------------------------------------------------------------------------------------- */

static void txn_ongoing(struct kafka_txn *t, uint64_t now_ms)
{
    if (t->state != KAFKA_TXN_ONGOING)
        t->start_ms = now_ms;
    t->state = KAFKA_TXN_ONGOING;
}

bool kafka_txn_has_part(const struct kafka_txn *t, uint64_t partition)
{
    for (size_t i = 0; i < t->nparts; i++)
        if (t->parts[i].partition == partition)
            return true;
    return false;
}

void kafka_txn_add_part(struct kafka_txn *t, uint64_t partition, uint64_t first, uint64_t now_ms)
{
    txn_ongoing(t, now_ms);
    if (t->nparts == t->cap_parts) {
        t->cap_parts = t->cap_parts ? t->cap_parts * 2 : 4;
        t->parts = mqg_xrealloc(t->parts, t->cap_parts * sizeof(*t->parts));
    }
    t->parts[t->nparts++] = (struct kafka_txn_part){partition, first, MQG_OFFSET_NONE};
}

struct kafka_txn_group *kafka_txn_group(const struct kafka_txn *t, struct mqg_slice name)
{
    for (size_t i = 0; i < t->groups.n; i++) {
        struct kafka_txn_group *g = t->groups.items[i];
        if (mqg_slice_eq(g->name, name))
            return g;
    }
    return NULL;
}

struct kafka_txn_group *kafka_txn_add_group(struct kafka_txn *t, struct mqg_slice name, uint64_t now_ms)
{
    txn_ongoing(t, now_ms);
    struct kafka_txn_group *g = kafka_txn_group(t, name);
    if (g != NULL)
        return g;
    g = mqg_xcalloc(1, sizeof(*g) + name.len);
    uint8_t *at = g->bytes;
    g->name = bytes_put(&at, name);
    mqg_vec_push(&t->groups, g);
    return g;
}

void kafka_txn_add_row(struct kafka_txn_group *g, const struct kafka_offset_row *row)
{
    struct kafka_txn_row *r = mqg_xcalloc(1, sizeof(*r) + row->topic.len + row->metadata.len);
    uint8_t *at = r->bytes;
    r->row = *row;
    r->row.topic = bytes_put(&at, row->topic);
    if (row->metadata.ptr != NULL)
        r->row.metadata = bytes_put(&at, row->metadata);
    for (size_t i = 0; i < g->rows.n; i++) {
        struct kafka_txn_row *old = g->rows.items[i];
        if (old->row.partition_id != row->partition_id)
            continue;
        free(old);
        g->rows.items[i] = r;
        return;
    }
    mqg_vec_push(&g->rows, r);
}

static bool end_is_over(const struct kafka_txn *t, bool commit)
{
    return t->state == (commit ? KAFKA_TXN_COMPLETE_COMMIT : KAFKA_TXN_COMPLETE_ABORT);
}

enum kafka_txn_end kafka_txn_end(const struct kafka_txn *t, int64_t producer_id, int16_t epoch, bool commit,
                                 enum kafka_error *error)
{
    bool again = txn_had(t, producer_id, epoch);
    *error = again ? t->busy > 0 ? KAFKA_CONCURRENT_TRANSACTIONS : KAFKA_NONE
                   : kafka_txn_check(t, producer_id, epoch);
    bool since = t->state == KAFKA_TXN_ONGOING || t->state == KAFKA_TXN_EMPTY; /* no end is the latest */
    if (*error == KAFKA_NONE && again && since)
        *error = KAFKA_PRODUCER_FENCED;
    else if (*error == KAFKA_NONE && again && !end_is_over(t, commit))
        *error = KAFKA_INVALID_TXN_STATE;
    else if (*error == KAFKA_NONE && !again && commit && t->state != KAFKA_TXN_ONGOING)
        *error = KAFKA_INVALID_TXN_STATE;
    if (*error != KAFKA_NONE)
        return KAFKA_END_REFUSED;
    return again ? KAFKA_END_ANSWER : t->state == KAFKA_TXN_ONGOING ? KAFKA_END_ALL : KAFKA_END_NOTHING;
}

void kafka_txn_nothing(struct kafka_txn *t)
{
    t->state = KAFKA_TXN_COMPLETE_ABORT;
}

bool kafka_txn_is_used_up(const struct kafka_txn *t)
{
    return t->epoch > KAFKA_EPOCH_MAX;
}

void kafka_txn_rotate(struct kafka_txn *t, int64_t (*fresh_id)(void))
{
    t->rotated_id = t->producer_id;
    t->producer_id = fresh_id();
    t->epoch = 0;
    t->last_epoch = KAFKA_NO_EPOCH;
}

enum kafka_error kafka_txn_may_end(const struct kafka_txn *t, bool commit, bool *done)
{
    *done = end_is_over(t, commit);
    return *done || t->state == KAFKA_TXN_ONGOING ? KAFKA_NONE : KAFKA_INVALID_TXN_STATE;
}

void kafka_txn_prepare(struct kafka_txn *t, bool commit)
{
    MQG_ASSERT(t->state == KAFKA_TXN_ONGOING);
    t->state = commit ? KAFKA_TXN_PREPARE_COMMIT : KAFKA_TXN_PREPARE_ABORT;
}

void kafka_txn_complete(struct kafka_txn *t)
{
    MQG_ASSERT(t->state == KAFKA_TXN_PREPARE_COMMIT || t->state == KAFKA_TXN_PREPARE_ABORT);
    t->state = t->state == KAFKA_TXN_PREPARE_COMMIT ? KAFKA_TXN_COMPLETE_COMMIT : KAFKA_TXN_COMPLETE_ABORT;
    kafka_txn_forget(t);
}

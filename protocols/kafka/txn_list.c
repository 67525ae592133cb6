/* txn_list.c - what an operator may see: DescribeProducers, DescribeTransactions, ListTransactions (KIP-664). */
#include "group_regex.h"
#include "producer_part.h"
#include "txn_api.h"

#include <stdlib.h>

/* ---- DescribeProducers -------------------------------------------------------------------------------------------------- */

typedef struct kafka_describe_producers_response_topics_partitions producers_out;

struct producers {
    struct kafka_call *call;
    producers_out *out;
    int32_t cap;
    bool failed;
};

/* A copy in the arena that grows by doubling. */
static bool producers_room(struct producers *p)
{
    if (p->out->active_producers_n < p->cap)
        return true;
    int32_t cap = p->cap > 0 ? p->cap * 2 : 8;
    void *room = kafka_call_alloc(p->call, (size_t)cap, sizeof(*p->out->active_producers));
    if (room == NULL)
        return false;
    if (p->out->active_producers_n > 0)
        memcpy(room, p->out->active_producers,
               (size_t)p->out->active_producers_n * sizeof(*p->out->active_producers));
    p->out->active_producers = room;
    p->cap = cap;
    return true;
}

static void producers_visit(void *arg, const struct kafka_producer *producer)
{
    struct producers *p = arg;
    p->failed = p->failed || !producers_room(p);
    if (p->failed)
        return;
    struct kafka_describe_producers_response_topics_partitions_active_producers *to =
        &p->out->active_producers[p->out->active_producers_n++];
    to->producer_id = producer->id;
    to->producer_epoch = producer->epoch;
    to->last_sequence = producer->nbatch > 0 ? producer->batch[producer->nbatch - 1].last_sequence : -1;
    to->last_timestamp = producer->last_time_ms;
    to->coordinator_epoch = producer->coordinator_epoch;
    to->current_txn_start_offset = producer->in_txn ? (int64_t)producer->txn_first : -1;
}

static bool producers_of(struct kafka_call *c, struct mqg_slice topic, int32_t index, producers_out *out)
{
    enum kafka_error code = KAFKA_NONE;
    struct producers p = {.call = c, .out = out};
    struct mqg_partition *partition = kafka_partition(c->conn, topic, index, MQG_READ, &code);
    out->partition_index = index;
    out->error_code = (int16_t)code;
    out->active_producers_n = 0;
    if (partition != NULL)
        kafka_part_each(partition, producers_visit, &p);
    return !p.failed;
}

void kafka_describe_producers(struct kafka_call *c)
{
    const struct kafka_describe_producers_request *r = c->request;
    struct kafka_describe_producers_response *out = c->response;
    int32_t n = r->topics_n > 0 ? r->topics_n : 0;
    out->topics = kafka_call_alloc(c, (size_t)n + 1, sizeof(*out->topics));
    bool ok = out->topics != NULL;
    for (int32_t i = 0; ok && i < n; i++) {
        int32_t m = r->topics[i].partition_indexes_n > 0 ? r->topics[i].partition_indexes_n : 0;
        out->topics[i].name = r->topics[i].name;
        out->topics[i].partitions = kafka_call_alloc(c, (size_t)m + 1, sizeof(*out->topics[i].partitions));
        ok = out->topics[i].partitions != NULL;
        out->topics[i].partitions_n = ok ? m : 0;
        for (int32_t k = 0; ok && k < m; k++)
            ok = producers_of(c, r->topics[i].name, r->topics[i].partition_indexes[k],
                              &out->topics[i].partitions[k]);
        out->topics_n = i + 1;
    }
    if (ok)
        kafka_call_answer(c);
    else
        kafka_call_drop(c, "an answer that is too large");
}

/* ---- DescribeTransactions ----------------------------------------------------------------------------------------------- */

typedef struct kafka_describe_transactions_response_transaction_states state_out;

/* A partition of a topic; sorted, they make the answer's groups. */
struct named {
    struct mqg_slice topic;
    int32_t index;
};

static int named_order(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    size_t n = x->topic.len < y->topic.len ? x->topic.len : y->topic.len;
    int order = n > 0 ? memcmp(x->topic.ptr, y->topic.ptr, n) : 0;
    if (order == 0 && x->topic.len != y->topic.len)
        order = x->topic.len < y->topic.len ? -1 : 1;
    return order != 0 ? order : x->index < y->index ? -1 : x->index > y->index;
}

static struct named *state_names(struct kafka_call *c, const struct kafka_txn *t, size_t *n)
{
    struct named *names = kafka_call_alloc(c, t->nparts + 1, sizeof(*names));
    *n = 0;
    for (size_t i = 0; names != NULL && i < t->nparts; i++) {
        struct mqg_partition *p = mqg_partition_find(t->parts[i].partition);
        struct mqg_stream *s = p != NULL ? mqg_partition_stream(p) : NULL;
        if (p == NULL)
            continue;
        names[(*n)++] = (struct named){kafka_call_dup(c, mqg_stream_name(s)),
                                       (int32_t)mqg_partition_index(p)};
        mqg_stream_unref(&s);
    }
    if (names != NULL)
        qsort(names, *n, sizeof(*names), named_order);
    return names;
}

static bool state_topics(struct kafka_call *c, const struct kafka_txn *t, state_out *out)
{
    size_t n;
    struct named *names = state_names(c, t, &n);
    int32_t *indexes = kafka_call_alloc(c, t->nparts + 1, sizeof(*indexes));
    out->topics = kafka_call_alloc(c, t->nparts + 1, sizeof(*out->topics));
    out->topics_n = 0;
    if (names == NULL || indexes == NULL || out->topics == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        indexes[i] = names[i].index;
        if (i == 0 || !mqg_slice_eq(names[i].topic, names[i - 1].topic)) {
            out->topics[out->topics_n].topic = names[i].topic;
            out->topics[out->topics_n].partitions = &indexes[i];
            out->topics[out->topics_n++].partitions_n = 0;
        }
        out->topics[out->topics_n - 1].partitions_n++;
    }
    return true;
}

static bool state_of(struct kafka_call *c, struct mqg_slice id, state_out *out)
{
    out->transactional_id = id;
    out->transaction_state = MQG_SLICE_LIT("");
    out->producer_id = -1;
    out->producer_epoch = -1;
    out->transaction_start_time_ms = -1;
    if (!kafka_allowed(c->conn, MQG_READ, "transactional_id", id)) {
        out->error_code = KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        return true;
    }
    const struct kafka_txn *t = kafka_txns_find(kafka_vhost(c->conn), id);
    if (t == NULL || t->producer_id < 0) {
        out->error_code = KAFKA_TRANSACTIONAL_ID_NOT_FOUND;
        return true;
    }
    out->transaction_state = mqg_slice_str(kafka_txn_state_name(t->state));
    out->transaction_timeout_ms = (int32_t)t->timeout_ms;
    if (t->state == KAFKA_TXN_ONGOING)
        out->transaction_start_time_ms = (int64_t)t->start_ms;
    out->producer_id = t->producer_id;
    out->producer_epoch = t->epoch;
    return state_topics(c, t, out);
}

void kafka_describe_transactions(struct kafka_call *c)
{
    const struct kafka_describe_transactions_request *r = c->request;
    struct kafka_describe_transactions_response *out = c->response;
    int32_t n = r->transactional_ids_n > 0 ? r->transactional_ids_n : 0;
    out->transaction_states = kafka_call_alloc(c, (size_t)n + 1, sizeof(*out->transaction_states));
    bool ok = out->transaction_states != NULL;
    kafka_txns_lock();
    for (int32_t i = 0; ok && i < n; i++) {
        ok = state_of(c, r->transactional_ids[i], &out->transaction_states[i]);
        out->transaction_states_n = i + 1;
    }
    kafka_txns_unlock();
    if (ok)
        kafka_call_answer(c);
    else
        kafka_call_drop(c, "an answer that is too large");
}

/* ---- ListTransactions ---------------------------------------------------------------------------------------------------- */

struct list {
    struct kafka_call *call;
    struct mqg_slice vhost;
    uint64_t now_ms;
    struct group_regex *pattern; /* of ids (KIP-1152); NULL: all */
    bool failed;
};

static bool list_wants(const struct kafka_list_transactions_request *r, const struct kafka_txn *t,
                       uint64_t now_ms)
{
    bool state = r->state_filters_n <= 0, id = r->producer_id_filters_n <= 0;
    for (int32_t i = 0; i < r->state_filters_n; i++)
        state = state || mqg_slice_eq(r->state_filters[i], mqg_slice_str(kafka_txn_state_name(t->state)));
    for (int32_t i = 0; i < r->producer_id_filters_n; i++)
        id = id || r->producer_id_filters[i] == t->producer_id;
    bool old = r->duration_filter < 0 || (t->state == KAFKA_TXN_ONGOING && now_ms > t->start_ms &&
                                          now_ms - t->start_ms > (uint64_t)r->duration_filter);
    return state && id && old;
}

static void list_visit(void *arg, struct kafka_txn *t)
{
    struct list *l = arg;
    struct kafka_call *c = l->call;
    struct kafka_list_transactions_response *out = c->response;
    if (t->producer_id < 0 || !mqg_slice_eq(t->vhost, l->vhost) || !list_wants(c->request, t, l->now_ms) ||
        (l->pattern != NULL && !group_regex_matches(l->pattern, t->id)) ||
        !kafka_allowed(c->conn, MQG_READ, "transactional_id", t->id))
        return;
    struct mqg_slice id = kafka_call_dup(c, t->id);
    l->failed = l->failed || (id.ptr == NULL && t->id.len > 0);
    out->transaction_states[out->transaction_states_n].transactional_id = id;
    out->transaction_states[out->transaction_states_n].producer_id = t->producer_id;
    out->transaction_states[out->transaction_states_n++].transaction_state = mqg_slice_str(
        kafka_txn_state_name(t->state));
}

static bool list_unknown(struct kafka_call *c)
{
    const struct kafka_list_transactions_request *r = c->request;
    struct kafka_list_transactions_response *out = c->response;
    int32_t n = r->state_filters_n > 0 ? r->state_filters_n : 0;
    out->unknown_state_filters = kafka_call_alloc(c, (size_t)n + 1, sizeof(*out->unknown_state_filters));
    out->unknown_state_filters_n = 0;
    for (int32_t i = 0; out->unknown_state_filters != NULL && i < n; i++) {
        bool known = false;
        for (int s = 0; s < KAFKA_TXN_STATES; s++)
            known = known || mqg_slice_eq(r->state_filters[i],
                                          mqg_slice_str(kafka_txn_state_name((enum kafka_txn_state)s)));
        if (!known)
            out->unknown_state_filters[out->unknown_state_filters_n++] = r->state_filters[i];
    }
    return out->unknown_state_filters != NULL;
}

void kafka_list_transactions(struct kafka_call *c)
{
    const struct kafka_list_transactions_request *r = c->request;
    struct kafka_list_transactions_response *out = c->response;
    struct list l = {c, mqg_vhost_name(kafka_vhost(c->conn)), mqg_clock_now().wall_us / 1000, NULL, false};
    if (r->transactional_id_pattern.len > 0 &&
        group_regex_new(r->transactional_id_pattern, &l.pattern) != MQG_OK) {
        out->error_code = KAFKA_INVALID_REGULAR_EXPRESSION;
        kafka_call_answer(c);
        return;
    }
    bool ok = list_unknown(c);
    kafka_txns_lock();
    out->transaction_states_n = 0;
    out->transaction_states = ok ? kafka_call_alloc(c, kafka_txns_count() + 1,
                                                    sizeof(*out->transaction_states))
                                 : NULL;
    ok = out->transaction_states != NULL;
    if (ok)
        kafka_txns_each(list_visit, &l);
    kafka_txns_unlock();
    group_regex_free(&l.pattern);
    if (ok && !l.failed)
        kafka_call_answer(c);
    else
        kafka_call_drop(c, "an answer that is too large");
}

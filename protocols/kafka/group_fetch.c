/* group_fetch.c - OffsetFetch: positions that are read, from memory.
 *
 * The old versions ask for one group, the new ones for several; both are answered by one function that fills the new form, which
 * the old one then copies. Asked for all topics, the answer has those whose partitions are still there, and that the client may
 * see. */
#include "group_table.h"

#include <stdlib.h>

struct fetch {
    struct kafka_call *call;
    struct kafka_group *group; /* NULL: there is none, so there are no positions */
    bool stable;               /* what an open transaction holds back is not told */
    struct kafka_offset_fetch_response_groups *out;
};

/* ---- rows -------------------------------------------------------------------------------------------------------------- */

static void row_none(struct kafka_offset_fetch_response_groups_topics_partitions *out, int32_t index,
                     enum kafka_error error)
{
    out->partition_index = index;
    out->committed_offset = -1;
    out->committed_leader_epoch = -1;
    out->metadata = MQG_SLICE_LIT("");
    out->error_code = (int16_t)error;
}

/* The group is locked; its texts are copied. */
static void row_fill(const struct fetch *f, uint64_t partition_id, int32_t index,
                     struct kafka_offset_fetch_response_groups_topics_partitions *out)
{
    const struct kafka_offset_row *row = f->group != NULL
                                             ? group_offsets_get(&f->group->offsets, partition_id)
                                             : NULL;
    row_none(out, index, KAFKA_NONE);
    if (f->stable && f->group != NULL && group_offsets_unstable(&f->group->offsets, partition_id)) {
        out->error_code = KAFKA_UNSTABLE_OFFSET_COMMIT;
        return;
    }
    if (row == NULL)
        return;
    out->committed_offset = row->offset;
    out->committed_leader_epoch = row->leader_epoch;
    out->metadata = row->metadata.len > 0 ? kafka_call_dup(f->call, row->metadata) : MQG_SLICE_LIT("");
}

/* A topic that is not there has no positions; that is no error here. */
static void row_asked(const struct fetch *f, struct mqg_slice topic, int32_t index,
                      struct kafka_offset_fetch_response_groups_topics_partitions *out)
{
    enum kafka_error error = KAFKA_NONE;
    const struct mqg_partition *p = kafka_partition(f->call->conn, topic, index, KAFKA_DESCRIBE, &error);
    if (p != NULL)
        row_fill(f, mqg_partition_id(p), index, out);
    else
        row_none(out, index, error == KAFKA_UNKNOWN_TOPIC_OR_PARTITION ? KAFKA_NONE : error);
}

static bool topic_asked(const struct fetch *f, const struct kafka_offset_fetch_request_groups_topics *in,
                        struct kafka_offset_fetch_response_groups_topics *out)
{
    int32_t n = in->partition_indexes_n > 0 ? in->partition_indexes_n : 0;
    out->name = in->name;
    out->partitions = kafka_call_alloc(f->call, (size_t)n, sizeof *out->partitions);
    if (out->partitions == NULL)
        return false;
    out->partitions_n = n;
    for (int32_t i = 0; i < n; i++)
        row_asked(f, in->name, in->partition_indexes[i], &out->partitions[i]);
    return true;
}

/* ---- all topics ---------------------------------------------------------------------------------------------------------- */

static int row_order(const void *a, const void *b)
{
    const struct kafka_offset_row *x = *(const struct kafka_offset_row *const *)a;
    const struct kafka_offset_row *y = *(const struct kafka_offset_row *const *)b;
    int by_name = mqg_slice_cmp(x->topic, y->topic);
    return by_name != 0 ? by_name : x->index < y->index ? -1 : x->index > y->index;
}

static bool row_seen(const struct fetch *f, const struct kafka_offset_row *row)
{
    enum kafka_error error = KAFKA_NONE;
    const struct mqg_partition *p = kafka_partition(f->call->conn, row->topic, row->index, KAFKA_DESCRIBE,
                                                    &error);
    return p != NULL && mqg_partition_id(p) == row->partition_id;
}

/* Rows that are to be told, in order; the array is the arena's. */
static const struct kafka_offset_row **rows_seen(const struct fetch *f, size_t *n)
{
    const struct group_offsets *o = &f->group->offsets;
    const struct kafka_offset_row **rows = kafka_call_alloc(f->call, o->rows.count + 1, sizeof *rows);
    *n = 0;
    if (rows == NULL)
        return NULL;
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&o->rows, &it);) {
        const struct group_offset *row = it.value;
        if (row_seen(f, &row->row))
            rows[(*n)++] = &row->row;
    }
    qsort(rows, *n, sizeof *rows, row_order);
    return rows;
}

static bool topics_all(struct fetch *f)
{
    size_t n = 0;
    const struct kafka_offset_row **rows = f->group != NULL ? rows_seen(f, &n) : NULL;
    f->out->topics = kafka_call_alloc(f->call, n + 1, sizeof *f->out->topics);
    if (f->out->topics == NULL || (f->group != NULL && rows == NULL))
        return false;
    for (size_t i = 0; i < n;) {
        struct kafka_offset_fetch_response_groups_topics *t = &f->out->topics[f->out->topics_n++];
        size_t end = i;
        while (end < n && mqg_slice_eq(rows[end]->topic, rows[i]->topic))
            end++;
        t->name = kafka_call_dup(f->call, rows[i]->topic);
        t->partitions = kafka_call_alloc(f->call, end - i, sizeof *t->partitions);
        if (t->partitions == NULL)
            return false;
        for (; i < end; i++)
            row_fill(f, rows[i]->partition_id, rows[i]->index, &t->partitions[t->partitions_n++]);
    }
    return true;
}

/* ---- groups ---------------------------------------------------------------------------------------------------------------- */

static int16_t group_refusal(const struct fetch *f, const struct kafka_offset_fetch_request_groups *in)
{
    if (in->member_id.ptr == NULL || in->member_epoch < 0)
        return KAFKA_NONE;
    if (f->group == NULL || f->group->kind != KAFKA_GROUP_CONSUMER)
        return f->group == NULL ? KAFKA_GROUP_ID_NOT_FOUND : KAFKA_NONE;
    return consumer_check(&f->group->consumer, in->member_id, in->member_epoch);
}

static bool group_topics(struct fetch *f, const struct kafka_offset_fetch_request_groups *in)
{
    if (in->topics_n < 0)
        return topics_all(f);
    f->out->topics = kafka_call_alloc(f->call, (size_t)in->topics_n, sizeof *f->out->topics);
    if (f->out->topics == NULL)
        return false;
    for (int32_t t = 0; t < in->topics_n; t++, f->out->topics_n++)
        if (!topic_asked(f, &in->topics[t], &f->out->topics[t]))
            return false;
    return true;
}

static bool fetch_group(struct kafka_call *c, const struct kafka_offset_fetch_request_groups *in, bool stable,
                        struct kafka_offset_fetch_response_groups *out)
{
    struct fetch f = {.call = c, .stable = stable, .out = out};
    out->group_id = in->group_id;
    out->topics_n = 0;
    if (!kafka_allowed(c->conn, KAFKA_DESCRIBE, "group", in->group_id)) {
        out->error_code = KAFKA_GROUP_AUTHORIZATION_FAILED;
        return true;
    }
    f.group = kafka_group_lock(kafka_vhost(c->conn), in->group_id, false);
    out->error_code = group_refusal(&f, in);
    bool room = out->error_code != KAFKA_NONE || group_topics(&f, in);
    if (f.group != NULL)
        kafka_group_done(f.group);
    return room;
}

static bool fetch_many(struct kafka_call *c)
{
    const struct kafka_offset_fetch_request *in = c->request;
    struct kafka_offset_fetch_response *out = c->response;
    int32_t n = in->groups_n > 0 ? in->groups_n : 0;
    out->groups = kafka_call_alloc(c, (size_t)n, sizeof *out->groups);
    if (out->groups == NULL)
        return false;
    out->groups_n = n;
    for (int32_t i = 0; i < n; i++)
        if (!fetch_group(c, &in->groups[i], in->require_stable, &out->groups[i]))
            return false;
    return true;
}

static bool topics_copy(struct kafka_call *c, const struct kafka_offset_fetch_response_groups *from)
{
    struct kafka_offset_fetch_response *out = c->response;
    out->topics = kafka_call_alloc(c, (size_t)from->topics_n, sizeof *out->topics);
    for (int32_t t = 0; out->topics != NULL && t < from->topics_n; t++, out->topics_n++) {
        int32_t n = from->topics[t].partitions_n;
        out->topics[t].name = from->topics[t].name;
        out->topics[t].partitions = kafka_call_alloc(c, (size_t)n, sizeof *out->topics[t].partitions);
        if (out->topics[t].partitions == NULL)
            return false;
        out->topics[t].partitions_n = n;
        for (int32_t i = 0; i < n; i++) {
            const struct kafka_offset_fetch_response_groups_topics_partitions *row =
                &from->topics[t].partitions[i];
            out->topics[t].partitions[i] = (struct kafka_offset_fetch_response_topics_partitions){
                row->partition_index, row->committed_offset, row->committed_leader_epoch, row->metadata,
                row->error_code};
        }
    }
    return out->topics != NULL;
}

/* The topics of both forms look alike; null means all, but not in version 0 and 1. */
static bool fetch_one(struct kafka_call *c)
{
    const struct kafka_offset_fetch_request *in = c->request;
    struct kafka_offset_fetch_response *out = c->response;
    struct kafka_offset_fetch_response_groups got = {.topics_n = 0};
    int32_t n = in->topics_n > 0 ? in->topics_n : 0;
    struct kafka_offset_fetch_request_groups_topics *topics = kafka_call_alloc(c, (size_t)n + 1,
                                                                               sizeof *topics);
    if (topics == NULL)
        return false;
    for (int32_t t = 0; t < n; t++)
        topics[t] = (struct kafka_offset_fetch_request_groups_topics){
            in->topics[t].name, in->topics[t].partition_indexes, in->topics[t].partition_indexes_n};
    struct kafka_offset_fetch_request_groups asked = {
        .group_id = in->group_id, .member_epoch = -1, .topics = topics, .topics_n = in->topics_n};
    if (!fetch_group(c, &asked, in->require_stable, &got))
        return false;
    out->error_code = got.error_code;
    out->topics_n = 0;
    return topics_copy(c, &got);
}

void kafka_offset_fetch(struct kafka_call *c)
{
    if (c->head.version >= 8 ? fetch_many(c) : fetch_one(c))
        kafka_call_answer(c);
    else
        kafka_call_drop(c, "offset fetch: too large");
}

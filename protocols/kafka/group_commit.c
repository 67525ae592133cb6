/* group_commit.c - OffsetCommit, OffsetDelete, and a transaction's offsets: positions that are written.
 *
 * A commit is handed to the partitions' stores under the group's mutex, with a number, and answered when all of it is durable;
 * only then do others see it. The rows outlive the connection: what was handed over will be what the store says after a
 * restart, so it becomes visible whether somebody waits for the answer or not. */
#include "group_table.h"

#include <stdlib.h>

#include "admin.h"

#define COMMIT_ARENA_BYTES (64u << 20)

/* Positions on their way to the disk. */
struct commit {
    struct group_disk disk;
    struct kafka_call *call; /* NULL: nobody waits any more */
    struct kafka_group *group;
    struct mqg_arena arena; /* the rows and their texts */
    struct kafka_offset_row *rows;
    uint32_t nrows;
    uint64_t number;
};

static void commit_gone(struct kafka_call *c)
{
    ((struct commit *)c->owner)->call = NULL;
}

static struct commit *commit_new(struct kafka_call *c, size_t max_rows)
{
    struct commit *m = mqg_xcalloc(1, sizeof *m);
    mqg_arena_init(&m->arena, COMMIT_ARENA_BYTES);
    m->call = c;
    m->rows = mqg_arena_alloc(&m->arena, (max_rows + 1) * sizeof *m->rows);
    c->owner = m;
    c->gone = commit_gone;
    return m;
}

static void commit_free(struct commit *m)
{
    if (m->group != NULL)
        kafka_group_unref(m->group);
    mqg_arena_fini(&m->arena);
    free(m);
}

static void commit_durable(struct group_disk *d)
{
    struct commit *m = MQG_CONTAINER_OF(d, struct commit, disk);
    (void)kafka_group_relock(m->group);
    for (uint32_t i = 0; i < m->nrows && !d->failed; i++)
        group_offsets_set(&m->group->offsets, &m->rows[i], m->number);
    kafka_group_unlock(m->group);
    if (m->call != NULL && d->failed)
        kafka_call_drop(m->call, "the store failed");
    else if (m->call != NULL)
        kafka_call_answer(m->call);
    commit_free(m);
}

/* Where a row goes; false: its store keeps no positions, so memory is all there is. */
static bool position_write(struct kafka_group *g, struct mqg_partition *p, const struct kafka_offset_row *row,
                           struct group_disk *d)
{
    uint8_t text[GROUP_POSITION_HEAD_BYTES + GROUP_POSITION_METADATA_MAX];
    struct mqg_storage *s = mqg_stream_storage(mqg_partition_stream(p));
    if ((s->caps & MQG_STORE_POSITIONS) == 0)
        return false;
    uint64_t ticket = mqg_group_commit(p, group_view(g->name), (uint64_t)row->offset,
                                       group_position_encode(row, text));
    if (d != NULL)
        group_disk_note(d, s, ticket);
    return true;
}

/* ---- OffsetCommit ------------------------------------------------------------------------------------------------------- */

static void commit_fail(struct kafka_call *c, int16_t error)
{
    struct kafka_offset_commit_response *out = c->response;
    for (int32_t t = 0; t < out->topics_n; t++)
        for (int32_t i = 0; i < out->topics[t].partitions_n; i++)
            out->topics[t].partitions[i].error_code = error;
    kafka_call_answer(c);
}

/* The answer's shape; false: no room. Counts the rows. */
static bool commit_shape(struct kafka_call *c, size_t *rows)
{
    const struct kafka_offset_commit_request *in = c->request;
    struct kafka_offset_commit_response *out = c->response;
    int32_t n = in->topics_n > 0 ? in->topics_n : 0;
    out->topics = kafka_call_alloc(c, (size_t)n, sizeof *out->topics);
    out->topics_n = out->topics != NULL ? n : 0;
    *rows = 0;
    for (int32_t t = 0; t < out->topics_n; t++) {
        int32_t m = in->topics[t].partitions_n > 0 ? in->topics[t].partitions_n : 0;
        out->topics[t].name = in->topics[t].name;
        out->topics[t].partitions = kafka_call_alloc(c, (size_t)m, sizeof *out->topics[t].partitions);
        if (out->topics[t].partitions == NULL)
            return false;
        out->topics[t].partitions_n = m;
        for (int32_t i = 0; i < m; i++)
            out->topics[t].partitions[i].partition_index = in->topics[t].partitions[i].partition_index;
        *rows += (size_t)m;
    }
    return out->topics != NULL;
}

int16_t kafka_group_check(struct kafka_group *g, int32_t generation, struct mqg_slice member_id,
                          struct mqg_slice instance_id, bool transactional)
{
    if (g->kind == KAFKA_GROUP_CLASSIC)
        return group_check_commit(&g->classic, kafka_now_ms(), generation, member_id, instance_id,
                                  transactional);
    if (generation < 0 && g->consumer.members.n == 0)
        return KAFKA_NONE;
    if (generation < 0 && member_id.len == 0)
        return transactional ? KAFKA_NONE : KAFKA_UNKNOWN_MEMBER_ID;
    return consumer_check(&g->consumer, member_id, generation);
}

static uint64_t commit_expires(const struct kafka_offset_commit_request *in, int16_t version,
                               uint64_t wall_ms)
{
    bool said = version >= 2 && version <= 4 && in->retention_time_ms >= 0;
    return said ? wall_ms + (uint64_t)in->retention_time_ms : 0;
}

/* One partition: an error, or a row. */
static enum kafka_error commit_row(struct kafka_call *c, struct commit *m, struct mqg_slice topic,
                                   const struct kafka_offset_commit_request_topics_partitions *in,
                                   uint64_t wall_ms)
{
    enum kafka_error error = KAFKA_NONE;
    struct mqg_partition *p = kafka_partition(c->conn, topic, in->partition_index, MQG_READ, &error);
    if (p == NULL)
        return error;
    if (in->committed_metadata.len > GROUP_POSITION_METADATA_MAX)
        return KAFKA_OFFSET_METADATA_TOO_LARGE;
    if (in->committed_offset < 0)
        return KAFKA_INVALID_COMMIT_OFFSET_SIZE;
    struct kafka_offset_row *row = &m->rows[m->nrows];
    *row = (struct kafka_offset_row){.topic = mqg_arena_dup(&m->arena, topic),
                                     .index = in->partition_index,
                                     .partition_id = mqg_partition_id(p),
                                     .offset = in->committed_offset,
                                     .leader_epoch = in->committed_leader_epoch,
                                     .commit_ms = wall_ms,
                                     .expire_ms = commit_expires(c->request, c->head.version, wall_ms),
                                     .metadata = in->committed_metadata.ptr != NULL
                                                     ? mqg_arena_dup(&m->arena, in->committed_metadata)
                                                     : MQG_SLICE_NONE};
    if (row->topic.ptr == NULL || (row->metadata.ptr == NULL && in->committed_metadata.ptr != NULL))
        return KAFKA_INVALID_COMMIT_OFFSET_SIZE; /* more than one request may keep */
    m->nrows++;
    (void)position_write(m->group, p, row, &m->disk);
    return KAFKA_NONE;
}

static void commit_rows(struct kafka_call *c, struct commit *m)
{
    const struct kafka_offset_commit_request *in = c->request;
    struct kafka_offset_commit_response *out = c->response;
    uint64_t wall_ms = kafka_wall_ms();
    m->number = group_offsets_number(&m->group->offsets);
    for (int32_t t = 0; t < out->topics_n; t++)
        for (int32_t i = 0; i < out->topics[t].partitions_n; i++)
            out->topics[t].partitions[i].error_code = (int16_t)commit_row(
                c, m, in->topics[t].name, &in->topics[t].partitions[i], wall_ms);
}

void kafka_offset_commit(struct kafka_call *c)
{
    const struct kafka_offset_commit_request *in = c->request;
    size_t rows;
    if (!commit_shape(c, &rows)) {
        kafka_call_drop(c, "offset commit: too large");
        return;
    }
    if (!kafka_allowed(c->conn, MQG_READ, "group", in->group_id)) {
        commit_fail(c, KAFKA_GROUP_AUTHORIZATION_FAILED);
        return;
    }
    int32_t generation = in->generation_id_or_member_epoch;
    struct kafka_group *g = kafka_group_lock(kafka_vhost(c->conn), in->group_id, generation < 0);
    int16_t error = g == NULL ? (generation < 0 ? KAFKA_COORDINATOR_NOT_AVAILABLE : KAFKA_ILLEGAL_GENERATION)
                              : kafka_group_check(g, generation, in->member_id, in->group_instance_id, false);
    if (error != KAFKA_NONE) {
        if (g != NULL)
            kafka_group_done(g);
        commit_fail(c, error);
        return;
    }
    struct commit *m = commit_new(c, rows);
    m->group = g;
    if (m->rows == NULL) {
        kafka_group_unlock(g);
        commit_free(m);
        c->gone = NULL;
        commit_fail(c, KAFKA_INVALID_COMMIT_OFFSET_SIZE);
        return;
    }
    commit_rows(c, m);
    kafka_group_unlock(g);
    if (group_disk_wait(&m->disk, commit_durable))
        commit_durable(&m->disk);
}

/* ---- OffsetDelete --------------------------------------------------------------------------------------------------------- */

static bool delete_subscribed(const struct kafka_group *g, struct mqg_slice topic)
{
    if (g->kind == KAFKA_GROUP_CONSUMER)
        return consumer_subscribes(&g->consumer, topic);
    return group_subscribes(&g->classic, topic);
}

static enum kafka_error delete_row(struct kafka_call *c, struct kafka_group *g, struct mqg_slice topic,
                                   int32_t index, struct kafka_durable *durable)
{
    enum kafka_error error = KAFKA_NONE;
    struct mqg_partition *p = kafka_partition(c->conn, topic, index, MQG_READ, &error);
    if (p == NULL)
        return error;
    if (delete_subscribed(g, topic))
        return KAFKA_GROUP_SUBSCRIBED_TO_TOPIC;
    const struct kafka_offset_row *row = group_offsets_get(&g->offsets, mqg_partition_id(p));
    if (row == NULL)
        return KAFKA_NONE;
    kafka_group_position_drop(g, row, durable);
    (void)group_offsets_forget(&g->offsets, mqg_partition_id(p));
    return KAFKA_NONE;
}

static void delete_rows(struct kafka_call *c, struct kafka_group *g, struct kafka_durable *durable)
{
    const struct kafka_offset_delete_request *in = c->request;
    struct kafka_offset_delete_response *out = c->response;
    int32_t n = in->topics_n > 0 ? in->topics_n : 0;
    out->topics = kafka_call_alloc(c, (size_t)n, sizeof *out->topics);
    out->topics_n = out->topics != NULL ? n : 0;
    for (int32_t t = 0; t < out->topics_n; t++) {
        int32_t m = in->topics[t].partitions_n > 0 ? in->topics[t].partitions_n : 0;
        out->topics[t].name = in->topics[t].name;
        out->topics[t].partitions = kafka_call_alloc(c, (size_t)m, sizeof *out->topics[t].partitions);
        out->topics[t].partitions_n = out->topics[t].partitions != NULL ? m : 0;
        for (int32_t i = 0; i < out->topics[t].partitions_n; i++) {
            int32_t index = in->topics[t].partitions[i].partition_index;
            out->topics[t].partitions[i].partition_index = index;
            out->topics[t].partitions[i].error_code = (int16_t)delete_row(c, g, in->topics[t].name, index,
                                                                          durable);
        }
    }
}

/* A group whose protocol is not the consumers' names no topics: only an empty one may lose positions. */
static int16_t delete_refusal(const struct kafka_group *g)
{
    bool consumer = g->kind == KAFKA_GROUP_CONSUMER ||
                    mqg_slice_eq(group_view(g->classic.protocol_type), MQG_SLICE_LIT("consumer"));
    return kafka_group_empty(g) || consumer ? KAFKA_NONE : KAFKA_NON_EMPTY_GROUP;
}

void kafka_offset_delete(struct kafka_call *c)
{
    const struct kafka_offset_delete_request *in = c->request;
    struct kafka_offset_delete_response *out = c->response;
    struct kafka_durable gone = {{0}};
    struct kafka_group *g = NULL;
    if (in->group_id.len == 0)
        out->error_code = KAFKA_INVALID_GROUP_ID;
    else if (!kafka_allowed(c->conn, MQG_CONFIGURE, "group", in->group_id))
        out->error_code = KAFKA_GROUP_AUTHORIZATION_FAILED;
    else if ((g = kafka_group_lock(kafka_vhost(c->conn), in->group_id, false)) == NULL)
        out->error_code = KAFKA_GROUP_ID_NOT_FOUND;
    else
        out->error_code = delete_refusal(g);
    if (out->error_code == KAFKA_NONE)
        delete_rows(c, g, &gone);
    if (g != NULL)
        kafka_group_done(g);
    kafka_durable_answer(c, &gone);
}

/* ---- transactions (group_offsets.h) ---------------------------------------------------------------------------------------- */

int16_t kafka_offsets_check(struct mqg_vhost *v, struct mqg_slice group, int32_t generation,
                            struct mqg_slice member_id, struct mqg_slice instance_id)
{
    bool makes = generation < 0; /* who uses no membership may be the group's first */
    struct kafka_group *g = kafka_group_lock(v, group, makes);
    if (g == NULL)
        return makes ? KAFKA_COORDINATOR_NOT_AVAILABLE : KAFKA_ILLEGAL_GENERATION;
    int16_t error = kafka_group_check(g, generation, member_id, instance_id, true);
    kafka_group_done(g);
    return error;
}

void kafka_offsets_hold(struct mqg_vhost *v, struct mqg_slice group, int64_t producer_id,
                        const struct kafka_offset_row *rows, size_t n)
{
    struct kafka_group *g = kafka_group_lock(v, group, true);
    if (g == NULL)
        return;
    for (size_t i = 0; i < n; i++) {
        struct kafka_offset_row row = rows[i];
        row.commit_ms = mqg_clock_now().wall_us / 1000;
        group_offsets_hold(&g->offsets, producer_id, &row);
    }
    kafka_group_done(g);
}

void kafka_offsets_write(struct mqg_vhost *v, struct mqg_slice group, int64_t producer_id)
{
    struct kafka_group *g = kafka_group_lock(v, group, false);
    struct group_pending *pending = g != NULL ? group_offsets_pending(&g->offsets, producer_id) : NULL;
    for (size_t i = 0; pending != NULL && i < pending->rows.n; i++) {
        const struct kafka_offset_row *row = &((struct group_offset *)pending->rows.items[i])->row;
        struct mqg_stream *stream = NULL;
        struct mqg_partition *p = kafka_group_partition(g, row, &stream);
        if (p == NULL)
            continue;
        (void)position_write(g, p, row, NULL);
        mqg_stream_unref(&stream);
    }
    if (g != NULL)
        kafka_group_done(g);
}

void kafka_offsets_end(struct mqg_vhost *v, struct mqg_slice group, int64_t producer_id, bool committed)
{
    struct kafka_group *g = kafka_group_lock(v, group, false);
    if (g == NULL)
        return;
    group_offsets_release(&g->offsets, producer_id, committed, group_offsets_number(&g->offsets));
    kafka_group_done(g);
}

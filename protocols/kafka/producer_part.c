/* producer_part.c - one engine of producers per partition, its mutex, and what is written down of it.
 *
 * Check and append happen under one mutex, so that sequences are judged against what really was appended, whichever worker
 * brings the batch; the partition's own mutex is inside it. Order of locks: registry, then an engine's, then the partition's.
 *
 * What survives a restart: the last sequences come from the store (mqg_partition_producers), open transactions from the
 * coordinator's records, and each rollback has a record here, removed when the log's start has passed its marker:
 *
 *   kafka/abort/PARTITION/MARKER (16 hexadecimal digits each) = version 1 | producer id 8 | first 8      (little-endian)
 */
#include "producer_part.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct part {
    uint64_t id;
    uint32_t refs; /* under the registry's lock */
    pthread_mutex_t lock;
    struct kafka_producers producers;
};

enum { ABORT_VERSION = 1, ABORT_VALUE_BYTES = 17, ABORT_KEY_BYTES = sizeof(KAFKA_ABORT_PREFIX) - 1 + 33 };
enum { ERROR_UNKNOWN_PARTITION = 3 };

static pthread_mutex_t parts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_map parts = {.keys = MQG_MAP_BORROW}; /* partition id -> struct part */

static uint64_t part_now_ms(void)
{
    const struct mqg_worker *w = mqg_worker_self();
    return w != NULL ? w->now.mono_ms : mqg_clock_now().mono_ms;
}

/* ---- finding -------------------------------------------------------------------------------------------------------- */

static bool part_found(void *arg, const struct mqg_producer_state *state)
{
    struct part *part = arg;
    kafka_producers_found(&part->producers, state, part_now_ms());
    return true;
}

static struct part *part_new(uint64_t id)
{
    struct part *part = mqg_xcalloc(1, sizeof(*part));
    part->id = id;
    pthread_mutex_init(&part->lock, NULL);
    kafka_producers_init(&part->producers);
    return part;
}

static void part_free(struct part *part)
{
    kafka_producers_fini(&part->producers);
    pthread_mutex_destroy(&part->lock);
    free(part);
}

/* With `make`, or NULL when nothing is known of the partition. To be given back by part_give. */
static struct part *part_take(struct mqg_partition *p, bool make)
{
    uint64_t id = mqg_partition_id(p);
    pthread_mutex_lock(&parts_lock);
    struct part *part = mqg_map_get(&parts, mqg_slice_of(&id, sizeof(id)));
    if (part == NULL && make) {
        part = part_new(id);
        mqg_partition_producers(p, part_found, part);
        (void)mqg_map_set(&parts, mqg_slice_of(&part->id, sizeof(part->id)), part);
    }
    if (part != NULL)
        part->refs++;
    pthread_mutex_unlock(&parts_lock);
    if (part != NULL)
        pthread_mutex_lock(&part->lock);
    return part;
}

static void part_give(struct part *part)
{
    pthread_mutex_unlock(&part->lock);
    pthread_mutex_lock(&parts_lock);
    part->refs--;
    pthread_mutex_unlock(&parts_lock);
}

/* ---- producing ------------------------------------------------------------------------------------------------------ */

static struct kafka_sequence sequence_of(const struct mqg_batch *b)
{
    return (struct kafka_sequence){
        .producer_id = b->producer_id,
        .epoch = b->producer_epoch,
        .base_sequence = b->base_sequence,
        .last_sequence = (int32_t)(((uint32_t)b->base_sequence + b->last_delta) & INT32_MAX),
        .transactional = (b->attributes & MQG_BATCH_TRANSACTIONAL) != 0,
        .now_ms = part_now_ms(),
        .time_ms = b->max_time_ms,
    };
}

static int16_t part_append(struct part *part, struct mqg_partition *p, const struct kafka_sequence *s,
                           struct mqg_append *a, bool urgent)
{
    a->producer_id = s->producer_id;
    a->producer_epoch = s->epoch;
    a->base_sequence = s->base_sequence;
    a->last_sequence = s->last_sequence;
    if (mqg_partition_append(p, a, urgent) != MQG_OK)
        return ERROR_UNKNOWN_PARTITION;
    kafka_producers_note(&part->producers, s, a->base_offset);
    return 0;
}

int16_t kafka_producer_append(struct mqg_partition *p, const struct mqg_batch *b, struct mqg_append *a,
                              bool urgent, struct kafka_produced *out)
{
    struct kafka_sequence s = sequence_of(b);
    struct part *part = part_take(p, true);
    enum kafka_verdict verdict = kafka_producers_check(&part->producers, &s, &out->base_offset);
    int16_t error = verdict > 0 ? (int16_t)verdict : 0;
    out->duplicate = verdict == KAFKA_VERDICT_DUPLICATE;
    if (verdict == KAFKA_VERDICT_APPEND) {
        error = part_append(part, p, &s, a, urgent);
        out->base_offset = a->base_offset;
    }
    out->end = out->base_offset + a->count;
    part_give(part);
    return error;
}

/* ---- reading committed records ---------------------------------------------------------------------------------------- */

uint64_t kafka_txn_lso(struct mqg_partition *p)
{
    struct mqg_stream_bounds b;
    if (mqg_partition_bounds(p, &b) != MQG_OK)
        return b.high_watermark;
    struct part *part = part_take(p, false);
    if (part == NULL)
        return b.high_watermark;
    uint64_t lso = kafka_producers_lso(&part->producers, b.high_watermark);
    part_give(part);
    return lso < b.log_start ? b.log_start : lso;
}

const struct kafka_aborted *kafka_txn_aborted(struct mqg_partition *p, uint64_t from, uint64_t to,
                                              struct mqg_arena *a, size_t *n, bool *failed)
{
    *n = 0;
    *failed = false;
    struct part *part = part_take(p, false);
    if (part == NULL)
        return NULL;
    size_t all, kept = 0;
    const struct kafka_aborted *from_here = kafka_producers_aborted(&part->producers, from, &all);
    for (size_t i = 0; i < all; i++)
        kept += from_here[i].first < to;
    struct kafka_aborted *out = kept > 0 ? mqg_arena_alloc(a, kept * sizeof(*out)) : NULL;
    *failed = kept > 0 && out == NULL;
    for (size_t i = 0; i < all && out != NULL; i++)
        if (from_here[i].first < to)
            out[(*n)++] = from_here[i];
    part_give(part);
    return out;
}

/* ---- transactions ------------------------------------------------------------------------------------------------------ */

bool kafka_part_can(const struct mqg_partition *p)
{
    return mqg_stream_storage(mqg_partition_stream(p)) == mqg_storage_default();
}

bool kafka_part_begin(struct mqg_partition *p, int64_t id, int16_t epoch, uint64_t *first)
{
    struct mqg_stream_bounds b;
    if (mqg_partition_bounds(p, &b) != MQG_OK)
        b.log_end = 0;
    *first = b.log_end;
    struct part *part = part_take(p, true);
    bool ok = kafka_producers_begin(&part->producers, id, epoch, *first, part_now_ms());
    const struct kafka_producer *producer = ok ? kafka_producers_find(&part->producers, id) : NULL;
    if (producer != NULL)
        *first = producer->txn_first; /* it may have joined before */
    part_give(part);
    return ok;
}

void kafka_part_begin_found(struct mqg_partition *p, int64_t id, int16_t epoch, uint64_t first)
{
    struct part *part = part_take(p, true);
    bool ok = kafka_producers_begin(&part->producers, id, epoch, first, part_now_ms());
    (void)ok; /* a newer epoch: its marker is there */
    part_give(part);
}

/* The control batch (KIP-98): one record, key = version 2, type 2; value = version 2, coordinator epoch 4. */
enum { MARKER_RECORD_BYTES = 17, MARKER_BYTES = MQG_BATCH_HEAD_BYTES + MARKER_RECORD_BYTES };
enum { MARKER_AT_SUM = 17, MARKER_AT_ATTRIBUTES = 21 };

static void marker_build(uint8_t *out, const struct kafka_marker *m, uint64_t now_ms)
{
    memset(out, 0, MARKER_BYTES);
    mqg_put_be32(out + 8, MARKER_BYTES - 12);
    mqg_put_be32(out + 12, UINT32_MAX); /* leader epoch: the append's */
    out[16] = 2;
    mqg_put_be16(out + MARKER_AT_ATTRIBUTES, MQG_BATCH_TRANSACTIONAL | MQG_BATCH_CONTROL);
    mqg_put_be64(out + 27, now_ms);
    mqg_put_be64(out + 35, now_ms);
    mqg_put_be64(out + 43, (uint64_t)m->producer_id);
    mqg_put_be16(out + 51, (uint16_t)m->epoch);
    mqg_put_be32(out + 53, UINT32_MAX); /* no sequence */
    mqg_put_be32(out + 57, 1);
    uint8_t *r = out + MQG_BATCH_HEAD_BYTES;
    r[0] = (MARKER_RECORD_BYTES - 1) * 2; /* zigzag, as the two lengths below */
    r[4] = 4 * 2;
    mqg_put_be16(r + 7, m->commit ? 1 : 0);
    r[9] = 6 * 2;
    mqg_put_be32(r + 12, (uint32_t)m->coordinator_epoch);
    uint32_t sum = mqg_crc32c(0, out + MARKER_AT_ATTRIBUTES, MARKER_BYTES - MARKER_AT_ATTRIBUTES);
    mqg_put_be32(out + MARKER_AT_SUM, sum);
}

static void abort_key(char *key, uint64_t partition, uint64_t marker)
{
    snprintf(key, ABORT_KEY_BYTES + 1, KAFKA_ABORT_PREFIX "%016llx/%016llx", (unsigned long long)partition,
             (unsigned long long)marker);
}

static void abort_record(uint64_t partition, const struct kafka_aborted *a, bool remove)
{
    char key[ABORT_KEY_BYTES + 1];
    uint8_t value[ABORT_VALUE_BYTES] = {ABORT_VERSION};
    abort_key(key, partition, a->marker);
    mqg_put_le64(value + 1, (uint64_t)a->producer_id);
    mqg_put_le64(value + 9, a->first);
    struct mqg_store_op op = {
        .kind = MQG_OP_META,
        .meta = {mqg_slice_str(key), remove ? MQG_SLICE_NONE : mqg_slice_of(value, sizeof(value)), remove},
    };
    mqg_lane_add(mqg_storage_default(), &op, true);
}

static enum mqg_err part_marker(struct part *part, struct mqg_partition *p, struct kafka_marker *m)
{
    uint8_t bytes[MARKER_BYTES] = {0};
    struct mqg_slice rope = mqg_slice_of(bytes, sizeof(bytes));
    uint64_t now_ms = mqg_clock_now().wall_us / 1000, first;
    const struct kafka_producer *known = kafka_producers_find(&part->producers, m->producer_id);
    bool news = known == NULL || known->epoch < m->epoch; /* the epoch must be known after a restart, too */
    marker_build(bytes, m, now_ms);
    struct mqg_append a = {
        .rope = &rope,
        .nrope = 1,
        .count = 1,
        .max_time_ms = now_ms,
        .producer_id = news ? m->producer_id : -1,
        .producer_epoch = m->epoch,
        .base_sequence = -1,
        .last_sequence = -1,
    };
    enum mqg_err err = mqg_partition_append(p, &a, true);
    if (err != MQG_OK)
        return err;
    m->offset = a.base_offset;
    bool open = kafka_producers_end(&part->producers, m->producer_id, m->epoch, m->coordinator_epoch,
                                    m->offset, m->commit, &first);
    if (open && !m->commit)
        abort_record(part->id, &(struct kafka_aborted){m->producer_id, first, m->offset}, false);
    return MQG_OK;
}

enum mqg_err kafka_part_end(struct mqg_partition *p, struct kafka_marker *m)
{
    struct part *part = part_take(p, true);
    enum mqg_err err = part_marker(part, p, m);
    part_give(part);
    return err;
}

void kafka_part_each(struct mqg_partition *p, void (*visit)(void *arg, const struct kafka_producer *producer),
                     void *arg)
{
    struct part *part = part_take(p, true);
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&part->producers.by_id, &it);)
        visit(arg, it.value);
    part_give(part);
}

/* ---- life ---------------------------------------------------------------------------------------------------------------- */

struct found {
    struct found *next;
    uint64_t partition;
    struct kafka_aborted aborted;
};
static struct found *found_first;

static bool hex_take(struct mqg_cursor *c, uint64_t *out)
{
    *out = 0;
    for (int i = 0; i < 16; i++) {
        uint8_t x = mqg_cursor_u8(c);
        unsigned digit = x >= '0' && x <= '9' ? x - 48u : x >= 'a' && x <= 'f' ? x - 87u : 16u;
        if (digit > 15)
            return false;
        *out = *out << 4 | digit;
    }
    return !c->failed;
}

void kafka_parts_abort_record(struct mqg_slice key, struct mqg_slice value)
{
    struct mqg_cursor k = mqg_cursor_of(key), v = mqg_cursor_of(value);
    uint64_t partition, marker;
    (void)mqg_cursor_take(&k, sizeof(KAFKA_ABORT_PREFIX) - 1);
    if (!hex_take(&k, &partition) || mqg_cursor_u8(&k) != '/' || !hex_take(&k, &marker) ||
        !mqg_cursor_done(&k))
        return;
    if (value.len != ABORT_VALUE_BYTES || mqg_cursor_u8(&v) != ABORT_VERSION)
        return;
    struct found *f = mqg_xcalloc(1, sizeof(*f));
    f->partition = partition;
    f->aborted.producer_id = (int64_t)mqg_cursor_le64(&v);
    f->aborted.first = mqg_cursor_le64(&v);
    f->aborted.marker = marker;
    f->next = found_first;
    found_first = f;
}

void kafka_parts_recovered(void)
{
    while (found_first != NULL) {
        struct found *f = found_first;
        found_first = f->next;
        struct mqg_partition *p = mqg_partition_find(f->partition);
        struct mqg_stream *s = p != NULL ? mqg_partition_stream(p) : NULL;
        if (p == NULL) {
            abort_record(f->partition, &f->aborted, true);
        } else {
            struct part *part = part_take(p, true);
            kafka_producers_aborted_found(&part->producers, &f->aborted);
            part_give(part);
            mqg_stream_unref(&s);
        }
        free(f);
    }
}

static void sweep_aborted(void *arg, const struct kafka_aborted *a)
{
    const struct part *part = arg;
    abort_record(part->id, a, true);
}

static void sweep_producer(void *arg, int64_t id)
{
    const struct part *part = arg;
    struct mqg_store_op op = {
        .kind = MQG_OP_PRODUCER,
        .producer = {.partition = part->id, .producer_id = (uint64_t)id, .offset = MQG_OFFSET_NONE},
    };
    mqg_lane_add(mqg_storage_default(), &op, false);
}

/* Nobody else has the part, or may get it: the registry is locked. True: its partition is gone. */
static bool sweep_part(struct part *part, uint64_t before_ms)
{
    struct mqg_stream_bounds b;
    struct mqg_partition *p = mqg_partition_find(part->id);
    if (p == NULL) {
        kafka_producers_trim(&part->producers, UINT64_MAX, sweep_aborted, part);
        return true;
    }
    struct mqg_stream *s = mqg_partition_stream(p);
    if (mqg_partition_bounds(p, &b) == MQG_OK)
        kafka_producers_trim(&part->producers, b.log_start, sweep_aborted, part);
    kafka_producers_expire(&part->producers, before_ms, kafka_part_can(p) ? sweep_producer : NULL, part);
    mqg_stream_unref(&s);
    return false;
}

void kafka_parts_sweep(uint64_t expire_ms)
{
    uint64_t now_ms = part_now_ms();
    pthread_mutex_lock(&parts_lock);
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&parts, &it);) {
        struct part *part = it.value;
        if (part->refs > 0 || !sweep_part(part, now_ms > expire_ms ? now_ms - expire_ms : 0))
            continue;
        (void)mqg_map_del(&parts, mqg_slice_of(&part->id, sizeof(part->id)));
        part_free(part);
    }
    pthread_mutex_unlock(&parts_lock);
}

void kafka_parts_fini(void)
{
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&parts, &it);)
        part_free(it.value);
    mqg_map_fini(&parts);
    mqg_map_init(&parts, MQG_MAP_BORROW);
}

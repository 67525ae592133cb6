/* txn_record.c - a transactional id in the metadata: one record, written whole at each change.
 *
 *   key     kafka/txn/VHOST/ID, percent-encoded; only to be unlike others, the value says everything
 *   value   version 2 | state 1 | producer id 8 | epoch 2 | last epoch 2 | timeout 4 | start 8 | update 8 |
 *           the id before the present one 8 (not in version 1) | vhost | id |
 *           how many, { partition 8 | first 8 | marker 8 } ... |
 *           how many, { group | how many, { partition 8 | offset 8 | leader epoch 4 | commit 8 | expires 8 | index 4 |
 *                                           topic | null 1 | metadata } ... } ...
 *
 * Little-endian; counts and lengths of strings are varints. */
#include "txn.h"

enum { RECORD_VERSION = 2, ROTATED_FROM = 2, RECORD_ITEMS_MAX = 1 << 20 };

void kafka_txn_record_key(const struct kafka_txn *t, struct mqg_dynbuf *out)
{
    struct mqg_slice parts[2] = {t->vhost, t->id};
    mqg_dynbuf_slice(out, MQG_SLICE_LIT(KAFKA_TXN_PREFIX));
    for (int k = 0; k < 2; k++) {
        if (k == 1)
            mqg_dynbuf_u8(out, '/');
        for (size_t i = 0; i < parts[k].len; i++) {
            uint8_t c = parts[k].ptr[i];
            bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         c == '.' || c == '_' || c == '-';
            if (plain)
                mqg_dynbuf_u8(out, c);
            else
                mqg_dynbuf_printf(out, "%%%02X", c);
        }
    }
}

static void put_string(struct mqg_dynbuf *out, struct mqg_slice s)
{
    mqg_dynbuf_varint(out, s.len);
    mqg_dynbuf_slice(out, s);
}

static void put_row(struct mqg_dynbuf *out, const struct kafka_offset_row *row)
{
    mqg_dynbuf_le64(out, row->partition_id);
    mqg_dynbuf_le64(out, (uint64_t)row->offset);
    mqg_dynbuf_le32(out, (uint32_t)row->leader_epoch);
    mqg_dynbuf_le64(out, row->commit_ms);
    mqg_dynbuf_le64(out, row->expire_ms);
    mqg_dynbuf_le32(out, (uint32_t)row->index);
    put_string(out, row->topic);
    mqg_dynbuf_u8(out, row->metadata.ptr == NULL);
    put_string(out, row->metadata);
}

static enum kafka_txn_state record_state(enum kafka_txn_state state)
{
    return state == KAFKA_TXN_PREPARE_COMMIT  ? KAFKA_TXN_COMPLETE_COMMIT
           : state == KAFKA_TXN_PREPARE_ABORT ? KAFKA_TXN_COMPLETE_ABORT
                                              : state;
}

void kafka_txn_record(const struct kafka_txn *t, struct mqg_dynbuf *out)
{
    bool open = t->state == KAFKA_TXN_ONGOING;
    mqg_dynbuf_u8(out, RECORD_VERSION);
    mqg_dynbuf_u8(out, (uint8_t)record_state(t->state));
    mqg_dynbuf_le64(out, (uint64_t)t->producer_id);
    mqg_dynbuf_le16(out, (uint16_t)t->epoch);
    mqg_dynbuf_le16(out, (uint16_t)t->last_epoch);
    mqg_dynbuf_le32(out, t->timeout_ms);
    mqg_dynbuf_le64(out, t->start_ms);
    mqg_dynbuf_le64(out, t->update_ms);
    mqg_dynbuf_le64(out, (uint64_t)t->rotated_id);
    put_string(out, t->vhost);
    put_string(out, t->id);
    mqg_dynbuf_varint(out, t->nparts);
    for (size_t i = 0; i < t->nparts; i++) {
        mqg_dynbuf_le64(out, t->parts[i].partition);
        mqg_dynbuf_le64(out, t->parts[i].first);
        mqg_dynbuf_le64(out, t->parts[i].marker);
    }
    mqg_dynbuf_varint(out, open ? t->groups.n : 0);
    for (size_t i = 0; open && i < t->groups.n; i++) {
        const struct kafka_txn_group *g = t->groups.items[i];
        put_string(out, g->name);
        mqg_dynbuf_varint(out, g->rows.n);
        for (size_t k = 0; k < g->rows.n; k++)
            put_row(out, &((struct kafka_txn_row *)g->rows.items[k])->row);
    }
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

static struct mqg_slice take_string(struct mqg_cursor *c)
{
    uint64_t n = mqg_cursor_varint(c);
    if (n > mqg_cursor_left(c))
        mqg_cursor_fail(c);
    return mqg_cursor_slice(c, c->failed ? 0 : (size_t)n);
}

static uint64_t take_count(struct mqg_cursor *c)
{
    uint64_t n = mqg_cursor_varint(c);
    if (n > RECORD_ITEMS_MAX || n > mqg_cursor_left(c))
        mqg_cursor_fail(c);
    return c->failed ? 0 : n;
}

static void take_row(struct mqg_cursor *c, struct kafka_txn_group *g)
{
    struct kafka_offset_row row = {.partition_id = mqg_cursor_le64(c)};
    row.offset = (int64_t)mqg_cursor_le64(c);
    row.leader_epoch = (int32_t)mqg_cursor_le32(c);
    row.commit_ms = mqg_cursor_le64(c);
    row.expire_ms = mqg_cursor_le64(c);
    row.index = (int32_t)mqg_cursor_le32(c);
    row.topic = take_string(c);
    bool null = mqg_cursor_u8(c) != 0;
    row.metadata = take_string(c);
    if (null)
        row.metadata = MQG_SLICE_NONE;
    if (!c->failed)
        kafka_txn_add_row(g, &row);
}

static void take_groups(struct mqg_cursor *c, struct kafka_txn *t)
{
    uint64_t n = take_count(c);
    for (uint64_t i = 0; i < n && !c->failed; i++) {
        struct mqg_slice name = take_string(c);
        struct kafka_txn_group *g = kafka_txn_add_group(t, name, t->start_ms);
        uint64_t rows = take_count(c);
        for (uint64_t k = 0; k < rows && !c->failed; k++)
            take_row(c, g);
    }
}

static void take_parts(struct mqg_cursor *c, struct kafka_txn *t)
{
    uint64_t n = take_count(c);
    for (uint64_t i = 0; i < n && !c->failed; i++) {
        struct kafka_txn_part part = {.partition = mqg_cursor_le64(c)};
        part.first = mqg_cursor_le64(c);
        part.marker = mqg_cursor_le64(c);
        kafka_txn_add_part(t, part.partition, part.first, t->start_ms);
        t->parts[t->nparts - 1].marker = part.marker;
    }
}

struct kafka_txn *kafka_txn_read(struct mqg_slice value)
{
    struct mqg_cursor c = mqg_cursor_of(value);
    struct kafka_txn head = {.rotated_id = -1};
    uint8_t version = mqg_cursor_u8(&c);
    if (version < 1 || version > RECORD_VERSION)
        return NULL;
    uint8_t state = mqg_cursor_u8(&c);
    head.producer_id = (int64_t)mqg_cursor_le64(&c);
    head.epoch = (int16_t)mqg_cursor_le16(&c);
    head.last_epoch = (int16_t)mqg_cursor_le16(&c);
    head.timeout_ms = mqg_cursor_le32(&c);
    head.start_ms = mqg_cursor_le64(&c);
    head.update_ms = mqg_cursor_le64(&c);
    if (version >= ROTATED_FROM)
        head.rotated_id = (int64_t)mqg_cursor_le64(&c);
    struct mqg_slice vhost = take_string(&c), id = take_string(&c);
    if (c.failed || state >= KAFKA_TXN_STATES)
        return NULL;
    struct kafka_txn *t = kafka_txn_new(vhost, id);
    t->producer_id = head.producer_id;
    t->epoch = head.epoch;
    t->last_epoch = head.last_epoch;
    t->timeout_ms = head.timeout_ms;
    t->start_ms = head.start_ms;
    t->update_ms = head.update_ms;
    t->rotated_id = head.rotated_id;
    take_parts(&c, t);
    take_groups(&c, t);
    t->state = (enum kafka_txn_state)state;
    if (!mqg_cursor_done(&c))
        kafka_txn_free(&t);
    return t;
}

/* test_batch.c - see test_batch.h. */
#include "test_batch.h"

#include <mqgate/records.h>

static void part_zigzag(struct mqg_dynbuf *out, int64_t v)
{
    mqg_dynbuf_varint(out, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

void put_record(struct mqg_dynbuf *out, uint32_t delta, uint32_t key, const char *value)
{
    struct mqg_dynbuf rec;
    mqg_dynbuf_init(&rec, 1 << 16);
    mqg_dynbuf_u8(&rec, 0);
    part_zigzag(&rec, 0);
    part_zigzag(&rec, delta);
    part_zigzag(&rec, 4);
    mqg_dynbuf_be32(&rec, key);
    part_zigzag(&rec, value ? (int64_t)strlen(value) : -1);
    if (value)
        mqg_dynbuf_slice(&rec, mqg_slice_str(value));
    part_zigzag(&rec, 0);
    part_zigzag(out, (int64_t)rec.len);
    mqg_dynbuf_slice(out, mqg_dynbuf_view(&rec));
    mqg_dynbuf_fini(&rec);
}

void put_test_batch(struct kit *k, const struct test_batch *t)
{
    struct part_batch b = {.base = t->base,
                           .end = t->base + t->count,
                           .len = PART_BATCH_HEAD + (uint32_t)t->records.len,
                           .count = t->count,
                           .attributes = t->attributes,
                           .max_time_ms = t->time_ms};
    uint8_t *batch = mqg_xcalloc(1, b.len);
    memcpy(batch + PART_BATCH_HEAD, t->records.ptr, t->records.len);
    mqg_put_be64(batch, b.base);
    batch[16] = 2;
    mqg_put_be64(batch + 27, t->time_ms);
    mqg_put_be64(batch + 43, t->producer);
    mqg_put_be16(batch + 51, t->epoch);
    mqg_put_be32(batch + 53, t->sequence);
    jrn_part_batch_rewrite(batch, &b);
    struct mqg_slice rope = mqg_slice_of(batch, b.len);
    struct mqg_store_op op = {.kind = MQG_OP_APPEND,
                              .append = {PART, t->base, t->count, t->time_ms, &rope, 1}};
    kit_submit(k, 0, &op, 1, MQG_SUBMIT_URGENT);
    free(batch);
}

void put_batch(struct kit *k, uint64_t base, uint32_t count, struct mqg_slice records, uint64_t time_ms,
               uint16_t attributes)
{
    put_test_batch(k, &(struct test_batch){base, count, records, time_ms, attributes, UINT64_MAX, UINT16_MAX,
                                           UINT32_MAX});
}

static void put_one(struct kit *k, struct test_batch *t, uint32_t key, const char *value)
{
    struct mqg_dynbuf records;
    mqg_dynbuf_init(&records, 1 << 16);
    put_record(&records, 0, key, value);
    t->records = mqg_dynbuf_view(&records);
    t->count = 1;
    put_test_batch(k, t);
    mqg_dynbuf_fini(&records);
}

void part_put_key(struct kit *k, uint64_t offset, uint32_t key, const char *value, uint64_t time_ms,
                  uint16_t attributes)
{
    struct test_batch t = {.base = offset,
                           .time_ms = time_ms,
                           .attributes = attributes,
                           .producer = UINT64_MAX,
                           .epoch = UINT16_MAX,
                           .sequence = UINT32_MAX};
    put_one(k, &t, key, value);
}

void part_put_txn(struct kit *k, uint64_t offset, uint64_t producer, uint32_t key, const char *value,
                  uint64_t time_ms)
{
    struct test_batch t = {
        .base = offset, .time_ms = time_ms, .attributes = PART_BATCH_TXN, .producer = producer};
    put_one(k, &t, key, value);
}

void part_put_marker(struct kit *k, uint64_t offset, uint64_t producer, bool commit, uint64_t time_ms)
{
    struct test_batch t = {.base = offset,
                           .time_ms = time_ms,
                           .attributes = PART_BATCH_TXN | PART_BATCH_CONTROL,
                           .producer = producer,
                           .sequence = UINT32_MAX};
    put_one(k, &t, commit, "coordi"); /* key: version 2, type 2 */
}

/* ---- codecs ------------------------------------------------------------------------------------------------- */

/* Pairs of a count and a byte. */
enum mqg_err test_pack(struct mqg_slice in, struct mqg_dynbuf *out)
{
    for (size_t i = 0, n; i < in.len; i += n) {
        for (n = 1; i + n < in.len && n < 255 && in.ptr[i + n] == in.ptr[i];)
            n++;
        mqg_dynbuf_u8(out, (uint8_t)n);
        mqg_dynbuf_u8(out, in.ptr[i]);
    }
    return out->failed ? MQG_TOO_LARGE : MQG_OK;
}

static enum mqg_err test_unpack(struct mqg_slice in, struct mqg_dynbuf *out)
{
    if (in.len % 2)
        return MQG_MALFORMED;
    for (size_t i = 0; i < in.len; i += 2)
        for (uint8_t n = 0; n < in.ptr[i]; n++)
            if (!mqg_dynbuf_u8(out, in.ptr[i + 1]))
                return MQG_TOO_LARGE;
    return MQG_OK;
}

void test_codecs(void)
{
    mqg_record_codec(TEST_CODEC, test_unpack);
    mqg_record_codec(TEST_CODEC_BOTH_WAYS, test_unpack);
    mqg_record_packer(TEST_CODEC_BOTH_WAYS, test_pack);
}

/* ---- looking ------------------------------------------------------------------------------------------------- */

uint32_t compact_is_at(struct kit *k, uint64_t offset, struct part_batch *b)
{
    struct mqg_stream_read r = part_read(k, offset, 1);
    assert_int_equal(r.err, MQG_OK);
    bool there = r.data && jrn_part_batch_head(mqg_slice_of(r.data->data, r.data->len), b) &&
                 b->base <= offset;
    mqg_buf_unref(&r.data);
    return there ? b->count : 0;
}

bool compact_is_filed(struct kit *k, uint64_t upto)
{
    pthread_mutex_lock(&k->s->streams->lock);
    bool is = jrn_stream_find(k->s->streams, PART)->filed >= upto;
    pthread_mutex_unlock(&k->s->streams->lock);
    return is;
}

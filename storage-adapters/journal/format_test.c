/* format_test.c - every record whole, cut at each byte, and with each byte flipped. */
#include "test_kit.h"

static const struct jrn_use use = {.uuid = "0123456789abcde", .nonce = 0x1122334455667788};

static struct mqg_extent extent;

/* Makes a frame of one chunk out of the operations; malloc'ed, exactly f->length bytes. */
static uint8_t *format_frame(const struct mqg_store_op *ops, size_t n, struct jrn_frame *f)
{
    struct jrn_chunk *c = jrn_chunk_new();
    jrn_chunk_begin(c, 1, 1, 0, 0xabcdef01);
    for (size_t i = 0; i < n; i++)
        jrn_chunk_op(c, &ops[i]);
    jrn_chunk_end(c);
    *f = (struct jrn_frame){.seq = 3,
                            .number = 9,
                            .durable_at_write = 8,
                            .term = 2,
                            .offset = 4096,
                            .chunks = 1,
                            .length = (uint32_t)(JRN_FRAME_HEAD + c->total),
                            .records = c->records};
    f->chunks_crc = mqg_crc32c(jrn_chunks_crc_begin(&use), c->arena, JRN_CHUNK_HEAD);
    uint8_t *bytes = mqg_xmalloc(f->length);
    jrn_frame_encode(bytes, &use, f);
    struct iovec iov[16];
    int pieces = jrn_chunk_iov(c, iov);
    size_t at = JRN_FRAME_HEAD;
    for (int i = 0; i < pieces; i++) {
        memcpy(bytes + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    assert_int_equal(at, f->length);
    jrn_chunk_free(&c);
    return bytes;
}

/* Whole: a frame that checks, all records of which check. */
static enum mqg_err format_try(const uint8_t *bytes, size_t len)
{
    struct jrn_frame f;
    struct jrn_walk w;
    struct jrn_rec rec;
    enum mqg_err err = jrn_frame_head(mqg_slice_of(bytes, len < JRN_FRAME_HEAD ? len : JRN_FRAME_HEAD), &use,
                                      4096, &f);
    if (err == MQG_OK)
        err = jrn_frame_check(mqg_slice_of(bytes, len), &use, &f);
    jrn_walk_init(&w, mqg_slice_of(bytes, len), &use, true);
    while (err == MQG_OK && jrn_walk_next(&w, &rec))
        err = jrn_rec_check(&rec);
    return err;
}

/* A second walk that believes nothing and is not stopped by sums: must only stay inside (the sanitizer looks
 * on). */
static void format_wander(const uint8_t *bytes, size_t len)
{
    struct jrn_walk w;
    struct jrn_rec rec;
    jrn_walk_init(&w, mqg_slice_of(bytes, len), &use, false);
    while (jrn_walk_next(&w, &rec))
        (void)!jrn_rec_check(&rec);
}

static void format_cut_and_flip(const struct mqg_store_op *ops, size_t n)
{
    struct jrn_frame f;
    uint8_t *bytes = format_frame(ops, n, &f);
    assert_int_equal(format_try(bytes, f.length), MQG_OK);
    for (size_t cut = 0; cut < f.length; cut++) {
        uint8_t *part = mqg_xmalloc(cut ? cut : 1);
        memcpy(part, bytes, cut);
        assert_int_equal(format_try(part, cut), MQG_CORRUPT);
        format_wander(part, cut);
        free(part);
    }
    size_t harmless = 0;
    uint8_t *copy = mqg_xmalloc(f.length);
    for (size_t at = 0; at < f.length; at++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, bytes, f.length);
            copy[at] ^= (uint8_t)(1u << bit);
            if (format_try(copy, f.length) == MQG_OK)
                harmless++;
            format_wander(copy, f.length);
        }
    }
    free(copy);
    free(bytes);
    assert_true(harmless <= 7 * 8 * (size_t)f.records); /* the padding of records is summed by nobody */
}

static struct mqg_msg *format_msg(size_t body)
{
    struct mqg_msg *m = kit_msg_new(MQG_SLICE_LIT("a.b"), body, 5);
    m->extent = &extent;
    return m;
}

static void format_msg_whole(void **state)
{
    (void)state;
    struct mqg_dest dests[3] = {{1, 5}, {UINT64_MAX, 0}, {7, UINT64_MAX}};
    struct mqg_msg *m = format_msg(33);
    struct mqg_store_op op = {.kind = MQG_OP_MSG, .msg = {m, dests, 3}};
    struct jrn_frame f;
    uint8_t *bytes = format_frame(&op, 1, &f);
    struct jrn_walk w;
    struct jrn_rec rec;
    struct jrn_dests it;
    struct mqg_dest d;
    jrn_walk_init(&w, mqg_slice_of(bytes, f.length), &use, true);
    assert_true(jrn_walk_next(&w, &rec));
    assert_int_equal(rec.type, JRN_REC_MSG);
    assert_int_equal(rec.main_off, m->extent_off);
    assert_true(mqg_slice_eq(rec.main, mqg_msg_stored(m)));
    assert_true(jrn_dests_init(&it, rec.tail));
    for (int i = 0; i < 3; i++) {
        assert_true(jrn_dests_next(&it, &d));
        assert_true(d.queue_id == dests[i].queue_id && d.qseq == dests[i].qseq);
    }
    assert_false(jrn_dests_next(&it, &d));
    free(bytes);
    format_cut_and_flip(&op, 1);
    mqg_msg_unref(&m);
}

static void format_msg_by_reference(void **state)
{
    (void)state;
    struct mqg_dest d = {1, 5};
    struct mqg_msg *m = format_msg(40001);
    struct mqg_store_op op[2] = {{.kind = MQG_OP_MSG, .msg = {m, &d, 1}},
                                 {.kind = MQG_OP_MSG, .msg = {m, &d, 1}}};
    struct jrn_frame f;
    uint8_t *bytes = format_frame(op, 2, &f);
    assert_int_equal(format_try(bytes, f.length), MQG_OK);
    bytes[20000] ^= 1;
    assert_int_equal(format_try(bytes, f.length), MQG_CORRUPT);
    free(bytes);
    mqg_msg_unref(&m);
}

static void format_many_dests(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct mqg_dest *dests = mqg_xcalloc(N, sizeof *dests);
    for (uint64_t i = 0; i < N; i++)
        dests[i] = (struct mqg_dest){i * 0x9e3779b97f4a7c15ull, ~i * 0x12345678987ull};
    struct mqg_msg *m = format_msg(10);
    struct mqg_store_op op = {.kind = MQG_OP_MSG, .msg = {m, dests, N}};
    struct jrn_frame f;
    uint8_t *bytes = format_frame(&op, 1, &f);
    assert_int_equal(format_try(bytes, f.length), MQG_OK);
    struct jrn_walk w;
    struct jrn_rec rec;
    struct jrn_dests it;
    struct mqg_dest d;
    size_t seen = 0;
    jrn_walk_init(&w, mqg_slice_of(bytes, f.length), &use, true);
    while (jrn_walk_next(&w, &rec)) {
        assert_int_equal(rec.type, seen ? JRN_REC_DESTS : JRN_REC_MSG);
        for (assert_true(jrn_dests_init(&it, rec.tail)); jrn_dests_next(&it, &d); seen++)
            assert_true(d.queue_id == dests[seen].queue_id && d.qseq == dests[seen].qseq);
    }
    assert_int_equal(seen, N);
    free(bytes);
    free(dests);
    mqg_msg_unref(&m);
}

static void format_settle(void **state)
{
    (void)state;
    struct mqg_range ranges[4] = {{0, 0}, {5, 9}, {1000, UINT64_MAX - 1}, {3, 4}}; /* the last goes back */
    struct mqg_store_op op = {.kind = MQG_OP_SETTLE, .settle = {77, ranges, 4}};
    struct jrn_frame f;
    uint8_t *bytes = format_frame(&op, 1, &f);
    struct jrn_walk w;
    struct jrn_rec rec;
    struct jrn_ranges it;
    struct mqg_range r;
    size_t seen = 0;
    jrn_walk_init(&w, mqg_slice_of(bytes, f.length), &use, true);
    while (jrn_walk_next(&w, &rec)) {
        assert_true(jrn_ranges_init(&it, rec.main));
        assert_int_equal(it.queue_id, 77);
        for (; jrn_ranges_next(&it, &r); seen++)
            assert_true(r.first == ranges[seen].first && r.last == ranges[seen].last);
    }
    assert_int_equal(seen, 4);
    free(bytes);
    format_cut_and_flip(&op, 1);
}

static void format_others(void **state)
{
    (void)state;
    struct mqg_slice rope[2] = {MQG_SLICE_LIT("batch-"), MQG_SLICE_LIT("bytes")};
    struct mqg_store_op ops[] = {
        {.kind = MQG_OP_GROUP_BEGIN},
        {.kind = MQG_OP_COUNT, .count = {1, 2, 3, 4}},
        {.kind = MQG_OP_META, .meta = {MQG_SLICE_LIT("key"), MQG_SLICE_LIT("value"), false}},
        {.kind = MQG_OP_META, .meta = {MQG_SLICE_LIT("key"), MQG_SLICE_NONE, true}},
        {.kind = MQG_OP_APPEND, .append = {9, 100, 5, 1234, rope, 2}},
        {.kind = MQG_OP_TRIM, .trim = {9, 50}},
        {.kind = MQG_OP_STREAM_NEW, .stream = {9, MQG_SLICE_LIT("topic"), -1}},
        {.kind = MQG_OP_STREAM_DELETE, .stream = {9, MQG_SLICE_NONE, 0}},
        {.kind = MQG_OP_POSITION, .position = {MQG_SLICE_LIT("group"), 9, 77, MQG_SLICE_LIT("meta")}},
        {.kind = MQG_OP_PRODUCER, .producer = {9, 4, -1, 2, -3, 5}},
        {.kind = MQG_OP_GROUP_END},
    };
    format_cut_and_flip(ops, MQG_COUNTOF(ops));
    for (size_t i = 0; i < MQG_COUNTOF(ops); i++)
        format_cut_and_flip(&ops[i], 1);
}

static void format_values(void **state)
{
    (void)state;
    struct mqg_slice rope = MQG_SLICE_LIT("bytes");
    struct mqg_store_op ops[] = {
        {.kind = MQG_OP_APPEND, .append = {9, 100, 5, 1234, &rope, 1}},
        {.kind = MQG_OP_POSITION, .position = {MQG_SLICE_LIT("group"), 9, 77, MQG_SLICE_LIT("meta")}},
        {.kind = MQG_OP_PRODUCER, .producer = {9, 4, -1, 2, -3, 5}},
    };
    struct jrn_frame f;
    struct jrn_walk w;
    struct jrn_rec rec;
    struct jrn_batch b;
    struct jrn_position pos;
    struct jrn_producer prod;
    uint8_t *bytes = format_frame(ops, 3, &f);
    jrn_walk_init(&w, mqg_slice_of(bytes, f.length), &use, true);
    assert_true(jrn_walk_next(&w, &rec) && jrn_rec_batch(rec.main, &b));
    assert_true(b.partition == 9 && b.base_offset == 100 && b.count == 5 && b.max_time_ms == 1234);
    assert_true(mqg_slice_eq(b.bytes, rope));
    assert_true(jrn_walk_next(&w, &rec) && jrn_rec_position(rec.main, &pos));
    assert_true(pos.partition == 9 && pos.offset == 77 && mqg_slice_eq(pos.group, MQG_SLICE_LIT("group")));
    assert_true(mqg_slice_eq(pos.metadata, MQG_SLICE_LIT("meta")));
    assert_true(jrn_walk_next(&w, &rec) && jrn_rec_producer(rec.main, &prod));
    assert_true(prod.producer_id == 4 && prod.epoch == -1 && prod.base_seq == 2 && prod.last_seq == -3 &&
                prod.offset == 5);
    free(bytes);
}

static void format_unknown_types(void **state)
{
    (void)state;
    struct jrn_rec rec = {.type = 200, .flags = JRN_REC_IGNORABLE};
    assert_int_equal(jrn_rec_check(&rec), MQG_OK);
    rec.flags = 0;
    assert_int_equal(jrn_rec_check(&rec), MQG_UNSUPPORTED);
}

static void format_frame_is_bound(void **state)
{
    (void)state;
    struct mqg_store_op op = {.kind = MQG_OP_COUNT, .count = {1, 2, 3, 4}};
    struct jrn_frame f, got;
    uint8_t *bytes = format_frame(&op, 1, &f);
    struct mqg_slice in = mqg_slice_of(bytes, f.length);
    struct jrn_use other = use;
    assert_int_equal(jrn_frame_head(in, &use, 4096, &got), MQG_OK);
    assert_true(got.seq == 3 && got.number == 9 && got.durable_at_write == 8 && got.term == 2);
    assert_int_equal(jrn_frame_head(in, &use, 4608, &got), MQG_CORRUPT); /* another place */
    other.nonce++;
    assert_int_equal(jrn_frame_head(in, &other, 4096, &got), MQG_CORRUPT); /* another use */
    other = use;
    other.uuid[3] ^= 1;
    assert_int_equal(jrn_frame_head(in, &other, 4096, &got), MQG_CORRUPT); /* another journal */
    free(bytes);
}

static void format_header(void **state)
{
    (void)state;
    uint8_t head[JRN_SEG_HEAD];
    struct jrn_seg_head h = {.use = use, .bytes = 1 << 20, .made_us = 5, .flags = JRN_SEG_OVERSIZED}, got;
    struct mqg_error e;
    jrn_seg_head_encode(head, &h);
    assert_int_equal(jrn_seg_head_decode(mqg_slice_of(head, sizeof head), &got, &e), MQG_OK);
    assert_true(got.use.nonce == use.nonce && got.bytes == 1 << 20 && got.flags == JRN_SEG_OVERSIZED);
    for (size_t at = 0; at < sizeof head; at++) {
        head[at] ^= 1;
        assert_int_not_equal(jrn_seg_head_decode(mqg_slice_of(head, sizeof head), &got, &e), MQG_OK);
        head[at] ^= 1;
        assert_int_not_equal(jrn_seg_head_decode(mqg_slice_of(head, at), &got, &e), MQG_OK);
    }
    for (uint16_t version = 0; version <= JRN_VERSION + 1; version++) { /* another version says so itself */
        bool known = version >= JRN_VERSION_OLDEST && version <= JRN_VERSION;
        mqg_put_le16(head + 8, version);
        mqg_put_le32(head + 508, mqg_crc32c(0, head, 508));
        assert_int_equal(jrn_seg_head_decode(mqg_slice_of(head, sizeof head), &got, &e),
                         known ? MQG_OK : MQG_UNSUPPORTED);
        assert_true(!known || got.version == version);
    }
}

static void format_map(void **state)
{
    (void)state;
    struct jrn_map m = {0};
    bool fresh;
    for (uint32_t i = 0; i < 5000; i++) {
        *jrn_map_put(&m, i * 3ull, &fresh) = i;
        assert_true(fresh);
    }
    for (uint32_t i = 0; i < 5000; i += 2)
        jrn_map_remove(&m, i * 3ull);
    for (uint32_t i = 0; i < 5000; i++)
        assert_int_equal(jrn_map_get(&m, i * 3ull), i % 2 ? i : JRN_MAP_NONE);
    assert_int_equal(jrn_map_get(&m, 1), JRN_MAP_NONE);
    jrn_map_fini(&m);
}

static void format_crc(void **state)
{
    (void)state;
    uint8_t bytes[700];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 3);
    for (size_t n = 0; n < sizeof bytes - 8; n++)
        for (uint32_t start = 0; start < 3; start++)
            assert_int_equal(jrn_crc32c(start * 0x51234567u, bytes + n % 8, n),
                             mqg_crc32c_table(start * 0x51234567u, bytes + n % 8, n));
    assert_int_equal(jrn_crc32c(0, "123456789", 9), 0xe3069283u); /* RFC 3720, B.4: the check value */
    assert_int_equal(jrn_crc32c(5, NULL, 0), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format_msg_whole),     cmocka_unit_test(format_msg_by_reference),
        cmocka_unit_test(format_many_dests),    cmocka_unit_test(format_settle),
        cmocka_unit_test(format_others),        cmocka_unit_test(format_values),
        cmocka_unit_test(format_unknown_types), cmocka_unit_test(format_frame_is_bound),
        cmocka_unit_test(format_header),        cmocka_unit_test(format_map),
        cmocka_unit_test(format_crc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* stream_test.c - partitions: order by offset whatever the order of lanes, the high watermark, reading,
 * cutting. */
#include "stream.h"
#include "test_kit.h"

enum { PART = 5 };

static uint64_t stream_append(struct kit *k, uint32_t lane, uint64_t partition, uint64_t base, uint32_t count,
                              size_t bytes, uint64_t time_ms)
{
    char *batch = mqg_xmalloc(bytes);
    memset(batch, (int)('a' + base % 26), bytes);
    struct mqg_slice rope[2] = {mqg_slice_of(batch, bytes / 2),
                                mqg_slice_of(batch + bytes / 2, bytes - bytes / 2)};
    struct mqg_store_op op = {.kind = MQG_OP_APPEND, .append = {partition, base, count, time_ms, rope, 2}};
    uint64_t ticket = kit_submit(k, lane, &op, 1, MQG_SUBMIT_URGENT);
    free(batch);
    return ticket;
}

static void stream_did(struct mqg_stream_read *r)
{
    atomic_store((_Atomic int *)r->arg, 1);
}

static struct mqg_stream_read stream_read(struct kit *k, uint64_t offset, uint32_t max_bytes)
{
    _Atomic int done = 0;
    struct mqg_stream_read r = {.partition = PART,
                                .offset = offset,
                                .max_bytes = max_bytes,
                                .durable_only = true,
                                .done = stream_did,
                                .arg = &done};
    jrn_ops.stream_read(k->s, &r);
    kit_answered(&done);
    return r;
}

static struct mqg_stream_bounds stream_bounds(struct kit *k)
{
    struct mqg_stream_bounds b;
    assert_int_equal(jrn_ops.stream_bounds(k->s, PART, &b), MQG_OK);
    return b;
}

static void stream_new(struct kit *k, bool exists)
{
    struct mqg_store_op op = {.kind = exists ? MQG_OP_STREAM_NEW : MQG_OP_STREAM_DELETE,
                              .stream = {PART, MQG_SLICE_LIT("topic"), 0}};
    assert_true(kit_wait(k, 0, kit_submit(k, 0, &op, 1, MQG_SUBMIT_URGENT)));
}

static void stream_appends_and_reads(void **state)
{
    struct kit k;
    uint64_t offset;
    (void)state;
    kit_init(&k, "stream", "1MiB");
    kit_open(&k);
    stream_new(&k, true);
    assert_true(kit_wait(&k, 1, stream_append(&k, 1, PART, 10, 5, 100, 2000))); /* overtakes */
    assert_int_equal(stream_bounds(&k).high_watermark, 0);
    assert_int_equal(stream_bounds(&k).log_end, 15);
    jrn_ops.stream_wait(k.s, PART, 14);
    assert_int_equal(atomic_load(&k.ready), 0);
    assert_true(kit_wait(&k, 0, stream_append(&k, 0, PART, 0, 10, 200, 1000)));
    assert_int_equal(stream_bounds(&k).high_watermark, 15);
    assert_int_equal(atomic_load(&k.ready), 1);
    jrn_ops.stream_wait(k.s, PART, 3); /* already there */
    assert_int_equal(atomic_load(&k.ready), 2);
    struct mqg_stream_read r = stream_read(&k, 4, 1); /* the batch that holds it comes whole */
    assert_int_equal(r.err, MQG_OK);
    assert_int_equal(r.data->len, 200);
    assert_int_equal(r.next_offset, 10);
    assert_int_equal(r.data->data[199], 'a');
    mqg_buf_unref(&r.data);
    r = stream_read(&k, 0, 1 << 20);
    assert_int_equal(r.data->len, 300);
    assert_true(r.data->data[200] == 'k' && r.next_offset == 15 && r.high_watermark == 15);
    mqg_buf_unref(&r.data);
    r = stream_read(&k, 15, 100);
    assert_true(r.err == MQG_OK && r.data == NULL);
    assert_int_equal(stream_read(&k, 16, 100).err, MQG_NOT_FOUND);
    assert_int_equal(kit_time(&k, PART, 1500, &offset), MQG_OK);
    assert_int_equal(offset, 10);
    assert_int_equal(kit_time(&k, PART, 9999, &offset), MQG_OK);
    assert_int_equal(offset, 15);
    kit_close(&k);
    kit_fini(&k);
}

static bool stream_small(struct kit *k, uint64_t segments)
{
    return kit_stats(k).segments <= segments;
}

static void stream_commit(struct kit *k, uint32_t group, uint64_t offset)
{
    char name[32];
    snprintf(name, sizeof name, "group-%u", group);
    struct mqg_store_op op = {.kind = MQG_OP_POSITION,
                              .position = {mqg_slice_str(name), PART, offset, MQG_SLICE_LIT("meta")}};
    kit_submit(k, 0, &op, 1, MQG_SUBMIT_URGENT);
}

/* Groups come and go: those that are there keep their positions, the others leave nothing in memory. */
static void stream_groups_come_and_go(void **state)
{
    struct kit k;
    uint64_t offset;
    (void)state;
    kit_init(&k, "groups", "1MiB");
    kit_open(&k);
    stream_new(&k, true);
    for (uint32_t i = 0; i < 2000; i++) {
        stream_commit(&k, i, i * 3 + 1);
        if (i >= 10)
            stream_commit(&k, i - 10, MQG_OFFSET_NONE);
    }
    stream_commit(&k, 5, MQG_OFFSET_NONE); /* it is not there any more */
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    for (int life = 0; life < 2; life++) {
        pthread_mutex_lock(&k.s->streams->lock);
        assert_true(k.s->streams->nposition <= 11);
        pthread_mutex_unlock(&k.s->streams->lock);
        for (uint32_t i = 1990; i < 2000; i++) {
            char name[32];
            snprintf(name, sizeof name, "group-%u", i);
            assert_int_equal(kit_position(&k, mqg_slice_str(name), PART, &offset), MQG_OK);
            assert_int_equal(offset, i * 3 + 1);
        }
        assert_int_equal(kit_position(&k, MQG_SLICE_LIT("group-1989"), PART, &offset), MQG_NOT_FOUND);
        kit_crash(&k);
        kit_open(&k);
    }
    kit_close(&k);
    kit_fini(&k);
}

/* Trimmed parts let their segments go; start, end and positions survive that and a crash. */
static void stream_trims(void **state)
{
    struct kit k;
    uint64_t offset;
    struct mqg_store_op trim = {.kind = MQG_OP_TRIM, .trim = {PART, 190}};
    struct mqg_store_op pos = {.kind = MQG_OP_POSITION,
                               .position = {MQG_SLICE_LIT("g"), PART, 42, MQG_SLICE_LIT("meta")}};
    (void)state;
    kit_init(&k, "trim", "1MiB");
    kit_open(&k);
    stream_new(&k, true);
    kit_submit(&k, 0, &pos, 1, 0);
    for (uint64_t i = 0; i < 200; i += 10)
        assert_true(kit_wait(&k, 0, stream_append(&k, 0, PART, i, 10, 200000, i)));
    assert_true(kit_stats(&k).segments >= 4);
    assert_true(kit_wait(&k, 0, kit_submit(&k, 0, &trim, 1, MQG_SUBMIT_URGENT)));
    assert_true(kit_wait_for(stream_small, &k, 2));
    for (int round = 0; round < 2; round++) {
        assert_int_equal(stream_bounds(&k).log_start, 190);
        assert_int_equal(stream_bounds(&k).high_watermark, 200);
        assert_int_equal(stream_read(&k, 189, 1).err, MQG_NOT_FOUND);
        struct mqg_stream_read r = stream_read(&k, 195, 1);
        assert_true(r.err == MQG_OK && r.data->len == 200000);
        mqg_buf_unref(&r.data);
        assert_int_equal(kit_position(&k, MQG_SLICE_LIT("g"), PART, &offset), MQG_OK);
        assert_int_equal(offset, 42);
        assert_int_equal(kit_position(&k, MQG_SLICE_LIT("h"), PART, &offset), MQG_NOT_FOUND);
        kit_crash(&k);
        kit_open(&k);
        assert_int_equal(k.nstream, 1);
    }
    stream_new(&k, false);
    struct mqg_stream_bounds b;
    assert_int_equal(jrn_ops.stream_bounds(k.s, PART, &b), MQG_NOT_FOUND);
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(k.nstream, 0);
    kit_close(&k);
    kit_fini(&k);
}

/* A batch that never came leaves a gap: the log is cut there, once; its offsets are given again, and what
 * stood beyond the gap never comes back, not even when new batches fill it exactly. */
static void stream_cuts_at_gap(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "gap", "1MiB");
    kit_open(&k);
    stream_new(&k, true);
    assert_true(kit_wait(&k, 0, stream_append(&k, 0, PART, 0, 10, 100, 1)));
    assert_true(kit_wait(&k, 1, stream_append(&k, 1, PART, 20, 10, 111, 1))); /* [10, 20) is lost */
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(stream_bounds(&k).high_watermark, 10);
    assert_int_equal(stream_bounds(&k).log_end, 10);
    assert_true(kit_wait(&k, 0, stream_append(&k, 0, PART, 10, 10, 122, 1)));
    assert_int_equal(stream_bounds(&k).high_watermark, 20);
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(stream_bounds(&k).high_watermark, 20);
    assert_true(kit_wait(&k, 0, stream_append(&k, 0, PART, 20, 10, 133, 1)));
    kit_close(&k);
    kit_open(&k);
    struct mqg_stream_read r = stream_read(&k, 20, 1);
    assert_true(r.err == MQG_OK && r.data->len == 133);
    mqg_buf_unref(&r.data);
    kit_close(&k);
    kit_fini(&k);
}

/* A batch of five records with a word on its producer, in one submission. */
static uint64_t stream_produce(struct kit *k, uint32_t lane, uint64_t base, int32_t sequence)
{
    static uint8_t bytes[100];
    struct mqg_slice rope = mqg_slice_of(bytes, sizeof bytes);
    struct mqg_store_op ops[2] = {
        {.kind = MQG_OP_APPEND, .append = {PART, base, 5, 1, &rope, 1}},
        {.kind = MQG_OP_PRODUCER, .producer = {PART, 77, 3, sequence, sequence + 4, base}},
    };
    return kit_submit(k, lane, ops, 2, MQG_SUBMIT_URGENT);
}

/* The offsets and sequences that recovery told, "offset:sequence ...". */
static const char *stream_told(struct kit *k)
{
    static char text[256];
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < k->nproducer; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%llu:%d ",
                               (unsigned long long)k->producers[i].offset, k->producers[i].base_seq);
    return text;
}

/* The last five words are told. Where the log is cut, those on the lost batches are void, for good: also when others have
 * their offsets by then. */
static void stream_tells_producers(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "producers", "1MiB");
    kit_open(&k);
    stream_new(&k, true);
    for (uint32_t i = 0; i < 10; i++)
        assert_true(kit_wait(&k, i % 2, stream_produce(&k, i % 2, i * 5, (int32_t)i * 5)));
    assert_true(kit_wait(&k, 1, stream_produce(&k, 1, 60, 50))); /* [50, 60) is lost, and this with it */
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(stream_bounds(&k).high_watermark, 50);
    assert_string_equal(stream_told(&k), "25:25 30:30 35:35 40:40 45:45 ");
    assert_true(kit_wait(&k, 0, stream_append(&k, 0, PART, 50, 50, 100, 1))); /* somebody else's */
    for (int life = 0; life < 2; life++) {
        kit_crash(&k);
        kit_open(&k);
        assert_string_equal(stream_told(&k), "25:25 30:30 35:35 40:40 45:45 ");
    }
    assert_true(kit_wait(&k, 0, stream_produce(&k, 0, 100, 50)));
    kit_close(&k);
    kit_open(&k);
    assert_string_equal(stream_told(&k), "30:30 35:35 40:40 45:45 100:50 ");
    kit_close(&k);
    kit_fini(&k);
}

/* A flipped bit in a stored batch: an error, never wrong bytes. */
static void stream_checks_what_it_reads(void **state)
{
    struct kit k;
    char path[512];
    size_t len;
    struct jrn_frame f;
    (void)state;
    kit_init(&k, "flip", "1MiB");
    kit_open(&k);
    stream_new(&k, true);
    assert_true(kit_wait(&k, 0, stream_append(&k, 0, PART, 0, 10, 1000, 1)));
    kit_file(&k, ".seg", 0, path);
    uint8_t *seg = kit_read(path, &len);
    size_t off = kit_frame_of(seg, len, "aaaaaaaa", &f);
    assert_true(off != 0 && f.length > 1000);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, (long)off + 700, SEEK_SET);
    fputc(seg[off + 700] ^ 4, file);
    fclose(file);
    free(seg);
    struct mqg_stream_read r = stream_read(&k, 0, 1);
    assert_true(r.err == MQG_CORRUPT && r.data == NULL);
    kit_crash(&k);
    kit_fini(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_appends_and_reads),  cmocka_unit_test(stream_trims),
        cmocka_unit_test(stream_cuts_at_gap),        cmocka_unit_test(stream_tells_producers),
        cmocka_unit_test(stream_groups_come_and_go), cmocka_unit_test(stream_checks_what_it_reads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* many_test.c - many partitions at once: filed by several threads, synced in rounds, read, trimmed by size and deleted meanwhile. */
#include "../conformance/batch.h"
#include "stream.h"
#include "test_kit.h"

#include <pthread.h>

enum {
    MANY = 48,      /* partitions; each is one lane's */
    MANY_EACH = 12, /* batches of each, of 4 records */
    MANY_GONE = 5,  /* every so many-th is deleted in the end */
};

static uint64_t many_id(uint32_t p)
{
    return 0x100 + p;
}

static uint32_t many_bytes(uint32_t p, uint64_t base)
{
    return 2000 + (uint32_t)(p * 7919 + base * 104729) % 24000;
}

static void many_op(struct kit *k, uint32_t lane, struct mqg_store_op op)
{
    assert_true(kit_wait(k, lane, kit_submit(k, lane, &op, 1, MQG_SUBMIT_URGENT)));
}

static uint64_t many_append(struct kit *k, uint32_t lane, uint32_t p, uint64_t base)
{
    struct mqg_dynbuf batch;
    struct batch_spec spec = {base, base * 31 + p, 1000 + base, 4, many_bytes(p, base), false};
    mqg_dynbuf_init(&batch, 1 << 20);
    batch_build(&batch, &spec);
    struct mqg_slice rope = mqg_dynbuf_view(&batch);
    struct mqg_store_op op = {.kind = MQG_OP_APPEND, .append = {many_id(p), base, 4, 1003 + base, &rope, 1}};
    uint64_t ticket = kit_submit(k, lane, &op, 1, MQG_SUBMIT_URGENT);
    mqg_dynbuf_fini(&batch);
    return ticket;
}

struct many_lane {
    struct kit *k;
    uint32_t lane;
    _Atomic bool over;
};

static void *many_write(void *arg)
{
    struct many_lane *l = arg;
    for (uint64_t i = 0; i < MANY_EACH; i++) {
        uint64_t ticket = 0;
        for (uint32_t p = l->lane - 1; p < MANY; p += 2)
            ticket = many_append(l->k, l->lane, p, i * 4);
        if (!kit_wait(l->k, l->lane, ticket))
            break;
    }
    atomic_store(&l->over, true);
    return NULL;
}

static void many_did(struct mqg_stream_read *r)
{
    atomic_store((_Atomic int *)r->arg, 1);
}

/* Reads from the offset on; every batch is what many_append made. The offset behind the last one. */
static uint64_t many_read(struct kit *k, uint32_t p, uint64_t offset, uint32_t max_bytes)
{
    _Atomic int done = 0;
    struct mqg_stream_read r = {
        .partition = many_id(p), .offset = offset, .max_bytes = max_bytes, .done = many_did, .arg = &done};
    jrn_ops.stream_read(k->s, &r);
    kit_answered(&done);
    if (r.err == MQG_NOT_FOUND || !r.data) /* nothing there yet */
        return offset;
    assert_int_equal(r.err, MQG_OK);
    struct mqg_slice in = mqg_slice_of(r.data->data, r.data->len);
    struct batch_view b;
    bool bad = false;
    while (batch_next(&in, &b, &bad)) {
        struct mqg_dynbuf want;
        struct batch_spec spec = {b.base, b.base * 31 + p, 1000 + b.base, 4, many_bytes(p, b.base), false};
        mqg_dynbuf_init(&want, 1 << 20);
        batch_build(&want, &spec);
        assert_true(mqg_slice_eq(b.bytes, mqg_dynbuf_view(&want)));
        mqg_dynbuf_fini(&want);
        assert_true(b.end == b.base + 4 && b.end > offset);
        offset = b.end;
    }
    assert_false(bad);
    assert_int_equal(offset, r.next_offset);
    mqg_buf_unref(&r.data);
    return offset;
}

static void many_check(struct kit *k, bool deleted)
{
    for (uint32_t p = 0; p < MANY; p++) {
        struct mqg_stream_bounds b;
        enum mqg_err err = jrn_ops.stream_bounds(k->s, many_id(p), &b);
        if (deleted && p % MANY_GONE == 0) {
            assert_int_equal(err, MQG_NOT_FOUND);
            continue;
        }
        assert_int_equal(err, MQG_OK);
        assert_int_equal(b.high_watermark, MANY_EACH * 4);
        uint64_t offset = 0;
        while (offset < b.high_watermark)
            offset = many_read(k, p, offset, 1 + (p * 9973) % 200000);
    }
}

static bool many_synced(struct kit *k, uint64_t unused)
{
    (void)unused;
    return kit_stats(k).segments <= 3;
}

/* Some are never read before the end, some all the time. */
static void many_at_once(void **state)
{
    struct kit k;
    struct many_lane lanes[2] = {{&k, 1, false}, {&k, 2, false}};
    pthread_t threads[2];
    uint64_t at[MANY] = {0};
    (void)state;
    kit_init(&k, "many", "1MiB");
    kit_open(&k);
    for (uint32_t p = 0; p < MANY; p++) {
        struct mqg_stream_conf conf = {.segment_bytes = p % 3 ? 64 << 20 : 150000};
        many_op(&k, 0,
                (struct mqg_store_op){.kind = MQG_OP_STREAM_NEW,
                                      .stream = {many_id(p), MQG_SLICE_LIT("t"), (int32_t)p}});
        many_op(&k, 0, (struct mqg_store_op){.kind = MQG_OP_STREAM_CONF, .stream_conf = {many_id(p), &conf}});
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many_write, &lanes[i]), 0);
    for (uint32_t turn = 0; !atomic_load(&lanes[0].over) || !atomic_load(&lanes[1].over); turn++)
        for (uint32_t p = turn % 4; p < MANY; p += 4) {
            if (p % 8 < 4) /* it follows the log */
                at[p] = many_read(&k, p, at[p], 100000);
            else if (p % 8 < 6) /* it reads from the start, again and again */
                (void)many_read(&k, p, 0, 50000);
        }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(kit_wait_for(many_synced, &k, 0));
    many_check(&k, false);
    kit_crash(&k);
    kit_open(&k);
    many_check(&k, false);
    for (uint32_t p = 0; p < MANY; p += MANY_GONE)
        many_op(&k, 0,
                (struct mqg_store_op){.kind = MQG_OP_STREAM_DELETE,
                                      .stream = {many_id(p), MQG_SLICE_LIT("t"), (int32_t)p}});
    many_check(&k, true);
    kit_close(&k);
    kit_open(&k);
    many_check(&k, true);
    kit_close(&k);
    kit_fini(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

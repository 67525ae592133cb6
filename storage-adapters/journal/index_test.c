/* index_test.c - digests: made, believed only when they check, and what is forgotten comes back. */
#include "index.h"
#include "test_kit.h"

enum { INDEX_QUEUES = 3, INDEX_MAX = 4000 };

/* ---- pages ------------------------------------------------------------------------------------------------- */

static uint64_t index_random(uint64_t *rng)
{
    *rng ^= *rng << 13;
    *rng ^= *rng >> 7;
    *rng ^= *rng << 17;
    return *rng;
}

/* Entries of all kinds: steps of all sizes in every column. */
static uint32_t index_entries(struct jrn_entry *e, uint32_t n, uint64_t *rng)
{
    uint64_t qseq = 1ull << 48 | 7, us = 1700000000000000ull;
    uint32_t off = 4096;
    for (uint32_t i = 0; i < n; i++) {
        bool odd = index_random(rng) % 8 == 0;
        qseq += odd ? 1 + index_random(rng) % 5000 : 1;
        us += odd ? index_random(rng) % 100000000 : 3;
        off = odd ? (uint32_t)(index_random(rng) % (1u << 28)) * 8 : off + 200;
        e[i] = (struct jrn_entry){.queue_id = 9,
                                  .qseq = qseq,
                                  .append_us = odd ? index_random(rng) : us,
                                  .ttl_ms = index_random(rng) % 50 == 0 ? index_random(rng) : 0,
                                  .off = off,
                                  .len = odd ? 200 + (uint32_t)(index_random(rng) % 100000) : 180,
                                  .body_len = 100,
                                  .proto = 1,
                                  .flags = (uint8_t)(odd ? index_random(rng) : 1),
                                  .priority = (uint8_t)(odd ? index_random(rng) : 0),
                                  .key_sep = '.'};
    }
    return n;
}

static void index_pages(void **state)
{
    static struct jrn_entry e[500], got;
    uint64_t rng = 42;
    (void)state;
    for (uint32_t n = 1; n < 500; n += 37) {
        struct mqg_dynbuf out;
        struct jrn_page page;
        mqg_dynbuf_init(&out, 1 << 20);
        index_entries(e, n, &rng);
        assert_true(jrn_page_encode(&out, e, n));
        struct mqg_slice bytes = mqg_dynbuf_view(&out);
        jrn_page_init(&page, bytes, 9, e[0].qseq, n);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(jrn_page_next(&page, &got));
            assert_memory_equal(&got, &e[i], sizeof got);
        }
        assert_false(jrn_page_next(&page, &got));
        assert_true(jrn_page_whole(&page));
        for (size_t cut = 0; cut < bytes.len; cut++) { /* never whole, never beyond its end */
            jrn_page_init(&page, mqg_slice_of(bytes.ptr, cut), 9, e[0].qseq, n);
            while (jrn_page_next(&page, &got)) {
            }
            assert_false(jrn_page_whole(&page));
        }
        mqg_dynbuf_fini(&out);
    }
}

/* ---- a model ------------------------------------------------------------------------------------------------- */

enum index_fate { INDEX_NONE, INDEX_LIVE, INDEX_SETTLED };

struct index_model {
    struct kit k;
    uint64_t rng, next[INDEX_QUEUES + 1];
    enum index_fate fate[INDEX_QUEUES + 1][INDEX_MAX];
    bool counted[INDEX_QUEUES + 1][INDEX_MAX];
};

/* Three lanes publish to three queues; numbers reach the journal a little out of order. */
static void index_publish(struct index_model *m, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t q = 1 + index_random(&m->rng) % INDEX_QUEUES, base = m->next[q];
        uint32_t lane = (uint32_t)(index_random(&m->rng) % KIT_LANES);
        if (base + 4 > INDEX_MAX)
            continue;
        for (uint64_t j = 4; j-- > 0;) {
            kit_put(&m->k, lane, q, base + j, 200 + index_random(&m->rng) % 800);
            m->fate[q][base + j] = INDEX_LIVE;
            lane = (lane + 1) % KIT_LANES;
        }
        m->next[q] += 4;
    }
    for (uint32_t lane = 0; lane < KIT_LANES; lane++)
        assert_true(kit_wait(&m->k, lane, m->k.ticket[lane]));
}

static void index_settle(struct index_model *m, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t q = 1 + index_random(&m->rng) % INDEX_QUEUES;
        uint64_t first = index_random(&m->rng) % INDEX_MAX, last = first + index_random(&m->rng) % 8;
        bool all = true;
        for (uint64_t s = first; s <= last; s++)
            all = all && s < INDEX_MAX && m->fate[q][s] == INDEX_LIVE;
        if (!all)
            continue;
        kit_settle(&m->k, 1, q, first, last);
        for (uint64_t s = first; s <= last; s++)
            m->fate[q][s] = INDEX_SETTLED;
    }
    assert_true(kit_wait(&m->k, 1, m->k.ticket[1]));
}

static void index_count(struct index_model *m, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t q = 1 + index_random(&m->rng) % INDEX_QUEUES, s = index_random(&m->rng) % INDEX_MAX;
        struct mqg_store_op op = {.kind = MQG_OP_COUNT, .count = {q, s, 3, 1}};
        if (m->fate[q][s] != INDEX_LIVE)
            continue;
        kit_submit(&m->k, 0, &op, 1, MQG_SUBMIT_URGENT);
        m->counted[q][s] = true;
    }
    assert_true(kit_wait(&m->k, 0, m->k.ticket[0]));
}

/* What the kit was told, spans read back, is what the model has: each message once, with its bytes. */
static void index_compare(struct index_model *m, bool bodies)
{
    static uint8_t seen[INDEX_QUEUES + 1][INDEX_MAX];
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < m->k.nmsg; i++) {
        const struct kit_msg *x = &m->k.msgs[i];
        assert_true(x->queue_id >= 1 && x->queue_id <= INDEX_QUEUES && x->qseq < INDEX_MAX);
        assert_int_equal(seen[x->queue_id][x->qseq]++, 0);
        assert_int_equal(m->fate[x->queue_id][x->qseq], INDEX_LIVE);
        assert_int_equal(x->delivery_count, m->counted[x->queue_id][x->qseq] ? 3 : 0);
        if (bodies && i % 5 == 0)
            kit_check_body(&m->k, x);
    }
    for (uint64_t q = 1; q <= INDEX_QUEUES; q++)
        for (uint64_t s = 0; s < INDEX_MAX; s++)
            assert_int_equal(seen[q][s], m->fate[q][s] == INDEX_LIVE);
}

static void index_start(struct index_model *m, const char *name, uint64_t seed)
{
    *m = (struct index_model){.rng = seed * 2 + 1};
    kit_init(&m->k, name, "1MiB");
    for (uint64_t q = 1; q <= INDEX_QUEUES; q++)
        m->next[q] = 1;
    m->k.spans = true;
    kit_open(&m->k);
}

static void index_end(struct index_model *m)
{
    kit_crash(&m->k);
    kit_fini(&m->k);
}

/* Every mixture, over restarts: with all digests, with those that were made in time, with none. */
static void index_recovers(void **state)
{
    static struct index_model m;
    size_t spans = 0;
    (void)state;
    index_start(&m, "recovers", 1);
    for (int round = 0; round < 6; round++) {
        index_publish(&m, 450);
        index_settle(&m, round < 3 ? 0 : 60);
        index_count(&m, round < 2 ? 0 : 10);
        if (round % 2 == 0)
            assert_true(kit_wait_for(kit_indexed, &m.k, 0));
        kit_crash(&m.k);
        if (round == 5) {
            char path[512];
            while (kit_files(&m.k, ".idx") > 0) {
                kit_file(&m.k, ".idx", 0, path);
                unlink(path);
            }
        }
        kit_open(&m.k);
        spans += m.k.nspan;
        kit_read_spans(&m.k);
        index_compare(&m, round % 3 == 0);
    }
    assert_true(spans >= 10);
    index_end(&m);
}

/* The host gives entries away and takes them back in pieces of all sizes; the segments live as long as an entry does. */
static void index_forgets(void **state)
{
    static struct index_model m;
    static struct mqg_index_entry e[INDEX_MAX];
    (void)state;
    index_start(&m, "forgets", 2);
    m.k.spans = false;
    index_publish(&m, 1200);
    kit_crash(&m.k);
    kit_open(&m.k);
    assert_int_equal(m.k.nspan, 0);
    for (uint64_t q = 1; q <= INDEX_QUEUES; q++) {
        size_t n = 0, from = 0, took = 0, total = 0;
        for (size_t i = 0; i < m.k.nmsg; i++)
            if (m.k.msgs[i].queue_id == q)
                e[n++] = (struct mqg_index_entry){.qseq = m.k.msgs[i].qseq, .extent = m.k.msgs[i].extent};
        /* Not what stands in the tail, which has no digest yet, or in a segment that was left early, with too few for a row. */
        while (from < n && (took = jrn_ops.index_forget(m.k.s, q, e + from, n - from)) == 0)
            from++;
        assert_true(took > 0);
        assert_true(from + took == n || jrn_ops.index_forget(m.k.s, q, e + from + took, 1) == 0);
        assert_int_equal(jrn_ops.index_forget(m.k.s, q, e + from, 1), 0); /* it has it already */
        uint64_t first = 1;
        while (total < took) {
            enum mqg_err err;
            uint32_t max = 1 + (uint32_t)(index_random(&m.rng) % 200);
            uint32_t got = kit_index_read(&m.k, q, first, UINT64_MAX, e, max, &err);
            assert_true(err == MQG_OK && got == (took - total < max ? took - total : max));
            total += got;
            for (uint32_t i = 0; i < got; i += 16) {
                const struct kit_msg *old = kit_find(&m.k, q, e[i].qseq);
                struct kit_msg x = {.queue_id = q,
                                    .qseq = e[i].qseq,
                                    .extent = e[i].extent,
                                    .off = e[i].off,
                                    .len = e[i].len};
                assert_true(old->off == e[i].off && old->len == e[i].len);
                kit_check_body(&m.k, &x);
            }
            first = e[got - 1].qseq + 1;
            if (total > took / 2 && got > 2) { /* some go back at once, and come again */
                assert_int_equal(jrn_ops.index_forget(m.k.s, q, e + 1, got - 1), got - 1);
                total -= got - 1;
                first = 1;
                took -= 1; /* the one that was kept */
                total -= 1;
            }
        }
    }
    index_end(&m);
}

/* What is left of a long queue behind its last full row is as good as the rest: else nothing behind it could be forgotten. */
static void index_forgets_the_rest(void **state)
{
    enum { FIRST = 40, REST = 7 };
    struct mqg_index_entry e[FIRST + REST];
    struct kit k = {.nmsg = 0};
    uint64_t ticket = 0;
    uint32_t n = 0;
    (void)state;
    kit_init(&k, "rest", "4MiB");
    kit_open(&k);
    for (uint64_t i = 0; i < FIRST + REST; i++) /* too far apart for one row */
        ticket = kit_put(&k, 0, 1, i < FIRST ? 1 + i : 1 + i + JRN_ROW_SPAN, 24);
    assert_true(kit_wait(&k, 0, ticket));
    for (uint64_t i = 0; kit_stats(&k).segments < 3; i++)
        assert_true(kit_wait(&k, 0, kit_put(&k, 0, 2, 1 + i, 400000)));
    kit_crash(&k);
    kit_open(&k);
    for (size_t i = 0; i < k.nmsg; i++)
        if (k.msgs[i].queue_id == 1)
            e[n++] = (struct mqg_index_entry){.qseq = k.msgs[i].qseq, .extent = k.msgs[i].extent};
    assert_int_equal(n, FIRST + REST);
    assert_int_equal(jrn_ops.index_forget(k.s, 1, e, n), n);
    kit_crash(&k);
    kit_fini(&k);
}

static bool index_recycled(struct kit *k, uint64_t arg)
{
    return kit_stats(k).segments <= arg && kit_files(k, ".idx") <= arg;
}

/* Forgotten entries keep their segments; asked back and settled, segments and digests go. */
static void index_keeps_segments(void **state)
{
    static struct index_model m;
    (void)state;
    index_start(&m, "keeps", 3);
    index_publish(&m, 1200);
    uint64_t segments = kit_stats(&m.k).segments;
    assert_true(segments >= 3);
    kit_crash(&m.k);
    kit_open(&m.k);
    assert_true(m.k.nspan >= INDEX_QUEUES);
    size_t loose = m.k.nmsg;
    for (size_t i = 0; i < loose; i++)
        mqg_extent_give(m.k.msgs[i].extent, 1);
    for (uint64_t q = 1; q <= INDEX_QUEUES; q++)
        kit_settle(&m.k, 1, q, 1, INDEX_MAX);
    assert_true(kit_wait(&m.k, 1, m.k.ticket[1]));
    assert_true(kit_stats(&m.k).segments >=
                segments); /* whatever the log says: the host has not given them */
    kit_read_spans(&m.k);
    for (size_t i = loose; i < m.k.nmsg; i++)
        mqg_extent_give(m.k.msgs[i].extent, 1);
    assert_true(kit_wait_for(index_recycled, &m.k, 2));
    kit_crash(&m.k);
    kit_open(&m.k);
    assert_int_equal(m.k.nmsg + m.k.nspan, 0);
    index_end(&m);
}

/* A host that does not know the queue: nothing is kept for it. */
static void index_unwanted(void **state)
{
    static struct index_model m;
    (void)state;
    index_start(&m, "unwanted", 4);
    index_publish(&m, 900);
    kit_crash(&m.k);
    m.k.drop_queue = 2;
    kit_open(&m.k);
    struct mqg_index_entry e[10];
    enum mqg_err err;
    assert_int_equal(kit_index_read(&m.k, 2, 0, UINT64_MAX, e, 10, &err), 0);
    assert_int_equal(kit_count(&m.k, 2), 0);
    kit_read_spans(&m.k);
    for (uint64_t s = 0; s < INDEX_MAX; s++)
        m.fate[2][s] = INDEX_NONE;
    index_compare(&m, false);
    index_end(&m);
}

/* More destinations in one segment than one run of the collector takes, and every message's numbers lie between those of the
 * others: rows of two runs must be taken apart and cut anew. */
static void index_fans_out(void **state)
{
    enum { QUEUES = 30, MSGS = 8, EACH = 3000 };
    static struct mqg_dest dests[QUEUES * EACH];
    struct kit k;
    (void)state;
    kit_init(&k, "fanout", "4MiB");
    k.spans = true;
    kit_open(&k);
    for (uint64_t m = 0; m < MSGS; m++) {
        struct mqg_msg *msg = kit_msg_new(MQG_SLICE_LIT("some.key"), 100, m);
        struct mqg_store_op op = {.kind = MQG_OP_MSG, .msg = {msg, dests, QUEUES * EACH}};
        for (uint64_t i = 0; i < QUEUES * EACH; i++)
            dests[i] = (struct mqg_dest){1 + i % QUEUES, 1 + i / QUEUES * MSGS + m};
        msg->extent = jrn_ops.extent_open(k.s, 0);
        mqg_extent_take(msg->extent, QUEUES * EACH);
        assert_true(kit_wait(&k, 0, kit_submit(&k, 0, &op, 1, MQG_SUBMIT_URGENT)));
        mqg_msg_unref(&msg);
    }
    kit_wait(&k, 0, kit_put(&k, 0, 99, 1, 3 << 20));
    kit_wait(&k, 0, kit_put(&k, 0, 99, 2, 3 << 20)); /* the segment is left */
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(k.nspan, QUEUES); /* one each, for nothing lies in between */
    struct mqg_index_entry e[100];
    for (size_t i = 0; i < k.nspan; i++) {
        enum mqg_err err;
        assert_int_equal(k.span[i].count, MSGS * EACH);
        assert_int_equal(kit_index_read(&k, k.span[i].queue_id, 5000, UINT64_MAX, e, 100, &err), 100);
        for (uint64_t j = 0; j < 100; j++)
            assert_int_equal(e[j].qseq, 5000 + j);
    }
    struct kit_msg x = {.queue_id = 1,
                        .qseq = (e[0].qseq - 1) % MSGS,
                        .extent = e[0].extent,
                        .off = e[0].off,
                        .len = e[0].len};
    kit_check_body(&k, &x);
    kit_close(&k);
    kit_fini(&k);
}

/* ---- damage ------------------------------------------------------------------------------------------------------ */

/* A bit flipped anywhere in a digest, a digest cut anywhere: another one is made, and nothing is different. */
static void index_damage(void **state)
{
    static struct index_model m;
    char path[512];
    size_t len;
    (void)state;
    index_start(&m, "damage", 5);
    index_publish(&m, 700);
    index_settle(&m, 40);
    assert_true(kit_wait_for(kit_indexed, &m.k, 0));
    kit_crash(&m.k);
    kit_file(&m.k, ".idx", 0, path);
    uint8_t *good = kit_read(path, &len);
    for (size_t at = 0; at < len; at += at < JRN_DIGEST_HEAD ? 13 : len / 41 + 1) {
        uint8_t *bad = mqg_xmalloc(len);
        memcpy(bad, good, len);
        bad[at] ^= (uint8_t)(1u << at % 8);
        kit_write(path, bad, at % 3 ? len : at);
        free(bad);
        kit_open(&m.k);
        kit_read_spans(&m.k);
        index_compare(&m, false);
        kit_crash(&m.k);
        size_t again;
        uint8_t *made = kit_read(path, &again);
        assert_int_equal(again, len);
        assert_memory_equal(made, good, len); /* the same bytes, whoever made it */
        free(made);
    }
    free(good);
    kit_open(&m.k);
    index_end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(index_pages),          cmocka_unit_test(index_recovers),
        cmocka_unit_test(index_forgets),        cmocka_unit_test(index_forgets_the_rest),
        cmocka_unit_test(index_keeps_segments), cmocka_unit_test(index_unwanted),
        cmocka_unit_test(index_damage),         cmocka_unit_test(index_fans_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

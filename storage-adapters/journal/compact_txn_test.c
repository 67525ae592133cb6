/* compact_txn_test.c - compaction of transactions, case by case. A case appends a few batches, closes the file, lets a pass go
 * over it, and looks at what stands at which offset. Passes are run from here, with a clock of our own: no cleaner's thread
 * compacts beside them. compact_model_test.c does all of it at random. */
#include "test_batch.h"

#include <mqgate/records.h>

enum { KEEP_MS = 60000, FILLER_BYTES = 5000 };

struct txn_case {
    struct kit k;
    uint64_t next;   /* offset */
    uint64_t now_ms; /* passes go by it */
};

static void case_begin(struct txn_case *c, const char *name)
{
    c->next = 0;
    c->now_ms = mqg_clock_now().wall_us / 1000 + 3600 * 1000; /* every file is late */
    part_begin(&c->k, name, 4096);
    part_conf(&c->k, (struct mqg_stream_conf){
                         .segment_bytes = 4096, .tombstone_ms = KEEP_MS, .compact_lag_max_ms = 1});
}

static void case_end(struct txn_case *c)
{
    kit_close(&c->k);
    kit_fini(&c->k);
}

static uint64_t case_plain(struct txn_case *c, uint32_t key, const char *value)
{
    part_put_key(&c->k, c->next, key, value, c->now_ms, 0);
    return c->next++;
}

static uint64_t case_txn(struct txn_case *c, uint64_t producer, uint32_t key, const char *value)
{
    part_put_txn(&c->k, c->next, producer, key, value, c->now_ms);
    return c->next++;
}

static uint64_t case_marker(struct txn_case *c, uint64_t producer, bool commit)
{
    part_put_marker(&c->k, c->next, producer, commit, c->now_ms);
    return c->next++;
}

/* A record so large that its file ends with it. */
static void case_close_file(struct txn_case *c)
{
    char filler[FILLER_BYTES + 1];
    memset(filler, 'f', FILLER_BYTES);
    filler[FILLER_BYTES] = '\0';
    (void)case_plain(c, 1u << 30, filler);
}

/* Closes the file, and compacts all that are closed. */
static void case_pass(struct txn_case *c)
{
    case_close_file(c);
    (void)case_plain(c, 1u << 29, "the file written to");
    assert_true(kit_wait(&c->k, 0, c->k.ticket[0]));
    assert_true(kit_wait_for(compact_is_filed, &c->k, c->next));
    pthread_mutex_lock(&c->k.s->streams->lock);
    struct stream_part *p = jrn_stream_find(c->k.s->streams, PART);
    pthread_mutex_unlock(&c->k.s->streams->lock);
    jrn_part_compact(c->k.s, p, c->now_ms);
    assert_false(p->damaged);
    assert_int_equal(p->again_us, 0);
}

/* Is the batch that began at the offset still there? */
static bool case_has(struct txn_case *c, uint64_t offset)
{
    struct part_batch b;
    return compact_is_at(&c->k, offset, &b) > 0 && b.base == offset;
}

static void case_restart(struct txn_case *c, bool clean)
{
    if (clean)
        kit_close(&c->k);
    else
        kit_crash(&c->k);
    kit_open(&c->k);
}

/* ---- cases -------------------------------------------------------------------------------------------------- */

/* What was committed is compacted as any other; the marker stays while a batch does. */
static void txn_committed(void **state)
{
    struct txn_case c;
    struct part_batch b;
    (void)state;
    case_begin(&c, "tcommit");
    uint64_t old = case_txn(&c, 5, 1, "one"), kept = case_txn(&c, 5, 2, "two"),
             end = case_marker(&c, 5, true);
    uint64_t plain = case_plain(&c, 3, "three"), over = case_txn(&c, 5, 3, "four");
    uint64_t again = case_marker(&c, 5, true), last = case_plain(&c, 1, "five");
    case_pass(&c);
    assert_false(case_has(&c, old));
    assert_true(case_has(&c, kept) && case_has(&c, end));
    assert_false(case_has(&c, plain));
    assert_true(case_has(&c, over) && case_has(&c, again) && case_has(&c, last));
    assert_int_equal(compact_is_at(&c.k, kept, &b), 1);
    assert_true(b.attributes == PART_BATCH_TXN && b.producer == 5);
    c.now_ms += 10 * KEEP_MS;
    case_pass(&c);
    assert_true(case_has(&c, end) && case_has(&c, again));
    case_end(&c);
}

/* What was rolled back goes, and neither wins a key nor loses it. */
static void txn_aborted(void **state)
{
    struct txn_case c;
    (void)state;
    case_begin(&c, "tabort");
    uint64_t kept = case_plain(&c, 1, "stays"), gone = case_txn(&c, 5, 1, "no"),
             alone = case_txn(&c, 5, 2, "no");
    uint64_t tomb = case_txn(&c, 5, 3, NULL), end = case_marker(&c, 5, false);
    case_pass(&c);
    assert_true(case_has(&c, kept) && case_has(&c, end));
    assert_false(case_has(&c, gone) || case_has(&c, alone) || case_has(&c, tomb));
    case_end(&c);
}

/* From the first batch of an open transaction on nothing goes, and nothing wins over what stands before it: who reads what is
 * committed comes no farther. When it was decided, also in a later life, the next pass goes on. */
static void txn_open(void **state)
{
    (void)state;
    for (int way = 0; way < 6; way++) {
        struct txn_case c;
        bool commit = way % 2 == 0;
        case_begin(&c, "topen");
        uint64_t old = case_plain(&c, 1, "old"), before = case_plain(&c, 1, "before"),
                 kept = case_plain(&c, 4, "x");
        uint64_t open = case_txn(&c, 5, 1, "perhaps"), tomb = case_plain(&c, 2, NULL);
        uint64_t mine = case_txn(&c, 5, 3, "older"), over = case_plain(&c, 3, "n"),
                 later = case_plain(&c, 4, "y");
        uint64_t no = case_txn(&c, 6, 3, "no"), end6 = case_marker(&c, 6, false);
        c.now_ms += 2 * KEEP_MS;
        case_pass(&c);
        assert_false(case_has(&c, old));
        assert_true(case_has(&c, before) && case_has(&c, kept) && case_has(&c, open) && case_has(&c, tomb));
        assert_true(case_has(&c, mine) && case_has(&c, over) && case_has(&c, later) && case_has(&c, no));
        if (way >= 2)
            case_restart(&c, way >= 4);
        uint64_t end = case_marker(&c, 5, commit);
        case_pass(&c);
        assert_int_equal(case_has(&c, before), !commit);
        assert_int_equal(case_has(&c, open), commit);
        assert_false(case_has(&c, kept) || case_has(&c, mine) || case_has(&c, tomb) || case_has(&c, no));
        assert_true(case_has(&c, over) && case_has(&c, later) && case_has(&c, end) && case_has(&c, end6));
        case_end(&c);
    }
}

/* A marker goes when its transaction has no batch left, and the time after that is over: not by its own age. */
static void txn_marker_goes(void **state)
{
    struct txn_case c;
    struct part_batch b;
    (void)state;
    case_begin(&c, "tmarker");
    (void)case_txn(&c, 5, 1, "no");
    uint64_t aborted = case_marker(&c, 5, false);
    (void)case_txn(&c, 5, 2, "old");
    uint64_t committed = case_marker(&c, 5, true), bare = case_marker(&c, 6, true), time_ms = c.now_ms;
    uint64_t kept = case_plain(&c, 2, "new");
    c.now_ms += 100 * KEEP_MS; /* old as they are, they get their time */
    case_pass(&c);
    uint64_t horizon_ms = c.now_ms + KEEP_MS, ends[] = {aborted, committed, bare};
    for (int i = 0; i < 3; i++) {
        assert_true(case_has(&c, ends[i]));
        assert_int_equal(compact_is_at(&c.k, ends[i], &b), 1);
        assert_true((b.attributes & PART_BATCH_HORIZON) && b.base_time_ms == horizon_ms);
        assert_int_equal(b.max_time_ms, time_ms);
        struct mqg_stream_read r = part_read(&c.k, ends[i], 1);
        struct mqg_slice in = mqg_slice_of(r.data->data + PART_BATCH_HEAD, b.len - PART_BATCH_HEAD);
        struct part_record rec;
        bool bad;
        assert_true(jrn_part_record_take(&in, &b, &rec, &bad) && in.len == 0);
        assert_true(rec.offset == ends[i] && rec.time_ms == time_ms && mqg_be32(rec.key.ptr) == (i > 0));
        mqg_buf_unref(&r.data);
    }
    c.now_ms += KEEP_MS / 2;
    case_restart(&c, true);
    case_pass(&c);
    assert_true(case_has(&c, aborted) && case_has(&c, committed) && case_has(&c, bare));
    assert_int_equal(compact_is_at(&c.k, aborted, &b), 1);
    assert_int_equal(b.base_time_ms, horizon_ms); /* the first word counts */
    c.now_ms += KEEP_MS;
    case_pass(&c);
    assert_false(case_has(&c, aborted) || case_has(&c, committed) || case_has(&c, bare));
    assert_true(case_has(&c, kept));
    case_end(&c);
}

/* Batches in the first file, the marker in the third; several producers between each other. */
static void txn_spans_files(void **state)
{
    struct txn_case c;
    (void)state;
    case_begin(&c, "tspan");
    uint64_t a = case_txn(&c, 5, 1, "no"), b = case_txn(&c, 6, 1, "yes");
    case_close_file(&c);
    uint64_t a2 = case_txn(&c, 5, 2, "no"), b2 = case_txn(&c, 6, 2, "yes");
    case_pass(&c);
    assert_true(case_has(&c, a) && case_has(&c, b) && case_has(&c, a2) && case_has(&c, b2));
    uint64_t aend = case_marker(&c, 5, false), bend = case_marker(&c, 6, true);
    uint64_t a3 = case_txn(&c, 5, 2, "of the next one"), a3end = case_marker(&c, 5, true);
    uint64_t d = case_txn(&c, 7, 1, "open");
    case_pass(&c);
    assert_false(case_has(&c, a) || case_has(&c, a2) || case_has(&c, b2));
    assert_true(case_has(&c, b) && case_has(&c, a3) && case_has(&c, d));
    assert_true(case_has(&c, aend) && case_has(&c, bend) && case_has(&c, a3end));
    c.now_ms += 2 * KEEP_MS;
    case_pass(&c);
    assert_false(case_has(&c, aend));
    assert_true(case_has(&c, bend) && case_has(&c, a3end) && case_has(&c, d));
    case_end(&c);
}

static void case_epoch(struct txn_case *c, uint16_t attributes, uint16_t epoch, uint32_t key,
                       uint32_t sequence)
{
    struct mqg_dynbuf records;
    mqg_dynbuf_init(&records, 4096);
    put_record(&records, 0, key, "value");
    put_test_batch(&c->k, &(struct test_batch){c->next++, 1, mqg_dynbuf_view(&records), c->now_ms, attributes,
                                               5, epoch, sequence});
    mqg_dynbuf_fini(&records);
}

/* A fenced producer's marker has a higher epoch; batches that are idempotent only have nothing to do with any; a batch that stays
 * keeps what it says of its producer. */
static void txn_epochs(void **state)
{
    struct txn_case c;
    struct part_batch b;
    (void)state;
    case_begin(&c, "tepoch");
    case_epoch(&c, PART_BATCH_TXN, 3, 1, 10);                     /* 0: fenced */
    case_epoch(&c, 0, 3, 2, 11);                                  /* 1: of no transaction */
    case_epoch(&c, PART_BATCH_TXN | PART_BATCH_CONTROL, 4, 0, 0); /* 2: its rollback */
    case_epoch(&c, PART_BATCH_TXN, 4, 3, 0);                      /* 3 */
    case_epoch(&c, PART_BATCH_TXN | PART_BATCH_CONTROL, 4, 1, 0); /* 4: commit */
    case_pass(&c);
    assert_false(case_has(&c, 0));
    assert_true(case_has(&c, 1) && case_has(&c, 2) && case_has(&c, 3) && case_has(&c, 4));
    assert_int_equal(compact_is_at(&c.k, 3, &b), 1);
    struct mqg_stream_read r = part_read(&c.k, 3, 1);
    assert_true(mqg_be64(r.data->data + 43) == 5 && mqg_be16(r.data->data + 51) == 4 &&
                mqg_be32(r.data->data + 53) == 0);
    mqg_buf_unref(&r.data);
    case_end(&c);
}

static uint64_t case_packed(struct txn_case *c, uint64_t producer, uint32_t from, uint32_t count,
                            uint16_t codec)
{
    struct mqg_dynbuf plain, packed;
    uint64_t base = c->next;
    mqg_dynbuf_init(&plain, 1 << 20);
    mqg_dynbuf_init(&packed, 1 << 20);
    for (uint32_t i = 0; i < count; i++)
        put_record(&plain, i, from + i, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_int_equal(test_pack(mqg_dynbuf_view(&plain), &packed), MQG_OK);
    put_test_batch(&c->k, &(struct test_batch){base, count, mqg_dynbuf_view(&packed), c->now_ms,
                                               (uint16_t)(PART_BATCH_TXN | codec), producer, 0, 0});
    c->next += count;
    mqg_dynbuf_fini(&plain);
    mqg_dynbuf_fini(&packed);
    return base;
}

/* Compressed: looked into when committed; dropped whole when rolled back, though nobody knows the codec. */
static void txn_compressed(void **state)
{
    struct txn_case c;
    struct part_batch b;
    (void)state;
    case_begin(&c, "tpacked");
    uint64_t part = case_packed(&c, 5, 100, 10, TEST_CODEC_BOTH_WAYS);
    uint64_t unknown = case_packed(&c, 5, 200, 10, TEST_CODEC_UNKNOWN);
    uint64_t end = case_marker(&c, 5, true), gone = case_packed(&c, 6, 300, 10, TEST_CODEC_UNKNOWN);
    (void)case_marker(&c, 6, false);
    for (uint32_t i = 3; i < 10; i++)
        (void)case_plain(&c, 100 + i, "later");
    uint64_t open = case_packed(&c, 7, 100, 10, TEST_CODEC_BOTH_WAYS);
    case_pass(&c);
    assert_int_equal(compact_is_at(&c.k, part, &b), 3);
    assert_true(b.attributes == (PART_BATCH_TXN | TEST_CODEC_BOTH_WAYS) && b.base == part && b.producer == 5);
    assert_int_equal(compact_is_at(&c.k, unknown, &b), 10);
    assert_true(case_has(&c, end));
    assert_false(case_has(&c, gone));
    assert_int_equal(compact_is_at(&c.k, open, &b), 10);
    case_end(&c);
}

/* Control batches that end no transaction stay: of another type, of a length that does not read. */
static void txn_strange_control(void **state)
{
    static const uint8_t junk[] = {0x7f, 0x01, 0x02};
    struct txn_case c;
    (void)state;
    case_begin(&c, "tstrange");
    uint64_t data = case_txn(&c, 5, 1, "open"), at = c.next;
    case_epoch(&c, PART_BATCH_TXN | PART_BATCH_CONTROL, 0, 2, 0);     /* type 2 */
    case_epoch(&c, PART_BATCH_CONTROL, 0, 1, 0);                      /* of no transaction */
    case_epoch(&c, PART_BATCH_TXN | PART_BATCH_CONTROL | 1, 0, 1, 0); /* says that it is compressed */
    put_test_batch(&c.k, &(struct test_batch){c.next++, 1, mqg_slice_of(junk, sizeof junk), c.now_ms,
                                              PART_BATCH_TXN | PART_BATCH_CONTROL, 5, 0, 0});
    for (int i = 0; i < 3; i++) {
        case_pass(&c);
        c.now_ms += 2 * KEEP_MS;
        for (uint64_t k = data; k < at + 4; k++)
            assert_true(case_has(&c, k));
    }
    case_end(&c);
}

/* More transactions and producers than there is room for in what a pass notes at first: all is decided all the same. */
static void txn_many(void **state)
{
    enum { MANY = 700 };
    struct txn_case c;
    (void)state;
    case_begin(&c, "tmany");
    for (uint64_t i = 0; i < MANY; i++) /* all open at once */
        (void)case_txn(&c, 1000 + i * 7, (uint32_t)i % 10, "v");
    for (uint64_t i = 0; i < MANY; i++)
        (void)case_marker(&c, 1000 + i * 7, i % 3 == 0);
    case_pass(&c);
    for (uint64_t i = 0; i < MANY; i++)
        assert_int_equal(case_has(&c, i), i % 3 == 0 && i + 30 >= MANY);
    for (uint64_t i = 0; i < 2 * MANY; i += 97)
        assert_true(i < MANY || case_has(&c, i));
    c.now_ms += 2 * KEEP_MS;
    case_pass(&c);
    for (uint64_t i = 0; i < MANY; i++)
        assert_int_equal(case_has(&c, MANY + i), i % 3 == 0 && i + 30 >= MANY);
    case_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(txn_committed),   cmocka_unit_test(txn_aborted),
        cmocka_unit_test(txn_open),        cmocka_unit_test(txn_marker_goes),
        cmocka_unit_test(txn_spans_files), cmocka_unit_test(txn_epochs),
        cmocka_unit_test(txn_compressed),  cmocka_unit_test(txn_strange_control),
        cmocka_unit_test(txn_many),
    };
    test_codecs();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* compact_model_test.c - compaction of transactions at random, beside a model that remembers everything.
 *
 * Producers write transactions between each other's, commit and roll them back, or leave them open; others write beside them; passes
 * run with a clock that jumps, some of them with a call that fails, and the store is restarted, now and then in the middle of that.
 * After each pass and start the whole log is read in pieces of random size, and each piece is taken as a client takes an answer of
 * Fetch: the list of what was rolled back is made as fetch_aborted.c makes it, and followed as KIP-98 says. So what is seen must be
 * what was committed; of each key the last record must be there, up to the last stable offset and up to the end; of what is open
 * nothing may miss. usage: compact_model_test [--seed S] [--rounds N] */
#include "fs_test.h"
#include "test_batch.h"

#include <mqgate/records.h>

#include <errno.h>

enum {
    MODEL_KEYS = 12,
    MODEL_PRODUCERS = 6,
    MODEL_MAX = 8000, /* records */
    MODEL_STEPS = 500,
    KEEP_MS = 60000,
    VALUE_MAX = 500,
    NO_TXN = -1,
};

enum model_end { MODEL_OPEN, MODEL_COMMITTED, MODEL_ABORTED };

struct model_txn {
    uint64_t producer, first, marker; /* marker: UINT64_MAX while it is open */
    enum model_end end;
};

struct model_record {
    uint32_t key;
    bool tombstone, marker;
    int txn;
};

struct model {
    struct kit k;
    struct jrn_fs_fault fault;
    uint64_t rng, now_ms, next;
    struct model_record at[MODEL_MAX]; /* by offset */
    struct model_txn txn[MODEL_MAX];
    int ntxn, open[MODEL_PRODUCERS];
    unsigned passes, failed, restarts;
};

static uint64_t model_seed;
static int model_rounds = 6;

static uint32_t model_below(struct model *m, uint32_t n)
{
    m->rng = m->rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((m->rng >> 33) % n);
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

static void model_value(uint64_t offset, uint32_t bytes, char out[VALUE_MAX + 32])
{
    int n = snprintf(out, 32, "at %llu ", (unsigned long long)offset);
    memset(out + n, 'v', bytes);
    out[(uint32_t)n + bytes] = '\0';
}

static void model_put(struct model *m, uint64_t producer, int txn, uint32_t count)
{
    struct mqg_dynbuf plain, packed;
    char value[VALUE_MAX + 32];
    uint16_t codec = model_below(m, 3) == 0 ? TEST_CODEC_BOTH_WAYS : 0;
    mqg_dynbuf_init(&plain, 1 << 20);
    mqg_dynbuf_init(&packed, 1 << 20);
    for (uint32_t i = 0; i < count; i++) {
        struct model_record *r = &m->at[m->next + i];
        *r = (struct model_record){model_below(m, MODEL_KEYS), model_below(m, 6) == 0, false, txn};
        model_value(m->next + i, model_below(m, VALUE_MAX), value);
        put_record(&plain, i, r->key, r->tombstone ? NULL : value);
    }
    assert_int_equal(test_pack(mqg_dynbuf_view(&plain), &packed), MQG_OK);
    put_test_batch(&m->k,
                   &(struct test_batch){m->next, count, mqg_dynbuf_view(codec ? &packed : &plain), m->now_ms,
                                        (uint16_t)(codec | (txn >= 0 ? PART_BATCH_TXN : 0)), producer, 0, 0});
    m->next += count;
    mqg_dynbuf_fini(&plain);
    mqg_dynbuf_fini(&packed);
}

static void model_marker(struct model *m, uint64_t producer, bool commit)
{
    m->at[m->next] = (struct model_record){.marker = true, .txn = NO_TXN};
    part_put_marker(&m->k, m->next++, producer, commit, m->now_ms);
}

static void model_write(struct model *m)
{
    uint32_t producer = model_below(m, MODEL_PRODUCERS);
    if (m->open[producer] < 0) {
        m->txn[m->ntxn] = (struct model_txn){producer, m->next, UINT64_MAX, MODEL_OPEN};
        m->open[producer] = m->ntxn++;
    }
    model_put(m, producer, m->open[producer], 1 + model_below(m, 4));
}

static void model_end(struct model *m, uint32_t producer)
{
    int txn = m->open[producer];
    bool commit = model_below(m, 5) < 3;
    if (txn >= 0) {
        m->txn[txn].marker = m->next;
        m->txn[txn].end = commit ? MODEL_COMMITTED : MODEL_ABORTED;
        m->open[producer] = -1;
    } else if (model_below(m, 4) > 0) { /* a marker without batches, now and then */
        return;
    }
    model_marker(m, producer, commit);
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

struct model_seen {
    uint64_t stable;
    uint64_t last[MODEL_KEYS], last_stable[MODEL_KEYS]; /* offset + 1 */
    uint8_t there[MODEL_MAX];
    uint32_t records;
};

/* The transaction of the producer's batch there; NULL: nothing is known of such a one. */
static const struct model_txn *model_txn_of(const struct model *m, uint64_t producer, uint64_t base)
{
    for (int i = 0; i < m->ntxn; i++)
        if (m->txn[i].producer == producer && m->txn[i].first <= base && base < m->txn[i].marker)
            return &m->txn[i];
    return NULL;
}

struct model_told {
    uint64_t producer, first;
    const struct model_txn *txn;
};

static bool model_is_data(const struct part_batch *b)
{
    return (b->attributes & (PART_BATCH_TXN | PART_BATCH_CONTROL)) == PART_BATCH_TXN;
}

/* As fetch_aborted.c does. */
static size_t model_list(const struct model *m, struct mqg_slice in, struct model_told list[256])
{
    struct part_batch b;
    size_t n = 0;
    while (in.len > 0) {
        assert_true(jrn_part_batch_take(&in, &b));
        const struct model_txn *t = model_is_data(&b) ? model_txn_of(m, b.producer, b.base) : NULL;
        bool told = !t || t->end != MODEL_ABORTED;
        for (size_t i = 0; i < n && !told; i++)
            told = list[i].txn == t;
        if (!told && n < 256)
            list[n++] = (struct model_told){b.producer, b.base, t};
    }
    return n;
}

static void model_see_record(const struct model *m, struct model_seen *seen, const struct part_record *r,
                             bool visible)
{
    const struct model_record *is = &m->at[r->offset];
    char value[VALUE_MAX + 32];
    assert_true(r->offset < m->next && !is->marker && is->key == mqg_be32(r->key.ptr));
    assert_int_equal(r->has_value, !is->tombstone);
    int n = snprintf(value, sizeof value, "at %llu v", (unsigned long long)r->offset);
    assert_true(is->tombstone || r->whole.len < (size_t)n + 16 ||
                memmem(r->whole.ptr, r->whole.len, value, (size_t)n - 1) != NULL);
    seen->there[r->offset] = 1;
    seen->records++;
    if (visible)
        seen->last[is->key] = r->offset + 1;
    if (visible && r->offset < seen->stable)
        seen->last_stable[is->key] = r->offset + 1;
}

static void model_see_batch(const struct model *m, struct model_seen *seen, const struct part_batch *b,
                            struct mqg_slice whole, bool visible)
{
    struct mqg_slice in = mqg_slice_of(whole.ptr + PART_BATCH_HEAD, b->len - PART_BATCH_HEAD);
    struct mqg_dynbuf plain;
    struct mqg_batch head;
    struct part_record r;
    bool bad = false;
    mqg_dynbuf_init(&plain, 1 << 20);
    if (b->attributes & PART_BATCH_CODEC) {
        assert_int_equal(mqg_batch_read(whole, &head), MQG_OK);
        assert_int_equal(mqg_batch_plain(&head, &plain, &in), MQG_OK);
    }
    while (jrn_part_record_take(&in, b, &r, &bad))
        model_see_record(m, seen, &r, visible);
    assert_false(bad);
    mqg_dynbuf_fini(&plain);
}

/* One answer, as a client of committed records takes it (KIP-98): the list says from where a producer's batches are dropped, the
 * marker until where. */
static void model_see(const struct model *m, struct model_seen *seen, struct mqg_slice in)
{
    struct model_told list[256];
    bool dropped[MODEL_PRODUCERS] = {false};
    struct part_batch b;
    size_t n = model_list(m, in, list), at = 0;
    for (struct mqg_slice whole = in; in.len > 0; whole = in) {
        assert_true(jrn_part_batch_take(&in, &b));
        for (; at < n && list[at].first < b.end; at++)
            dropped[list[at].producer] = true;
        if (b.attributes & PART_BATCH_CONTROL) {
            seen->there[b.base] = 1;
            dropped[b.producer] = false;
            continue;
        }
        const struct model_txn *t = model_is_data(&b) ? model_txn_of(m, b.producer, b.base) : NULL;
        bool drop = t && dropped[b.producer];
        assert_int_equal(drop, t && t->end == MODEL_ABORTED);
        model_see_batch(m, seen, &b, whole, !drop && !(t && t->end == MODEL_OPEN));
    }
}

static void model_read(struct model *m, struct model_seen *seen)
{
    *seen = (struct model_seen){.stable = m->next};
    for (int i = 0; i < MODEL_PRODUCERS; i++)
        if (m->open[i] >= 0 && m->txn[m->open[i]].first < seen->stable)
            seen->stable = m->txn[m->open[i]].first;
    for (uint64_t offset = 0; offset < m->next;) {
        struct mqg_stream_read r = part_read(&m->k, offset, 1 + model_below(m, 20000));
        assert_int_equal(r.err, MQG_OK);
        assert_true(r.next_offset > offset);
        if (r.data)
            model_see(m, seen, mqg_slice_of(r.data->data, r.data->len));
        offset = r.next_offset;
        mqg_buf_unref(&r.data);
    }
}

/* A tombstone may be gone, and then there is nothing of its key. */
static void model_check_last(const struct model *m, const uint64_t last[MODEL_KEYS], uint64_t upto)
{
    uint64_t want[MODEL_KEYS] = {0};
    for (uint64_t i = 0; i < upto; i++) {
        const struct model_record *r = &m->at[i];
        if (!r->marker && (r->txn < 0 || m->txn[r->txn].end == MODEL_COMMITTED))
            want[r->key] = i + 1;
    }
    for (uint32_t key = 0; key < MODEL_KEYS; key++)
        assert_true(last[key] == want[key] ||
                    (want[key] && m->at[want[key] - 1].tombstone && last[key] == 0));
}

static uint32_t model_check(struct model *m)
{
    static struct model_seen seen;
    assert_true(kit_wait(&m->k, 0, m->k.ticket[0]));
    model_read(m, &seen);
    model_check_last(m, seen.last_stable, seen.stable);
    model_check_last(m, seen.last, m->next);
    for (uint64_t i = 0; i < m->next; i++) {
        const struct model_txn *t = m->at[i].txn >= 0 ? &m->txn[m->at[i].txn] : NULL;
        assert_true(seen.there[i] || !t || t->end != MODEL_OPEN);
        assert_true(!seen.there[i] || !t || t->end != MODEL_ABORTED || seen.there[t->marker]);
    }
    return seen.records;
}

/* ---- passes ------------------------------------------------------------------------------------------------- */

static struct stream_part *model_part(struct model *m)
{
    pthread_mutex_lock(&m->k.s->streams->lock);
    struct stream_part *p = jrn_stream_find(m->k.s->streams, PART);
    pthread_mutex_unlock(&m->k.s->streams->lock);
    return p;
}

static void model_restart(struct model *m)
{
    assert_true(kit_wait(&m->k, 0, m->k.ticket[0]));
    if (model_below(m, 2))
        kit_close(&m->k);
    else
        kit_crash(&m->k);
    kit_open(&m->k);
    m->restarts++;
}

static void model_arm(struct model *m)
{
    static const struct {
        enum jrn_fs_op op;
        int error;
    } kinds[] = {{JRN_FS_READ, -EIO}, {JRN_FS_WRITE, -ENOSPC}, {JRN_FS_WRITE, 0},     {JRN_FS_SYNC, -EIO},
                 {JRN_FS_OPEN, -EIO}, {JRN_FS_SYNC_DIR, -EIO}, {JRN_FS_RENAME, -EIO}, {JRN_FS_UNLINK, -EIO}};
    uint32_t kind = model_below(m, MQG_COUNTOF(kinds));
    m->fault.op = (int)kinds[kind].op;
    m->fault.error = kinds[kind].error;
    atomic_store(&m->fault.nth, 1 + model_below(m, 12));
}

static void model_pass(struct model *m, bool fails)
{
    assert_true(kit_wait(&m->k, 0, m->k.ticket[0]));
    assert_true(kit_wait_for(compact_is_filed, &m->k, m->next));
    struct stream_part *p = model_part(m);
    m->now_ms += model_below(m, KEEP_MS);
    p->again_us = 0;
    if (fails)
        model_arm(m);
    jrn_part_compact(m->k.s, p, m->now_ms);
    atomic_store(&m->fault.nth, 0);
    assert_false(p->damaged);
    m->passes++;
    m->failed += p->again_us != 0;
    if (p->again_us != 0 && model_below(m, 2))
        model_restart(m);
}

static void model_step(struct model *m)
{
    uint32_t what = model_below(m, 100);
    if (what < 45)
        model_write(m);
    else if (what < 60)
        model_put(m, model_below(m, 2) ? UINT64_MAX : model_below(m, MODEL_PRODUCERS), NO_TXN,
                  1 + model_below(m, 4));
    else if (what < 88)
        model_end(m, model_below(m, MODEL_PRODUCERS));
    else if (what < 98)
        model_pass(m, what >= 95);
    else
        model_restart(m);
    if (what >= 88)
        (void)model_check(m);
}

/* ---- rounds ------------------------------------------------------------------------------------------------- */

/* Nothing open, and time goes by: hardly more is left than the last record of each key. */
static void model_finish(struct model *m)
{
    for (uint32_t i = 0; i < MODEL_PRODUCERS; i++)
        if (m->open[i] >= 0)
            model_end(m, i);
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 40; k++)
            model_put(m, UINT64_MAX, NO_TXN, 1);
        m->now_ms += 3 * KEEP_MS;
        model_pass(m, false);
        (void)model_check(m);
    }
    const struct stream_part *p = model_part(m);
    uint64_t closed = p->files[p->nfile - 1]->base;
    static struct model_seen seen;
    model_read(m, &seen);
    uint32_t records = 0, markers = 0;
    for (uint64_t i = 0; i < closed; i++) {
        records += seen.there[i] && !m->at[i].marker;
        markers += seen.there[i] && m->at[i].marker;
    }
    assert_true(records <= MODEL_KEYS);
    assert_true(markers <= records);
    print_message(
        "  %llu offsets, %d transactions, %u passes, %u failed, %u restarts; left: %u records, %u markers\n",
        (unsigned long long)m->next, m->ntxn, m->passes, m->failed, m->restarts, records, markers);
}

static void model_round(uint64_t seed)
{
    struct model *m = mqg_xcalloc(1, sizeof *m);
    m->rng = seed * 2 + 1;
    for (int i = 0; i < MODEL_PRODUCERS; i++)
        m->open[i] = -1;
    jrn_fs_fault_init(&m->fault, &jrn_fs_real);
    m->fault.only = "model";
    mqg_journal_fs(&m->fault.fs);
    part_begin(&m->k, "model", 4096);
    part_conf(&m->k, (struct mqg_stream_conf){
                         .segment_bytes = 4096, .tombstone_ms = KEEP_MS, .compact_lag_max_ms = 1});
    m->now_ms = mqg_clock_now().wall_us / 1000 + 3600 * 1000; /* every file is late */
    while (m->passes + m->restarts < MODEL_STEPS / 10 && m->next < MODEL_MAX - 1000)
        model_step(m);
    model_finish(m);
    kit_close(&m->k);
    kit_fini(&m->k);
    mqg_journal_fs(&jrn_fs_real);
    free(m);
}

static void compact_holds_the_model(void **state)
{
    (void)state;
    print_message("seed=%llu\n", (unsigned long long)model_seed);
    for (int i = 0; i < model_rounds; i++)
        model_round(model_seed * 1000 + (uint64_t)i);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(compact_holds_the_model)};
    model_seed = mqg_random_u64() % 1000000000;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            model_seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--rounds") == 0)
            model_rounds = (int)strtol(argv[i + 1], NULL, 10);
    }
    pthread_setname_np(pthread_self(), "model");
    test_codecs();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

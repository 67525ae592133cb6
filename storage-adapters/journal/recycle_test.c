/* recycle_test.c - segments come back, and nothing that they said is forgotten. */
#include "leave.h"
#include "restate.h"
#include "test_kit.h"

enum { FAST = 1, SLOW = 2, RECYCLE_BODY = 20000 };

/* The host's view of live messages while the store runs: extents by qseq, to be settled later. */
struct recycle_live {
    struct mqg_extent *extent;
    uint64_t qseq;
};

/* Publishes to the queue and remembers the extent. */
static struct recycle_live recycle_put(struct kit *k, uint64_t queue_id, uint64_t qseq, uint64_t *ticket)
{
    struct mqg_extent *x = jrn_ops.extent_open(k->s, 0);
    *ticket = kit_put(k, 0, queue_id, qseq, RECYCLE_BODY);
    return (struct recycle_live){x, qseq};
}

/* Publishes and settles n messages of the fast queue, four in flight. */
static void recycle_flow(struct kit *k, uint64_t first, uint64_t n)
{
    struct recycle_live live[4];
    uint64_t ticket = 0;
    for (uint64_t i = 0; i < n; i += 4) {
        for (uint64_t j = 0; j < 4; j++)
            live[j] = recycle_put(k, FAST, first + i + j, &ticket);
        assert_true(kit_wait(k, 0, ticket));
        kit_settle(k, 1, FAST, first + i, first + i + 3);
        for (uint64_t j = 0; j < 4; j++)
            mqg_extent_give(live[j].extent, 1);
    }
    assert_true(kit_wait(k, 1, k->ticket[1]));
}

static bool recycle_settled(struct kit *k, uint64_t segments)
{
    return kit_stats(k).segments <= segments;
}

/* 40 MB pass through a journal of 1 MiB segments: the folder stays small. */
static void recycle_bounds_disk(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "bounds", "1MiB");
    kit_open(&k);
    for (uint64_t i = 0; i < 20; i++) {
        recycle_flow(&k, 1 + i * 100, 100);
        assert_true(kit_wait_for(recycle_settled, &k, 3));
    }
    assert_true(kit_stats(&k).disk_bytes <= 10u << 20);
    assert_true(kit_files(&k, ".seg") <= 10);
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(k.nmsg, 0);
    kit_close(&k);
    kit_fini(&k);
}

/* One slow queue holds the first segment; all others are let go out of order. Definitions that stood only in
 * those, and settles of messages that stand in the slow one's segment, must survive a crash: nothing comes
 * back. */
static void recycle_out_of_order(void **state)
{
    struct kit k;
    struct recycle_live slow;
    uint64_t ticket;
    (void)state;
    kit_init(&k, "outoforder", "1MiB");
    kit_open(&k);
    kit_meta(&k, "first", "segment");
    kit_meta(&k, "buried", "x"); /* in the segment that stays; removed in one that goes */
    slow = recycle_put(&k, SLOW, 7, &ticket);
    struct recycle_live beside[8];
    for (uint64_t i = 0; i < 8; i++) /* fast messages beside the slow one, settled only in a later segment */
        beside[i] = recycle_put(&k, FAST, 1 + i, &ticket);
    assert_true(kit_wait(&k, 0, ticket));
    recycle_flow(&k, 100, 60); /* over the edge of the first segment */
    kit_meta(&k, "kept", "old");
    kit_meta(&k, "removed", "x");
    kit_settle(&k, 1, FAST, 1, 8);
    for (uint64_t i = 0; i < 8; i++)
        mqg_extent_give(beside[i].extent, 1);
    recycle_flow(&k, 1000, 60);
    kit_meta(&k, "kept", "new");
    kit_meta(&k, "buried", NULL);
    assert_true(kit_wait(&k, 0, kit_meta(&k, "removed", NULL)));
    recycle_flow(&k, 2000, 400);
    assert_true(kit_wait_for(recycle_settled, &k, 3));
    kit_crash(&k);
    for (int round = 0; round < 3; round++) {
        kit_open(&k);
        assert_int_equal(kit_count(&k, FAST), 0);
        assert_int_equal(kit_count(&k, SLOW), 1);
        assert_string_equal(kit_meta_value(&k, "first"), "segment");
        assert_string_equal(kit_meta_value(&k, "kept"), "new");
        assert_null(kit_meta_value(&k, "removed"));
        assert_null(kit_meta_value(&k, "buried"));
        kit_check_body(&k, kit_find(&k, SLOW, 7));
        recycle_flow(&k, 10000 + (uint64_t)round * 1000, 200);
        assert_true(kit_wait_for(recycle_settled, &k, 3));
        kit_crash(&k);
    }
    (void)slow;
    kit_fini(&k);
}

/* A definition that changes all the time while segments go: the last word is never replaced by an older one.
 * */
static void recycle_last_word(void **state)
{
    struct kit k;
    char value[32];
    (void)state;
    kit_init(&k, "lastword", "1MiB");
    kit_open(&k);
    for (uint64_t round = 0; round < 60; round++) {
        snprintf(value, sizeof value, "%llu", (unsigned long long)round);
        kit_meta(&k, "changing", value);
        kit_meta(&k, round % 2 ? "odd" : "even", value);
        if (round == 0)
            kit_meta(&k, "constant", "0");
        recycle_flow(&k, 1 + round * 20, 20);
    }
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    kit_crash(&k);
    kit_open(&k);
    assert_string_equal(kit_meta_value(&k, "changing"), "59");
    assert_string_equal(kit_meta_value(&k, "odd"), "59");
    assert_string_equal(kit_meta_value(&k, "even"), "58");
    assert_string_equal(kit_meta_value(&k, "constant"), "0");
    kit_close(&k);
    kit_fini(&k);
}

static void recycle_told(struct jrn_chunk *c, void *arg)
{
    (void)c;
    atomic_store((_Atomic int *)arg, 1);
}

static bool recycle_is_told(struct kit *k, uint64_t arg)
{
    (void)k;
    return atomic_load((_Atomic int *)(uintptr_t)arg) != 0;
}

/* The keeper's work by hand, with another writer in between: it reads what the first segment says, then comes a newer word, then
 * its copies are committed, and the segment is used again. */
static void recycle_first(struct kit *k, void (*between)(struct kit *k))
{
    _Atomic int told = 0;
    struct jrn_seg *first = k->s->segs;
    atomic_fetch_add(&first->pins, 1); /* keeps the real keeper away */
    recycle_flow(k, 1, 100);
    assert_int_equal(atomic_load(&first->state), JRN_CLOSED);
    struct jrn_words words = {0};
    jrn_words_of(k->s, &words, first);
    struct jrn_chunk *c = jrn_restate(k->s, first, true, &words, NULL, 0);
    assert_non_null(c);
    jrn_words_fini(&words);
    between(k);
    c->flags = MQG_SUBMIT_URGENT;
    c->told = recycle_told;
    c->told_arg = (void *)&told;
    jrn_submit(k->s, c);
    assert_true(kit_wait_for(recycle_is_told, k, (uint64_t)(uintptr_t)&told));
    assert_int_equal(atomic_load(&first->state), JRN_FREED);
    atomic_fetch_sub(&first->pins, 1);
    assert_int_equal(jrn_seg_renew(k->s, first), 0);
    jrn_spare_give(k->s, first);
    kit_crash(k);
    kit_open(k);
}

/* ---- words that go ahead ---- */

enum { RECYCLE_WORDS = 100 };

static uint64_t recycle_word(struct kit *k, int i, const char *value)
{
    char key[24];
    snprintf(key, sizeof key, "word %d", i);
    return kit_meta(k, key, value);
}

static const char *recycle_word_value(const struct kit *k, int i)
{
    char key[24];
    snprintf(key, sizeof key, "word %d", i);
    return kit_meta_value(k, key);
}

/* The next words of the segment are said and durable; false: what is left fits into one chunk. */
static bool recycle_ahead(struct kit *k, struct jrn_seg *seg, struct jrn_words *words)
{
    _Atomic int told = 0;
    struct jrn_chunk *c;
    assert_true(jrn_restate_ahead(k->s, seg, true, words, &c));
    if (!c)
        return false;
    assert_null(c->frees);
    assert_true(c->nkeyed <= RECYCLE_WORDS / 4);
    c->flags = MQG_SUBMIT_URGENT;
    c->told = recycle_told;
    c->told_arg = (void *)&told;
    jrn_submit(k->s, c);
    assert_true(kit_wait_for(recycle_is_told, k, (uint64_t)(uintptr_t)&told));
    return true;
}

static void recycle_check_words(const struct kit *k)
{
    for (int i = 0; i < RECYCLE_WORDS; i++) {
        if (i % 10 == 0)
            assert_null(recycle_word_value(k, i));
        else
            assert_string_equal(recycle_word_value(k, i), i % 10 == 1 ? "new" : "old");
    }
}

/* Said ahead by hand up to each chunk, with newer words before and behind what was said; then the process ends. Recovery finds the last
 * word of each, and the segment, which still counts, goes in the next life. */
static void recycle_words_ahead(void **state)
{
    (void)state;
    for (int stop = 1; stop <= 4; stop++) {
        struct kit k;
        struct jrn_words words = {0};
        kit_init(&k, "ahead", "1MiB");
        kit_open(&k);
        for (int i = 0; i < RECYCLE_WORDS; i++)
            recycle_word(&k, i, "old");
        struct jrn_seg *first = k.s->segs;
        atomic_fetch_add(&first->pins, 1); /* keeps the real keeper away */
        recycle_flow(&k, 1, 100);
        assert_int_equal(atomic_load(&first->state), JRN_CLOSED);
        jrn_words_of(k.s, &words, first);
        assert_int_equal(words.n, RECYCLE_WORDS);
        assert_true(recycle_ahead(&k, first, &words));
        for (int i = 0; i < RECYCLE_WORDS; i += 10)
            recycle_word(&k, i, NULL);
        for (int i = 1; i < RECYCLE_WORDS; i += 10)
            recycle_word(&k, i, "new");
        assert_true(kit_wait(&k, 0, k.ticket[0]));
        for (int i = 1; i < stop; i++)
            assert_true(recycle_ahead(&k, first, &words));
        jrn_words_fini(&words);
        kit_crash(&k);
        for (int life = 0; life < 2; life++) {
            kit_open(&k);
            recycle_check_words(&k);
            recycle_flow(&k, 1000 * (uint64_t)(life + 1), 100);
            assert_true(kit_wait_for(recycle_settled, &k, 3));
            kit_crash(&k);
        }
        kit_fini(&k);
    }
}

static void recycle_newer(struct kit *k)
{
    assert_true(kit_wait(k, 0, kit_meta(k, "key", "new")));
}

/* The newer one is the last word all the same. */
static void recycle_overtaken(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "overtaken", "1MiB");
    kit_open(&k);
    kit_meta(&k, "key", "old");
    kit_meta(&k, "other", "same");
    recycle_first(&k, recycle_newer);
    assert_string_equal(kit_meta_value(&k, "key"), "new");
    assert_string_equal(kit_meta_value(&k, "other"), "same");
    kit_close(&k);
    kit_fini(&k);
}

static void recycle_trim(struct kit *k, uint64_t start)
{
    struct mqg_store_op op = {.kind = MQG_OP_TRIM, .trim = {7, start}};
    assert_true(kit_wait(k, 0, kit_submit(k, 0, &op, 1, MQG_SUBMIT_URGENT)));
}

static void recycle_lower(struct kit *k)
{
    recycle_trim(k, 26);
}

/* Of trims the highest counts: a lower one that comes later must not make it void. */
static void recycle_trim_overtaken(void **state)
{
    struct kit k;
    struct mqg_store_op op = {.kind = MQG_OP_STREAM_NEW, .stream = {7, MQG_SLICE_LIT("topic"), 0}};
    (void)state;
    kit_init(&k, "trim2", "1MiB");
    kit_open(&k);
    assert_true(kit_wait(&k, 0, kit_submit(&k, 0, &op, 1, MQG_SUBMIT_URGENT)));
    recycle_trim(&k, 57);
    recycle_first(&k, recycle_lower);
    assert_int_equal(k.nstream, 1);
    assert_int_equal(k.streams[0].b.log_start, 57);
    kit_close(&k);
    kit_fini(&k);
}

/* A file that is used again is full of whole frames of its earlier use; none of them is believed. */
static void recycle_stale_frames(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "stale2", "1MiB");
    kit_open(&k);
    recycle_flow(&k, 1, 400);
    assert_true(kit_wait_for(recycle_settled, &k, 3));
    uint64_t ticket = 0;
    for (uint64_t i = 0; i < 70; i++) /* into files that were used before; same sizes, same places */
        recycle_put(&k, SLOW, 1 + i, &ticket);
    assert_true(kit_wait(&k, 0, ticket));
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(kit_count(&k, FAST), 0);
    assert_int_equal(kit_count(&k, SLOW), 70);
    for (size_t i = 0; i < k.nmsg; i++)
        kit_check_body(&k, &k.msgs[i]);
    kit_close(&k);
    kit_fini(&k);
}

/* A large file is given back in steps, and none is taken before its name is gone for good. */
static void recycle_gives_back(void **state)
{
    enum { BYTES = 18 << 20 };
    struct kit k;
    struct jrn_fs_record record;
    struct jrn_seg *seg;
    (void)state;
    jrn_fs_record_init(&record, &jrn_fs_real);
    mqg_journal_fs(&record.fs);
    kit_init(&k, "back", "8MiB");
    kit_open(&k);
    assert_int_equal(jrn_seg_create(k.s, BYTES, true, false, &seg), 0);
    int fd = seg->fd;
    uint64_t before = kit_stats(&k).disk_bytes;
    jrn_seg_unlink(k.s, &seg);
    assert_int_equal(kit_stats(&k).disk_bytes, before - BYTES);
    kit_close(&k);
    mqg_journal_fs(NULL);
    uint64_t left = BYTES;
    bool gone = false, durable = false;
    size_t cuts = 0, synced = 0;
    for (size_t i = 0; i < record.n; i++) {
        const struct jrn_fs_event *e = &record.events[i];
        gone = gone || e->op == JRN_FS_UNLINK;
        durable = durable || (gone && e->op == JRN_FS_SYNC_DIR);
        synced += cuts > synced && e->op == JRN_FS_SYNC_END && e->fd == fd;
        if (e->op != JRN_FS_TRUNCATE || e->fd != fd)
            continue;
        assert_true(durable && synced == cuts++);
        assert_true(e->off < left && left - e->off <= 4 << 20);
        left = e->off;
    }
    assert_true(cuts >= 4 && synced == cuts && left <= 4 << 20);
    jrn_fs_record_fini(&record);
    kit_fini(&k);
}

/* Many lanes at once, for the race detector: publish, settle, load, statistics. */
struct recycle_thread {
    struct kit *k;
    uint32_t lane;
    pthread_t thread;
};

static void *recycle_worker(void *arg)
{
    struct recycle_thread *t = arg;
    uint64_t base = 1 + t->lane * 1000000ull;
    struct recycle_live live[16];
    for (uint64_t i = 0; i < 640; i++) {
        struct mqg_extent *x = jrn_ops.extent_open(t->k->s, t->lane);
        kit_put(t->k, t->lane, FAST, base + i, 3000);
        live[i % 16] = (struct recycle_live){x, base + i};
        if (i % 16 == 15) {
            assert_true(kit_wait(t->k, t->lane, t->k->ticket[t->lane]));
            kit_settle(t->k, t->lane, FAST, base + i - 15, base + i);
            for (int j = 0; j < 16; j++)
                mqg_extent_give(live[j].extent, 1);
        }
        (void)kit_stats(t->k);
    }
    assert_true(kit_wait(t->k, t->lane, t->k->ticket[t->lane]));
    return NULL;
}

static void recycle_lanes(void **state)
{
    struct kit k;
    struct recycle_thread threads[KIT_LANES];
    (void)state;
    kit_init(&k, "lanes", "1MiB");
    kit_open(&k);
    for (uint32_t i = 0; i < KIT_LANES; i++) {
        threads[i] = (struct recycle_thread){.k = &k, .lane = i};
        pthread_create(&threads[i].thread, NULL, recycle_worker, &threads[i]);
    }
    for (uint32_t i = 0; i < KIT_LANES; i++)
        pthread_join(threads[i].thread, NULL);
    assert_true(kit_wait_for(recycle_settled, &k, 3));
    assert_true(kit_stats(&k).live_extents <= KIT_LANES);
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(k.nmsg, 0);
    kit_close(&k);
    kit_fini(&k);
}

/* A file that was only allocated is used again when it was filled, with zeros where nothing was written; else it goes. */
static void recycle_made_in_a_hurry(void **state)
{
    struct kit k;
    struct jrn_seg *seg;
    char path[512];
    size_t len;
    (void)state;
    kit_init(&k, "hurry", "1MiB");
    kit_open(&k);
    for (int filled = 0; filled < 2; filled++) {
        assert_int_equal(jrn_seg_create(k.s, k.s->segment_bytes, false, false, &seg), 0);
        assert_true(seg->makeshift);
        snprintf(path, sizeof path, "%s/%s", k.path, seg->name);
        atomic_store(&seg->end, filled ? seg->bytes - 8192 : seg->bytes / 2);
        jrn_leave_reuse(k.s, seg);
        assert_int_equal(access(path, F_OK), filled ? 0 : -1);
    }
    assert_false(seg->makeshift); /* it is the store's, as a spare or in use */
    uint8_t *data = kit_read(path, &len);
    struct jrn_seg_head head;
    assert_int_equal(jrn_seg_head_decode(mqg_slice_of(data, len), &head, &k.error), MQG_OK);
    assert_int_equal(len, k.s->segment_bytes);
    assert_false(head.flags & JRN_SEG_MAKESHIFT);
    free(data);
    kit_close(&k);
    kit_fini(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recycle_bounds_disk),    cmocka_unit_test(recycle_out_of_order),
        cmocka_unit_test(recycle_last_word),      cmocka_unit_test(recycle_overtaken),
        cmocka_unit_test(recycle_trim_overtaken), cmocka_unit_test(recycle_stale_frames),
        cmocka_unit_test(recycle_words_ahead),    cmocka_unit_test(recycle_gives_back),
        cmocka_unit_test(recycle_lanes),          cmocka_unit_test(recycle_made_in_a_hurry)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

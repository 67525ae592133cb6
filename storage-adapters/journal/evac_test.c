/* evac_test.c - mostly dead segments are emptied: the disk stays small, nothing that was live is lost or told twice, and
 * nobody who holds an old place notices. */
#include "test_kit.h"

enum { EVAC_FAST = 1, EVAC_SLOW = 2, EVAC_BODY = 5000, EVAC_SEGMENT = 1 << 20 };

/* A live message as a host has it. */
struct evac_live {
    struct mqg_extent *extent;
    uint64_t queue_id, qseq;
    uint32_t off, len;
};

struct evac_host {
    struct kit *k;
    struct evac_live *slow; /* never settled, or late */
    size_t nslow, cap_slow;
    uint64_t next[8];
};

static struct evac_live evac_put(struct evac_host *h, uint64_t queue_id, size_t body, uint64_t *ticket)
{
    struct kit *k = h->k;
    struct evac_live live = {.queue_id = queue_id, .qseq = ++h->next[queue_id]};
    struct mqg_msg *m = kit_msg_new(MQG_SLICE_LIT("some.key"), body, live.qseq);
    struct mqg_dest d = {queue_id, live.qseq};
    struct mqg_store_op op = {.kind = MQG_OP_MSG, .msg = {m, &d, 1}};
    live.extent = m->extent = jrn_ops.extent_open(k->s, 0);
    mqg_extent_take(m->extent, 1);
    *ticket = kit_submit(k, 0, &op, 1, MQG_SUBMIT_URGENT);
    live.off = m->extent_off;
    live.len = m->total_len;
    mqg_msg_unref(&m);
    return live;
}

static void evac_settle(struct evac_host *h, const struct evac_live *live)
{
    kit_settle(h->k, 1, live->queue_id, live->qseq, live->qseq);
    mqg_extent_give(live->extent, 1);
}

static bool evac_open(struct kit *k, uint64_t arg)
{
    (void)arg;
    return !atomic_load(&k->blocked);
}

/* n messages pass; each `every`-th goes to the slow queue and stays. */
static void evac_flow(struct evac_host *h, size_t n, size_t every, size_t body)
{
    struct evac_live window[8];
    size_t have = 0;
    uint64_t ticket = 0;
    for (size_t i = 1; i <= n; i++) {
        if (i % every == 0) {
            if (h->nslow == h->cap_slow) {
                h->cap_slow = h->cap_slow ? h->cap_slow * 2 : 64;
                h->slow = mqg_xrealloc(h->slow, h->cap_slow * sizeof *h->slow);
            }
            h->slow[h->nslow++] = evac_put(h, EVAC_SLOW, body, &ticket);
            continue;
        }
        window[have++] = evac_put(h, EVAC_FAST, body, &ticket);
        if (have < MQG_COUNTOF(window))
            continue;
        assert_true(kit_wait(h->k, 0, ticket));
        for (size_t j = 0; j < have; j++)
            evac_settle(h, &window[j]);
        have = 0;
        assert_true(kit_wait_for(evac_open, h->k, 0)); /* a publisher that is told to wait waits */
    }
    for (size_t j = 0; j < have; j++)
        evac_settle(h, &window[j]);
    assert_true(kit_wait(h->k, 0, ticket));
    assert_true(kit_wait(h->k, 1, h->k->ticket[1]));
}

static void evac_loaded(struct mqg_load_req *req)
{
    atomic_store((_Atomic int *)req->arg, 1);
}

/* By the place that the host has had from the beginning. */
static void evac_check(struct evac_host *h, const struct evac_live *live, size_t body)
{
    _Atomic int done = 0;
    struct mqg_load item = {.extent = live->extent, .off = live->off, .len = live->len};
    struct mqg_load_req req = {.items = &item, .n = 1, .done = evac_loaded, .arg = &done};
    jrn_ops.load(h->k->s, &req);
    kit_answered(&done);
    assert_int_equal(item.err, MQG_OK);
    struct mqg_msg *want = kit_msg_new(MQG_SLICE_LIT("some.key"), body, live->qseq);
    assert_true(mqg_slice_eq(mqg_msg_body(item.msg), mqg_msg_body(want)));
    assert_ptr_equal(item.msg->extent, live->extent);
    assert_int_equal(item.msg->extent_off, live->off);
    mqg_msg_unref(&want);
    mqg_msg_unref(&item.msg);
}

static void evac_check_slow(struct evac_host *h, size_t body)
{
    for (size_t i = 0; i < h->nslow; i++)
        evac_check(h, &h->slow[i], body);
}

static void evac_begin(struct evac_host *h, struct kit *k, const char *name)
{
    *h = (struct evac_host){.k = k};
    kit_init(k, name, "1MiB");
    kit_open(k);
}

static bool evac_few_segments(struct kit *k, uint64_t n)
{
    return kit_stats(k).segments <= n;
}

static bool evac_small_folder(struct kit *k, uint64_t bytes)
{
    return kit_stats(k).disk_bytes <= bytes;
}

static bool evac_moved(struct kit *k, uint64_t n)
{
    return kit_stats(k).moved_messages >= n;
}

/* After a restart: exactly the slow queue's messages, each once, with their bytes. */
static void evac_restart(struct evac_host *h, bool clean)
{
    struct kit *k = h->k;
    if (clean)
        kit_close(k);
    else
        kit_crash(k);
    kit_open(k);
    assert_int_equal(kit_count(k, EVAC_FAST), 0);
    assert_int_equal(kit_count(k, EVAC_SLOW), h->nslow);
    for (size_t i = 0; i < h->nslow; i++) {
        const struct kit_msg *m = kit_find(k, EVAC_SLOW, h->slow[i].qseq);
        assert_non_null(m);
        kit_check_body(k, m);
        h->slow[i].extent = m->extent;
        h->slow[i].off = m->off;
        h->slow[i].len = m->len;
    }
}

static void evac_end(struct evac_host *h)
{
    kit_close(h->k);
    kit_fini(h->k);
    free(h->slow);
}

/* One in a hundred stays, 60 MB pass: 0.6 MB live, and the folder is never much larger than its bound. */
static void evac_bounds_disk(void **state)
{
    struct kit k;
    struct evac_host h;
    uint64_t most = 0;
    (void)state;
    evac_begin(&h, &k, "bound");
    for (int i = 0; i < 40; i++) {
        evac_flow(&h, 300, 100, EVAC_BODY);
        struct mqg_store_stats st = kit_stats(&k);
        uint64_t live = h.nslow * EVAC_BODY, over = st.disk_bytes > 2 * live ? st.disk_bytes - 2 * live : 0;
        most = over > most ? over : most;
    }
    print_message("most beyond twice the live bytes: %llu\n", (unsigned long long)most);
    assert_true(most <= 16u << 20);
    assert_true(kit_wait_for(evac_few_segments, &k, 6));
    evac_check_slow(&h, EVAC_BODY);
    evac_restart(&h, false);
    evac_flow(&h, 2000, 100, EVAC_BODY);
    evac_check_slow(&h, EVAC_BODY);
    evac_restart(&h, true);
    evac_end(&h);
}

/* Survivors of survivors: what was slow is settled in part, so cold segments are evacuated, too. */
static void evac_generations(void **state)
{
    struct kit k;
    struct evac_host h;
    (void)state;
    evac_begin(&h, &k, "generations");
    for (int round = 0; round < 6; round++) {
        evac_flow(&h, 1200, 5, EVAC_BODY);
        size_t kept = 0;
        assert_true(kit_wait_for(evac_moved, &k, h.nslow / 2));
        for (size_t i = 0; i < h.nslow; i++) {
            if (i % 4 == 0)
                h.slow[kept++] = h.slow[i];
            else
                evac_settle(&h, &h.slow[i]);
        }
        h.nslow = kept;
        assert_true(kit_wait(&k, 1, k.ticket[1]));
        evac_check_slow(&h, EVAC_BODY);
    }
    evac_restart(&h, false);
    evac_flow(&h, 1200, 5, EVAC_BODY);
    evac_check_slow(&h, EVAC_BODY);
    evac_restart(&h, false);
    for (size_t i = 0; i < h.nslow; i++)
        evac_settle(&h, &h.slow[i]);
    h.nslow = 0;
    assert_true(kit_wait(&k, 1, k.ticket[1]));
    assert_true(kit_wait_for(evac_few_segments, &k, 3)); /* cold ones go when nothing in them lives */
    evac_restart(&h, false);
    evac_end(&h);
}

/* The host handed its entries over before their segments were evacuated: asked back, they name places that are right. */
static void evac_forgotten(void **state)
{
    enum { ALL = 9000, MID = 3, SMALL = 600 }; /* a queue with few messages in a segment is not forgotten */
    struct kit k;
    struct evac_host h;
    static struct evac_live mid[ALL];
    static struct mqg_index_entry entries[ALL];
    size_t nmid = 0, forgot = 0;
    uint64_t ticket = 0;
    enum mqg_err err;
    (void)state;
    evac_begin(&h, &k, "forgotten");
    h.slow = mqg_xcalloc(ALL, sizeof *h.slow);
    h.cap_slow = ALL;
    for (size_t i = 0; i < ALL; i++) {
        if (i % 8 == 0)
            h.slow[h.nslow++] = evac_put(&h, EVAC_SLOW, SMALL, &ticket);
        else
            mid[nmid++] = evac_put(&h, MID, SMALL, &ticket);
    }
    assert_true(kit_wait(&k, 0, ticket));
    assert_true(kit_wait_for(kit_indexed, &k, 0));
    for (size_t i = 0; i < h.nslow; i++) {
        const struct evac_live *live = &h.slow[i];
        struct mqg_index_entry e = {
            .qseq = live->qseq, .extent = live->extent, .off = live->off, .len = live->len};
        forgot += jrn_ops.index_forget(k.s, EVAC_SLOW, &e, 1);
    }
    assert_true(forgot > h.nslow / 2); /* all but those in the tail */
    for (size_t i = 0; i < nmid; i++)
        evac_settle(&h, &mid[i]);
    assert_true(kit_wait(&k, 1, k.ticket[1]));
    assert_true(kit_wait_for(evac_moved, &k, forgot / 2));
    uint32_t n = kit_index_read(&k, EVAC_SLOW, 0, UINT64_MAX - 1, entries, ALL, &err);
    assert_int_equal(err, MQG_OK);
    assert_int_equal(n, forgot);
    for (uint32_t i = 0; i < n; i++) {
        struct evac_live live = {entries[i].extent, EVAC_SLOW, entries[i].qseq, entries[i].off,
                                 entries[i].len};
        /* Its numbers are 1, 2, ...; a segment whose digest came late leaves a hole. */
        struct evac_live *was = &h.slow[entries[i].qseq - 1];
        assert_int_equal(entries[i].qseq, was->qseq);
        assert_true(i == 0 || entries[i].qseq > entries[i - 1].qseq);
        evac_check(&h, &live, SMALL);
        was->extent = live.extent;
        was->off = live.off;
    }
    evac_check_slow(&h, SMALL);
    evac_restart(&h, false);
    evac_end(&h);
}

/* Messages around and above the size of a segment: whole after a restart, a file of their own gone with them,
 * and small ones beside a large dead one moved out of its file. */
static void evac_large_messages(void **state)
{
    struct kit k;
    struct evac_host h;
    struct evac_live large[4];
    const size_t sizes[4] = {900 << 10, 5 << 20, 1500 << 10, 40 << 20};
    uint64_t ticket = 0;
    (void)state;
    evac_begin(&h, &k, "large");
    h.slow = mqg_xcalloc(4, sizeof *h.slow);
    h.cap_slow = 4;
    for (int i = 0; i < 4; i++) {
        large[i] = evac_put(&h, 4, sizes[i], &ticket);
        h.slow[h.nslow++] = evac_put(&h, EVAC_SLOW, EVAC_BODY, &ticket);
    }
    assert_true(kit_wait(&k, 0, ticket));
    for (int i = 0; i < 4; i++)
        evac_check(&h, &large[i], sizes[i]);
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(kit_count(&k, 4), 4);
    for (int i = 0; i < 4; i++) {
        const struct kit_msg *m = kit_find(&k, 4, large[i].qseq),
                             *slow = kit_find(&k, EVAC_SLOW, (uint64_t)i + 1);
        kit_check_body(&k, m);
        large[i].extent = m->extent;
        h.slow[i].extent = slow->extent;
        h.slow[i].off = slow->off;
    }
    for (int i = 0; i < 4; i++)
        evac_settle(&h, &large[i]);
    assert_true(kit_wait(&k, 1, k.ticket[1]));
    evac_flow(&h, 600, 1000, EVAC_BODY);
    assert_true(kit_wait_for(evac_small_folder, &k, 16u << 20)); /* 47 MB of bodies are gone */
    evac_check_slow(&h, EVAC_BODY);
    evac_restart(&h, false);
    evac_end(&h);
}

/* The most records in one frame of any segment. */
static uint32_t evac_most_records(struct kit *k)
{
    char path[512];
    uint32_t most = 0;
    for (size_t i = 0; i < kit_files(k, ".seg"); i++) {
        struct jrn_frame f;
        size_t len;
        kit_file(k, ".seg", i, path);
        uint8_t *data = kit_read(path, &len);
        for (size_t frame = 0; kit_frame(data, len, frame, &f) != 0; frame++)
            most = f.records > most ? f.records : most;
        free(data);
    }
    return most;
}

static bool evac_few_records(struct kit *k, uint64_t most)
{
    return evac_most_records(k) < most;
}

/* Many last words beside one slow message: they leave their segment a few in each commit, and none is lost. */
static void evac_many_words(void **state)
{
    enum { WORDS = 200 };
    struct kit k;
    struct evac_host h;
    char key[24];
    uint64_t ticket;
    (void)state;
    evac_begin(&h, &k, "words");
    h.slow = mqg_xcalloc(1, sizeof *h.slow);
    h.cap_slow = 1;
    for (int i = 0; i < WORDS; i++) {
        snprintf(key, sizeof key, "word %d", i);
        kit_meta(&k, key, key);
    }
    h.slow[h.nslow++] = evac_put(&h, EVAC_SLOW, EVAC_BODY, &ticket);
    assert_true(kit_wait(&k, 0, ticket));
    evac_flow(&h, 400, 1000, EVAC_BODY);
    assert_true(kit_wait_for(evac_moved, &k, 1));
    assert_true(atomic_load(&k.s->stat_ahead) >= 8);
    assert_true(kit_wait_for(evac_few_records, &k,
                             WORDS / 2)); /* the file itself goes, or is used again, a little later */
    evac_check_slow(&h, EVAC_BODY);
    for (int life = 0; life < 2; life++) {
        evac_restart(&h, life == 1);
        for (int i = 0; i < WORDS; i++) {
            snprintf(key, sizeof key, "word %d", i);
            assert_string_equal(kit_meta_value(&k, key), key);
        }
    }
    evac_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(evac_bounds_disk), cmocka_unit_test(evac_generations),
                                       cmocka_unit_test(evac_forgotten),
                                       cmocka_unit_test(evac_large_messages),
                                       cmocka_unit_test(evac_many_words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

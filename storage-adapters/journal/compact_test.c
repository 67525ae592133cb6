/* compact_test.c - compaction: what stays and what goes, what a compacted file looks like, and that damage to one is told. */
#include "fs_test.h"
#include "test_batch.h"

#include <mqgate/records.h>

#include <dirent.h>
#include <errno.h>

enum { COMPACT_KEYS = 50 };

/* Everything from the start: how many records there are, and the offset of each key's first and last one. */
static size_t part_scan(struct kit *k, uint64_t first[COMPACT_KEYS], uint64_t last[COMPACT_KEYS])
{
    uint64_t offset = 0, end = part_stats(k).bounds.high_watermark;
    size_t n = 0;
    for (uint32_t i = 0; i < COMPACT_KEYS; i++)
        first[i] = last[i] = UINT64_MAX;
    while (offset < end) {
        struct mqg_stream_read r = part_read(k, offset, 3000);
        assert_int_equal(r.err, MQG_OK);
        assert_true(r.next_offset > offset);
        struct mqg_slice in = r.data ? mqg_slice_of(r.data->data, r.data->len) : MQG_SLICE_NONE, whole;
        struct part_batch b;
        struct part_record rec;
        bool bad = false;
        for (whole = in; in.len; whole = in) {
            assert_true(jrn_part_batch_take(&in, &b));
            assert_true(b.end > offset);
            struct mqg_slice records = mqg_slice_of(whole.ptr + PART_BATCH_HEAD, b.len - PART_BATCH_HEAD);
            while (jrn_part_record_take(&records, &b, &rec, &bad)) {
                uint32_t key = mqg_be32(rec.key.ptr);
                first[key] = first[key] == UINT64_MAX ? rec.offset : first[key];
                last[key] = rec.offset;
                n++;
            }
            assert_false(bad);
        }
        offset = r.next_offset;
        mqg_buf_unref(&r.data);
    }
    return n;
}

static bool part_bytes_under(struct kit *k, uint64_t bytes)
{
    return part_stats(k).bytes < bytes;
}

/* Of each key the last record stays at its offset, in all closed files; a second life reads the same, and goes on. */
static void part_compacts(void **state)
{
    struct kit k;
    uint64_t first[COMPACT_KEYS], last[COMPACT_KEYS], now_ms = mqg_clock_now().wall_us / 1000;
    (void)state;
    part_begin(&k, "compact", 8192);
    jrn_part_cleaner_tick(k.s, 3600 * 1000); /* not before all is there */
    part_conf(&k, (struct mqg_stream_conf){.segment_bytes = 8192, .cleanup = MQG_CLEANUP_COMPACT});
    for (uint64_t i = 0; i < 3000; i++)
        part_put_key(&k, i, (uint32_t)(i * 7 % COMPACT_KEYS), "some value or other", now_ms, 0);
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    uint64_t most = part_stats(&k).bytes;
    assert_true(most > 250000);
    jrn_part_cleaner_tick(k.s, 20);
    assert_true(kit_wait_for(part_bytes_under, &k, 30000));
    for (int life = 0; life < 3; life++) {
        size_t n = part_scan(&k, first, last);
        assert_true(n >= COMPACT_KEYS && n < 400);
        for (uint32_t key = 0; key < COMPACT_KEYS; key++)
            assert_true(last[key] >= 2950 && last[key] * 7 % COMPACT_KEYS == key);
        assert_int_equal(part_stats(&k).bounds.log_start, 0);
        if (life % 2)
            kit_close(&k);
        else
            kit_crash(&k);
        kit_open(&k);
    }
    for (uint64_t i = 3000; i < 3500; i++)
        part_put_key(&k, i, (uint32_t)(i * 7 % COMPACT_KEYS), "a later value", now_ms, 0);
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    assert_true(part_scan(&k, first, last) >= 500);
    kit_close(&k);
    kit_fini(&k);
}

/* Tombstones go when their time is over. */
static void part_compacts_tombstones(void **state)
{
    struct kit k;
    uint64_t first[COMPACT_KEYS], last[COMPACT_KEYS], now_ms = mqg_clock_now().wall_us / 1000;
    (void)state;
    part_begin(&k, "tombs", 4096);
    part_conf(&k, (struct mqg_stream_conf){
                      .segment_bytes = 4096, .cleanup = MQG_CLEANUP_COMPACT, .tombstone_ms = 60000});
    part_put_key(&k, 0, 1, "one", now_ms - 120000, 0);
    part_put_key(&k, 1, 2, "two", now_ms - 120000, 0);
    part_put_key(&k, 2, 1, NULL, now_ms - 120000, 0); /* old */
    part_put_key(&k, 3, 2, NULL, now_ms, 0);          /* fresh */
    part_put_key(&k, 4, 4, "four", now_ms, 0);
    for (uint64_t i = 5; i < 200; i++)
        part_put_key(&k, i, 3, "filler filler filler filler filler", now_ms, 0);
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    assert_true(kit_wait_for(part_bytes_under, &k, 12000));
    (void)part_scan(&k, first, last);
    assert_true(first[1] == UINT64_MAX);
    assert_true(first[2] == 3 && last[2] == 3);
    assert_true(first[4] == 4 && last[3] == 199);
    kit_close(&k);
    kit_fini(&k);
}

/* ---- compressed batches ------------------------------------------------------------------------------------- */

/* `count` records with the keys from..., compressed, in one batch. */
static void put_packed(struct kit *k, uint64_t base, uint32_t count, uint32_t from, const char *value,
                       uint64_t time_ms, uint16_t attributes)
{
    struct mqg_dynbuf plain, packed;
    mqg_dynbuf_init(&plain, 1 << 20);
    mqg_dynbuf_init(&packed, 1 << 20);
    for (uint32_t i = 0; i < count; i++)
        put_record(&plain, i, from + i, value);
    assert_int_equal(test_pack(mqg_dynbuf_view(&plain), &packed), MQG_OK);
    put_batch(k, base, count, mqg_dynbuf_view(&packed), time_ms, attributes);
    mqg_dynbuf_fini(&plain);
    mqg_dynbuf_fini(&packed);
}

static bool compact_is_over(struct kit *k, uint64_t offset)
{
    pthread_mutex_lock(&k->s->streams->lock);
    bool is = jrn_stream_find(k->s->streams, PART)->compacted >= offset;
    pthread_mutex_unlock(&k->s->streams->lock);
    return is;
}

/* A bomb: as many zeros as the codec can make, far over what they are allowed to become. */
static void put_bomb(struct kit *k, uint64_t base, uint64_t time_ms)
{
    enum { BOMB = 60000 };
    uint8_t *packed = mqg_xcalloc(1, BOMB);
    for (size_t i = 0; i < BOMB; i += 2)
        packed[i] = 255;
    put_batch(k, base, 1, mqg_slice_of(packed, BOMB), time_ms, TEST_CODEC);
    free(packed);
}

/* Of compressed batches: all over goes, mostly over becomes a plain one, the rest stays as it is; so does what cannot be
 * looked into, and then tombstones behind it. */
static void compact_looks_into_compressed(void **state)
{
    struct kit k;
    struct part_batch b;
    uint64_t now_ms = mqg_clock_now().wall_us / 1000, old_ms = now_ms - 3600 * 1000;
    const char *text = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    (void)state;
    part_begin(&k, "packed", 64 << 20);
    jrn_part_cleaner_tick(k.s, 3600 * 1000);
    part_conf(&k, (struct mqg_stream_conf){
                      .segment_bytes = 1 << 20, .cleanup = MQG_CLEANUP_COMPACT, .tombstone_ms = 1000});
    put_packed(&k, 0, 20, 100, text, old_ms, TEST_CODEC);          /* all over */
    put_packed(&k, 20, 20, 200, text, old_ms, TEST_CODEC);         /* but one */
    part_put_key(&k, 40, 1, NULL, old_ms, 0);                      /* nothing that is kept stands before it */
    put_packed(&k, 41, 20, 300, text, old_ms, TEST_CODEC);         /* all but one stay */
    part_put_key(&k, 61, 2, NULL, old_ms, 0);                      /* may have been in the one before */
    put_packed(&k, 62, 20, 100, text, old_ms, TEST_CODEC_UNKNOWN); /* over, and nobody can know */
    put_packed(&k, 82, 20, 100, text, old_ms, TEST_CODEC_UNKNOWN | PART_BATCH_LOG_TIME);
    put_bomb(&k, 102, old_ms);
    for (uint32_t i = 0; i < 20; i++)
        part_put_key(&k, 103 + i, 100 + i, "later", now_ms, 0);
    for (uint32_t i = 0; i < 19; i++)
        part_put_key(&k, 123 + i, 200 + i, "later", now_ms, 0);
    part_put_key(&k, 142, 300, "later", now_ms, 0);
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    kit_close(&k);
    kit_open(&k);
    jrn_part_cleaner_tick(k.s, 3600 * 1000);
    /* What is not filed yet would be gone over apart, and then be too little to be gone over again. */
    assert_true(kit_wait_for(compact_is_filed, &k, 143));
    part_conf(&k, (struct mqg_stream_conf){.segment_bytes = 4096,
                                           .segment_ms = 1, /* a new file: what is there may be compacted */
                                           .cleanup = MQG_CLEANUP_COMPACT,
                                           .tombstone_ms = 1000});
    part_put_key(&k, 143, 9, "the file written to", now_ms, 0);
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    jrn_part_cleaner_tick(k.s, 20);
    assert_true(kit_wait_for(compact_is_over, &k, 143));
    for (int life = 0; life < 2; life++) {
        assert_int_equal(compact_is_at(&k, 0, &b), 0);
        assert_int_equal(compact_is_at(&k, 25, &b), 1);
        assert_true(b.attributes == 0 && b.base == 20 && b.end == 41);
        assert_int_equal(compact_is_at(&k, 41, &b), 20);
        assert_true((b.attributes & PART_BATCH_CODEC) == TEST_CODEC && b.end == 61);
        assert_int_equal(compact_is_at(&k, 61, &b), 1);
        assert_true(b.base == 61);
        assert_int_equal(compact_is_at(&k, 62, &b), 20);
        assert_int_equal(compact_is_at(&k, 82, &b), 20);
        assert_int_equal(compact_is_at(&k, 102, &b), 1);
        assert_true(b.len > 60000);
        kit_close(&k);
        kit_open(&k);
    }
    kit_close(&k);
    kit_fini(&k);
}

/* By a codec that works both ways, what stays is compressed again, though it is longer plain than the batch was. */
static void compact_packs_again(void **state)
{
    struct kit k;
    struct part_batch b;
    uint64_t now_ms = mqg_clock_now().wall_us / 1000;
    const char *text = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    (void)state;
    part_begin(&k, "again", 1 << 20);
    put_packed(&k, 0, 20, 100, text, now_ms, TEST_CODEC_BOTH_WAYS);
    for (uint32_t i = 0; i < 3; i++)
        part_put_key(&k, 20 + i, 105 + i, "later", now_ms, 0);
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    assert_true(kit_wait_for(compact_is_filed, &k, 23));
    part_conf(
        &k, (struct mqg_stream_conf){.segment_bytes = 4096, .segment_ms = 1, .cleanup = MQG_CLEANUP_COMPACT});
    part_put_key(&k, 23, 9, "the file written to", now_ms, 0);
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    jrn_part_cleaner_tick(k.s, 20);
    assert_true(kit_wait_for(compact_is_over, &k, 23));
    for (int life = 0; life < 2; life++) {
        assert_int_equal(compact_is_at(&k, 0, &b), 17);
        assert_true((b.attributes & PART_BATCH_CODEC) == TEST_CODEC_BOTH_WAYS && b.base == 0 && b.end == 20);
        struct mqg_stream_read r = part_read(&k, 0, 1);
        struct mqg_batch head;
        struct mqg_dynbuf plain;
        struct mqg_slice in;
        mqg_dynbuf_init(&plain, 1 << 20);
        assert_int_equal(mqg_batch_read(mqg_slice_of(r.data->data, r.data->len), &head), MQG_OK);
        assert_int_equal(mqg_batch_plain(&head, &plain, &in), MQG_OK);
        assert_true(in.len > b.len);
        struct part_record record;
        bool bad = false;
        uint64_t sum = 0;
        while (jrn_part_record_take(&in, &b, &record, &bad))
            sum += record.offset;
        assert_true(!bad && sum == 190 - 5 - 6 - 7);
        mqg_dynbuf_fini(&plain);
        mqg_buf_unref(&r.data);
        kit_close(&k);
        kit_open(&k);
    }
    kit_close(&k);
    kit_fini(&k);
}

/* ---- a store of compacted files ----------------------------------------------------------------------------- */

enum { COMPACT_UPTO = 400 };

/* Names of the partition's logs that were compacted: by this version ('d'), by the one before ('c'). In order. */
static size_t compact_names(const struct kit *k, char letter, char names[64][512])
{
    char folder[512], kind[4] = {'.', letter, '\0'};
    struct dirent **found;
    size_t n = 0;
    snprintf(folder, sizeof folder, "%s/streams/%016llx", k->path, (unsigned long long)PART);
    int all = scandir(folder, &found, NULL, alphasort);
    for (int i = 0; i < all; i++) {
        const char *at = strstr(found[i]->d_name, kind);
        if (at && strstr(at, ".log") && !strstr(at, ".tmp") && n < 64)
            snprintf(names[n++], 512, "%.300s/%.200s", folder, found[i]->d_name);
        free(found[i]);
    }
    if (all >= 0)
        free(found);
    return n;
}

/* A file has its name before readers get it: the pass must be over, too. */
static bool compact_all_are(struct kit *k, uint64_t letter)
{
    char names[64][512];
    pthread_mutex_lock(&k->s->streams->lock);
    const struct stream_part *p = jrn_stream_find(k->s->streams, PART);
    bool over = p->nfile > 0 && p->compacted >= p->files[p->nfile - 1]->base;
    pthread_mutex_unlock(&k->s->streams->lock);
    return over && compact_names(k, (char)letter, names) + 1 == part_stats(k).segments;
}

static bool compact_is_own(uint32_t i)
{
    return i % 5 == 0 && (i < 40 || i > 90);
}

/* Each a transaction of its own, whose marker is the next one. */
static bool compact_is_committed(uint32_t i)
{
    return i % 40 == 32 && (i < 40 || i > 90);
}

static bool compact_is_aborted(uint32_t i)
{
    return i % 40 == 22 && (i < 40 || i > 90);
}

static void compact_put(struct kit *k, uint32_t i, uint64_t now_ms)
{
    bool own = compact_is_own(i);
    if (compact_is_committed(i) || compact_is_aborted(i))
        part_put_txn(k, i, 7, i % 10, "of a transaction", now_ms);
    else if (i > 0 && (compact_is_committed(i - 1) || compact_is_aborted(i - 1)))
        part_put_marker(k, i, 7, compact_is_committed(i - 1), now_ms);
    else
        part_put_key(k, i, own ? 1000 + i : i % 10, "some value or other", now_ms,
                     own && i % 17 == 0 ? PART_BATCH_CONTROL : 0);
}

/* Every fifth record's key is its own, every 17th of them is for somebody else; of the others the last ones stay. The
 * whole second file goes. */
static void compact_prepare(struct kit *k, const char *name)
{
    uint64_t now_ms = mqg_clock_now().wall_us / 1000;
    part_begin(k, name, 4096);
    for (uint32_t i = 0; i < COMPACT_UPTO; i++)
        compact_put(k, i, now_ms);
    assert_true(kit_wait(k, 0, k->ticket[0]));
    kit_close(k);
    kit_open(k);
    assert_true(kit_wait_for(compact_is_filed, k, COMPACT_UPTO));
    jrn_part_cleaner_tick(k->s, 3600 * 1000);
    /* Only now: a pass that saw a few of the files would be followed by a second one, and nothing says when that is over. */
    part_conf(k, (struct mqg_stream_conf){.segment_bytes = 4096, .cleanup = MQG_CLEANUP_COMPACT});
}

static void compact_fill(struct kit *k, const char *name)
{
    compact_prepare(k, name);
    jrn_part_cleaner_tick(k->s, 20);
    assert_true(kit_wait_for(compact_all_are, k, 'd'));
}

/* Reads everything in small pieces; the records' offsets are folded into *sum, as far as it went. */
static enum mqg_err compact_read(struct kit *k, uint64_t *sum)
{
    uint64_t offset = 0;
    *sum = 0;
    while (offset < COMPACT_UPTO) {
        struct mqg_stream_read r = part_read(k, offset, 200);
        if (r.err != MQG_OK)
            return r.err;
        assert_true(r.next_offset > offset);
        struct mqg_slice in = r.data ? mqg_slice_of(r.data->data, r.data->len) : MQG_SLICE_NONE;
        for (struct mqg_slice whole = in; in.len; whole = in) {
            struct part_batch b;
            struct part_record rec;
            bool bad;
            assert_true(jrn_part_batch_take(&in, &b) && b.count > 0);
            struct mqg_slice records = mqg_slice_of(whole.ptr + PART_BATCH_HEAD, b.len - PART_BATCH_HEAD);
            while (jrn_part_record_take(&records, &b, &rec, &bad))
                if (rec.offset >= offset) /* a batch may hold earlier ones, too */
                    *sum = *sum * 31 + rec.offset * 7 + rec.key.ptr[3];
            assert_false(bad);
        }
        offset = r.next_offset;
        mqg_buf_unref(&r.data);
    }
    return MQG_OK;
}

/* From the first offset to the last each belongs to a batch; the file ends where the next one begins. */
static void compact_leaves_no_gap(void **state)
{
    struct kit k;
    char names[64][512];
    size_t empty = 0, longer = 0, len;
    uint64_t next = 0;
    (void)state;
    compact_fill(&k, "dense");
    size_t n = compact_names(&k, 'd', names);
    assert_true(n > 5);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(next, strtoull(strrchr(names[i], '/') + 1, NULL, 10));
        uint8_t *log = kit_read(names[i], &len);
        struct mqg_slice in = mqg_slice_of(log, len);
        for (struct part_batch b; in.len; next = b.end) {
            assert_true(jrn_part_batch_take(&in, &b) && b.base == next);
            empty += b.count == 0;
            longer += b.count > 0 && b.end - b.base > 1;
        }
        free(log);
    }
    assert_true(empty > 0 && longer > 10);
    kit_close(&k);
    kit_fini(&k);
}

/* ---- damage ------------------------------------------------------------------------------------------------- */

/* Opens the store; is damage told before all was read as it had been? */
static bool compact_is_told(struct kit *k, uint64_t want)
{
    uint64_t sum;
    enum mqg_err err = kit_try(k);
    if (err != MQG_OK)
        return err == MQG_CORRUPT;
    jrn_part_cleaner_tick(k->s, 3600 * 1000);
    err = compact_read(k, &sum);
    assert_true(err == MQG_CORRUPT || (err == MQG_OK && sum == want));
    kit_close(k);
    return err == MQG_CORRUPT;
}

/* The changes to the batch at `at`, of len bytes, in a log of n: how is 0 to 6. Answers the new length. */
static size_t compact_hurt(uint8_t *log, size_t n, size_t at, size_t len, int how)
{
    switch (how) {
    case 0: return at;                                             /* ends before it */
    case 1: return at + len / 2;                                   /* or within */
    case 2: mqg_put_be64(log + at, mqg_be64(log + at) + 1); break; /* elsewhere in what was a gap */
    case 3: mqg_put_be64(log + at, mqg_be64(log + at) - 1); break;
    case 4: mqg_put_be32(log + at + 8, UINT32_MAX); break; /* a length that does not read */
    case 5: mqg_put_be32(log + at + 8, (uint32_t)(len - 12 + PART_BATCH_HEAD)); break;
    default: memmove(log + at, log + at + len, n - at - len); return n - len; /* it is missing */
    }
    return n;
}

static void compact_damage_is_told(void **state)
{
    struct kit k;
    char names[64][512];
    uint64_t want;
    size_t len;
    (void)state;
    compact_fill(&k, "hurt");
    assert_int_equal(compact_read(&k, &want), MQG_OK);
    kit_close(&k);
    size_t n = compact_names(&k, 'd', names);
    for (size_t i = 0; i < n; i += n / 3) {
        uint8_t *log = kit_read(names[i], &len), *hurt = mqg_xmalloc(len);
        struct part_batch b;
        uint32_t number = 0;
        for (size_t at = 0; at < len; at += b.len, number++) {
            assert_true(jrn_part_batch_head(mqg_slice_of(log + at, len - at), &b));
            for (int how = (int)(number % 2); how < 7; how += 2) {
                memcpy(hurt, log, len);
                kit_write(names[i], hurt, compact_hurt(hurt, len, at, b.len, how));
                assert_true(compact_is_told(&k, want));
            }
        }
        kit_write(names[i], log, len);
        free(log);
        free(hurt);
    }
    assert_false(compact_is_told(&k, want));
    kit_fini(&k);
}

static bool compact_is_damaged(struct kit *k, uint64_t unused)
{
    (void)unused;
    pthread_mutex_lock(&k->s->streams->lock);
    bool is = jrn_stream_find(k->s->streams, PART)->damaged;
    pthread_mutex_unlock(&k->s->streams->lock);
    return is;
}

/* A pass that meets damage writes nothing anew: it would be whole then, and nobody would know. */
static void compact_leaves_damage_alone(void **state)
{
    struct kit k;
    char names[64][512];
    uint64_t want, sum;
    size_t len;
    (void)state;
    compact_fill(&k, "alone");
    assert_int_equal(compact_read(&k, &want), MQG_OK);
    kit_close(&k);
    size_t n = compact_names(&k, 'd', names);
    uint8_t *log = kit_read(names[n - 1], &len);
    struct part_batch b;
    assert_true(jrn_part_batch_head(mqg_slice_of(log, len), &b));
    kit_write(names[n - 1], log, b.len); /* the first batch alone */
    kit_open(&k);
    for (uint32_t i = 0; i < COMPACT_UPTO; i++) /* everything again: every file loses records */
        part_put_key(&k, COMPACT_UPTO + i, i % 5 == 0 ? 1000 + i : i % 10, "again", 1, 0);
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    jrn_part_cleaner_tick(k.s, 3600 * 1000);
    jrn_part_cleaner_tick(k.s, 20);
    assert_true(kit_wait_for(compact_is_damaged, &k, 0));
    assert_int_equal(compact_read(&k, &sum), MQG_CORRUPT);
    kit_close(&k);
    free(log);
    kit_fini(&k);
}

/* ---- calls that fail ---------------------------------------------------------------------------------------- */

static const struct {
    enum jrn_fs_op op;
    int error;
} compact_faults[] = {{JRN_FS_OPEN, -EMFILE},  {JRN_FS_READ, -EIO},  {JRN_FS_WRITE, -ENOSPC},
                      {JRN_FS_WRITE, 0},       {JRN_FS_SYNC, -EIO},  {JRN_FS_RENAME, -EIO},
                      {JRN_FS_SYNC_DIR, -EIO}, {JRN_FS_UNLINK, -EIO}};

static struct jrn_fs_fault compact_fault;

static bool compact_hit_or_over(struct kit *k, uint64_t unused)
{
    (void)unused;
    return atomic_load(&compact_fault.fired) > 0 || compact_all_are(k, 'd');
}

/* The last record of each key that is not its record's own, and those that are. */
static bool compact_has_last(struct kit *k)
{
    struct part_batch b;
    for (uint32_t i = 0; i < COMPACT_UPTO; i++)
        if ((i >= COMPACT_UPTO - 10 || compact_is_own(i)) && (compact_is_at(k, i, &b) == 0 || b.base != i))
            return false;
    for (uint32_t i = 0; i < COMPACT_UPTO; i++) /* what was rolled back has its marker, or is gone */
        if (compact_is_aborted(i) && compact_is_at(k, i, &b) && b.base == i &&
            (compact_is_at(k, i + 1, &b) == 0 || b.base != i + 1))
            return false;
    return true;
}

/* The n-th call of a pass fails: what is read is the same, and the store goes on. */
static bool compact_fails_once(size_t i, long n)
{
    struct kit k;
    uint64_t sum;
    jrn_fs_fault_init(&compact_fault, &jrn_fs_real);
    compact_fault.only = "journal-cleaner";
    mqg_journal_fs(&compact_fault.fs);
    compact_fault.op = (int)compact_faults[i].op;
    compact_fault.error = compact_faults[i].error;
    compact_prepare(&k, "fails");
    atomic_store(&compact_fault.nth, n);
    jrn_part_cleaner_tick(k.s, 20);
    assert_true(kit_wait_for(compact_hit_or_over, &k, 0));
    for (int life = 0; life < 2; life++) {
        assert_int_equal(atomic_load(&k.failed), 0);
        assert_int_equal(compact_read(&k, &sum), MQG_OK);
        assert_true(compact_has_last(&k));
        kit_crash(&k);
        kit_open(&k);
    }
    kit_close(&k);
    kit_fini(&k);
    mqg_journal_fs(&jrn_fs_real);
    return atomic_load(&compact_fault.fired) > 0;
}

static void compact_survives_faults(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(compact_faults); i++) {
        long n = 1;
        while (n < 30 && compact_fails_once(i, n))
            n += n;
        assert_true(n > 1);
    }
}

static bool compact_is_put_off(struct kit *k, uint64_t unused)
{
    (void)unused;
    pthread_mutex_lock(&k->s->streams->lock);
    struct stream_part *p = jrn_stream_find(k->s->streams, PART);
    bool is = p->again_us > mqg_clock_mono_us();
    pthread_mutex_unlock(&k->s->streams->lock);
    return is;
}

/* While the disk is full a pass is not tried again at once; later it is. */
static void compact_waits_for_room(void **state)
{
    struct kit k;
    (void)state;
    jrn_fs_fault_init(&compact_fault, &jrn_fs_real);
    compact_fault.only = "journal-cleaner";
    mqg_journal_fs(&compact_fault.fs);
    compact_fault.op = JRN_FS_WRITE;
    compact_fault.error = -ENOSPC;
    atomic_store(&compact_fault.all_after, true);
    atomic_store(&compact_fault.nth, 1);
    compact_prepare(&k, "room");
    jrn_part_cleaner_tick(k.s, 20);
    assert_true(kit_wait_for(compact_is_put_off, &k, 0));
    compact_fault.op = JRN_FS_MARK;
    pthread_mutex_lock(&k.s->streams->lock);
    jrn_stream_find(k.s->streams, PART)->again_us = 0;
    pthread_mutex_unlock(&k.s->streams->lock);
    assert_true(kit_wait_for(compact_all_are, &k, 'd'));
    assert_true(compact_has_last(&k));
    kit_close(&k);
    kit_fini(&k);
    mqg_journal_fs(&jrn_fs_real);
}

/* ---- the version before ------------------------------------------------------------------------------------- */

/* As the version before wrote it: without the batches that have no records, each of the others as long as it came. */
static void compact_make_gaps(const char *name)
{
    char old[512], idx[512];
    size_t len, kept = 0;
    uint8_t *log = kit_read(name, &len);
    struct part_batch b;
    for (size_t at = 0; at < len; at += b.len) {
        assert_true(jrn_part_batch_head(mqg_slice_of(log + at, len - at), &b));
        if (b.count == 0)
            continue;
        memmove(log + kept, log + at, b.len);
        struct part_batch was = b;
        was.end = b.base + 1;
        jrn_part_batch_stretch(log + kept, &was);
        kept += b.len;
    }
    snprintf(old, sizeof old, "%s", name);
    *strstr(old, ".d") = '\0';
    snprintf(old + strlen(old), 16, ".c%s", strstr(name, ".d") + 2);
    kit_write(old, log, kept);
    snprintf(idx, sizeof idx, "%s", name);
    memcpy(idx + strlen(idx) - 3, "idx", 3);
    assert_int_equal(unlink(name) | unlink(idx), 0);
    free(log);
}

static void compact_reads_the_version_before(void **state)
{
    struct kit k;
    char names[64][512];
    uint64_t want, sum, offset;
    (void)state;
    compact_fill(&k, "before");
    assert_int_equal(compact_read(&k, &want), MQG_OK);
    part_conf(&k, (struct mqg_stream_conf){.segment_bytes = 4096}); /* nothing is to change while we look */
    kit_close(&k);
    size_t n = compact_names(&k, 'd', names);
    for (size_t i = 0; i < n; i++)
        compact_make_gaps(names[i]);
    kit_open(&k);
    assert_int_equal(compact_names(&k, 'c', names), n);
    assert_int_equal(compact_read(&k, &sum), MQG_OK);
    assert_int_equal(sum, want);
    assert_int_equal(kit_time(&k, PART, 1, &offset), MQG_OK);
    part_conf(&k, (struct mqg_stream_conf){.segment_bytes = 4096, .cleanup = MQG_CLEANUP_COMPACT});
    jrn_part_cleaner_tick(k.s, 20);
    assert_true(kit_wait_for(compact_all_are, &k, 'd')); /* the next pass closes the gaps */
    assert_int_equal(compact_read(&k, &sum), MQG_OK);
    assert_int_equal(sum, want);
    kit_close(&k);
    kit_fini(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(part_compacts),
        cmocka_unit_test(part_compacts_tombstones),
        cmocka_unit_test(compact_looks_into_compressed),
        cmocka_unit_test(compact_packs_again),
        cmocka_unit_test(compact_leaves_no_gap),
        cmocka_unit_test(compact_damage_is_told),
        cmocka_unit_test(compact_leaves_damage_alone),
        cmocka_unit_test(compact_survives_faults),
        cmocka_unit_test(compact_waits_for_room),
        cmocka_unit_test(compact_reads_the_version_before),
    };
    test_codecs();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

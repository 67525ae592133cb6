/* part_test.c - partitions' files: what goes into them and when, what is read from them, what a restart makes of them. */
#include "test_part.h"

#include "../conformance/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static struct mqg_dynbuf part_batch(uint64_t base, uint32_t count, uint32_t bytes, uint64_t time_ms)
{
    struct mqg_dynbuf out;
    struct batch_spec spec = {base, base * 7 + 1, time_ms, count, bytes, false};
    mqg_dynbuf_init(&out, 64 << 20);
    batch_build(&out, &spec);
    return out;
}

static uint64_t part_submit(struct kit *k, uint32_t lane, uint64_t base, uint32_t count, uint32_t bytes,
                            uint64_t time_ms)
{
    struct mqg_dynbuf batch = part_batch(base, count, bytes, time_ms);
    struct mqg_slice rope = mqg_dynbuf_view(&batch);
    struct mqg_store_op op = {.kind = MQG_OP_APPEND,
                              .append = {PART, base, count, time_ms + count - 1, &rope, 1}};
    uint64_t ticket = kit_submit(k, lane, &op, 1, MQG_SUBMIT_URGENT);
    mqg_dynbuf_fini(&batch);
    return ticket;
}

static void part_append(struct kit *k, uint64_t base, uint32_t count, uint32_t bytes, uint64_t time_ms)
{
    assert_true(kit_wait(k, 0, part_submit(k, 0, base, count, bytes, time_ms)));
}

/* Reads from the offset to the end; every batch must be what part_batch made of its place. */
static void part_check(struct kit *k, uint64_t offset, uint64_t end, uint32_t max_bytes)
{
    while (offset < end) {
        struct mqg_stream_read r = part_read(k, offset, max_bytes);
        assert_int_equal(r.err, MQG_OK);
        assert_non_null(r.data);
        struct mqg_slice in = mqg_slice_of(r.data->data, r.data->len);
        struct batch_view b;
        bool bad = false, first = true;
        while (batch_next(&in, &b, &bad)) {
            assert_true(first ? b.base <= offset && b.end > offset : b.base == offset);
            first = false;
            offset = b.end;
        }
        assert_false(bad);
        assert_int_equal(offset, r.next_offset);
        mqg_buf_unref(&r.data);
    }
    assert_int_equal(offset, end);
}

static bool part_is_filed(struct kit *k, uint64_t upto)
{
    pthread_mutex_lock(&k->s->streams->lock);
    const struct stream_part *p = jrn_stream_find(k->s->streams, PART);
    bool is = p && p->filed == upto;
    pthread_mutex_unlock(&k->s->streams->lock);
    return is;
}

static bool part_has_rows(struct kit *k, uint64_t n)
{
    pthread_mutex_lock(&k->s->streams->lock);
    const struct stream_part *p = jrn_stream_find(k->s->streams, PART);
    bool is = p && p->n == n;
    pthread_mutex_unlock(&k->s->streams->lock);
    return is;
}

static bool part_segments_are(struct kit *k, uint64_t n)
{
    return part_stats(k).segments == n;
}

static bool part_starts_at(struct kit *k, uint64_t start)
{
    return part_stats(k).bounds.log_start == start;
}

static bool part_journal_small(struct kit *k, uint64_t segments)
{
    return kit_stats(k).segments <= segments;
}

/* ---- tests ----------------------------------------------------------------------------------------------- */

/* The journal's segments go although nothing was trimmed, and everything is still there, from any offset, before and after
 * restarts of both kinds. */
static void part_leaves_the_journal(void **state)
{
    struct kit k;
    (void)state;
    part_begin(&k, "part", 600000);
    for (uint64_t i = 0; i < 300; i += 10)
        part_append(&k, i, 10, 15000, 1000 + i);
    assert_true(kit_wait_for(part_is_filed, &k, 300));
    assert_true(kit_wait_for(part_journal_small, &k, 2));
    for (int life = 0; life < 4; life++) {
        struct mqg_stream_stats st = part_stats(&k);
        assert_int_equal(st.bounds.high_watermark, 300);
        assert_int_equal(st.bounds.log_start, 0);
        assert_true(st.segments > 5 && st.bytes > 4500000);
        assert_true(kit_stats(&k).disk_bytes >= st.bytes + (1 << 20));
        part_check(&k, 0, 300, 1 << 20);
        for (uint64_t offset = 0; offset < 300; offset += 7)
            part_check(&k, offset, 300, 100000);
        if (life % 2)
            kit_close(&k);
        else
            kit_crash(&k);
        kit_open(&k);
    }
    part_append(&k, 300, 10, 10, 5000);
    part_check(&k, 250, 310, 1 << 20);
    kit_close(&k);
    kit_fini(&k);
}

/* Small batches: the index is sparse, and the bytes are what the batches are, nothing else. */
static void part_is_verbatim(void **state)
{
    struct kit k;
    char path[512];
    size_t len, at = 0;
    (void)state;
    part_begin(&k, "verbatim", 0);
    for (uint64_t i = 0; i < 2000; i++)
        part_submit(&k, 0, i, 1, 100, 1000 + i);
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    assert_true(kit_wait_for(part_is_filed, &k, 2000));
    for (uint64_t offset = 0; offset < 2000; offset += 37)
        part_check(&k, offset, offset + 1, 1);
    part_check(&k, 0, 2000, 5000);
    part_path(&k, 0, "log", path);
    uint8_t *log = kit_read(path, &len);
    for (uint64_t i = 0; i < 2000; i++) {
        struct mqg_dynbuf batch = part_batch(i, 1, 100, 1000 + i);
        assert_true(at + batch.len <= len);
        assert_memory_equal(log + at, batch.ptr, batch.len);
        at += batch.len;
        mqg_dynbuf_fini(&batch);
    }
    assert_int_equal(at, len);
    free(log);
    kit_close(&k);
    kit_fini(&k);
}

static void part_finds_by_time(void **state)
{
    struct kit k;
    uint64_t offset;
    (void)state;
    part_begin(&k, "time", 100000);
    for (uint64_t i = 0; i < 1000; i += 5)
        part_append(&k, i, 5, 1000, 10000 + i);
    for (int life = 0; life < 3; life++) {
        for (uint64_t t = 0; t < 1000; t += 13) {
            assert_int_equal(kit_time(&k, PART, 10000 + t, &offset), MQG_OK);
            assert_int_equal(offset, t / 5 * 5);
        }
        assert_int_equal(kit_time(&k, PART, 1, &offset), MQG_OK);
        assert_int_equal(offset, 0);
        assert_int_equal(kit_time(&k, PART, 99999, &offset), MQG_OK);
        assert_int_equal(offset, 1000);
        if (life)
            kit_crash(&k);
        else
            kit_close(&k);
        kit_open(&k);
    }
    kit_close(&k);
    kit_fini(&k);
}

static void part_trims_and_goes(void **state)
{
    struct kit k;
    struct mqg_store_op trim = {.kind = MQG_OP_TRIM, .trim = {PART, 155}};
    (void)state;
    part_begin(&k, "ptrim", 100000);
    for (uint64_t i = 0; i < 200; i += 10)
        part_append(&k, i, 10, 5000, i);
    assert_true(kit_wait_for(part_segments_are, &k, 20));
    assert_true(kit_wait(&k, 0, kit_submit(&k, 0, &trim, 1, MQG_SUBMIT_URGENT)));
    assert_true(kit_wait_for(part_segments_are, &k, 5));
    part_check(&k, 155, 200, 1 << 20);
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(part_stats(&k).segments, 5);
    part_check(&k, 155, 200, 1 << 20);
    trim.trim.start_offset = 200;
    assert_true(kit_wait(&k, 0, kit_submit(&k, 0, &trim, 1, MQG_SUBMIT_URGENT)));
    assert_true(kit_wait_for(part_segments_are, &k, 0));
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(part_stats(&k).bounds.high_watermark, 200);
    part_append(&k, 200, 10, 10, 1);
    part_check(&k, 200, 210, 1 << 20);
    part_define(&k, false);
    assert_true(kit_wait_for(part_folder_gone, &k, 0));
    kit_close(&k);
    kit_fini(&k);
}

static bool part_files_gone(struct kit *k, uint64_t base)
{
    char log[512], idx[512];
    part_path(k, base, "log", log);
    part_path(k, base, "idx", idx);
    return access(log, F_OK) != 0 && access(idx, F_OK) != 0;
}

/* Something stands in the way when a deleted partition's folder is to go: it goes later. */
static void part_goes_at_last(void **state)
{
    struct kit k;
    char folder[512], stray[600];
    (void)state;
    part_begin(&k, "stuck", 100000);
    jrn_part_cleaner_tick(k.s, 20);
    for (uint64_t i = 0; i < 50; i += 10)
        part_append(&k, i, 10, 5000, i);
    assert_true(kit_wait_for(part_is_filed, &k, 50));
    part_path(&k, 0, "log", folder);
    *strrchr(folder, '/') = '\0';
    snprintf(stray, sizeof stray, "%s/stray", folder);
    assert_int_equal(mkdir(stray, 0700), 0); /* as a compaction's file would */
    part_define(&k, false);
    assert_true(kit_wait_for(part_files_gone, &k, 0));
    assert_false(part_folder_gone(&k, 0));
    assert_int_equal(rmdir(stray), 0);
    assert_true(kit_wait_for(part_folder_gone, &k, 0));
    kit_close(&k);
    kit_fini(&k);
}

static void part_keeps_what_retention_says(void **state)
{
    struct kit k;
    uint64_t now_ms = mqg_clock_now().wall_us / 1000;
    (void)state;
    part_begin(&k, "retain", 100000);
    for (uint64_t i = 0; i < 100; i += 10)
        part_append(&k, i, 10, 9000, i < 50 ? now_ms - 3600000 : now_ms);
    assert_true(kit_wait_for(part_segments_are, &k, 10));
    part_conf(&k, (struct mqg_stream_conf){.segment_bytes = 100000, .retention_ms = 1800000});
    assert_true(kit_wait_for(part_starts_at, &k, 50));
    assert_true(kit_wait_for(part_segments_are, &k, 5));
    kit_crash(&k);
    kit_open(&k);
    assert_true(part_starts_at(&k, 50));
    part_conf(&k, (struct mqg_stream_conf){.segment_bytes = 100000, .retention_bytes = 150000});
    assert_true(kit_wait_for(part_starts_at, &k, 80));
    assert_true(kit_wait_for(part_segments_are, &k, 2));
    kit_close(&k);
    kit_open(&k); /* the settings last */
    for (uint64_t i = 100; i < 130; i += 10)
        part_append(&k, i, 10, 9000, now_ms);
    assert_true(kit_wait_for(part_starts_at, &k, 110));
    kit_close(&k);
    kit_fini(&k);
}

/* What was filed and not synced may be anything after a power cut: the journal has it. */
static void part_torn_end_is_written_again(void **state)
{
    struct kit k;
    char path[512];
    (void)state;
    part_begin(&k, "torn", 0);
    for (uint64_t i = 0; i < 100; i += 10)
        part_append(&k, i, 10, 100, i);
    assert_true(kit_wait_for(part_is_filed, &k, 100));
    kit_crash(&k);
    part_path(&k, 0, "log", path);
    size_t len;
    uint8_t *log = kit_read(path, &len);
    for (size_t cut = 0; cut < len; cut += 777) {
        for (int how = 0; how < 3; how++) {
            uint8_t *torn = mqg_xmalloc(len);
            memcpy(torn, log, len);
            if (how == 1)
                memset(torn + cut, 0, len - cut);
            else if (how == 2)
                torn[cut] ^= 0x40;
            kit_write(path, torn, how == 0 ? cut : len);
            free(torn);
            kit_open(&k);
            part_check(&k, 0, 100, 1 << 20);
            kit_crash(&k);
            part_path(&k, 0, "idx", path);
            unlink(path);
            part_path(&k, 0, "log", path);
        }
    }
    free(log);
    kit_fini(&k);
}

/* What had been synced, and left the journal, is damage when it does not check. */
static void part_damage_is_refused(void **state)
{
    struct kit k;
    char path[512];
    size_t len;
    (void)state;
    part_begin(&k, "pdamage", 64 << 20);
    for (uint64_t i = 0; i < 100; i += 10)
        part_append(&k, i, 10, 15000, i);
    assert_true(kit_wait_for(part_is_filed, &k, 100));
    assert_true(kit_wait_for(part_journal_small, &k, 1));
    kit_close(&k);
    part_path(&k, 0, "log", path);
    uint8_t *log = kit_read(path, &len);
    kit_write(path, log, 200000);
    assert_int_equal(kit_try(&k), MQG_CORRUPT);
    assert_non_null(strstr(k.error.text, ".log"));
    kit_set(&k, "on_corruption=continue");
    kit_open(&k);
    assert_int_equal(part_stats(&k).bounds.high_watermark, 10);
    part_check(&k, 0, 10, 1 << 20);
    kit_close(&k);
    log[70000] ^= 1; /* in the middle: found when it is read */
    kit_write(path, log, len);
    part_path(&k, 0, "idx", path);
    kit_fini(&k);
    free(log);
}

static void part_read_checks(void **state)
{
    struct kit k;
    char path[512];
    size_t len;
    (void)state;
    part_begin(&k, "flipped", 100000);
    for (uint64_t i = 0; i < 50; i += 10)
        part_append(&k, i, 10, 9000, i);
    assert_true(kit_wait_for(part_is_filed, &k, 50));
    kit_close(&k);
    part_path(&k, 10, "log", path);
    uint8_t *log = kit_read(path, &len);
    log[40000] ^= 1;
    kit_write(path, log, len);
    kit_open(&k);
    part_check(&k, 0, 10, 1 << 20);
    struct mqg_stream_read r = part_read(&k, 10, 1 << 20);
    assert_true(r.err == MQG_CORRUPT && r.data == NULL);
    part_check(&k, 20, 50, 1 << 20);
    log[40000] ^= 1;
    log[7] ^= 1; /* the base offset, which no sum covers */
    kit_write(path, log, len);
    r = part_read(&k, 12, 1 << 20);
    assert_true(r.err == MQG_CORRUPT && r.data == NULL);
    free(log);
    kit_close(&k);
    kit_fini(&k);
}

/* More files than may be open. */
static void part_many_files(void **state)
{
    struct kit k;
    struct rlimit before, few;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = before.rlim_cur < 1024 ? before.rlim_cur : 1024; /* 256 for files of partitions */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    part_begin(&k, "many", 4096);
    for (uint64_t i = 0; i < 600; i++)
        part_submit(&k, 0, i, 1, 4000, i);
    assert_true(kit_wait(&k, 0, k.ticket[0]));
    assert_true(kit_wait_for(part_is_filed, &k, 600));
    assert_true(part_stats(&k).segments > 290);
    part_check(&k, 0, 600, 10000);
    kit_crash(&k);
    kit_open(&k);
    part_check(&k, 0, 600, 10000);
    kit_close(&k);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    kit_fini(&k);
}

/* Bytes that are no batches stay in the journal, and are read all the same. */
static void part_opaque_stays(void **state)
{
    struct kit k;
    struct mqg_slice rope = MQG_SLICE_LIT(
        "these bytes are not a record batch at all, but somebody appended them");
    struct mqg_store_op op = {.kind = MQG_OP_APPEND, .append = {PART, 20, 5, 1, &rope, 1}};
    (void)state;
    part_begin(&k, "opaque", 0);
    part_append(&k, 0, 20, 100, 1);
    assert_true(kit_wait(&k, 0, kit_submit(&k, 0, &op, 1, MQG_SUBMIT_URGENT)));
    part_append(&k, 25, 5, 100, 1);
    assert_true(kit_wait_for(part_is_filed, &k, 20));
    for (int life = 0; life < 3; life++) {
        struct mqg_stream_read r = part_read(&k, 22, 1);
        assert_int_equal(r.err, MQG_OK);
        assert_true(mqg_slice_eq(mqg_slice_of(r.data->data, r.data->len), rope));
        mqg_buf_unref(&r.data);
        part_check(&k, 0, 20, 100);
        part_check(&k, 25, 30, 100);
        kit_close(&k);
        kit_open(&k);
    }
    kit_close(&k);
    kit_fini(&k);
}

/* A clean stop syncs: at the next start nothing is read from the journal again. */
static void part_clean_stop_syncs(void **state)
{
    struct kit k;
    (void)state;
    part_begin(&k, "clean", 0);
    for (uint64_t i = 0; i < 100; i += 10)
        part_append(&k, i, 10, 100, i);
    kit_close(&k);
    kit_open(&k);
    assert_true(part_is_filed(&k, 100) && part_has_rows(&k, 0));
    part_check(&k, 0, 100, 1000);
    kit_close(&k);
    kit_fini(&k);
}

/* ---- past the page cache ------------------------------------------------------------------------------------- */

enum past_how { PAST_WRITES, PAST_REFUSES_OPEN, PAST_REFUSES_WRITE, PAST_IS_SHORT, PAST_FAILS };

static struct {
    struct jrn_fs fs;
    enum past_how how;
    _Atomic int fd; /* the one that was opened so; tests here have one partition, so one at a time */
    _Atomic uint64_t bytes;
} past;

static int past_open(void *ctx, const char *path, int flags)
{
    bool direct = (flags & O_DIRECT) != 0;
    if (direct && past.how == PAST_REFUSES_OPEN)
        return -EINVAL;
    int fd = jrn_fs_real.open(ctx, path,
                              direct ? flags & ~O_DIRECT : flags); /* a disk in memory may have none */
    if (direct)
        atomic_store(&past.fd, fd);
    return fd;
}

static int past_close(void *ctx, int fd)
{
    if (atomic_load(&past.fd) == fd)
        atomic_store(&past.fd, -1);
    return jrn_fs_real.close(ctx, fd);
}

static ssize_t past_pwritev(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off)
{
    if (atomic_load(&past.fd) != fd)
        return jrn_fs_real.pwritev(ctx, fd, iov, n, off);
    if (past.how == PAST_REFUSES_WRITE)
        return -EINVAL;
    if (past.how == PAST_FAILS)
        return -EIO;
    assert_int_equal(n, 1);
    assert_true(off % 4096 == 0 && iov->iov_len % 4096 == 0 && (uintptr_t)iov->iov_base % 4096 == 0);
    struct iovec less = {iov->iov_base, past.how == PAST_IS_SHORT ? 5000 : iov->iov_len};
    atomic_fetch_add(&past.bytes, less.iov_len);
    return jrn_fs_real.pwritev(ctx, fd, &less, 1, off);
}

/* Batches of odd lengths: nobody reads them, so their whole pages do not go through the page cache, and whatever becomes of such a
 * write, the file has the batches and nothing else. */
static void part_goes_past_the_cache(void **state)
{
    (void)state;
    past.fs = jrn_fs_real;
    past.fs.open = past_open;
    past.fs.close = past_close;
    past.fs.pwritev = past_pwritev;
    for (int how = PAST_WRITES; how <= PAST_FAILS; how++) {
        struct kit k;
        uint64_t bytes = 0;
        past.how = (enum past_how)how;
        atomic_store(&past.fd, -1);
        atomic_store(&past.bytes, 0);
        mqg_journal_fs(&past.fs);
        part_begin(&k, "past", 0);
        for (uint64_t i = 0; i < 40; i++) {
            part_append(&k, i, 1, (uint32_t)(33001 + i * 977), i);
            assert_true(kit_wait_for(part_is_filed, &k, i + 1));
        }
        bytes = part_stats(&k).bytes;
        if (how == PAST_WRITES)
            assert_true(atomic_load(&past.bytes) > bytes / 10 * 8);
        else if (how == PAST_IS_SHORT)
            assert_int_equal(atomic_load(&past.bytes), 40 * 5000);
        kit_close(&k);
        kit_open(&k);
        assert_true(part_has_rows(&k, 0));
        part_check(&k, 0, 40, 1 << 20); /* from the file, and that is noticed: */
        atomic_store(&past.bytes, 0);
        part_append(&k, 40, 1, 50000, 40);
        assert_true(kit_wait_for(part_is_filed, &k, 41));
        assert_int_equal(atomic_load(&past.bytes), 0);
        part_check(&k, 0, 41, 1 << 20);
        kit_close(&k);
        kit_fini(&k);
        mqg_journal_fs(NULL);
    }
}

/* What the journal still has is read there: the file may be anything meanwhile. */
static void part_tail_is_read_from_the_journal(void **state)
{
    struct kit k;
    char path[512];
    size_t len;
    (void)state;
    part_begin(&k, "tail", 0);
    part_append(&k, 0, 10, 100, 1);
    part_append(&k, 10, 10, 5000, 1);
    assert_true(kit_wait_for(part_is_filed, &k, 20));
    part_path(&k, 0, "log", path);
    uint8_t *log = kit_read(path, &len);
    memset(log, 0, len);
    kit_write(path, log, len);
    part_check(&k, 10, 20, 1 << 20);
    struct mqg_stream_read r = part_read(&k, 0, 1 << 20); /* a small batch: that is the file's */
    assert_true(r.err == MQG_CORRUPT && r.data == NULL);
    free(log);
    kit_crash(&k);
    kit_open(&k); /* it was not synced: written again from the journal */
    part_check(&k, 0, 20, 1 << 20);
    kit_close(&k);
    kit_fini(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(part_leaves_the_journal),
        cmocka_unit_test(part_is_verbatim),
        cmocka_unit_test(part_finds_by_time),
        cmocka_unit_test(part_trims_and_goes),
        cmocka_unit_test(part_goes_at_last),
        cmocka_unit_test(part_keeps_what_retention_says),
        cmocka_unit_test(part_torn_end_is_written_again),
        cmocka_unit_test(part_damage_is_refused),
        cmocka_unit_test(part_read_checks),
        cmocka_unit_test(part_many_files),
        cmocka_unit_test(part_opaque_stays),
        cmocka_unit_test(part_clean_stop_syncs),
        cmocka_unit_test(part_goes_past_the_cache),
        cmocka_unit_test(part_tail_is_read_from_the_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* recover_test.c - what a stop may leave on the disk, and what recovery makes of it. */
#include "test_kit.h"

#include <errno.h>

/* Writes n messages to queue 1, each its own commit. */
static void recover_fill(struct kit *k, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        assert_true(kit_wait(k, 0, kit_put(k, 0, 1, first + i, 100)));
}

static void recover_clean_stop(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "clean", "1MiB");
    kit_open(&k);
    assert_false(k.unclean);
    recover_fill(&k, 1, 20);
    kit_wait(&k, 0, kit_meta(&k, "queue.1", "one"));
    kit_wait(&k, 0, kit_meta(&k, "queue.1", "two"));
    kit_wait(&k, 0, kit_meta(&k, "queue.2", "gone"));
    kit_wait(&k, 0, kit_meta(&k, "queue.2", NULL));
    kit_wait(&k, 1, kit_settle(&k, 1, 1, 3, 7));
    kit_close(&k);
    kit_open(&k);
    assert_false(k.unclean);
    assert_int_equal(kit_count(&k, 1), 15);
    assert_null(kit_find(&k, 1, 5));
    assert_string_equal(kit_meta_value(&k, "queue.1"), "two");
    assert_null(kit_meta_value(&k, "queue.2"));
    for (size_t i = 0; i < k.nmsg; i++) {
        assert_true(i == 0 || k.msgs[i].qseq > k.msgs[i - 1].qseq);
        kit_check_body(&k, &k.msgs[i]);
    }
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(kit_count(&k, 1), 15);
    kit_close(&k);
    kit_fini(&k);
}

static void recover_crash_keeps_confirmed(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "crash", "1MiB");
    kit_open(&k);
    recover_fill(&k, 1, 20);
    kit_crash(&k);
    for (uint64_t round = 0; round < 5; round++) { /* the log goes on in the same file, again and again */
        kit_open(&k);
        assert_true(k.unclean);
        assert_int_equal(kit_count(&k, 1), 20 + round);
        recover_fill(&k, 100 + round, 1);
        kit_crash(&k);
    }
    kit_fini(&k);
}

/* A SETTLE may stand in the log before its MSG; a queue's order is qseq order; counts are kept. */
static void recover_order_is_qseq(void **state)
{
    struct kit k;
    struct mqg_store_op count = {.kind = MQG_OP_COUNT, .count = {1, 40, 2, 1}};
    (void)state;
    kit_init(&k, "order", "1MiB");
    kit_open(&k);
    kit_wait(&k, 1, kit_settle(&k, 1, 1, 30, 30));
    kit_wait(&k, 0, kit_put(&k, 0, 1, 50, 10));
    kit_wait(&k, 0, kit_put(&k, 0, 1, 30, 10));
    kit_wait(&k, 0, kit_put(&k, 0, 1, 40, 10));
    kit_wait(&k, 2, kit_put(&k, 2, 1, 10, 10));
    kit_wait(&k, 0, kit_submit(&k, 0, &count, 1, MQG_SUBMIT_URGENT));
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(k.nmsg, 3);
    assert_true(k.msgs[0].qseq == 10 && k.msgs[1].qseq == 40 && k.msgs[2].qseq == 50);
    assert_int_equal(k.msgs[1].delivery_count, 2);
    kit_close(&k);
    kit_fini(&k);
}

/* A start alone makes the next stop unclean: what was delivered since then may have been delivered. */
static void recover_start_is_unclean(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "unclean", "1MiB");
    kit_open(&k);
    recover_fill(&k, 1, 1);
    kit_close(&k);
    kit_open(&k);
    assert_false(k.unclean);
    kit_crash(&k);
    kit_open(&k);
    assert_true(k.unclean);
    kit_close(&k);
    kit_open(&k);
    assert_false(k.unclean);
    kit_close(&k);
    kit_fini(&k);
}

/* A lazy batch is written soon, without anybody waiting. */
static void recover_lazy(void **state)
{
    struct kit k;
    struct mqg_range r = {1, 1};
    struct mqg_store_op op = {.kind = MQG_OP_SETTLE, .settle = {1, &r, 1}};
    (void)state;
    kit_init(&k, "lazy", "1MiB");
    kit_open(&k);
    recover_fill(&k, 1, 2);
    assert_true(kit_wait(&k, 1, kit_submit(&k, 1, &op, 1, 0)));
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(kit_count(&k, 1), 1);
    kit_close(&k);
    kit_fini(&k);
}

static uint8_t *recover_only_file(const struct kit *k, char path[512], size_t *len)
{
    assert_int_equal(kit_files(k, ".seg"), 1);
    kit_file(k, ".seg", 0, path);
    return kit_read(path, len);
}

/* The frame that holds message n; seals may stand anywhere, for the machine is free to pause. */
static size_t recover_frame_of(const uint8_t *seg, size_t len, uint64_t n, struct jrn_frame *f)
{
    char mark[32];
    snprintf(mark, sizeof mark, "MARK:%016llx", (unsigned long long)n);
    size_t off = kit_frame_of(seg, len, mark, f);
    assert_true(off != 0);
    return off;
}

/* The last frame with messages, before seals: its index. */
static size_t recover_last_frame(const uint8_t *seg, size_t len)
{
    struct jrn_frame f;
    size_t last = 0;
    for (size_t i = 0; kit_frame(seg, len, i, &f); i++)
        if (!(f.flags & JRN_FRAME_SEAL))
            last = i;
    return last;
}

/* Takes the seals behind the last frame with messages away; the index of that frame. */
static size_t recover_unseal(uint8_t *seg, size_t len)
{
    struct jrn_frame f;
    size_t last = recover_last_frame(seg, len), off;
    while ((off = kit_frame(seg, len, last + 1, &f)) != 0)
        memset(seg + off, 0, f.length);
    return last;
}

/* How a tail may be damaged at frame `at`, whole length `len`. */
struct recover_damage {
    const char *name;
    size_t from, bytes; /* relative to the frame; bytes 0 = to its end */
    bool zero;          /* else flipped */
};

static const struct recover_damage recover_damages[] = {
    {"head flipped", 40, 1, false},    {"head gone", 0, 96, true},      {"chunk head flipped", 97, 1, false},
    {"record flipped", 130, 1, false}, {"body flipped", 300, 1, false}, {"first sector gone", 0, 512, true},
    {"all gone", 0, 0, true},
};

static void recover_harm_at(uint8_t *seg, size_t off, const struct jrn_frame *f,
                            const struct recover_damage *d)
{
    size_t bytes = d->bytes ? d->bytes : f->length;
    for (size_t i = 0; i < bytes; i++)
        seg[off + d->from + i] = d->zero ? 0 : (uint8_t)(seg[off + d->from + i] ^ 0x10);
}

static void recover_harm(uint8_t *seg, size_t len, size_t index, const struct recover_damage *d)
{
    struct jrn_frame f;
    size_t off = kit_frame(seg, len, index, &f);
    assert_true(off != 0);
    recover_harm_at(seg, off, &f, d);
}

/* The last frame, without a witness behind it: cut, never an error; and the log goes on behind the cut. */
static void recover_torn_tail(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(recover_damages); i++) {
        struct kit k;
        char path[512];
        size_t len;
        kit_init(&k, "torn", "1MiB");
        kit_open(&k);
        recover_fill(&k, 1, 10);
        kit_crash(&k); /* well within 100 ms of the last commit in most runs; a seal is looked for below */
        uint8_t *seg = recover_only_file(&k, path, &len);
        size_t last = recover_unseal(seg, len);
        recover_harm(seg, len, last, &recover_damages[i]);
        kit_write(path, seg, len);
        free(seg);
        kit_open(&k);
        assert_true(k.unclean);
        assert_int_equal(kit_count(&k, 1), 9);
        recover_fill(&k, 11, 3);
        kit_crash(&k);
        kit_open(&k);
        assert_int_equal(kit_count(&k, 1), 12);
        assert_int_equal(kit_files(&k, "quarantine"), 0);
        kit_close(&k);
        kit_fini(&k);
    }
}

/* A frame in the middle: reported, refused, copied aside; with `continue` everything else is there. */
static void recover_corrupt_middle(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(recover_damages); i++) {
        struct kit k;
        char path[512];
        size_t len;
        struct jrn_frame f;
        kit_init(&k, "middle", "1MiB");
        kit_open(&k);
        recover_fill(&k, 1, 10);
        kit_close(&k);
        uint8_t *seg = recover_only_file(&k, path, &len);
        size_t off = recover_frame_of(seg, len, 4, &f);
        recover_harm_at(seg, off, &f, &recover_damages[i]);
        kit_write(path, seg, len);
        free(seg);
        assert_int_equal(kit_try(&k), MQG_CORRUPT);
        assert_non_null(strstr(k.error.text, "on_corruption=continue"));
        assert_int_equal(kit_files(&k, "quarantine"), 1);
        assert_int_equal(kit_try(&k), MQG_CORRUPT);
        assert_int_equal(kit_files(&k, "quarantine"), 1);
        kit_set(&k, "on_corruption=continue");
        kit_open(&k);
        assert_int_equal(kit_count(&k, 1), 9);
        assert_null(kit_find(&k, 1, 4));
        for (size_t m = 0; m < k.nmsg; m++)
            kit_check_body(&k, &k.msgs[m]);
        recover_fill(&k, 11, 3);
        kit_crash(&k);
        kit_open(&k);
        assert_int_equal(kit_count(&k, 1), 12);
        kit_close(&k);
        kit_fini(&k);
    }
}

static bool recover_is_sealed(struct kit *k, uint64_t arg)
{
    struct jrn_frame f;
    char path[512];
    size_t len, i = 0;
    bool sealed = false;
    (void)arg;
    kit_file(k, ".seg", 0, path);
    uint8_t *seg = kit_read(path, &len);
    for (; kit_frame(seg, len, i, &f); i++)
        sealed = (f.flags & JRN_FRAME_SEAL) != 0;
    free(seg);
    return sealed;
}

/* The last confirmed frame has a witness as soon as the journal is idle: damage there is no torn tail. */
static void recover_seal_is_a_witness(void **state)
{
    struct kit k;
    char path[512];
    size_t len;
    (void)state;
    kit_init(&k, "seal", "1MiB");
    kit_open(&k);
    recover_fill(&k, 1, 10);
    assert_true(kit_wait_for(recover_is_sealed, &k, 0));
    kit_crash(&k);
    uint8_t *seg = recover_only_file(&k, path, &len);
    recover_harm(seg, len, recover_last_frame(seg, len), &recover_damages[4]);
    kit_write(path, seg, len);
    free(seg);
    assert_int_equal(kit_try(&k), MQG_CORRUPT);
    kit_fini(&k);
}

/* Fills the body, at every 512-byte bound that it may come to lie on, with a head that is ours in all but its
 * place: the right journal, nonce and sums, and it vouches for everything. */
static void recover_forge(uint8_t *body, size_t bytes, const uint8_t *seg, size_t len)
{
    struct jrn_seg_head h;
    struct mqg_error e;
    struct jrn_frame f = {
        .seq = 1, .number = 1000, .durable_at_write = 1u << 30, .offset = 1 << 19, .length = 128};
    assert_int_equal(jrn_seg_head_decode(mqg_slice_of(seg, len), &h, &e), MQG_OK);
    memset(body, 0, bytes);
    for (size_t at = 0; at + JRN_FRAME_HEAD <= bytes; at += 104)
        jrn_frame_encode(body + at, &h.use, &f);
}

/* A client's body that looks like frames of ours: nobody takes it for one, neither to continue the log nor as
 * a witness. */
static void recover_forged_frame(void **state)
{
    struct kit k;
    char path[512];
    size_t len;
    (void)state;
    kit_init(&k, "forged", "1MiB");
    kit_open(&k);
    recover_fill(&k, 1, 5);
    kit_close(&k);
    uint8_t *seg = recover_only_file(&k, path, &len);
    kit_open(&k);
    struct mqg_msg *m = kit_msg_new(MQG_SLICE_LIT("some.key"), 100000, 6); /* the body at a multiple of 8 */
    recover_forge(mqg_msg_body_mut(m), 100000, seg, len);
    struct mqg_dest d = {1, 6};
    struct mqg_store_op op = {.kind = MQG_OP_MSG, .msg = {m, &d, 1}};
    m->extent = jrn_ops.extent_open(k.s, 0);
    mqg_extent_take(m->extent, 1);
    assert_true(kit_wait(&k, 0, kit_submit(&k, 0, &op, 1, MQG_SUBMIT_URGENT)));
    mqg_msg_unref(&m);
    kit_crash(&k);
    free(seg);
    seg = recover_only_file(&k, path, &len);
    size_t last = recover_unseal(seg, len);
    recover_harm(seg, len, last,
                 &recover_damages[0]); /* its head: recovery now looks into the body for frames */
    kit_write(path, seg, len);
    free(seg);
    kit_open(&k);
    assert_int_equal(kit_count(&k, 1), 5);
    kit_close(&k);
    kit_fini(&k);
}

/* Fills and crashes until the last two messages' frames stand side by side, without a seal between them. The bytes, and the
 * last frame's index. */
static uint8_t *recover_side_by_side(struct kit *k, char path[512], size_t *len, size_t *last)
{
    struct jrn_frame f;
    for (int tries = 0; tries < 100; tries++) {
        kit_init(k, "staycut", "1MiB");
        kit_open(k);
        recover_fill(k, 1, 10);
        kit_crash(k);
        uint8_t *seg = recover_only_file(k, path, len);
        *last = recover_unseal(seg, *len);
        assert_true(kit_frame(seg, *len, *last - 1, &f) != 0);
        if (!(f.flags & JRN_FRAME_SEAL))
            return seg;
        free(seg);
        kit_fini(k);
    }
    fail_msg("the journal was idle between any two messages");
    return NULL;
}

/* Two frames of one commit; the first is torn, the second whole. Both are cut, and the second stays so when a
 * new frame of the same size and number takes the place of the first. */
static void recover_cut_stays_cut(void **state)
{
    struct kit k;
    char path[512];
    size_t len, last;
    struct jrn_frame f;
    struct jrn_seg_head h;
    struct mqg_error e;
    (void)state;
    uint8_t *seg = recover_side_by_side(&k, path, &len, &last);
    size_t off = kit_frame(seg, len, last, &f);
    assert_int_equal(jrn_seg_head_decode(mqg_slice_of(seg, len), &h, &e), MQG_OK);
    f.durable_at_write -= 1; /* as if both had been written by one round */
    jrn_frame_encode(seg + off, &h.use, &f);
    recover_harm(seg, len, last - 1, &recover_damages[4]);
    kit_write(path, seg, len);
    free(seg);
    kit_open(&k);
    assert_int_equal(kit_count(&k, 1), 8);
    recover_fill(&k, 109, 1);
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(kit_count(&k, 1), 9);
    assert_non_null(kit_find(&k, 1, 109));
    assert_null(kit_find(&k, 1, 10));
    kit_close(&k);
    kit_fini(&k);
}

/* The frame's head is whole and its length runs over bytes of another use of the same file, which would all
 * check. */
static void recover_stale_bytes(void **state)
{
    struct kit k;
    char path[512];
    size_t len;
    struct jrn_frame f, g;
    (void)state;
    kit_init(&k, "stale", "1MiB");
    kit_open(&k);
    recover_fill(&k, 1, 6);
    kit_close(&k);
    uint8_t *seg = recover_only_file(&k, path, &len);
    size_t one = recover_frame_of(seg, len, 2, &f), two = recover_frame_of(seg, len, 5, &g);
    assert_int_equal(f.length, g.length);
    memcpy(seg + two + JRN_FRAME_HEAD + JRN_CHUNK_HEAD, seg + one + JRN_FRAME_HEAD + JRN_CHUNK_HEAD,
           f.length - JRN_FRAME_HEAD - JRN_CHUNK_HEAD);
    kit_write(path, seg, len);
    free(seg);
    assert_int_equal(kit_try(&k), MQG_CORRUPT); /* sealed: it had been confirmed */
    kit_fini(&k);
}

static void recover_missing_segment(void **state)
{
    struct kit k;
    char path[512];
    (void)state;
    kit_init(&k, "missing", "1MiB");
    kit_open(&k);
    for (uint64_t i = 1; i <= 5; i++)
        kit_wait(&k, 0, kit_put(&k, 0, 1, i, 400000));
    kit_close(&k);
    assert_true(kit_files(&k, ".seg") >= 3);
    kit_file(&k, ".seg", 0, path);
    unlink(path);
    assert_int_equal(kit_try(&k), MQG_CORRUPT);
    assert_non_null(strstr(k.error.text, "missing"));
    kit_fini(&k);
}

static bool recover_noted(struct kit *k, uint64_t arg)
{
    char path[512];
    size_t len = 0;
    (void)arg;
    if (kit_files(k, "last") == 0)
        return false;
    snprintf(path, sizeof path, "%s/last", k->path);
    uint8_t *bytes = kit_read(path, &len);
    uint64_t newest = 0, seq = 0;
    for (size_t at = 0; at + 512 <= len; at += 512)
        if (mqg_le64(bytes + at + 48) > newest) {
            newest = mqg_le64(bytes + at + 48);
            seq = mqg_le64(bytes + at + 32);
        }
    free(bytes);
    return seq == k->s->segs_last->seq;
}

/* Three segments; the file of the last one goes. clean: after a clean stop. */
static void recover_without_tail(struct kit *k, bool clean, bool all)
{
    char path[512], tail[32];
    for (uint64_t i = 1; i <= 5; i++)
        kit_wait(k, 0, kit_put(k, 0, 1, i, 400000));
    assert_true(kit_wait_for(recover_noted, k, 0));
    memcpy(tail, k->s->com.tail->name, sizeof tail);
    if (clean)
        kit_close(k);
    else
        kit_crash(k);
    snprintf(path, sizeof path, "%s/%s", k->path, tail);
    assert_int_equal(unlink(path), 0);
    while (all && kit_files(k, ".seg") > 0) {
        kit_file(k, ".seg", 0, path);
        unlink(path);
    }
    assert_int_equal(kit_try(k), MQG_CORRUPT);
    assert_non_null(strstr(k->error.text, "which was in use last, is missing"));
}

/* The tail names itself only: a note says that it was there. */
static void recover_missing_tail(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct kit k;
        kit_init(&k, "tail", "1MiB");
        kit_open(&k);
        recover_without_tail(&k, how & 1, how & 2);
        kit_set(&k, "on_corruption=continue");
        kit_open(&k);
        assert_true(how & 2 ? kit_count(&k, 1) == 0 : kit_count(&k, 1) > 0 && kit_count(&k, 1) < 5);
        kit_wait(&k, 0, kit_put(&k, 0, 1, 6, 100));
        assert_true(kit_wait_for(recover_noted, &k, 0));
        kit_close(&k);
        k.nextra = 0;
        kit_open(&k); /* what was given up is not missed again */
        kit_close(&k);
        kit_fini(&k);
    }
}

/* A note that is damaged says nothing; one of a newer format is not guessed at. */
static void recover_damaged_note(void **state)
{
    struct kit k;
    char path[512];
    size_t len;
    (void)state;
    kit_init(&k, "note", "1MiB");
    kit_open(&k);
    kit_wait(&k, 0, kit_put(&k, 0, 1, 1, 100));
    kit_close(&k);
    snprintf(path, sizeof path, "%s/last", k.path);
    uint8_t *bytes = kit_read(path, &len);
    size_t slot = len > 512 && mqg_le64(bytes + 512 + 48) > 0 ? 512 : 0;
    bytes[slot + 8] = 9;
    kit_write(path, bytes, len);
    kit_open(&k);
    kit_close(&k);
    bytes[slot + 8] = 9;
    mqg_put_le32(bytes + slot + 508, jrn_crc32c(0, bytes + slot, 508));
    kit_write(path, bytes, len);
    assert_int_equal(kit_try(&k), MQG_UNSUPPORTED);
    assert_non_null(strstr(k.error.text, "format version 9"));
    free(bytes);
    kit_fini(&k);
}

static void recover_header(void **state)
{
    struct kit k;
    char path[512];
    size_t len;
    (void)state;
    kit_init(&k, "header", "1MiB");
    kit_open(&k);
    recover_fill(&k, 1, 3);
    kit_close(&k);
    uint8_t *seg = recover_only_file(&k, path, &len);
    seg[60] ^= 1;
    kit_write(path, seg, len);
    assert_int_equal(kit_try(&k), MQG_CORRUPT);
    seg[60] ^= 1;
    mqg_put_le16(seg + 8, JRN_VERSION + 1);
    mqg_put_le32(seg + 508, mqg_crc32c(0, seg, 508));
    kit_write(path, seg, len);
    assert_int_equal(kit_try(&k), MQG_UNSUPPORTED);
    memset(seg, 0, JRN_HEADER_BYTES); /* wiped, but frames stand behind it */
    kit_write(path, seg, len);
    assert_int_equal(kit_try(&k), MQG_CORRUPT);
    memset(seg, 0, len); /* a file that was being made when the power went: but this one had been in use */
    kit_write(path, seg, len);
    free(seg);
    assert_int_equal(kit_try(&k), MQG_CORRUPT);
    snprintf(path, sizeof path, "%s/last", k.path);
    assert_int_equal(unlink(path), 0);
    kit_open(&k);
    assert_int_equal(k.nmsg, 0);
    kit_close(&k);
    kit_fini(&k);
}

/* Gives all segments of the folder this version. */
static void recover_set_version(const struct kit *k, uint16_t version)
{
    char path[512];
    for (size_t i = 0; i < kit_files(k, ".seg"); i++) {
        size_t len;
        kit_file(k, ".seg", i, path);
        uint8_t *seg = kit_read(path, &len);
        mqg_put_le16(seg + 8, version);
        mqg_put_le32(seg + 508, mqg_crc32c(0, seg, 508));
        kit_write(path, seg, len);
        free(seg);
    }
}

static uint16_t recover_highest_version(const struct kit *k)
{
    char path[512];
    uint16_t highest = 0;
    for (size_t i = 0; i < kit_files(k, ".seg"); i++) {
        size_t len;
        kit_file(k, ".seg", i, path);
        uint8_t *seg = kit_read(path, &len);
        highest = mqg_le16(seg + 8) > highest ? mqg_le16(seg + 8) : highest;
        free(seg);
    }
    return highest;
}

static bool recover_is_header(const struct jrn_fs_event *e)
{
    return e->op == JRN_FS_WRITE && e->off == 0 && e->len == JRN_SEG_HEAD &&
           memcmp(e->data, JRN_SEG_MAGIC, 8) == 0 && mqg_le16(e->data + 8) == JRN_VERSION;
}

/* Was the file synced behind event `from`, and then the folder, or was its name there before? */
static bool recover_is_synced(const struct jrn_fs_record *r, size_t from, size_t end, int fd)
{
    bool made = false, file = false, folder = false;
    for (size_t i = 0; i < from; i++)
        made = made || r->events[i].op == JRN_FS_ALLOCATE;
    for (size_t i = from; i < end; i++) {
        file = file || (r->events[i].op == JRN_FS_SYNC_END && r->events[i].fd == fd);
        folder = folder || (file && r->events[i].op == JRN_FS_SYNC_DIR);
    }
    return file && (folder || !made);
}

/* A store of the version before is read whole, and is one of the present before it has written anything else; one without a spare,
 * and one with. */
static void recover_older_format(void **state)
{
    (void)state;
    for (int spare = 0; spare < 2; spare++) {
        struct kit k;
        struct jrn_fs_record record;
        kit_init(&k, "older", "1MiB");
        kit_open(&k);
        recover_fill(&k, 1, 5);
        assert_true(kit_wait(&k, 0, kit_meta(&k, "key", "value")));
        if (spare) {
            struct jrn_seg *seg;
            assert_int_equal(jrn_seg_create(k.s, k.s->segment_bytes, false, true, &seg), 0);
            jrn_spare_give(k.s, seg);
        }
        kit_close(&k);
        recover_set_version(&k, JRN_VERSION - 1);
        jrn_fs_record_init(&record, &jrn_fs_real);
        mqg_journal_fs(&record.fs);
        kit_open(&k);
        assert_int_equal(kit_count(&k, 1), 5);
        recover_fill(&k, 6, 5);
        kit_crash(&k);
        mqg_journal_fs(NULL);
        size_t header = 0, frame = 0;
        while (header < record.n && !recover_is_header(&record.events[header]))
            header++;
        for (frame = header; frame < record.n; frame++) /* the first one of this life */
            if (record.events[frame].op == JRN_FS_WRITE && record.events[frame].off == JRN_HEADER_BYTES &&
                mqg_le32(record.events[frame].data) == JRN_FRAME_MAGIC)
                break;
        assert_true(header < record.n && frame < record.n);
        assert_int_equal(record.events[frame].fd, record.events[header].fd);
        assert_true(recover_is_synced(&record, header, frame, record.events[header].fd));
        for (size_t i = 0; i < frame; i++) /* and nothing of partitions' before */
            assert_true(record.events[i].op != JRN_FS_MKDIR ||
                        !strstr((const char *)record.events[i].data, "streams"));
        jrn_fs_record_fini(&record);
        assert_int_equal(recover_highest_version(&k), JRN_VERSION);
        kit_open(&k);
        assert_int_equal(kit_count(&k, 1), 10);
        assert_string_equal(kit_meta_value(&k, "key"), "value");
        for (size_t i = 0; i < k.nmsg; i++)
            kit_check_body(&k, &k.msgs[i]);
        kit_close(&k);
        kit_fini(&k);
    }
}

/* No room for the segment that says so: refused, and still a store of the version before. */
static void recover_older_no_room(void **state)
{
    struct kit k;
    struct jrn_fs_fault fault;
    (void)state;
    kit_init(&k, "olderfull", "1MiB");
    kit_open(&k);
    recover_fill(&k, 1, 5);
    kit_close(&k);
    recover_set_version(&k, JRN_VERSION - 1);
    jrn_fs_fault_init(&fault, &jrn_fs_real);
    fault.op = JRN_FS_ALLOCATE;
    fault.nth = 1;
    fault.all_after = true;
    fault.error = -ENOSPC;
    mqg_journal_fs(&fault.fs);
    assert_int_equal(kit_try(&k), MQG_NO_SPACE);
    mqg_journal_fs(NULL);
    assert_int_equal(recover_highest_version(&k), JRN_VERSION - 1);
    kit_open(&k);
    assert_int_equal(kit_count(&k, 1), 5);
    kit_close(&k);
    assert_int_equal(recover_highest_version(&k), JRN_VERSION);
    kit_fini(&k);
}

static void recover_second_process(void **state)
{
    struct kit k, other;
    (void)state;
    kit_init(&k, "second", "1MiB");
    kit_open(&k);
    other = k;
    other.msgs = NULL;
    other.cap_msg = 0;
    assert_int_equal(kit_try(&other), MQG_LOCKED);
    assert_non_null(strstr(other.error.text, "is in use by process"));
    kit_close(&k);
    kit_open(&k);
    kit_close(&k);
    kit_fini(&k);
}

static void recover_folder_refused(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "refused", "1MiB");
    snprintf(k.path, sizeof k.path, "/proc/mqgate");
    assert_int_equal(kit_try(&k), MQG_IO);
    assert_non_null(strstr(k.error.text, "/proc/mqgate"));
}

/* Larger than a segment: a file of its own, removed when the message is settled. */
static bool recover_is_gone(struct kit *k, uint64_t arg)
{
    (void)arg;
    return kit_stats(k).disk_bytes < 5u << 20 && kit_stats(k).segments <= 2;
}

static void recover_oversized(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "oversized", "1MiB");
    kit_open(&k);
    kit_wait(&k, 0, kit_put(&k, 0, 1, 1, 100));
    kit_wait(&k, 0, kit_put(&k, 0, 1, 2, 5 << 20));
    kit_wait(&k, 0, kit_put(&k, 0, 1, 3, 100));
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(k.nmsg, 3);
    for (size_t i = 0; i < k.nmsg; i++)
        kit_check_body(&k, &k.msgs[i]);
    kit_wait(&k, 1, kit_settle(&k, 1, 1, 1, 3));
    for (size_t i = 0; i < k.nmsg; i++)
        mqg_extent_give(k.msgs[i].extent, 1);
    assert_true(kit_wait_for(recover_is_gone, &k, 0));
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(k.nmsg, 0);
    kit_close(&k);
    kit_fini(&k);
}

/* Another segment_size at each start: old files are read, used up, and not used again. */
static void recover_other_size(void **state)
{
    struct kit k;
    const char *const sizes[] = {"segment_size=2MiB", "segment_size=1MiB", "segment_size=4MiB",
                                 "segment_size=1MiB"};
    uint64_t next = 1;
    (void)state;
    kit_init(&k, "size", "1MiB");
    for (size_t round = 0; round < MQG_COUNTOF(sizes); round++) {
        kit_set(&k, sizes[round]);
        kit_open(&k);
        assert_int_equal(k.nmsg, round * 20);
        if (round) { /* what stood in queue 2 is settled: segments of the other size come free */
            kit_settle(&k, 1, 2, 1, next);
            for (size_t i = 0; i < k.nmsg; i += 7)
                kit_check_body(&k, &k.msgs[i]);
        }
        for (int i = 0; i < 20; i++, next++) {
            struct mqg_extent *x = jrn_ops.extent_open(k.s, 0);
            assert_true(kit_wait(&k, 0, kit_put(&k, 0, 2, next, 100000)));
            mqg_extent_give(x, 1); /* settled at the next start */
            assert_true(kit_wait(&k, 0, kit_put(&k, 0, 1, next, 50000)));
        }
        kit_settle(&k, 1, 2, 1, next);
        assert_true(kit_wait(&k, 1, k.ticket[1]));
        kit_crash(&k);
    }
    kit_open(&k);
    assert_int_equal(k.nmsg, MQG_COUNTOF(sizes) * 20);
    kit_close(&k);
    kit_fini(&k);
}

/* Messages of queues that the definitions do not know keep nothing alive. */
static void recover_unknown_queue(void **state)
{
    struct kit k;
    (void)state;
    kit_init(&k, "unknown", "1MiB");
    kit_open(&k);
    recover_fill(&k, 1, 5);
    kit_crash(&k);
    k.drop_queue = 1;
    kit_open(&k);
    assert_int_equal(k.nmsg, 0);
    assert_int_equal(kit_stats(&k).live_extents, 0);
    kit_close(&k);
    kit_fini(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recover_clean_stop),       cmocka_unit_test(recover_crash_keeps_confirmed),
        cmocka_unit_test(recover_order_is_qseq),    cmocka_unit_test(recover_lazy),
        cmocka_unit_test(recover_start_is_unclean), cmocka_unit_test(recover_torn_tail),
        cmocka_unit_test(recover_corrupt_middle),   cmocka_unit_test(recover_seal_is_a_witness),
        cmocka_unit_test(recover_forged_frame),     cmocka_unit_test(recover_stale_bytes),
        cmocka_unit_test(recover_cut_stays_cut),    cmocka_unit_test(recover_missing_segment),
        cmocka_unit_test(recover_missing_tail),     cmocka_unit_test(recover_damaged_note),
        cmocka_unit_test(recover_header),           cmocka_unit_test(recover_older_format),
        cmocka_unit_test(recover_older_no_room),    cmocka_unit_test(recover_second_process),
        cmocka_unit_test(recover_folder_refused),   cmocka_unit_test(recover_oversized),
        cmocka_unit_test(recover_unknown_queue),    cmocka_unit_test(recover_other_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

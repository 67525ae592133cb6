/* bitflip_test.c - a journal with every kind of record; one bit is flipped anywhere in it; then it is
 * recovered.
 *
 * Three outcomes are right: the start is refused, or everything is as if nothing had been, or (with
 * on_corruption=continue) less is there and none of it is wrong. A message that was not written, another
 * value, another place: never. */
#include "test_kit.h"

/* What a recovery told, as text: two recoveries are equal when these are. */
static void flip_digest(struct kit *k, struct mqg_dynbuf *out)
{
    uint64_t offset = 0;
    mqg_dynbuf_reset(out);
    for (size_t i = 0; i < k->nmsg; i++)
        mqg_dynbuf_printf(out, "m %llu %llu %u\n", (unsigned long long)k->msgs[i].queue_id,
                          (unsigned long long)k->msgs[i].qseq, k->msgs[i].delivery_count);
    for (size_t i = 0; i < k->nmeta; i++)
        mqg_dynbuf_printf(out, "d %s=%s\n", k->metas[i].key, k->metas[i].value);
    for (size_t i = 0; i < k->nstream; i++)
        mqg_dynbuf_printf(out, "s %llu %llu %llu\n", (unsigned long long)k->streams[i].partition,
                          (unsigned long long)k->streams[i].b.log_start,
                          (unsigned long long)k->streams[i].b.high_watermark);
    if (kit_position(k, MQG_SLICE_LIT("group"), 9, &offset) == MQG_OK)
        mqg_dynbuf_printf(out, "p %llu\n", (unsigned long long)offset);
}

static void flip_fill(struct kit *k)
{
    struct mqg_slice rope = MQG_SLICE_LIT("a record batch, or so");
    struct mqg_store_op ops[] = {
        {.kind = MQG_OP_STREAM_NEW, .stream = {9, MQG_SLICE_LIT("topic"), 0}},
        {.kind = MQG_OP_APPEND, .append = {9, 0, 5, 1, &rope, 1}},
        {.kind = MQG_OP_APPEND, .append = {9, 5, 5, 2, &rope, 1}},
        {.kind = MQG_OP_TRIM, .trim = {9, 3}},
        {.kind = MQG_OP_POSITION, .position = {MQG_SLICE_LIT("group"), 9, 7, MQG_SLICE_NONE}},
        {.kind = MQG_OP_PRODUCER, .producer = {9, 1, 0, 1, 5, 5}},
        {.kind = MQG_OP_COUNT, .count = {1, 4, 3, 1}},
    };
    for (uint64_t i = 1; i <= 6; i++)
        assert_true(kit_wait(k, 0, kit_put(k, 0, 1 + i % 2, i, 60)));
    assert_true(kit_wait(k, 1, kit_settle(k, 1, 1, 2, 2)));
    assert_true(kit_wait(k, 0, kit_submit(k, 0, ops, MQG_COUNTOF(ops), MQG_SUBMIT_URGENT)));
    kit_meta(k, "one", "first");
    kit_meta(k, "two", "second");
    assert_true(kit_wait(k, 0, kit_meta(k, "one", NULL)));
}

static size_t flip_used(const uint8_t *seg, size_t len)
{
    struct jrn_frame f;
    size_t off, end = 0;
    for (size_t i = 0; (off = kit_frame(seg, len, i, &f)) != 0; i++)
        end = off + jrn_round_block(f.length);
    return end;
}

/* Every line of the one stands in the other. */
static bool flip_is_part(const char *part, const char *whole)
{
    char line[200];
    while (*part) {
        size_t n = strcspn(part, "\n") + 1;
        assert_true(n < sizeof line);
        memcpy(line, part, n);
        line[n] = '\0';
        if (!strstr(whole, line))
            return false;
        part += n;
    }
    return true;
}

struct flip_sums {
    size_t refused, same, less;
};

static void flip_one(struct kit *k, const char *path, uint8_t *seg, size_t len, size_t at, const char *want,
                     bool go_on, struct flip_sums *sums)
{
    struct mqg_dynbuf got;
    mqg_dynbuf_init(&got, 1 << 20);
    seg[at] ^= (uint8_t)(1u << (at % 8));
    kit_write(path, seg, len);
    enum mqg_err err = kit_try(k);
    if (err != MQG_OK) {
        assert_true(err == MQG_CORRUPT || err == MQG_UNSUPPORTED);
        sums->refused++;
    } else {
        flip_digest(k, &got);
        mqg_dynbuf_u8(&got, 0);
        bool same = strcmp((const char *)got.ptr, want) == 0;
        sums->same += same;
        sums->less += !same;
        /* Going on without some record may bring back what it settled or removed; values are still never
         * wrong. */
        if (!same && !go_on)
            fail_msg("byte %zu: recovered\n%s\ninstead of\n%s", at, (const char *)got.ptr, want);
        for (size_t i = 0; i < k->nmsg; i++)
            kit_check_body(k, &k->msgs[i]);
        kit_crash(k);
    }
    seg[at] ^= (uint8_t)(1u << (at % 8));
    mqg_dynbuf_fini(&got);
    char aside[512];
    while (kit_files(k, "quarantine") > 0) {
        kit_file(k, "quarantine", 0, aside);
        unlink(aside);
    }
    while (kit_files(k, ".seg") > 1) { /* going on begins a new segment */
        kit_file(k, ".seg", 1, aside);
        unlink(aside);
    }
}

static void flip_everywhere(const char *name, bool go_on, size_t step)
{
    struct kit k;
    char path[512];
    size_t len;
    struct mqg_dynbuf want;
    struct flip_sums sums = {0};
    kit_init(&k, name, "1MiB");
    mqg_dynbuf_init(&want, 1 << 20);
    kit_open(&k);
    flip_fill(&k);
    kit_close(&k);
    kit_file(&k, ".seg", 0, path);
    uint8_t *seg = kit_read(path, &len);
    kit_open(&k);
    flip_digest(&k, &want);
    mqg_dynbuf_u8(&want, 0);
    kit_crash(&k);
    if (go_on)
        kit_set(&k, "on_corruption=continue");
    size_t used = flip_used(seg, len);
    for (size_t at = 0; at < used; at += at < JRN_SEG_HEAD || at >= JRN_HEADER_BYTES ? step : 512)
        flip_one(&k, path, seg, len, at, (const char *)want.ptr, go_on, &sums);
    print_message("%zu refused, %zu without effect, %zu with less\n", sums.refused, sums.same, sums.less);
    assert_true(sums.refused + sums.less > 0 && sums.same > 0);
    assert_true(flip_is_part((const char *)want.ptr, (const char *)want.ptr));
    free(seg);
    mqg_dynbuf_fini(&want);
    kit_fini(&k);
}

static void flip_refuses(void **state)
{
    (void)state;
    flip_everywhere("flip", false, 11);
}

static void flip_goes_on(void **state)
{
    (void)state;
    flip_everywhere("flipgo", true, 31);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(flip_refuses), cmocka_unit_test(flip_goes_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

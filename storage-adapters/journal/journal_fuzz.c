/* journal_fuzz.c - the decoders of the journal, fed with anything.
 *
 * The input is taken three ways: as a segment header; as a frame in the use that its own head names, sums and
 * all; and as a frame whose sums nobody looks at, so that the search gets past them and into the records. */
#include "record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_record(const struct jrn_rec *rec)
{
    struct jrn_dests dests;
    struct mqg_dest d;
    struct jrn_ranges ranges;
    struct mqg_range r;
    struct jrn_manifest_row row;
    struct jrn_triple t;
    enum mqg_err err = jrn_rec_check(rec);
    (void)jrn_rec_name(rec->type);
    for (bool ok = jrn_dests_init(&dests, rec->tail); ok && jrn_dests_next(&dests, &d);) {
    }
    uint64_t last = 0;
    for (bool ok = jrn_ranges_init(&ranges, rec->main); ok && jrn_ranges_next(&ranges, &r); last = r.last)
        MQG_ASSERT(r.first <= r.last && r.first >= last);
    for (size_t i = 0; jrn_rec_manifest(rec->main, i, &row) || jrn_rec_free(rec->main, i, &t); i++) {
    }
    if (err == MQG_OK && rec->type == JRN_REC_MSG) {
        struct mqg_stored head;
        MQG_ASSERT(jrn_stored_check(rec->main, &head) && head.body_len <= rec->main.len);
    }
}

static void fuzz_walk(struct mqg_slice frame, const struct jrn_use *use, bool verify)
{
    struct jrn_walk w;
    struct jrn_rec rec;
    jrn_walk_init(&w, frame, use, verify);
    while (jrn_walk_next(&w, &rec))
        fuzz_record(&rec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jrn_use use = {.nonce = 0};
    struct jrn_seg_head head;
    struct jrn_frame f;
    struct mqg_error e;
    struct mqg_slice in = mqg_slice_of(data, size);
    (void)!jrn_seg_head_decode(in, &head, &e);
    if (size >= JRN_FRAME_HEAD) {
        use.nonce = mqg_le64(data + 8);
        memcpy(use.uuid, data + 16, 16);
        uint64_t offset = mqg_le32(data + 64) * (uint64_t)JRN_BLOCK;
        if (jrn_frame_head(in, &use, offset, &f) == MQG_OK && f.length <= size &&
            jrn_frame_check(mqg_slice_of(data, f.length), &use, &f) == MQG_OK)
            fuzz_walk(mqg_slice_of(data, f.length), &use, true);
    }
    fuzz_walk(in, &use, false);
    return 0;
}

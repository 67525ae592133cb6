/* part_thin.c - what a compaction pass leaves of a batch.
 *
 * A batch is taken apart when it is of no transaction, or of one that was committed: records go whose key has a higher offset, and
 * tombstones whose time is over. What was rolled back goes whole, unread. A marker is looked at for itself.
 *
 * What stays of a compressed batch is compressed again, by its own codec (mqg_record_packer). Where nobody can, it is written
 * plain, when it is no longer than the batch had been; else the batch stays whole, until more of it may go. */
#include "part_pass.h"

#include <mqgate/records.h>

enum {
    THIN_PLAIN_MIN = 1 << 20,
    THIN_PLAIN_MAX = 64 << 20, /* what a compressed batch may become: */
    THIN_RATIO_MAX = 128, /* times its own bytes, too, so that a file of bombs costs seconds, not hours */
};

#define THIN_BUF_MAX ((size_t)1 << 31) /* a batch */

void jrn_part_thin_init(struct part_thin *t)
{
    jrn_part_keys_init(&t->keys);
    jrn_part_txns_init(&t->txns);
    mqg_dynbuf_init(&t->plain, THIN_PLAIN_MAX);
    mqg_dynbuf_init(&t->packed, THIN_BUF_MAX);
}

void jrn_part_thin_fini(struct part_thin *t)
{
    mqg_dynbuf_fini(&t->plain);
    mqg_dynbuf_fini(&t->packed);
    jrn_part_txns_fini(&t->txns);
    jrn_part_keys_fini(&t->keys);
}

void jrn_part_stay_init(struct part_stay *st)
{
    mqg_dynbuf_init(&st->out, THIN_BUF_MAX);
}

void jrn_part_stay_fini(struct part_stay *st)
{
    mqg_dynbuf_fini(&st->out);
}

bool jrn_part_thin_records(struct part_thin *t, const struct part_batch *b, struct mqg_slice whole,
                           struct mqg_slice *in)
{
    struct mqg_batch head;
    *in = mqg_slice_of(whole.ptr + PART_BATCH_HEAD, whole.len - PART_BATCH_HEAD);
    if ((b->attributes & PART_BATCH_CODEC) == 0)
        return true;
    size_t most = THIN_PLAIN_MIN + in->len * THIN_RATIO_MAX;
    t->plain.max = most < THIN_PLAIN_MAX ? most : THIN_PLAIN_MAX;
    return mqg_batch_read(whole, &head) == MQG_OK && mqg_batch_plain(&head, &t->plain, in) == MQG_OK;
}

static bool thin_drops(const struct part_thin *t, const struct part_record *r)
{
    if (!r->has_key)
        return false;
    if (jrn_part_keys_over(&t->keys, r->key, r->offset))
        return true;
    return !r->has_value && !t->unseen && r->offset < t->upto && r->time_ms + t->keep_ms < t->now_ms;
}

/* The records behind the head in out, by the codec that the batch had, or plain with *codec 0. false: plain they are longer than
 * `was`, and nobody can compress them. */
static bool thin_pack(struct part_thin *t, struct mqg_dynbuf *out, size_t was, uint16_t *codec)
{
    struct mqg_slice plain = mqg_slice_of(out->ptr + PART_BATCH_HEAD, out->len - PART_BATCH_HEAD);
    mqg_dynbuf_reset(&t->packed);
    if (*codec != 0 && plain.len > 0 && mqg_records_pack(*codec, plain, &t->packed) == MQG_OK &&
        t->packed.len < plain.len) {
        out->len = PART_BATCH_HEAD;
        return mqg_dynbuf_slice(out, mqg_dynbuf_view(&t->packed));
    }
    *codec = 0;
    return out->len <= was;
}

/* The batch with the records that stay in out; *b as it is then. false: no record was to go, or records do not fit it and are
 * nobody's to drop, or what stays would be longer. */
static bool thin_some(struct part_thin *t, struct part_batch *b, struct mqg_slice whole, struct mqg_slice in,
                      struct mqg_dynbuf *out)
{
    struct part_record r;
    uint32_t kept = 0, seen = 0;
    uint64_t latest = 0;
    bool bad = false;
    mqg_dynbuf_put(out, whole.ptr, PART_BATCH_HEAD);
    for (; jrn_part_record_take(&in, b, &r, &bad); seen++) {
        if (thin_drops(t, &r))
            continue;
        mqg_dynbuf_slice(out, r.whole);
        latest = r.time_ms > latest ? r.time_ms : latest;
        kept++;
    }
    uint16_t codec = b->attributes & PART_BATCH_CODEC;
    bool stays = bad || seen != b->count || (kept < seen && !thin_pack(t, out, whole.len, &codec));
    t->unseen = t->unseen || stays;
    if (stays || kept == seen)
        return false;
    t->dropped += seen - kept;
    b->len = (uint32_t)out->len;
    b->count = kept;
    b->attributes = (uint16_t)((b->attributes & ~PART_BATCH_CODEC) | codec);
    if (!(b->attributes & PART_BATCH_LOG_TIME))
        b->max_time_ms = latest;
    jrn_part_batch_rewrite(out->ptr, b);
    return true;
}

/* A marker: it gets a horizon when its transaction has no batches left, and goes behind that. *b is changed with it; false: it
 * goes. */
static bool thin_marker(struct part_thin *t, struct part_batch *b, struct mqg_slice whole,
                        struct mqg_dynbuf *out, bool *changed)
{
    if (!jrn_part_txns_bare(&t->txns, b))
        return true;
    if (b->attributes & PART_BATCH_HORIZON) {
        *changed = b->base_time_ms < t->now_ms;
        t->dropped += *changed;
        return !*changed;
    }
    *changed = jrn_part_batch_horizon(out, whole, b, t->now_ms + t->keep_ms);
    return true;
}

/* A batch with keys; false: nothing of it stays. */
static bool thin_keyed(struct part_thin *t, struct part_batch *b, struct mqg_slice whole,
                       struct mqg_dynbuf *out, bool looks, bool *changed)
{
    struct mqg_slice in;
    looks = looks && jrn_part_thin_records(t, b, whole, &in);
    *changed = looks && thin_some(t, b, whole, in, out);
    t->unseen = t->unseen || !looks;
    return !*changed || b->count > 0;
}

static bool thin_fated(struct part_thin *t, struct part_batch *b, struct mqg_slice whole, enum part_fate fate,
                       struct mqg_dynbuf *out, bool *changed)
{
    switch (fate) {
    case PART_FATE_CONTROL: return true;
    case PART_FATE_MARKER: return thin_marker(t, b, whole, out, changed);
    case PART_FATE_ABORTED:
        t->dropped += b->count;
        *changed = true;
        return false;
    case PART_FATE_PLAIN:
    case PART_FATE_COMMITTED:
    case PART_FATE_OPEN: break;
    }
    bool stays = thin_keyed(t, b, whole, out, fate != PART_FATE_OPEN, changed);
    if (stays && fate != PART_FATE_PLAIN)
        jrn_part_txns_stays(&t->txns, b);
    return stays;
}

bool jrn_part_thin_batch(struct part_thin *t, struct mqg_slice whole, struct part_stay *st)
{
    enum part_fate fate = jrn_part_txns_fate(&t->txns, &st->b, whole);
    st->ours = fate != PART_FATE_OPEN && fate != PART_FATE_CONTROL;
    st->changed = false;
    mqg_dynbuf_reset(&st->out);
    if (st->b.base < t->upto && !thin_fated(t, &st->b, whole, fate, &st->out, &st->changed))
        return false;
    if (!st->changed)
        mqg_dynbuf_reset(&st->out);
    return st->changed || mqg_dynbuf_slice(&st->out, whole);
}

/* check.c - the rules of the ledger (ledger.h): what a recovery may tell after a cut, and what it must.
 *
 *   a message      confirmed and nobody began to settle it: there. Settled and that confirmed: not there. Never
 *                  submitted, or lost by an earlier recovery: not there. Once, in order, with its bytes; its delivery
 *                  count between the last confirmed and the last submitted one.
 *   a submission   whole or not at all: its messages in all their queues, its settles, together.
 *   a definition   the last confirmed value or one that was submitted later.
 *   a partition    its batches verbatim, without a gap, up to a high watermark that includes every confirmed one;
 *                  its start where a confirmed trim put it or a later one would, and never before where somebody saw it.
 *   kept by bytes  and by time: its start may lie further, but what is kept is never less than was asked for.
 *   compacted      gaps may be, but every record that is there is the one that was written there; of each key the last one
 *                  is there, or it is a tombstone, and then nothing of its key is. What was rolled back may be gone, and counts
 *                  for nothing; what is open is there, and nothing behind it counts. A marker is there while a record of its
 *                  transaction is. */
#include "ledger.h"

#include "part_batch.h"

#include <stdio.h>
#include <stdlib.h>

struct check {
    struct ledger *l;
    const struct led_cut *cut;
    struct told *t;
    struct mqg_dynbuf *out;
    size_t broken;
    uint8_t *units[CI_LANES]; /* per ticket: seen applied (1), seen not applied (2) */
};

static const char *const check_words[] = {"never submitted", "submitted", "confirmed"};

static void check_broken(struct check *c, const char *fmt, ...) MQG_PRINTF(2, 3);
static void check_broken(struct check *c, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c->broken++ < 20)
        mqg_dynbuf_printf(c->out, "    %s\n", text);
}

/* "confirmed (lane 1 ticket 7)" */
static const char *check_when(const struct check *c, struct led_when when, char out[64])
{
    const char *word = check_words[ledger_status(when, c->cut)];
    if (when.ticket == 0 || when.lane == LED_FACT)
        snprintf(out, 64, "%s", when.ticket ? "recovered before" : "never");
    else
        snprintf(out, 64, "%s (lane %u ticket %u)", word, when.lane, when.ticket);
    return out;
}

static void check_dest_broken(struct check *c, const char *rule, size_t queue, size_t i)
{
    const struct led_dest *d = &c->l->queues[queue].at[i];
    char put[64], settle[64];
    check_broken(c, "%s: queue %zu message %zu: put %s, settle %s%s", rule, queue, i + 1,
                 check_when(c, d->put, put), check_when(c, d->settle, settle),
                 d->gone ? ", lost by an earlier recovery" : "");
}

/* ---- messages --------------------------------------------------------------------------------------------------- */

static void check_unit(struct check *c, struct led_when when, bool applied)
{
    if (when.ticket && when.lane != LED_FACT && ledger_status(when, c->cut) != LED_NEVER)
        c->units[when.lane][when.ticket] |= applied ? 1 : 2;
}

/* What the presence of the message says about the submissions that made and settled it. */
static void check_units_of(struct check *c, const struct led_dest *d)
{
    enum led_status put = ledger_status(d->put, c->cut), settle = ledger_status(d->settle, c->cut);
    if (d->seen) {
        check_unit(c, d->put, true);
        check_unit(c, d->settle, false);
    } else if (settle == LED_NEVER) {
        check_unit(c, d->put, false);
    } else if (put == LED_SURE) {
        check_unit(c, d->settle, true);
    }
}

static void check_count(struct check *c, size_t queue, size_t i)
{
    const struct led_dest *d = &c->l->queues[queue].at[i];
    uint32_t least = 0, most = 0;
    for (uint32_t k = 0; k < d->ncount; k++) {
        enum led_status st = ledger_status(d->counts[k].when, c->cut);
        if (st == LED_SURE && d->counts[k].count > least)
            least = d->counts[k].count;
        if (st != LED_NEVER && d->counts[k].count > most)
            most = d->counts[k].count;
    }
    if (c->l->mode == LED_GO_ON)
        least = 0;
    if (d->seen->delivery_count < least || d->seen->delivery_count > most)
        check_broken(c, "a delivery count of %u, not %u to %u: queue %zu message %zu",
                     d->seen->delivery_count, least, most, queue, i + 1);
}

static void check_dest(struct check *c, size_t queue, size_t i)
{
    struct led_dest *d = &c->l->queues[queue].at[i];
    enum led_status put = ledger_status(d->put, c->cut), settle = ledger_status(d->settle, c->cut);
    bool gapless = c->l->mode != LED_GO_ON;
    if (put == LED_SURE && settle == LED_NEVER && !d->seen && gapless)
        check_dest_broken(c, "a confirmed message is missing", queue, i);
    if (settle == LED_SURE && d->seen && gapless)
        check_dest_broken(c, "a settled message is back", queue, i);
    if (put == LED_NEVER && d->seen)
        check_dest_broken(c, d->gone ? "a lost message is back" : "a message from the future", queue, i);
    check_units_of(c, d);
    if (!d->seen)
        return;
    check_count(c, queue, i);
    if (d->seen->err != MQG_OK && c->l->mode != LED_POWER_CUT)
        c->l->errors++;
    else if (d->seen->err != MQG_OK)
        check_dest_broken(c, mqg_err_name(d->seen->err), queue, i);
    else if (d->seen->hash != d->hash)
        check_dest_broken(c, "wrong bytes", queue, i);
}

/* Notes which messages were told; finds strangers, doubles and disorder. */
static void check_told(struct check *c)
{
    uint64_t last_queue = UINT64_MAX, last = 0;
    for (size_t q = 0; q < LED_QUEUES; q++)
        for (size_t i = 0; i < c->l->queues[q].n; i++)
            c->l->queues[q].at[i].seen = NULL;
    for (size_t i = 0; i < c->t->nmsg; i++) {
        const struct told_msg *m = &c->t->msgs[i];
        uint64_t at = ledger_index(m->qseq);
        if (m->queue_id >= LED_QUEUES || at == 0 || at > c->l->queues[m->queue_id].n) {
            check_broken(c, "a stranger: queue %llu qseq %#llx", (unsigned long long)m->queue_id,
                         (unsigned long long)m->qseq);
            continue;
        }
        struct led_dest *d = &c->l->queues[m->queue_id].at[at - 1];
        if (d->seen)
            check_dest_broken(c, "a message is there twice", m->queue_id, at - 1);
        if (m->queue_id == last_queue && m->qseq <= last)
            check_dest_broken(c, "out of order", m->queue_id, at - 1);
        d->seen = m;
        last_queue = m->queue_id;
        last = m->qseq;
    }
}

static void check_messages(struct check *c)
{
    check_told(c);
    for (size_t q = 0; q < LED_QUEUES; q++)
        for (size_t i = 0; i < c->l->queues[q].n; i++)
            check_dest(c, q, i);
    for (uint32_t lane = 0; lane < CI_LANES; lane++)
        for (uint32_t k = 1; k <= c->l->tickets[lane]; k++)
            if (c->units[lane][k] == 3 && c->l->mode != LED_GO_ON)
                check_broken(c, "a submission came back in part: lane %u ticket %u", lane, k);
}

/* ---- words ------------------------------------------------------------------------------------------------------ */

/* Is it the last sure word or a later one that was begun? */
static bool check_word(const struct check *c, const struct led_words *w, uint64_t value)
{
    size_t sure = 0;
    for (size_t i = 0; i < w->n; i++)
        if (ledger_status(w->at[i].when, c->cut) == LED_SURE && c->l->mode != LED_GO_ON)
            sure = i;
    for (size_t i = sure; i < w->n; i++)
        if (w->at[i].value == value && ledger_status(w->at[i].when, c->cut) != LED_NEVER)
            return true;
    return false;
}

static void check_metas(struct check *c)
{
    uint64_t values[LED_KEYS] = {0};
    for (size_t i = 0; i < c->t->nmeta; i++) {
        unsigned key;
        if (sscanf(c->t->metas[i].key, "key-%u", &key) != 1 || key >= LED_KEYS || values[key])
            check_broken(c, "a definition that is none, or twice: %s", c->t->metas[i].key);
        else
            values[key] = c->t->metas[i].value;
    }
    for (uint32_t k = 0; k < LED_KEYS; k++)
        if (!check_word(c, &c->l->keys[k], values[k]))
            check_broken(c, "a definition is not the last one: key %u is %lld", k, (long long)values[k]);
}

/* ---- partitions ------------------------------------------------------------------------------------------------- */

/* The bytes that nobody rewrites: all but base offset and leader epoch. */
static uint64_t check_batch_hash(struct mqg_slice b)
{
    return told_hash(mqg_slice_of(b.ptr + 8, 4), mqg_slice_of(b.ptr + 16, b.len - 16));
}

static const struct led_batch *check_batch_at(const struct led_part *p, uint64_t base)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->at[i].base == base)
            return &p->at[i];
    return NULL;
}

/* A marker's record is written anew when it gets its horizon. */
static bool check_record(const struct led_record *is, const struct part_batch *b, const struct part_record *r)
{
    bool control = b->attributes & PART_BATCH_CONTROL;
    uint64_t producer = b->attributes & PART_BATCH_TXN ? b->producer : 0;
    if (control != is->marker || producer != is->producer)
        return false;
    return control ? told_hash(MQG_SLICE_NONE, r->key) == is->key
                   : told_hash(MQG_SLICE_NONE, r->whole) == is->digest;
}

/* Finds each record of the batch in the ledger; false when one is none of ours. */
static bool check_records(struct led_part *p, struct mqg_slice data, uint64_t *next)
{
    struct part_batch b;
    struct part_record r;
    struct mqg_slice whole = data;
    bool bad = false;
    size_t at = 0;
    if (!jrn_part_batch_take(&data, &b) || b.end <= *next)
        return false;
    struct mqg_slice in = mqg_slice_of(whole.ptr + PART_BATCH_HEAD, b.len - PART_BATCH_HEAD);
    while (jrn_part_record_take(&in, &b, &r, &bad)) {
        while (at < p->nrec && p->recs[at].offset < r.offset)
            at++;
        if (at == p->nrec || p->recs[at].offset != r.offset || !check_record(&p->recs[at], &b, &r))
            return false;
        p->recs[at].seen = true;
    }
    *next = b.end;
    return !bad;
}

/* The same for a partition that is compacted: gaps may be. */
static bool check_compacted(struct check *c, struct led_part *p, struct mqg_slice data, uint64_t *next)
{
    while (data.len > 0) {
        uint64_t base = data.len >= PART_BATCH_HEAD ? mqg_be64(data.ptr) : 0;
        size_t len = data.len >= PART_BATCH_HEAD ? (size_t)mqg_be32(data.ptr + 8) + 12 : 0;
        if (len == 0 || len > data.len || !check_records(p, mqg_slice_of(data.ptr, len), next)) {
            check_broken(c, "partition %llu: records that nobody wrote at offset %llu (a batch says %llu)",
                         (unsigned long long)p->id, (unsigned long long)*next, (unsigned long long)base);
            return false;
        }
        data = mqg_slice_of(data.ptr + len, data.len - len);
    }
    return true;
}

static bool check_has_key(const struct led_record *r, uint64_t key)
{
    return !r->marker && r->fate == LED_COMMITTED && r->has_key && r->key == key;
}

/* Is the record a key's last one below `end`? */
static bool check_is_last(const struct led_part *p, size_t i, uint64_t end)
{
    for (size_t k = i + 1; k < p->nrec && p->recs[k].offset < end; k++)
        if (check_has_key(&p->recs[k], p->recs[i].key))
            return false;
    return true;
}

/* Before record i. */
static bool check_key_is_there(const struct led_part *p, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (p->recs[k].seen && check_has_key(&p->recs[k], p->recs[i].key))
            return true;
    return false;
}

/* May the record be gone? stable: where the first open transaction begins. */
static const char *check_gone(const struct led_part *p, size_t i, uint64_t stable)
{
    const struct led_record *r = &p->recs[i];
    if (r->fate == LED_OPEN)
        return "a record of an open transaction";
    if (r->fate == LED_ABORTED || (r->has_key && !check_is_last(p, i, stable)))
        return NULL;
    bool goes = r->has_key && !r->has_value; /* the load's times are over */
    return !goes                      ? "the last record of a key"
           : check_key_is_there(p, i) ? "a tombstone, but not all before it,"
                                      : NULL;
}

/* Of a marker that is gone: is a record of its transaction there? */
static const char *check_marker_gone(const struct led_part *p, size_t i)
{
    for (size_t k = i; k-- > 0 && !(p->recs[k].marker && p->recs[k].producer == p->recs[i].producer);)
        if (p->recs[k].seen && p->recs[k].producer == p->recs[i].producer)
            return "a marker, but not all of its transaction,";
    return NULL;
}

/* Of each key the last record; records without a key. */
static void check_kept(struct check *c, struct led_part *p, const struct mqg_stream_bounds *b)
{
    uint64_t stable = ledger_fates(p, b->log_start, b->high_watermark);
    for (size_t i = 0; i < p->nrec; i++) {
        const struct led_record *r = &p->recs[i];
        if (r->offset < b->log_start || r->offset >= b->high_watermark || r->seen)
            continue;
        const char *what = r->marker ? check_marker_gone(p, i) : check_gone(p, i, stable);
        if (what)
            check_broken(c, "partition %llu: compaction took %s at offset %llu", (unsigned long long)p->id,
                         what, (unsigned long long)r->offset);
    }
}

/* Checks the batches in data; false when one is wrong. *next: the offset after them. */
static bool check_batches(struct check *c, struct led_part *p, struct mqg_slice data, uint64_t *next)
{
    if (p->keep == LED_KEEP_LAST)
        return check_compacted(c, p, data, next);
    while (data.len > 0) {
        uint64_t base = data.len >= 61 ? mqg_be64(data.ptr) : 0;
        size_t len = data.len >= 61 ? (size_t)mqg_be32(data.ptr + 8) + 12 : 0;
        const struct led_batch *b = check_batch_at(p, base);
        bool good = b && len == b->len && len <= data.len && (base <= *next || c->l->mode == LED_GO_ON) &&
                    base + b->count > *next && check_batch_hash(mqg_slice_of(data.ptr, len)) == b->hash;
        if (!good) {
            check_broken(c, "partition %llu: wrong bytes at offset %llu (a batch says %llu, %zu bytes)",
                         (unsigned long long)p->id, (unsigned long long)*next, (unsigned long long)base, len);
            return false;
        }
        *next = b->base + b->count;
        data = mqg_slice_of(data.ptr + len, data.len - len);
    }
    return true;
}

static void check_part_bytes(struct check *c, struct led_part *p, const struct mqg_stream_bounds *b)
{
    uint64_t next = b->log_start;
    bool good = true;
    for (size_t i = 0; i < p->nrec; i++)
        p->recs[i].seen = false;
    while (next < b->high_watermark && good) {
        struct mqg_stream_read r;
        uint64_t before = next;
        enum mqg_err err = told_read(c->t, p->id, next, &r);
        if (err != MQG_OK && c->l->mode != LED_POWER_CUT) {
            c->l->errors++;
            good = false;
        } else if (err == MQG_OK && !r.data && p->keep == LED_KEEP_LAST && r.next_offset > next) {
            next = r.next_offset; /* a gap up to there */
        } else if (err != MQG_OK || !r.data) {
            check_broken(c, "partition %llu: offset %llu below the high watermark %llu cannot be read: %s",
                         (unsigned long long)p->id, (unsigned long long)next,
                         (unsigned long long)b->high_watermark, mqg_err_name(err));
            good = false;
        } else {
            good = check_batches(c, p, mqg_slice_of(r.data->data, r.data->len), &next) && next > before;
        }
        if (r.data)
            mqg_buf_unref(&r.data);
    }
    if (good && p->keep == LED_KEEP_LAST && c->l->mode != LED_GO_ON)
        check_kept(c, p, b);
}

/* May the store itself have moved the log's start from `from` to `to`? */
static bool check_retention(const struct check *c, const struct led_part *p, uint64_t from, uint64_t to)
{
    uint64_t kept = 0;
    bool young = false, boundary = to == p->end;
    for (size_t i = 0; i < p->n; i++) {
        const struct led_batch *b = &p->at[i];
        if (ledger_status(b->when, c->cut) == LED_NEVER)
            continue;
        boundary = boundary || b->base == to || b->base + b->count == to;
        if (b->base >= to)
            kept += b->len;
        else if (b->base >= from)
            young = young || !b->old;
    }
    return boundary &&
           ((p->keep == LED_KEEP_BYTES && kept >= LED_RETENTION) || (p->keep == LED_KEEP_YOUNG && !young));
}

static void check_bounds(struct check *c, const struct led_part *p, const struct mqg_stream_bounds *b)
{
    uint64_t sure = p->n ? 0 : p->end, most = p->n ? 0 : p->end;
    bool boundary = b->high_watermark == p->start || (p->n == 0 && b->high_watermark == p->end);
    bool run = true;
    for (size_t i = 0; i < p->n; i++) {
        enum led_status st = ledger_status(p->at[i].when, c->cut);
        uint64_t end = p->at[i].base + p->at[i].count;
        run = run && st == LED_SURE;
        if (run)
            sure = end;
        if (st != LED_NEVER)
            most = end;
        boundary = boundary || end == b->high_watermark;
    }
    if (c->l->mode == LED_GO_ON)
        sure = 0;
    if (b->high_watermark < sure || b->high_watermark > most || !boundary)
        check_broken(c, "partition %llu: high watermark %llu, not %llu to %llu%s", (unsigned long long)p->id,
                     (unsigned long long)b->high_watermark, (unsigned long long)sure,
                     (unsigned long long)most, boundary ? "" : ", within a batch");
    uint64_t first = p->start, last = p->start;
    for (size_t i = 0; i < p->trims.n; i++) {
        enum led_status st = ledger_status(p->trims.at[i].when, c->cut);
        if (st == LED_SURE && p->trims.at[i].value > first)
            first = p->trims.at[i].value;
        if (p->trims.at[i].when.lane != CI_SEEN && st != LED_NEVER && p->trims.at[i].value > last)
            last = p->trims.at[i].value;
    }
    if (c->l->mode == LED_GO_ON) /* what was lost lies below */
        first = 0, last = most;
    bool cleaned = b->log_start > last && b->log_start <= b->high_watermark &&
                   check_retention(c, p, last, b->log_start);
    if (b->log_start < first || (b->log_start > last && !cleaned))
        check_broken(c, "partition %llu: log start %llu, not %llu to %llu", (unsigned long long)p->id,
                     (unsigned long long)b->log_start, (unsigned long long)first, (unsigned long long)last);
}

static void check_positions(struct check *c, const struct led_part *p)
{
    for (uint32_t g = 0; g < LED_GROUPS; g++) {
        uint64_t position = told_position(c->t, g, p->id);
        if (!check_word(c, &p->positions[g], position))
            check_broken(c, "partition %llu: position %lld of group %u is not the last one",
                         (unsigned long long)p->id, (long long)position - 1, g);
    }
}

static void check_part(struct check *c, struct led_part *p)
{
    enum led_status made = ledger_status(p->made, c->cut), gone = ledger_status(p->gone, c->cut);
    const struct told_part *found = NULL;
    for (size_t i = 0; i < c->t->npart; i++) {
        if (c->t->parts[i].id != p->id)
            continue;
        if (found)
            check_broken(c, "partition %llu is told twice", (unsigned long long)p->id);
        found = &c->t->parts[i];
    }
    char when[64], end[64];
    bool exact = c->l->mode != LED_GO_ON;
    bool missing = made == LED_SURE && gone == LED_NEVER && !found && exact;
    bool back = found && gone == LED_SURE && exact;
    if (missing || back || (found && made == LED_NEVER))
        check_broken(c, "partition %llu is %sthere: made %s, deleted %s", (unsigned long long)p->id,
                     found ? "" : "not ", check_when(c, p->made, when), check_when(c, p->gone, end));
    if (!found)
        return;
    check_bounds(c, p, &found->b);
    check_part_bytes(c, p, &found->b);
    if (made == LED_SURE && gone == LED_NEVER && c->l->mode != LED_GO_ON)
        check_positions(c, p);
}

size_t ledger_check(struct ledger *l, const struct led_cut *cut, struct told *t, struct mqg_dynbuf *out)
{
    struct check c = {.l = l, .cut = cut, .t = t, .out = out};
    for (uint32_t lane = 0; lane < CI_LANES; lane++)
        c.units[lane] = mqg_xcalloc(l->tickets[lane] + 1, 1);
    check_messages(&c);
    check_metas(&c);
    for (size_t i = 0; i < l->npart; i++)
        check_part(&c, &l->parts[i]);
    for (uint32_t lane = 0; lane < CI_LANES; lane++)
        free(c.units[lane]);
    return c.broken;
}

/* work.c - see work.h.
 *
 * One thread plays all lanes, and mostly does not wait, so that the committer, the keeper and the lanes interleave as
 * they please. Queue 0 is slow: it gets messages now and then and hardly ever settles one, so that nearly dead segments
 * stand between dead ones. Entries are forgotten and asked back, as a long queue's are; transient messages are put aside and
 * brought back; partitions are kept for ever, by bytes, by time, or by key. What the running store answers is judged at once:
 * a forgotten entry comes back once, what was put aside with its bytes. Forged bodies hold frames that are right in everything but the nonce, which they take from
 * an earlier use of some segment: at every 512-byte bound of the place where they come to stand. */
#include "work.h"

#include "part.h"

#include "../../storage-adapters/conformance/batch.h"
#include "../../storage-adapters/conformance/held.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    WORK_OPS = 16,
    WORK_DESTS = 64,
    WORK_BACKLOG = 10, /* of a quick queue, before its oldest are settled */
    WORK_FORGET = 24,  /* entries handed over at a time */
    WORK_ASIDE = 12,   /* transient messages put aside at a time */
    WORK_BATCHES = 6,  /* appended at a time */
    WORK_CLEAN_MS = 5, /* between two looks at retention and compaction */
};

struct work {
    struct ledger *l;
    struct told *t;
    uint64_t rng, step;
    size_t heads[LED_QUEUES]; /* everything before is settled or gone */
    struct work_use {
        uint64_t seq, nonce;
    } seen, before; /* the tail's use when it was last looked at; the one before that */
    /* the submission that is being put together */
    struct led_when when;
    struct mqg_store_op ops[WORK_OPS];
    struct mqg_dest dests[WORK_OPS][WORK_DESTS];
    struct mqg_range ranges[WORK_OPS];
    struct mqg_msg *msgs[WORK_OPS];
    struct mqg_slice ropes[WORK_OPS];
    struct mqg_dynbuf batches[WORK_OPS];
    struct held *held; /* until the end */
    struct mqg_extent *given[WORK_DESTS * 2];
    char texts[WORK_OPS][4096];
    struct mqg_extent *aside; /* what was put aside last, so many messages of it */
    uint32_t naside;
    size_t nop, nmsg, ngiven;
};

struct work_counts work_counts;

static uint64_t work_random(struct work *w, uint64_t below)
{
    return disk_random(&w->rng) % below;
}

/* ---- submissions ------------------------------------------------------------------------------------------------ */

static void work_begin(struct work *w, uint32_t lane)
{
    w->when = (struct led_when){lane, w->l->tickets[lane] + 1};
    w->nop = w->nmsg = w->ngiven = 0;
}

static struct mqg_store_op *work_op(struct work *w, enum mqg_store_op_kind kind)
{
    MQG_ASSERT(w->nop < WORK_OPS);
    w->ops[w->nop] = (struct mqg_store_op){.kind = kind};
    return &w->ops[w->nop++];
}

static void work_submit(struct work *w)
{
    if (w->nop == 0)
        return;
    uint32_t lane = w->when.lane, ticket = ++w->l->tickets[lane];
    unsigned flags = work_random(w, 8) ? MQG_SUBMIT_URGENT : 0;
    disk_mark(w->t->disk, CI_BEGAN | (uint64_t)lane << 32 | ticket);
    enum mqg_err err = jrn_ops.submit(w->t->s, lane, held_ops(&w->held, w->ops, w->nop), w->nop, ticket,
                                      flags);
    MQG_ASSERT(err == MQG_OK);
    for (size_t i = 0; i < w->nmsg; i++)
        mqg_msg_unref(&w->msgs[i]);
    for (size_t i = 0; i < w->ngiven; i++)
        mqg_extent_give(w->given[i], 1);
}

static bool work_wait(struct work *w)
{
    for (uint32_t lane = 0; lane < CI_LANES; lane++) {
        if (w->l->tickets[lane] == 0)
            continue;
        work_begin(w, lane); /* somebody waits: what may ride along must not take its time */
        struct mqg_store_op *op = work_op(w, MQG_OP_META);
        op->meta.key = mqg_slice_str(ledger_key(LED_KEYS - CI_LANES + lane, w->texts[0]));
        op->meta.value = ledger_value(w->l->next_id, w->texts[1]);
        ledger_word(&w->l->keys[LED_KEYS - CI_LANES + lane], w->when, w->l->next_id++);
        uint32_t ticket = ++w->l->tickets[lane];
        disk_mark(w->t->disk, CI_BEGAN | (uint64_t)lane << 32 | ticket);
        if (jrn_ops.submit(w->t->s, lane, w->ops, w->nop, ticket, MQG_SUBMIT_URGENT) != MQG_OK)
            return false;
    }
    w->nop = 0;
    for (uint32_t lane = 0; lane < CI_LANES; lane++)
        if (!told_wait(w->t, lane, w->l->tickets[lane]))
            return false;
    return true;
}

/* ---- messages --------------------------------------------------------------------------------------------------- */

static void work_fill(struct work *w, uint8_t *body, size_t n)
{
    uint64_t r = work_random(w, UINT64_MAX);
    for (size_t i = 0; i < n; i++)
        body[i] = (uint8_t)(r >> (i % 8 * 8) ^ i);
}

static struct mqg_msg *work_msg(struct work *w, size_t bytes)
{
    struct mqg_msg_parts p = {.proto = MQG_PROTO_AMQP091,
                              .flags = MQG_MSG_PERSISTENT,
                              .key_sep = '.',
                              .key = MQG_SLICE_LIT("some.key"),
                              .body_len = (uint32_t)bytes};
    struct mqg_msg *m = mqg_msg_new(&p);
    MQG_ASSERT(m != NULL);
    work_fill(w, mqg_msg_body_mut(m), bytes);
    return m;
}

static uint32_t work_queue(struct work *w)
{
    bool slow = w->step / 60 % 4 == 0;
    return slow && work_random(w, 6) == 0 ? 0 : 1 + (uint32_t)work_random(w, LED_QUEUES - 1);
}

/* Puts the message into n queues: all from `queue` on when n > 1. */
static void work_put(struct work *w, struct mqg_msg *m, uint32_t queue, uint32_t n)
{
    struct mqg_dest *dests = w->dests[w->nop];
    struct mqg_store_op *op = work_op(w, MQG_OP_MSG);
    m->extent = jrn_ops.extent_open(w->t->s, w->when.lane);
    mqg_extent_take(m->extent, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t q = (queue + i) % LED_QUEUES;
        struct led_dest *d = ledger_dest(w->l, q, &dests[i].qseq);
        dests[i].queue_id = q;
        d->put = w->when;
        d->extent = m->extent;
        d->hash = told_hash(mqg_msg_key(m), mqg_msg_body(m));
    }
    op->msg.msg = m;
    op->msg.dests = dests;
    op->msg.ndest = n;
    w->msgs[w->nmsg++] = m;
}

static void work_put_any(struct work *w)
{
    size_t bytes = work_random(w, 8) ? work_random(w, 1500) : work_random(w, 9000);
    uint32_t n = work_random(w, 5) ? 1 : 2 + (uint32_t)work_random(w, LED_QUEUES - 3);
    work_put(w, work_msg(w, bytes), n == 1 ? work_queue(w) : 1, n);
}

static bool work_is_live(const struct led_dest *d)
{
    return d->put.ticket && !d->settle.ticket && !d->gone;
}

/* Live, and its entry is ours. */
static bool work_is_open(const struct led_dest *d)
{
    return work_is_live(d) && !d->forgotten;
}

/* The oldest message of the queue that nobody settled, from `from` on; SIZE_MAX: none. */
static size_t work_oldest(struct work *w, uint32_t queue, size_t from)
{
    const struct led_queue *q = &w->l->queues[queue];
    while (w->heads[queue] < q->n && !work_is_live(&q->at[w->heads[queue]]))
        w->heads[queue]++;
    for (size_t i = from > w->heads[queue] ? from : w->heads[queue]; i < q->n; i++)
        if (work_is_open(&q->at[i]))
            return i;
    return SIZE_MAX;
}

static uint64_t work_qseq(const struct work *w, uint32_t queue, size_t i)
{
    return w->l->queues[queue].at[i].epoch << 48 | (i + 1);
}

/* Settles up to `most` neighbours of the queue, from its i-th message on. */
static void work_settle(struct work *w, uint32_t queue, size_t i, size_t most)
{
    struct led_queue *q = &w->l->queues[queue];
    struct mqg_range *range = &w->ranges[w->nop];
    struct mqg_store_op *op = work_op(w, MQG_OP_SETTLE);
    *range = (struct mqg_range){work_qseq(w, queue, i), 0};
    for (size_t n = 0; n < most && i < q->n && work_is_open(&q->at[i]); n++, i++) {
        if (q->at[i].epoch != range->first >> 48)
            break;
        range->last = work_qseq(w, queue, i);
        q->at[i].settle = w->when;
        w->given[w->ngiven++] = q->at[i].extent;
    }
    op->settle.queue_id = queue;
    op->settle.ranges = range;
    op->settle.n = 1;
}

static void work_settle_any(struct work *w)
{
    for (int tries = 0; tries < 3; tries++) {
        uint32_t queue = work_random(w, 60) ? 1 + (uint32_t)work_random(w, LED_QUEUES - 1) : 0;
        const struct led_queue *q = &w->l->queues[queue];
        size_t from = q->n && work_random(w, 3) == 0 ? work_random(w, q->n) : 0;
        size_t i = work_oldest(w, queue, from);
        if (i == SIZE_MAX)
            continue;
        work_settle(w, queue, i, 1 + work_random(w, 10));
        return;
    }
}

/* ---- forgetting ------------------------------------------------------------------------------------------------- */

static bool work_confirmed(const struct work *w, struct led_when when)
{
    return when.lane == LED_FACT || atomic_load(&w->t->done[when.lane]) >= when.ticket;
}

/* What the running store did wrong. */
static bool work_wrong(struct work *w, const char *what)
{
    if (w->t->faulty || atomic_load(&w->t->failed))
        return true;
    mqg_error_set(&w->t->error, MQG_CORRUPT, 0, "%s", what);
    return false;
}

/* Hands entries of a queue over, oldest first. */
static void work_forget(struct work *w)
{
    struct mqg_index_entry e[WORK_FORGET];
    struct led_dest *of[WORK_FORGET];
    uint32_t queue = (uint32_t)work_random(w, LED_QUEUES);
    struct led_queue *q = &w->l->queues[queue];
    size_t n = 0;
    for (size_t i = w->heads[queue]; i < q->n && n < WORK_FORGET; i++) {
        struct led_dest *d = &q->at[i];
        if (!work_is_open(d) || d->ncount || !work_confirmed(w, d->put))
            continue;
        e[n] = (struct mqg_index_entry){.qseq = work_qseq(w, queue, i), .extent = d->extent};
        of[n++] = d;
    }
    size_t took = n ? jrn_ops.index_forget(w->t->s, queue, e, n) : 0;
    for (size_t i = 0; i < took; i++) {
        of[i]->forgotten = true;
        of[i]->extent = NULL;
    }
    work_counts.forgotten += took;
}

/* The answer's entries are ours again; false: one that was not forgotten. */
static bool work_recalled(struct work *w, uint32_t queue, const struct mqg_index_entry *e, uint32_t n)
{
    struct led_queue *q = &w->l->queues[queue];
    for (uint32_t i = 0; i < n; i++) {
        uint64_t at = ledger_index(e[i].qseq);
        struct led_dest *d = at > 0 && at <= q->n ? &q->at[at - 1] : NULL;
        if (!d || !d->forgotten || d->epoch != e[i].qseq >> 48)
            return work_wrong(w, "an entry came back that had not been forgotten");
        d->forgotten = false;
        d->extent = e[i].extent;
        work_counts.recalled++;
    }
    return true;
}

/* Asks for all forgotten entries of the queue from its i-th message on, up to so many. */
static bool work_recall(struct work *w, uint32_t queue, size_t from)
{
    struct mqg_index_entry e[WORK_FORGET];
    struct led_queue *q = &w->l->queues[queue];
    struct mqg_index_req req = {.queue_id = queue,
                                .first = work_qseq(w, queue, from),
                                .last = work_qseq(w, queue, q->n - 1),
                                .entries = e,
                                .max = WORK_FORGET};
    told_index(w->t, &req);
    if (req.err != MQG_OK)
        return work_wrong(w, "forgotten entries cannot be read");
    bool good = work_recalled(w, queue, e, req.n);
    for (size_t i = from; i < q->n && good && req.n < WORK_FORGET; i++)
        if (q->at[i].forgotten && work_qseq(w, queue, i) <= req.last)
            good = work_wrong(w, "a forgotten entry did not come back");
    return good;
}

/* The first forgotten entry of a queue; SIZE_MAX: none. */
static size_t work_forgotten(const struct work *w, uint32_t queue)
{
    const struct led_queue *q = &w->l->queues[queue];
    for (size_t i = w->heads[queue]; i < q->n; i++)
        if (q->at[i].forgotten)
            return i;
    return SIZE_MAX;
}

static bool work_recall_any(struct work *w)
{
    uint32_t queue = (uint32_t)work_random(w, LED_QUEUES);
    size_t i = work_forgotten(w, queue);
    return i == SIZE_MAX || work_recall(w, queue, i);
}

/* ---- purging ---------------------------------------------------------------------------------------------------- */

/* Entries that were settled while they were forgotten come back to be let go of. */
static bool work_let_go(struct work *w, uint32_t queue, struct mqg_range range)
{
    struct mqg_index_entry e[WORK_FORGET];
    struct mqg_index_req req = {.n = WORK_FORGET};
    bool good = true;
    while (good && req.n == WORK_FORGET) {
        req = (struct mqg_index_req){
            .queue_id = queue, .first = range.first, .last = range.last, .entries = e, .max = WORK_FORGET};
        told_index(w->t, &req);
        good = req.err == MQG_OK ? work_recalled(w, queue, e, req.n)
                                 : work_wrong(w, "purged entries are lost");
        for (uint32_t i = 0; i < req.n; i++)
            mqg_extent_give(e[i].extent, 1);
    }
    return good;
}

/* The next range of a purge: everything of one life from *i on. false: there is nothing more. */
static bool work_purge_range(struct work *w, uint32_t queue, size_t *i, struct mqg_range *range)
{
    struct led_queue *q = &w->l->queues[queue];
    while (*i < q->n && !work_is_live(&q->at[*i]))
        ++*i;
    if (*i == q->n || w->ngiven >= WORK_DESTS)
        return false;
    *range = (struct mqg_range){work_qseq(w, queue, *i), 0};
    for (; *i < q->n && q->at[*i].epoch == range->first >> 48 && w->ngiven < WORK_DESTS; ++*i) {
        struct led_dest *d = &q->at[*i];
        range->last = work_qseq(w, queue, *i);
        if (!work_is_live(d))
            continue;
        d->settle = w->when;
        if (!d->forgotten)
            w->given[w->ngiven++] = d->extent;
    }
    return true;
}

/* A queue is emptied in one submission, what was forgotten of it included: after a crash all of it is there, or nothing. */
static bool work_purge(struct work *w)
{
    uint32_t queue = 1 + (uint32_t)work_random(w, LED_QUEUES - 1);
    size_t i = w->heads[queue], n = 0;
    bool good = true;
    work_begin(w, (uint32_t)work_random(w, CI_LANES));
    while (n < WORK_OPS && work_purge_range(w, queue, &i, &w->ranges[n])) {
        struct mqg_store_op *op = work_op(w, MQG_OP_SETTLE);
        op->settle.queue_id = queue;
        op->settle.ranges = &w->ranges[n++];
        op->settle.n = 1;
    }
    work_submit(w);
    for (size_t k = 0; k < n && good; k++)
        good = work_let_go(w, queue, w->ranges[k]);
    work_counts.purged += n > 0;
    return good;
}

/* ---- putting aside ---------------------------------------------------------------------------------------------- */

static void work_aside_end(struct work *w)
{
    if (w->aside)
        mqg_extent_give(w->aside, w->naside);
    w->aside = NULL;
}

/* Brings back what was just put aside; every byte must be the one that went. */
static bool work_aside_back(struct work *w, const struct mqg_scratch_req *req)
{
    struct mqg_load items[WORK_ASIDE];
    struct mqg_load_req load = {.items = items};
    bool good = true;
    for (uint32_t i = 0; i < req->n && req->items[i].extent; i++)
        items[load.n++] = (struct mqg_load){
            .extent = req->items[i].extent, .off = req->items[i].off, .len = req->items[i].msg->total_len};
    if (load.n)
        told_loads(w->t, &load);
    for (uint32_t i = 0; i < load.n; i++) {
        const struct mqg_msg *was = req->items[i].msg;
        struct mqg_msg *is = items[i].msg;
        if (good && (!is || told_hash(mqg_msg_key(is), mqg_msg_body(is)) !=
                                told_hash(mqg_msg_key(was), mqg_msg_body(was))))
            good = work_wrong(w, "what was put aside came back otherwise");
        work_counts.aside += is != NULL;
        mqg_msg_unref(&is);
    }
    return good;
}

static bool work_aside(struct work *w)
{
    struct mqg_scratch_item items[WORK_ASIDE];
    struct mqg_scratch_req req = {.items = items, .n = 1 + (uint32_t)work_random(w, WORK_ASIDE)};
    work_aside_end(w);
    for (uint32_t i = 0; i < req.n; i++)
        items[i] = (struct mqg_scratch_item){.msg = work_msg(w, work_random(w, 3000))};
    told_scratch(w->t, &req);
    bool good = work_aside_back(w, &req);
    for (uint32_t i = 0; i < req.n; i++) {
        if (items[i].extent && items[i].extent == items[0].extent) {
            w->aside = items[0].extent;
            w->naside = i + 1;
        } else if (items[i].extent) {
            mqg_extent_give(items[i].extent, 1);
        }
        mqg_msg_unref(&items[i].msg);
    }
    return good;
}

/* Quick queues stay short. */
static bool work_drain(struct work *w)
{
    bool good = true;
    for (uint32_t queue = 1; queue < LED_QUEUES && w->nop < WORK_OPS - 1 && good; queue++) {
        size_t i = work_oldest(w, queue, 0), away = work_forgotten(w, queue);
        if (away != SIZE_MAX && (i == SIZE_MAX || away < i) &&
            w->l->queues[queue].n - away > WORK_BACKLOG * 3)
            good = work_recall(w, queue, away);
        if (i != SIZE_MAX && w->l->queues[queue].n - i > WORK_BACKLOG && w->ngiven < WORK_DESTS)
            work_settle(w, queue, i, 6);
    }
    return good;
}

static void work_count(struct work *w)
{
    uint32_t queue = (uint32_t)work_random(w, LED_QUEUES);
    size_t i = work_oldest(w, queue, 0);
    struct led_dest *d = i == SIZE_MAX ? NULL : &w->l->queues[queue].at[i];
    if (!d || d->ncount == MQG_COUNTOF(d->counts))
        return;
    uint32_t count = (d->ncount ? d->counts[d->ncount - 1].count : 0) + 1;
    struct mqg_store_op *op = work_op(w, MQG_OP_COUNT);
    op->count.queue_id = queue;
    op->count.qseq = work_qseq(w, queue, i);
    op->count.delivery_count = count;
    op->count.acquired_count = count;
    d->counts[d->ncount++] = (struct led_count){w->when, count};
}

/* ---- definitions ------------------------------------------------------------------------------------------------ */

/* A key is always written by the same lane; the last few belong to work_wait. */
static void work_meta(struct work *w)
{
    uint32_t lane = w->when.lane, keys = (LED_KEYS - CI_LANES) / CI_LANES;
    uint32_t key = (uint32_t)work_random(w, keys) * CI_LANES + lane;
    size_t at = w->nop;
    struct mqg_store_op *op = work_op(w, MQG_OP_META);
    bool remove = work_random(w, 6) == 0;
    char *name = w->texts[at] + 4096 - 16;
    op->meta.key = mqg_slice_str(ledger_key(key, name));
    op->meta.remove = remove;
    uint64_t value = remove ? 0 : w->l->next_id++;
    if (!remove)
        op->meta.value = ledger_value(value, w->texts[at]);
    ledger_word(&w->l->keys[key], w->when, value);
}

/* ---- partitions ------------------------------------------------------------------------------------------------- */

static struct led_part *work_part(struct work *w)
{
    struct led_part *alive[LED_PARTS];
    size_t n = 0;
    for (size_t i = 0; i < w->l->npart; i++)
        if (w->l->parts[i].made.ticket && !w->l->parts[i].gone.ticket)
            alive[n++] = &w->l->parts[i];
    return n ? alive[work_random(w, n)] : NULL;
}

static void work_part_new(struct work *w)
{
    if (w->l->npart == LED_PARTS)
        return;
    struct led_part *p = &w->l->parts[w->l->npart++];
    *p = (struct led_part){.id = 100 + w->l->npart, .made = w->when};
    p->keep = (enum led_keep)(p->id % LED_KEEPS);
    ledger_word(&p->trims, (struct led_when){LED_FACT, 1}, 0);
    for (int g = 0; g < LED_GROUPS; g++)
        ledger_word(&p->positions[g], (struct led_when){LED_FACT, 1}, 0);
    struct mqg_store_op *op = work_op(w, MQG_OP_STREAM_NEW);
    op->stream.partition = p->id;
    op->stream.name = MQG_SLICE_LIT("topic");
    /* small files: the partitions' end and begin all the time, too */
    static const struct mqg_stream_conf confs[LED_KEEPS] = {
        [LED_KEEP_ALL] = {.segment_bytes = 12000},
        [LED_KEEP_BYTES] = {.segment_bytes = 4096, .retention_bytes = LED_RETENTION},
        [LED_KEEP_YOUNG] = {.segment_bytes = 6000, .retention_ms = 3600 * 1000},
        [LED_KEEP_LAST] = {.segment_bytes = 4096, .cleanup = MQG_CLEANUP_COMPACT, .tombstone_ms = 1}};
    op = work_op(w, MQG_OP_STREAM_CONF);
    op->stream_conf.partition = p->id;
    op->stream_conf.conf = &confs[p->keep];
}

/* Makes the batch one of a producer's transaction. */
static void work_of_txn(struct mqg_dynbuf *batch, uint64_t producer, uint16_t attributes)
{
    struct part_batch b;
    bool good = jrn_part_batch_head(mqg_dynbuf_view(batch), &b);
    MQG_ASSERT(good);
    b.attributes |= PART_BATCH_TXN | attributes;
    mqg_put_be64(batch->ptr + 43, producer);
    jrn_part_batch_rewrite(batch->ptr, &b);
}

/* Ends a producer's transaction, if it has one. */
static void work_marker(struct work *w, struct mqg_dynbuf *batch, struct batch_spec *spec)
{
    static const uint8_t record[17] = {32, 0, 0, 0, 8, 0, 0, 0, 0, 12};
    spec->count = 1;
    spec->value_bytes = 0;
    batch_build(batch, spec);
    batch->len = PART_BATCH_HEAD;
    mqg_dynbuf_put(batch, record, sizeof record);
    batch->ptr[PART_BATCH_HEAD + 8] = (uint8_t)work_random(w, 2);
    mqg_put_be32(batch->ptr + 8, (uint32_t)batch->len - 12);
    work_of_txn(batch, 1 + work_random(w, LED_PRODUCERS), PART_BATCH_CONTROL);
}

/* What a compacted partition gets: of no transaction, or of one of those that lie between each other. */
static void work_build_last(struct work *w, struct mqg_dynbuf *batch, struct batch_spec *spec)
{
    uint64_t what = work_random(w, 10);
    if (what < 2) {
        work_marker(w, batch, spec);
        return;
    }
    batch_build(batch, spec);
    if (what < 6)
        work_of_txn(batch, 1 + work_random(w, LED_PRODUCERS), 0);
}

static void work_append(struct work *w, struct led_part *p)
{
    static const uint64_t long_ago_ms = 1700000000000, far_off_ms = 4100000000000;
    bool last = p->keep == LED_KEEP_LAST, old = p->keep != LED_KEEP_YOUNG || work_random(w, 50) > 0;
    size_t at = w->nop;
    struct batch_spec spec = {
        .base = p->end,
        .seed = last ? work_random(w, 12) : w->l->next_id++,
        .time_ms = (old ? long_ago_ms : far_off_ms) + w->step,
        .rich = last && work_random(w, 3) == 0,
        .count = 1 + (uint32_t)work_random(w, 5),
        .value_bytes = (uint32_t)(last || work_random(w, 8) ? work_random(w, 300) : 4000)};
    mqg_dynbuf_reset(&w->batches[at]);
    if (last)
        work_build_last(w, &w->batches[at], &spec);
    else
        batch_build(&w->batches[at], &spec);
    w->ropes[at] = mqg_dynbuf_view(&w->batches[at]);
    struct mqg_slice b = w->ropes[at];
    struct mqg_store_op *op = work_op(w, MQG_OP_APPEND);
    op->append.partition = p->id;
    op->append.base_offset = p->end;
    op->append.count = spec.count;
    op->append.max_time_ms = spec.time_ms + spec.count - 1;
    op->append.rope = &w->ropes[at];
    op->append.nrope = 1;
    if (last)
        ledger_records(p, b);
    ledger_batch(p, (struct led_batch){
                        .when = w->when,
                        .base = spec.base,
                        .count = spec.count,
                        .len = (uint32_t)b.len,
                        .old = old,
                        .hash = told_hash(mqg_slice_of(b.ptr + 8, 4), mqg_slice_of(b.ptr + 16, b.len - 16))});
}

/* The highest start that was asked for or seen. */
static uint64_t work_start(const struct led_part *p)
{
    uint64_t at = 0;
    for (size_t i = 0; i < p->trims.n; i++)
        if (p->trims.at[i].value > at)
            at = p->trims.at[i].value;
    return at;
}

/* Somebody looks where the partition begins: it never goes back before that. */
static void work_see_start(struct work *w, struct led_part *p)
{
    struct mqg_stream_bounds b;
    if (p->gone.ticket || jrn_ops.stream_bounds(w->t->s, p->id, &b) != MQG_OK)
        return;
    work_counts.retained += b.log_start > work_start(p);
    uint32_t ticket = ++w->l->tickets[CI_SEEN];
    ledger_word(&p->trims, (struct led_when){CI_SEEN, ticket}, b.log_start);
    disk_mark(w->t->disk, CI_BEGAN | (uint64_t)CI_SEEN << 32 | ticket);
    disk_mark(w->t->disk, (uint64_t)CI_SEEN << 32 | ticket);
}

static void work_trim(struct work *w, struct led_part *p)
{
    uint64_t at = work_start(p);
    size_t most = work_random(w, 8);
    for (size_t i = 0; i < p->n && work_confirmed(w, p->at[i].when) && most > 0; i++) {
        if (p->at[i].base < at)
            continue;
        at = p->at[i].base + p->at[i].count;
        most--;
    }
    struct mqg_store_op *op = work_op(w, MQG_OP_TRIM);
    op->trim.partition = p->id;
    op->trim.start_offset = at;
    ledger_word(&p->trims, w->when, at);
}

/* A group's position in a partition is always written by the same lane. */
static void work_position(struct work *w, struct led_part *p)
{
    uint32_t group = w->when.lane % LED_GROUPS;
    if (group != w->when.lane)
        return;
    uint64_t offset = work_random(w, p->end + 1);
    size_t at = w->nop;
    struct mqg_store_op *op = work_op(w, MQG_OP_POSITION);
    snprintf(w->texts[at], 16, "group-%u", group);
    op->position.group = mqg_slice_str(w->texts[at]);
    op->position.partition = p->id;
    op->position.offset = offset;
    ledger_word(&p->positions[group], w->when, offset + 1);
}

static void work_stream(struct work *w)
{
    struct led_part *p = work_part(w);
    uint64_t what = work_random(w, 100);
    if (!p || what < 4 || w->l->npart < LED_KEEPS) {
        work_part_new(w);
        work_submit(w);
        w->nop = 0;
        (void)work_wait(w); /* others may name it only when it is sure */
    } else if (what < 70) {
        uint64_t most = p->keep == LED_KEEP_LAST ? WORK_BATCHES * 2 : WORK_BATCHES;
        for (uint64_t n = 1 + work_random(w, most); n > 0; n--)
            work_append(w, p);
    } else if (what < 74) {
        work_see_start(w, p);
    } else if (what < 82) {
        work_trim(w, p);
    } else if (what < 94) {
        work_position(w, p);
    } else if (w->l->npart > 3) {
        uint32_t lane = w->when.lane;
        (void)work_wait(w); /* nothing of it may come behind */
        work_begin(w, lane);
        work_op(w, MQG_OP_STREAM_DELETE)->stream.partition = p->id;
        p->gone = w->when;
    }
}

/* ---- forged bodies ---------------------------------------------------------------------------------------------- */

/* The tail changes its file now and then: the use before is what a forger may know. */
static void work_see_use(struct work *w, const struct jrn_seg *tail)
{
    if (tail->seq == w->seen.seq)
        return;
    w->before = w->seen;
    w->seen = (struct work_use){tail->seq, tail->use.nonce};
}

struct work_tail {
    struct jrn_use use;
    uint64_t seq, number, end;
};

static bool work_tail(struct work *w, struct work_tail *out)
{
    pthread_mutex_lock(&w->t->s->seg_lock);
    struct jrn_seg *tail = w->t->s->segs_last;
    if (tail) {
        work_see_use(w, tail);
        *out = (struct work_tail){tail->use, tail->seq, tail->first_number + 1000000,
                                  atomic_load(&tail->end)};
    }
    pthread_mutex_unlock(&w->t->s->seg_lock);
    return tail != NULL;
}

/* A body with a forged frame head at every bound, for a message that comes first in the next frame. */
static void work_forge(struct work *w)
{
    struct work_tail tail;
    struct mqg_msg *m = work_msg(w, 6 * JRN_BLOCK);
    uint8_t *body = mqg_msg_body_mut(m);
    if (!work_wait(w) || !work_tail(w, &tail)) {
        mqg_msg_unref(&m);
        return;
    }
    uint64_t at = tail.end + JRN_FRAME_HEAD + JRN_CHUNK_HEAD + JRN_REC_HEAD + sizeof(struct mqg_stored) +
                  mqg_msg_key(m).len;
    struct jrn_use stale = tail.use;
    stale.nonce = w->before.seq ? w->before.nonce : work_random(w, UINT64_MAX);
    for (uint64_t off = jrn_round_block(at); off + JRN_FRAME_HEAD <= at + 6 * JRN_BLOCK; off += JRN_BLOCK) {
        struct jrn_frame f = {.seq = tail.seq,
                              .number = tail.number + 1,
                              .durable_at_write = tail.number,
                              .term = 1,
                              .offset = off,
                              .length = JRN_FRAME_HEAD,
                              .chunks_crc = jrn_chunks_crc_begin(&stale)};
        jrn_frame_encode(body + (off - at), &stale, &f);
    }
    work_begin(w, 0);
    work_put(w, m, work_queue(w), 1);
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

static void work_messages(struct work *w, uint64_t what)
{
    if (what < 45) {
        work_put_any(w);
    } else if (what < 50) {
        for (uint64_t n = 2 + work_random(w, 4); n > 0; n--)
            work_put_any(w);
    } else if (what < 70) {
        work_settle_any(w);
    } else if (what < 74) { /* a transaction, a dead letter */
        work_settle_any(w);
        work_put_any(w);
    } else if (what < 75) { /* more than a segment holds */
        work_put(w, work_msg(w, w->t->s->segment_bytes + work_random(w, 50000)), 1, 1);
    } else {
        work_put(w, work_msg(w, w->t->s->segment_bytes / 4), work_queue(w), 1);
    }
}

static bool work_memory(struct work *w)
{
    uint64_t what = work_random(w, 12);
    if (what < 2)
        work_forget(w);
    if (what == 2 && work_random(w, 6) == 0)
        return work_purge(w);
    return what == 2 ? work_recall_any(w) : what > 3 || work_aside(w);
}

static bool work_step(struct work *w)
{
    uint64_t what = work_random(w, 100);
    if (!work_memory(w))
        return false;
    work_begin(w, (uint32_t)work_random(w, CI_LANES));
    if (what < 76)
        work_messages(w, what);
    else if (what < 80)
        work_count(w);
    else if (what < 86)
        work_meta(w);
    else if (what < 94)
        work_stream(w);
    else if (what < 97)
        work_forge(w);
    else if (what == 97)
        return work_wait(w);
    else if (what == 98)
        usleep((unsigned)work_random(w, 3000)); /* lint:allow banned_calls the keeper's turn */
    work_submit(w);
    work_begin(w, (uint32_t)work_random(w, CI_LANES));
    bool good = work_drain(w);
    work_submit(w);
    w->step++;
    return good && (work_random(w, 6) || work_wait(w));
}

bool work_run(struct work *w, size_t steps)
{
    bool good = true;
    for (size_t i = 0; i < steps && good; i++)
        good = work_step(w);
    return good && work_wait(w);
}

bool work_delete_parts(struct work *w)
{
    bool good = work_wait(w);
    for (size_t i = 1; i < w->l->npart && good; i++) {
        struct led_part *p = &w->l->parts[i];
        if (!p->made.ticket || p->gone.ticket)
            continue;
        work_begin(w, 0);
        work_op(w, MQG_OP_STREAM_DELETE)->stream.partition = p->id;
        p->gone = w->when;
        work_submit(w);
    }
    return good && work_wait(w);
}

struct work *work_new(struct ledger *l, struct told *t, uint64_t seed)
{
    struct work *w = mqg_xcalloc(1, sizeof *w);
    w->l = l;
    w->t = t;
    w->rng = seed;
    if (t->s)
        jrn_part_cleaner_tick(t->s, WORK_CLEAN_MS);
    for (size_t i = 0; i < WORK_OPS; i++)
        mqg_dynbuf_init(&w->batches[i], 1 << 20);
    return w;
}

void work_free(struct work **w)
{
    work_aside_end(*w);
    for (size_t i = 0; i < WORK_OPS; i++)
        mqg_dynbuf_fini(&(*w)->batches[i]);
    held_free(&(*w)->held);
    free(*w);
    *w = NULL;
}

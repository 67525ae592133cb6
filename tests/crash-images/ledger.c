/* ledger.c - see ledger.h. */
#include "ledger.h"

#include "part_batch.h"

#include <stdio.h>
#include <stdlib.h>

#define LED_PUSH(owner)                                                                        \
    ((owner)->n == (owner)->cap                                                                \
         ? (void)((owner)->cap = (owner)->cap ? (owner)->cap * 2 : 8,                          \
                  (owner)->at = mqg_xrealloc((owner)->at, (owner)->cap * sizeof *(owner)->at)) \
         : (void)0,                                                                            \
     &(owner)->at[(owner)->n++])

static const struct led_when led_fact = {LED_FACT, 1};

/* ---- life ------------------------------------------------------------------------------------------------------- */

void ledger_init(struct ledger *l)
{
    memset(l, 0, sizeof *l);
    l->epoch = 1;
    l->next_id = 1;
    for (size_t i = 0; i < LED_KEYS; i++)
        ledger_word(&l->keys[i], led_fact, 0);
}

static void *ledger_dup(const void *from, size_t n, size_t size)
{
    void *to = mqg_xmalloc(n ? n * size : 1);
    if (n)
        memcpy(to, from, n * size);
    return to;
}

static void ledger_words_dup(struct led_words *w)
{
    w->at = ledger_dup(w->at, w->n, sizeof *w->at);
    w->cap = w->n;
}

void ledger_copy(struct ledger *to, const struct ledger *from)
{
    *to = *from;
    for (size_t i = 0; i < LED_QUEUES; i++) {
        to->queues[i].at = ledger_dup(to->queues[i].at, to->queues[i].n, sizeof *to->queues[i].at);
        to->queues[i].cap = to->queues[i].n;
    }
    for (size_t i = 0; i < LED_KEYS; i++)
        ledger_words_dup(&to->keys[i]);
    for (size_t i = 0; i < to->npart; i++) {
        struct led_part *p = &to->parts[i];
        p->at = ledger_dup(p->at, p->n, sizeof *p->at);
        p->cap = p->n;
        p->recs = ledger_dup(p->recs, p->nrec, sizeof *p->recs);
        p->cap_rec = p->nrec;
        ledger_words_dup(&p->trims);
        for (size_t g = 0; g < LED_GROUPS; g++)
            ledger_words_dup(&p->positions[g]);
    }
}

void ledger_fini(struct ledger *l)
{
    for (size_t i = 0; i < LED_QUEUES; i++)
        free(l->queues[i].at);
    for (size_t i = 0; i < LED_KEYS; i++)
        free(l->keys[i].at);
    for (size_t i = 0; i < l->npart; i++) {
        free(l->parts[i].at);
        free(l->parts[i].recs);
        free(l->parts[i].trims.at);
        for (size_t g = 0; g < LED_GROUPS; g++)
            free(l->parts[i].positions[g].at);
    }
}

/* ---- entries ---------------------------------------------------------------------------------------------------- */

struct led_dest *ledger_dest(struct ledger *l, uint32_t queue, uint64_t *qseq)
{
    struct led_dest *d = LED_PUSH(&l->queues[queue]);
    memset(d, 0, sizeof *d);
    d->epoch = l->epoch;
    *qseq = l->epoch << 48 | l->queues[queue].n;
    return d;
}

void ledger_word(struct led_words *w, struct led_when when, uint64_t value)
{
    *LED_PUSH(w) = (struct led_word){when, value};
}

void ledger_batch(struct led_part *p, struct led_batch b)
{
    *LED_PUSH(p) = b;
    p->end = b.base + b.count;
}

void ledger_records(struct led_part *p, struct mqg_slice batch)
{
    struct part_batch b;
    struct part_record r;
    bool bad = false, good = jrn_part_batch_head(batch, &b);
    struct mqg_slice in = mqg_slice_of(batch.ptr + PART_BATCH_HEAD, batch.len - PART_BATCH_HEAD);
    while (good && jrn_part_record_take(&in, &b, &r, &bad)) {
        if (p->nrec == p->cap_rec) {
            p->cap_rec = p->cap_rec ? p->cap_rec * 2 : 64;
            p->recs = mqg_xrealloc(p->recs, p->cap_rec * sizeof *p->recs);
        }
        p->recs[p->nrec++] = (struct led_record){
            .offset = r.offset,
            .key = told_hash(MQG_SLICE_NONE, r.key),
            .digest = told_hash(MQG_SLICE_NONE, r.whole),
            .has_key = r.has_key,
            .has_value = r.has_value,
            .marker = b.attributes & PART_BATCH_CONTROL,
            .commit = r.key.len == 4 && r.key.ptr[3] == 1,
            .producer = b.attributes & PART_BATCH_TXN ? (uint8_t)b.producer : 0};
    }
    MQG_ASSERT(good && !bad);
}

uint64_t ledger_fates(struct led_part *p, uint64_t start, uint64_t end)
{
    enum led_fate fates[LED_PRODUCERS + 1] = {LED_COMMITTED}; /* of what stands before; of no transaction */
    uint64_t open = end;
    for (size_t i = p->nrec; i-- > 0;) {
        struct led_record *r = &p->recs[i];
        if (r->offset >= end)
            continue;
        if (r->marker)
            fates[r->producer] = r->commit ? LED_COMMITTED : LED_ABORTED;
        r->fate = fates[r->producer];
        open = r->fate == LED_OPEN && r->offset >= start ? r->offset : open;
    }
    return open;
}

uint32_t ledger_index(uint64_t qseq)
{
    return (uint32_t)(qseq & 0xffffffff);
}

const char *ledger_key(uint32_t key, char out[16])
{
    snprintf(out, 16, "key-%u", key);
    return out;
}

struct mqg_slice ledger_value(uint64_t value, char out[4096])
{
    size_t n = (size_t)snprintf(out, 32, "%llu:", (unsigned long long)value);
    size_t len = value % 17 == 0 ? 3000 : value * 31 % 200;
    memset(out + n, 'a' + (int)(value % 26), len);
    return mqg_slice_of((const uint8_t *)out, n + len);
}

enum led_status ledger_status(struct led_when when, const struct led_cut *cut)
{
    if (when.ticket == 0)
        return LED_NEVER;
    if (when.lane == LED_FACT || when.ticket <= cut->done[when.lane])
        return LED_SURE;
    return when.ticket <= cut->began[when.lane] ? LED_MAYBE : LED_NEVER;
}

/* ---- settling --------------------------------------------------------------------------------------------------- */

static uint64_t ledger_told_key(const struct told *t, uint32_t key)
{
    char name[16];
    ledger_key(key, name);
    for (size_t i = 0; i < t->nmeta; i++)
        if (strcmp(t->metas[i].key, name) == 0)
            return t->metas[i].value;
    return 0;
}

static void ledger_words_are(struct led_words *w, uint64_t value)
{
    w->n = 0;
    ledger_word(w, led_fact, value);
}

static void ledger_settle_part(struct led_part *p, struct told *t)
{
    const struct told_part *found = NULL;
    for (size_t i = 0; i < t->npart; i++)
        if (t->parts[i].id == p->id)
            found = &t->parts[i];
    p->made = found ? led_fact : (struct led_when){0, 0};
    p->gone = (struct led_when){0, 0};
    if (!found) {
        p->gone = led_fact;
        p->n = p->nrec = 0;
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (p->at[i].base >= found->b.high_watermark)
            break;
        p->at[kept] = p->at[i];
        p->at[kept++].when = led_fact;
    }
    p->n = kept;
    while (p->nrec > 0 && p->recs[p->nrec - 1].offset >= found->b.high_watermark)
        p->nrec--;
    p->end = found->b.high_watermark;
    p->start = found->b.log_start;
    ledger_words_are(&p->trims, p->start);
    for (uint32_t g = 0; g < LED_GROUPS; g++)
        ledger_words_are(&p->positions[g], told_position(t, g, p->id));
}

void ledger_settle(struct ledger *l, struct told *t)
{
    for (size_t q = 0; q < LED_QUEUES; q++) {
        for (size_t i = 0; i < l->queues[q].n; i++) {
            struct led_dest *d = &l->queues[q].at[i];
            d->gone = d->seen == NULL;
            d->put = d->seen ? led_fact : (struct led_when){0, 0};
            d->settle = (struct led_when){0, 0};
            d->extent = d->seen ? d->seen->extent : NULL;
            d->forgotten = false;
            d->ncount = d->seen && d->seen->delivery_count ? 1 : 0;
            d->counts[0] = (struct led_count){led_fact, d->seen ? d->seen->delivery_count : 0};
        }
    }
    for (uint32_t k = 0; k < LED_KEYS; k++)
        ledger_words_are(&l->keys[k], ledger_told_key(t, k));
    for (size_t i = 0; i < l->npart; i++)
        ledger_settle_part(&l->parts[i], t);
    memset(l->tickets, 0, sizeof l->tickets);
    l->epoch++;
}

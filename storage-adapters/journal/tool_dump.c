/* tool_dump.c - mqgatectl store dump: the records, one line each. */
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>

enum { DUMP_BODY = 1024, DUMP_DESTS = 64, DUMP_RANGES = 64, DUMP_ROWS = 256 };

struct dump {
    struct tool *t;
    uint64_t left;
    bool full; /* there are more than may be shown */
    bool by_id;
    uint64_t id;
};

/* Is this the queue that was asked for? */
static bool dump_is_queue(const struct dump *d, uint64_t id)
{
    char number[24];
    return d->by_id ? d->id == id : strcmp(tool_queue_name(d->t, id, number), d->t->o->queue) == 0;
}

static bool dump_speaks_of(const struct dump *d, const struct jrn_rec *rec)
{
    struct jrn_dests it;
    struct mqg_dest dest;
    if (rec->type == JRN_REC_MSG || rec->type == JRN_REC_DESTS) {
        bool more = jrn_dests_init(&it, rec->tail);
        while (more && jrn_dests_next(&it, &dest))
            if (dump_is_queue(d, dest.queue_id))
                return true;
        return false;
    }
    bool of_part = rec->type == JRN_REC_BATCH || rec->type == JRN_REC_TRIM || rec->type == JRN_REC_STREAM ||
                   rec->type == JRN_REC_POSITION || rec->type == JRN_REC_PRODUCER ||
                   rec->type == JRN_REC_CUT || rec->type == JRN_REC_STREAM_CONF;
    if (of_part && rec->main.len >= 8)
        return dump_is_queue(d, tool_stream_queue(mqg_le64(rec->main.ptr)));
    bool of_queue = rec->type == JRN_REC_SETTLE || rec->type == JRN_REC_QSTATE || rec->type == JRN_REC_COUNT;
    return of_queue && rec->main.len >= 8 && dump_is_queue(d, mqg_le64(rec->main.ptr));
}

static void dump_dests(struct tool *t, struct mqg_slice tail)
{
    struct jrn_dests it;
    struct mqg_dest dest;
    struct mqg_dynbuf text;
    char number[24];
    unsigned n = 0;
    mqg_dynbuf_init(&text, 1 << 20);
    if (jrn_dests_init(&it, tail))
        for (; jrn_dests_next(&it, &dest) && n < DUMP_DESTS; n++)
            mqg_dynbuf_printf(&text, "%s%s:%llx", n ? "," : "", tool_queue_name(t, dest.queue_id, number),
                              (unsigned long long)dest.qseq);
    tool_text(t, "to", mqg_dynbuf_view(&text));
    mqg_dynbuf_fini(&text);
}

static void dump_msg(struct tool *t, const struct jrn_rec *rec)
{
    struct mqg_stored h;
    if (!jrn_stored_check(rec->main, &h))
        return;
    const uint8_t *at = rec->main.ptr + sizeof h;
    tool_text(t, "exchange", mqg_slice_of(at, h.exchange_len));
    tool_text(t, "key", mqg_slice_of(at + h.exchange_len, h.key_len));
    tool_number(t, "proto", h.proto);
    tool_number(t, "flags", h.flags);
    tool_number(t, "appended_us", h.append_us);
    tool_number(t, "body_bytes", h.body_len);
    dump_dests(t, rec->tail);
    if (t->o->bodies)
        tool_text(t, "body",
                  mqg_slice_of(rec->main.ptr + rec->main.len - h.body_len,
                               h.body_len < DUMP_BODY ? h.body_len : DUMP_BODY));
}

static void dump_ranges(struct tool *t, struct mqg_slice main)
{
    struct jrn_ranges it;
    struct mqg_range r;
    struct mqg_dynbuf text;
    char number[24];
    unsigned n = 0;
    if (!jrn_ranges_init(&it, main))
        return;
    mqg_dynbuf_init(&text, 1 << 20);
    tool_word(t, "queue", tool_queue_name(t, it.queue_id, number));
    for (; n < DUMP_RANGES && jrn_ranges_next(&it, &r); n++)
        mqg_dynbuf_printf(&text, "%s%llx-%llx", n ? "," : "", (unsigned long long)r.first,
                          (unsigned long long)r.last);
    tool_text(t, "ranges", mqg_dynbuf_view(&text));
    mqg_dynbuf_fini(&text);
}

static void dump_count(struct tool *t, struct mqg_slice main)
{
    struct jrn_count c;
    char number[24];
    if (!jrn_rec_count(main, &c))
        return;
    tool_word(t, "queue", tool_queue_name(t, c.queue_id, number));
    tool_hex(t, "qseq", c.qseq);
    tool_number(t, "deliveries", c.delivery_count);
    tool_number(t, "acquired", c.acquired_count);
}

static void dump_meta(struct tool *t, struct mqg_slice main)
{
    struct jrn_meta m;
    if (!jrn_rec_meta(main, &m))
        return;
    tool_text(t, "key", m.key);
    tool_number(t, "value_bytes", m.value.len);
    if (m.remove)
        tool_word(t, "removed", "yes");
    bool secret = mqg_slice_starts(m.key, MQG_SLICE_LIT("user/")); /* a hash of a password */
    if (t->o->bodies && !secret)
        tool_text(t, "value", m.value.len < DUMP_BODY ? m.value : mqg_slice_of(m.value.ptr, DUMP_BODY));
}

static void dump_batch(struct tool *t, struct mqg_slice main)
{
    struct jrn_batch b;
    if (!jrn_rec_batch(main, &b))
        return;
    tool_number(t, "partition", b.partition);
    tool_number(t, "base_offset", b.base_offset);
    tool_number(t, "count", b.count);
    tool_number(t, "max_time_ms", b.max_time_ms);
    tool_number(t, "batch_bytes", b.bytes.len);
}

static void dump_stream(struct tool *t, struct mqg_slice main)
{
    struct jrn_stream_def d;
    if (!jrn_rec_stream(main, &d))
        return;
    tool_number(t, "partition", d.partition);
    tool_text(t, "name", d.name);
    tool_word(t, "exists", d.exists ? "yes" : "no");
}

static void dump_position(struct tool *t, struct mqg_slice main)
{
    struct jrn_position p;
    if (!jrn_rec_position(main, &p))
        return;
    tool_text(t, "group", p.group);
    tool_number(t, "partition", p.partition);
    tool_number(t, "offset", p.offset);
}

static void dump_trim(struct tool *t, struct mqg_slice main)
{
    struct jrn_triple trim;
    if (!jrn_rec_trim(main, &trim))
        return;
    tool_number(t, "partition", trim.a);
    tool_number(t, "start", trim.b);
}

static void dump_producer(struct tool *t, struct mqg_slice main)
{
    struct jrn_producer p;
    if (!jrn_rec_producer(main, &p))
        return;
    tool_number(t, "partition", p.partition);
    tool_number(t, "producer", p.producer_id);
    tool_number(t, "epoch", (uint16_t)p.epoch);
    tool_number(t, "first_seq", (uint32_t)p.base_seq);
    tool_number(t, "last_seq", (uint32_t)p.last_seq);
    tool_hex(t, "offset", p.offset);
}

/* MANIFEST, ADOPT: which segments count, and where each ends. FREE: which do not. */
static void dump_segments(struct tool *t, const struct jrn_rec *rec)
{
    struct jrn_manifest_row row;
    struct jrn_triple gone;
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, 1 << 20);
    bool frees = rec->type == JRN_REC_FREE;
    for (size_t i = 0; i < DUMP_ROWS && frees && jrn_rec_free(rec->main, i, &gone); i++)
        mqg_dynbuf_printf(&text, "%s%llu/%016llx", i ? "," : "", (unsigned long long)gone.a,
                          (unsigned long long)gone.b);
    for (size_t i = 0; i < DUMP_ROWS && !frees && jrn_rec_manifest(rec->main, i, &row); i++)
        mqg_dynbuf_printf(&text, "%s%llu/%016llx/%llu", i ? "," : "", (unsigned long long)row.seq,
                          (unsigned long long)row.nonce, (unsigned long long)row.end);
    tool_text(t, "segments", mqg_dynbuf_view(&text));
    mqg_dynbuf_fini(&text);
}

static void dump_inside(struct tool *t, const struct jrn_rec *rec)
{
    switch (rec->type) {
    case JRN_REC_MSG: dump_msg(t, rec); break;
    case JRN_REC_DESTS: dump_dests(t, rec->tail); break;
    case JRN_REC_SETTLE:
    case JRN_REC_QSTATE: dump_ranges(t, rec->main); break;
    case JRN_REC_COUNT: dump_count(t, rec->main); break;
    case JRN_REC_MANIFEST:
    case JRN_REC_ADOPT:
    case JRN_REC_FREE: dump_segments(t, rec); break;
    case JRN_REC_META: dump_meta(t, rec->main); break;
    case JRN_REC_BATCH: dump_batch(t, rec->main); break;
    case JRN_REC_STREAM: dump_stream(t, rec->main); break;
    case JRN_REC_POSITION: dump_position(t, rec->main); break;
    case JRN_REC_TRIM: dump_trim(t, rec->main); break;
    case JRN_REC_PRODUCER: dump_producer(t, rec->main); break;
    default: break; /* the journal's own: type and size say what there is to say */
    }
}

static bool dump_may(struct dump *d)
{
    if (d->full || d->left == 0) {
        if (!d->full)
            fprintf(stderr, "mqgatectl: there are more records; --limit N shows more\n");
        d->full = true;
        return false;
    }
    d->left--;
    return true;
}

static bool dump_record(void *arg, const struct jrn_seg *seg, const struct jrn_frame *f,
                        const struct jrn_rec *rec)
{
    struct dump *d = arg;
    struct tool *t = d->t;
    if (t->o->type && strcmp(t->o->type, jrn_rec_name(rec->type)) != 0)
        return true;
    if (t->o->queue && !dump_speaks_of(d, rec))
        return true;
    if (!dump_may(d))
        return false;
    tool_row(t, jrn_rec_name(rec->type));
    tool_word(t, "file", seg->name);
    tool_number(t, "seq", seg->seq);
    tool_number(t, "frame", f->number);
    tool_number(t, "at", f->offset + rec->frame_off - JRN_REC_HEAD);
    tool_number(t, "bytes", rec->main.len + rec->tail.len);
    dump_inside(t, rec);
    tool_row_end(t);
    return true;
}

static void dump_damage(void *arg, const struct jrn_seg *seg, uint64_t off, uint64_t end)
{
    const struct dump *d = arg;
    tool_row(d->t, "damage");
    tool_word(d->t, "file", seg->name);
    tool_number(d->t, "from", off);
    tool_number(d->t, "to", end);
    tool_row_end(d->t);
}

/* ---- partitions' files ---------------------------------------------------------------------------------- */

static bool dump_filed(void *arg, const struct part_file *f, const struct part_batch *b, uint64_t from,
                       uint64_t to)
{
    struct dump *d = arg;
    struct tool *t = d->t;
    char name[PART_NAME];
    tool_part_name(f, name);
    t->damaged = t->damaged || !b;
    if (b && !dump_may(d))
        return false;
    tool_row(t, b ? "batch" : "damage");
    tool_word(t, "file", name);
    tool_number(t, b ? "at" : "from", from);
    tool_number(t, b ? "bytes" : "to", b ? to - from : to);
    if (b) {
        tool_number(t, "partition", f->partition);
        tool_number(t, "base_offset", b->base);
        tool_number(t, "offsets", b->end - b->base);
        tool_number(t, "count", b->count);
        tool_number(t, "max_time_ms", b->max_time_ms);
        tool_number(t, "codec", b->attributes & PART_BATCH_CODEC);
    }
    tool_row_end(t);
    return true;
}

static void dump_parts(struct dump *d)
{
    struct tool *t = d->t;
    if (t->o->type && strcmp(t->o->type, jrn_rec_name(JRN_REC_BATCH)) != 0)
        return;
    for (uint32_t i = 0; i < t->npart; i++) {
        const struct stream_part *part = jrn_stream_find(t->s->streams, t->parts[i].id);
        if (!part || (t->o->queue && !dump_is_queue(d, tool_stream_queue(part->id))))
            continue;
        for (uint32_t k = 0; k < part->nfile && !d->full; k++)
            if (tool_part_walk(t, part->files[k], dump_filed, d) != MQG_OK)
                t->damaged = true;
    }
}

int tool_dump(struct tool *t)
{
    struct dump d = {.t = t, .left = t->o->limit};
    char *end = NULL;
    if (t->o->queue && t->o->queue[0]) {
        d.id = strtoull(t->o->queue, &end, 10);
        d.by_id = *end == '\0';
    }
    struct tool_walk walk = {.arg = &d, .record = dump_record, .damage = dump_damage};
    tool_walk(t, &walk);
    dump_parts(&d);
    return t->damaged ? MQG_TOOL_DAMAGED : MQG_TOOL_GOOD;
}

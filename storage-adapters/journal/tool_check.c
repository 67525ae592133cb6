/* tool_check.c - mqgatectl store check and stats: every checksum, every count. */
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- check --------------------------------------------------------------------------------------------- */

static void check_damage(void *arg, const struct jrn_seg *seg, uint64_t off, uint64_t end)
{
    struct tool *t = arg;
    tool_row(t, "damage");
    tool_word(t, "file", seg->name);
    tool_number(t, "from", off);
    tool_number(t, "to", end);
    tool_word(t, "why", "no frame here checks");
    tool_row_end(t);
}

static bool check_record(void *arg, const struct jrn_seg *seg, const struct jrn_frame *f,
                         const struct jrn_rec *rec)
{
    struct tool *t = arg;
    enum mqg_err err = jrn_rec_check(rec);
    if (err == MQG_OK)
        return true;
    t->damaged = true;
    tool_row(t, "damage");
    tool_word(t, "file", seg->name);
    tool_number(t, "from", f->offset + rec->frame_off);
    tool_number(t, "to", f->offset + rec->frame_off + rec->main.len);
    tool_word(t, "record", jrn_rec_name(rec->type));
    tool_word(t, "why", mqg_err_name(err));
    tool_row_end(t);
    return true;
}

static void check_read_done(struct mqg_stream_read *r)
{
    (void)r;
}

/* Reads the partition whole; the error that ended it, and where. */
static enum mqg_err check_part(struct tool *t, const struct tool_part *p, uint64_t *at, uint64_t *bytes)
{
    for (*at = p->bounds.log_start; *at < p->bounds.high_watermark;) {
        struct mqg_stream_read r = {.partition = p->id,
                                    .offset = *at,
                                    .max_bytes = 1 << 20,
                                    .durable_only = true,
                                    .done = check_read_done};
        jrn_ops.stream_read(t->s, &r); /* no reader threads run: it is answered when this returns */
        enum mqg_err err = r.err == MQG_OK && (!r.data || r.next_offset <= *at) ? MQG_CORRUPT : r.err;
        if (r.data) {
            *bytes += r.data->len;
            mqg_buf_unref(&r.data);
        }
        if (err != MQG_OK)
            return err;
        *at = r.next_offset;
    }
    return MQG_OK;
}

static void check_parts(struct tool *t)
{
    for (uint32_t i = 0; i < t->npart; i++) {
        uint64_t at = 0, bytes = 0;
        enum mqg_err err = check_part(t, &t->parts[i], &at, &bytes);
        tool_row(t, "partition");
        tool_number(t, "id", t->parts[i].id);
        tool_number(t, "log_start", t->parts[i].bounds.log_start);
        tool_number(t, "high_watermark", t->parts[i].bounds.high_watermark);
        tool_number(t, "bytes", bytes);
        if (err != MQG_OK) {
            t->damaged = true;
            tool_number(t, "damaged_at", at);
            tool_word(t, "why", mqg_err_name(err));
        }
        tool_row_end(t);
    }
}

static void tool_segment_rows(struct tool *t)
{
    for (const struct jrn_seg *seg = t->s->segs; seg; seg = seg->next) {
        const struct tool_seg *row = tool_seg(t, seg->seq);
        tool_row(t, "segment");
        tool_word(t, "file", seg->name);
        tool_number(t, "seq", seg->seq);
        tool_number(t, "bytes", seg->bytes);
        tool_number(t, "used", atomic_load(&seg->end));
        tool_number(t, "frames", row->frames);
        tool_number(t, "records", row->records);
        tool_number(t, "live_messages", row->messages);
        tool_number(t, "live_bytes", row->live_bytes);
        if (row->damaged)
            tool_number(t, "damaged", row->damaged);
        tool_row_end(t);
    }
}

static void tool_sum_row(struct tool *t, const char *verdict)
{
    tool_row(t, "store");
    tool_word(t, "path", t->o->path);
    tool_number(t, "segments", t->s->nseg);
    tool_number(t, "disk_bytes", t->s->disk_bytes);
    tool_number(t, "messages", t->messages);
    tool_number(t, "body_bytes", t->bytes);
    tool_number(t, "queues", t->nqueue);
    tool_number(t, "partitions", t->npart);
    tool_number(t, "definitions", t->definitions);
    tool_word(t, "clean", t->unclean ? "no" : "yes");
    if (verdict)
        tool_word(t, "verdict", verdict);
    tool_row_end(t);
}

int tool_check(struct tool *t)
{
    struct tool_walk walk = {.arg = t, .record = check_record, .damage = check_damage};
    tool_walk(t, &walk);
    tool_segment_rows(t);
    check_parts(t);
    tool_sum_row(t, t->damaged ? "damaged; what is counted here can be saved" : "good");
    return t->damaged ? MQG_TOOL_DAMAGED : MQG_TOOL_GOOD;
}

/* ---- stats --------------------------------------------------------------------------------------------- */

static int stats_order(const void *a, const void *b)
{
    const struct tool_queue *x = a, *y = b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? 1 : -1) : x->id < y->id ? -1 : x->id > y->id;
}

int tool_stats(struct tool *t)
{
    struct tool_walk walk = {.arg = t};
    tool_walk(t, &walk);
    tool_segment_rows(t);
    if (t->nqueue)
        qsort(t->queues, t->nqueue, sizeof *t->queues, stats_order);
    for (uint32_t i = 0; i < t->nqueue; i++) {
        char number[24];
        tool_row(t, "queue");
        tool_word(t, "queue", tool_queue_name(t, t->queues[i].id, number));
        tool_number(t, "id", t->queues[i].id);
        tool_number(t, "messages", t->queues[i].messages);
        tool_number(t, "body_bytes", t->queues[i].bytes);
        tool_row_end(t);
    }
    for (uint32_t i = 0; i < t->npart; i++) {
        tool_row(t, "partition");
        tool_number(t, "id", t->parts[i].id);
        tool_number(t, "log_start", t->parts[i].bounds.log_start);
        tool_number(t, "high_watermark", t->parts[i].bounds.high_watermark);
        tool_row_end(t);
    }
    tool_sum_row(t, NULL);
    return t->damaged ? MQG_TOOL_DAMAGED : MQG_TOOL_GOOD;
}

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

static void tool_sum_row(struct tool *t, const struct tool_disk *disk, const char *verdict)
{
    tool_row(t, "store");
    tool_word(t, "path", t->o->path);
    tool_number(t, "segments", t->s->nseg);
    tool_number(t, "disk_bytes", disk->segments + disk->indexes + disk->partitions + disk->others);
    tool_number(t, "segment_bytes", disk->segments);
    tool_number(t, "index_bytes", disk->indexes);
    tool_number(t, "partition_bytes", disk->partitions);
    tool_number(t, "other_bytes", disk->others);
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

static const char *check_verdict(const struct tool *t)
{
    if (t->damaged)
        return "damaged; what is counted here can be saved";
    return t->stale ? "good; what is derived and does not check is made again" : "good";
}

int tool_check(struct tool *t)
{
    struct tool_disk disk;
    struct tool_walk walk = {.arg = t, .record = check_record, .damage = check_damage};
    tool_walk(t, &walk);
    tool_segment_rows(t);
    tool_parts(t, true);
    tool_files(t, true, &disk);
    tool_sum_row(t, &disk, check_verdict(t));
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
    struct tool_disk disk;
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
    tool_parts(t, false);
    tool_files(t, false, &disk);
    tool_sum_row(t, &disk, NULL);
    return t->damaged ? MQG_TOOL_DAMAGED : MQG_TOOL_GOOD;
}

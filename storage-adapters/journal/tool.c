/* tool.c - mqgatectl store: a trial start on a view of the folder, and a walk over every record.
 *
 * What a start would find is found by starting: recovery runs on fs_look, which keeps what it writes in memory. So the
 * tool cannot disagree with the store about which files count, where the log ends and what a torn tail is. When the
 * start is refused for damage it is tried again as with on_corruption=continue, which says what can be saved. */
#include "tool.h"

#include <mqgate/module.h>

#include <stdio.h>
#include <stdlib.h>

#ifdef MQG_MODULE_STATIC
extern const struct mqg_module mqg_module_journal;
#define TOOL_MODULE mqg_module_journal
#else
extern const struct mqg_module mqg_module;
#define TOOL_MODULE mqg_module
#endif

/* ---- what recovery tells ------------------------------------------------------------------------------- */

#define TOOL_PUSH(t, list, count, cap)                                                                  \
    ((t)->count == (t)->cap ? (void)((t)->cap = (t)->cap ? (t)->cap * 2 : 64,                           \
                                     (t)->list = mqg_xrealloc((t)->list, (t)->cap * sizeof *(t)->list)) \
                            : (void)0,                                                                  \
     &(t)->list[(t)->count++])

static void tool_told_meta(void *arg, struct mqg_slice key, struct mqg_slice value)
{
    struct tool *t = arg;
    t->definitions++;
    if (t->o->names.meta)
        t->o->names.meta(t->o->names.arg, key, value);
}

struct tool_seg *tool_seg(struct tool *t, uint64_t seq)
{
    bool fresh;
    uint32_t *at = jrn_map_put(&t->seg_of, seq, &fresh);
    if (fresh) {
        *at = t->nseg;
        *TOOL_PUSH(t, segs, nseg, cap_seg) = (struct tool_seg){0};
    }
    return &t->segs[*at];
}

static bool tool_told_message(void *arg, uint64_t queue_id, uint64_t qseq, struct mqg_extent *extent,
                              uint32_t off, uint32_t len, const struct mqg_stored *head,
                              uint32_t delivery_count, uint32_t acquired_count)
{
    struct tool *t = arg;
    const struct jrn_seg *in = extent->owner;
    struct tool_seg *seg = tool_seg(t, in ? in->seq : 0);
    bool fresh;
    uint32_t *at = jrn_map_put(&t->queue_of, queue_id, &fresh);
    (void)qseq, (void)off, (void)delivery_count, (void)acquired_count;
    if (fresh) {
        *at = t->nqueue;
        *TOOL_PUSH(t, queues, nqueue, cap_queue) = (struct tool_queue){queue_id, 0, 0};
    }
    t->queues[*at].messages++;
    t->queues[*at].bytes += head->body_len;
    seg->messages++;
    seg->live_bytes += len;
    t->messages++;
    t->bytes += head->body_len;
    return true;
}

static void tool_told_stream(void *arg, uint64_t partition, const struct mqg_stream_bounds *b)
{
    struct tool *t = arg;
    bool fresh;
    *jrn_map_put(&t->part_of, partition, &fresh) = t->npart;
    *TOOL_PUSH(t, parts, npart, cap_part) = (struct tool_part){.id = partition, .bounds = *b};
}

static void tool_told_position(void *arg, struct mqg_slice group, uint64_t partition, uint64_t offset,
                               struct mqg_slice metadata)
{
    struct tool *t = arg;
    uint32_t at = jrn_map_get(&t->part_of, partition);
    (void)group, (void)offset, (void)metadata;
    if (at != JRN_MAP_NONE)
        t->parts[at].positions++;
}

static void tool_told_producer(void *arg, uint64_t partition, uint64_t producer_id, int16_t epoch,
                               int32_t base_seq, int32_t last_seq, uint64_t offset)
{
    struct tool *t = arg;
    uint32_t at = jrn_map_get(&t->part_of, partition);
    (void)producer_id, (void)epoch, (void)base_seq, (void)last_seq;
    if (at == JRN_MAP_NONE)
        return;
    t->parts[at].producers++;
    t->parts[at].beyond += offset >= t->parts[at].bounds.high_watermark;
}

const struct tool_queue *tool_queue(const struct tool *t, uint64_t id)
{
    uint32_t at = jrn_map_get(&t->queue_of, id);
    return at == JRN_MAP_NONE ? NULL : &t->queues[at];
}

const char *tool_queue_name(const struct tool *t, uint64_t id, char out[24])
{
    const char *name = t->o->names.queue ? t->o->names.queue(t->o->names.arg, id) : NULL;
    snprintf(out, 24, "%llu", (unsigned long long)id);
    return name ? name : out;
}

/* The router makes a partition's id of its queue's and its number: docs/decisions/0004-streams.md. */
uint64_t tool_stream_queue(uint64_t partition)
{
    return partition >> 16;
}

const char *tool_stream_name(const struct tool *t, uint64_t partition, char out[24])
{
    const char *name = t->o->names.queue ? t->o->names.queue(t->o->names.arg, tool_stream_queue(partition))
                                         : NULL;
    snprintf(out, 24, "%llu", (unsigned long long)partition);
    return name ? name : out;
}

/* ---- the trial start ----------------------------------------------------------------------------------- */

static void tool_host_done(void *host, uint32_t lane, uint64_t ticket)
{
    (void)host, (void)lane, (void)ticket;
}

static void tool_host_failed(void *host, enum mqg_err err, const char *text)
{
    (void)host, (void)err, (void)text;
}

static void tool_host_pressure(void *host, bool blocked, const char *why)
{
    (void)host, (void)blocked, (void)why;
}

static void tool_host_ready(void *host, uint64_t partition)
{
    (void)host, (void)partition;
}

static void tool_forget(struct tool *t)
{
    jrn_map_fini(&t->queue_of);
    jrn_map_fini(&t->seg_of);
    jrn_map_fini(&t->part_of);
    t->nqueue = t->nseg = t->npart = 0;
    t->messages = t->bytes = t->definitions = 0;
}

static void tool_close(struct tool *t)
{
    if (t->s) {
        jrn_ops.stop(t->s);
        jrn_ops.fini(&t->s);
    }
    mqg_conf_free(&t->conf);
}

static enum mqg_err tool_configure(struct tool *t, bool go_on)
{
    char set[4200];
    t->conf = mqg_conf_new();
    mqg_conf_schema(t->conf, TOOL_MODULE.conf);
    snprintf(set, sizeof set, "store.journal.path=%s", t->o->path);
    enum mqg_err err = mqg_conf_set(t->conf, set, &t->error);
    if (err == MQG_OK && go_on)
        err = mqg_conf_set(t->conf, "store.journal.on_corruption=continue", &t->error);
    return err == MQG_OK ? mqg_conf_check(t->conf, &t->error) : err;
}

static enum mqg_err tool_start(struct tool *t, bool go_on)
{
    struct mqg_store_host host = {
        tool_host_done, tool_host_failed, tool_host_pressure, tool_host_ready, NULL, t};
    struct mqg_recover r = {.meta = tool_told_meta,
                            .message = tool_told_message,
                            .stream = tool_told_stream,
                            .position = tool_told_position,
                            .producer = tool_told_producer,
                            .arg = t};
    tool_forget(t);
    enum mqg_err err = tool_configure(t, go_on);
    if (err == MQG_OK)
        err = jrn_ops.open(&t->s, &host, t->conf, "store.journal", 1, &t->error);
    if (err == MQG_OK)
        err = jrn_ops.recover(t->s, &r, &t->error);
    t->unclean = r.unclean;
    if (err != MQG_OK)
        tool_close(t);
    return err;
}

static int tool_refused(const struct tool *t)
{
    fprintf(stderr, "mqgatectl: %s\n", t->error.text);
    return MQG_TOOL_REFUSED;
}

static int tool_run(struct tool *t)
{
    enum mqg_err err = jrn_fs_look_begin(t->look, t->o->path, &t->error);
    if (err != MQG_OK)
        return tool_refused(t);
    mqg_journal_fs(jrn_fs_look_table(t->look));
    err = tool_start(t, false);
    if (err == MQG_CORRUPT) {
        t->damaged = true;
        fprintf(stderr, "mqgatectl: %s\n", t->error.text);
        err = tool_start(t, true);
    }
    if (err != MQG_OK)
        return t->damaged ? MQG_TOOL_DAMAGED : tool_refused(t);
    int code = t->o->verb == MQG_TOOL_CHECK  ? tool_check(t)
               : t->o->verb == MQG_TOOL_DUMP ? tool_dump(t)
                                             : tool_stats(t);
    tool_close(t);
    return code;
}

int mqg_journal_tool(const struct mqg_tool *o)
{
    struct tool t = {.o = o, .look = jrn_fs_look_new()};
    mqg_log_level_set(MQG_LOG_ERROR);
    mqg_dynbuf_init(&t.row, 64 << 20);
    int code = tool_run(&t);
    tool_close(&t);
    mqg_journal_fs(NULL);
    tool_forget(&t);
    free(t.queues);
    free(t.parts);
    free(t.segs);
    mqg_dynbuf_fini(&t.row);
    jrn_fs_look_free(&t.look);
    return fflush(stdout) == 0 ? code : MQG_TOOL_REFUSED;
}

/* ---- the walk ------------------------------------------------------------------------------------------ */

struct tool_walking {
    struct tool *t;
    const struct tool_walk *w;
    const struct jrn_seg *seg;
    uint8_t *buf;
    size_t cap;
    bool stop;
};

/* The frame at off, checked whole: its bytes, or an empty slice. */
static struct mqg_slice tool_frame(struct tool_walking *at, uint64_t off, struct jrn_frame *f)
{
    const struct jrn_fs *fs = at->t->s->fs;
    uint8_t head[JRN_FRAME_HEAD];
    if (jrn_fs_read(fs, at->seg->fd, head, sizeof head, off) != (ssize_t)sizeof head ||
        jrn_frame_head(mqg_slice_of(head, sizeof head), &at->seg->use, off, f) != MQG_OK ||
        f->length > at->seg->bytes - off)
        return MQG_SLICE_NONE;
    if (f->length > at->cap) {
        at->cap = f->length;
        at->buf = mqg_xrealloc(at->buf, at->cap);
    }
    struct mqg_slice bytes = mqg_slice_of(at->buf, f->length);
    if (jrn_fs_read(fs, at->seg->fd, at->buf, f->length, off) != (ssize_t)f->length ||
        jrn_frame_check(bytes, &at->seg->use, f) != MQG_OK)
        return MQG_SLICE_NONE;
    return bytes;
}

static void tool_records(struct tool_walking *at, struct mqg_slice bytes, const struct jrn_frame *f)
{
    struct jrn_walk walk;
    struct jrn_rec rec;
    struct tool_seg *seg = tool_seg(at->t, at->seg->seq);
    seg->frames++;
    at->stop = at->w->frame && !at->w->frame(at->w->arg, at->seg, f);
    jrn_walk_init(&walk, bytes, &at->seg->use, false);
    while (!at->stop && jrn_walk_next(&walk, &rec)) {
        seg->records++;
        at->stop = at->w->record && !at->w->record(at->w->arg, at->seg, f, &rec);
    }
}

static void tool_walk_segment(struct tool_walking *at)
{
    uint64_t off = JRN_HEADER_BYTES, bad = 0, end = atomic_load(&at->seg->end);
    while (off < end && !at->stop) {
        struct jrn_frame f;
        struct mqg_slice bytes = tool_frame(at, off, &f);
        if (bytes.len == 0) {
            bad = bad ? bad : off;
            off += JRN_BLOCK;
        }
        if (bad && (bytes.len || off >= end)) {
            tool_seg(at->t, at->seg->seq)->damaged++;
            at->t->damaged = true;
            if (at->w->damage)
                at->w->damage(at->w->arg, at->seg, bad, off);
            bad = 0;
        }
        if (bytes.len) {
            tool_records(at, bytes, &f);
            off += jrn_round_block(f.length);
        }
    }
}

void tool_walk(struct tool *t, const struct tool_walk *w)
{
    struct tool_walking at = {.t = t, .w = w};
    for (at.seg = t->s->segs; at.seg && !at.stop; at.seg = at.seg->next)
        tool_walk_segment(&at);
    free(at.buf);
}

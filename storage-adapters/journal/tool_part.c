/* tool_part.c - mqgatectl store: partitions, batch by batch, and their indexes, row by row.
 *
 * A start reads a partition's last file from its last synced row on, and believes the rest until somebody asks for it. Here
 * every byte is read: each batch against its sum, offsets against each other, each row of the index against the batch it
 * names. A batch that does not check is left out and the search goes on behind it, for a reader can begin there, too; so what
 * is counted is what can be saved. A row that does not check is no loss, the log is read again from the one before it; but a
 * row that checks and names what is not there would mislead readers, and is damage.
 *
 * Last, the partition is read as a consumer would, from its start to its high watermark: that joins the files to what only the
 * journal has yet. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

struct part_place {
    uint64_t base, pos, end_pos, max_time_ms;
};

/* One file being read. */
struct part_look {
    struct tool *t;
    uint64_t batches, records, damaged; /* damaged: runs of bytes that do not check */
    uint64_t next;                      /* the offset behind the last batch */
    struct part_place *at;              /* batches that check, ascending */
    uint32_t n, cap;
    const char *index;
};

/* What is said of a partition. */
struct part_sum {
    uint64_t files, bytes, batches, records, read_bytes, damaged_at;
    enum mqg_err err;
};

void tool_part_name(const struct part_file *f, char out[PART_NAME])
{
    jrn_part_name(f, "log", "", out);
}

/* Reads a file of the folder whole; the caller frees *out. */
static ssize_t part_slurp(struct tool *t, const struct part_file *f, const char *kind, uint64_t most,
                          uint8_t **out)
{
    const struct jrn_fs *fs = t->s->fs;
    char name[PART_NAME], path[4096];
    uint64_t bytes = 0;
    *out = NULL;
    jrn_part_name(f, kind, "", name);
    jrn_path(t->s, name, path);
    int fd = fs->open(fs->ctx, path, O_RDONLY);
    if (fd < 0)
        return fd;
    int r = fs->size(fs->ctx, fd, &bytes);
    bytes = bytes < most ? bytes : most;
    *out = mqg_xmalloc(bytes + 1);
    ssize_t got = r < 0 ? r : jrn_fs_read(fs, fd, *out, bytes, 0);
    fs->close(fs->ctx, fd);
    return got;
}

/* ---- the log ------------------------------------------------------------------------------------------------ */

/* Is there a batch at the front of `in` that goes on from `next`? */
static bool part_batch_is(struct mqg_slice in, const struct part_file *f, uint64_t next, struct part_batch *b)
{
    return jrn_part_batch_head(in, b) && b->len <= in.len && b->base >= next && b->end <= f->end &&
           jrn_part_batch_sum(in.ptr, b);
}

enum mqg_err tool_part_walk(struct tool *t, const struct part_file *f, tool_batch_fn fn, void *arg)
{
    uint8_t *bytes;
    ssize_t got = part_slurp(t, f, "log", f->bytes, &bytes);
    uint64_t next = f->base, bad = UINT64_MAX, at = 0, len = got < 0 ? 0 : (uint64_t)got;
    bool more = true;
    while (at < len && more) {
        struct part_batch b;
        bool good = part_batch_is(mqg_slice_of(bytes + at, (size_t)(len - at)), f, next, &b);
        bool gap = good && bad == UINT64_MAX && !f->gaps && b.base != next;
        if (!good || gap) { /* a gap: the batch is whole, its offset is not what it must be */
            bad = bad == UINT64_MAX ? at : bad;
            next = gap ? b.end : next;
            at += gap ? b.len : 1;
            continue;
        }
        if (bad != UINT64_MAX)
            more = fn(arg, f, NULL, bad, at);
        bad = UINT64_MAX;
        more = more && fn(arg, f, &b, at, at + b.len);
        at += b.len;
        next = b.end;
    }
    if (more && (bad != UINT64_MAX || len < f->bytes))
        (void)fn(arg, f, NULL, bad != UINT64_MAX ? bad : len, f->bytes);
    free(bytes);
    return got < 0 ? MQG_IO : MQG_OK;
}

static void part_damage(struct tool *t, const struct part_file *f, const char *kind, uint64_t from,
                        uint64_t to, const char *why)
{
    char name[PART_NAME];
    jrn_part_name(f, kind, "", name);
    t->damaged = true;
    tool_row(t, "damage");
    tool_word(t, "file", name);
    tool_number(t, "from", from);
    tool_number(t, "to", to);
    tool_word(t, "why", why);
    tool_row_end(t);
}

static bool part_look_batch(void *arg, const struct part_file *f, const struct part_batch *b, uint64_t from,
                            uint64_t to)
{
    struct part_look *look = arg;
    if (!b) {
        look->damaged++;
        part_damage(look->t, f, "log", from, to, "no batch here checks");
        return true;
    }
    look->batches++;
    look->records += b->count;
    look->next = b->end;
    *STREAM_PUSH(look, at, n, cap) = (struct part_place){b->base, from, to, b->max_time_ms};
    return true;
}

/* ---- its index ---------------------------------------------------------------------------------------------- */

/* Does the row name what stands in the log? *at: how far the batches were looked at. The row of a sync's end names the place
 * behind a batch, and so does the next batch's. */
static bool part_row_fits(const struct part_look *look, const struct part_entry *e, uint32_t *at)
{
    while (*at < look->n && look->at[*at].pos < e->pos)
        ++*at;
    if (*at < look->n && look->at[*at].pos == e->pos)
        return look->at[*at].base == e->offset;
    return *at == look->n && look->n > 0 && look->at[look->n - 1].end_pos == e->pos &&
           look->next == e->offset;
}

/* The latest time of the row's batches, of which only those up to the next row count. */
static bool part_row_time_fits(const struct part_look *look, const struct part_entry *e, uint32_t at,
                               uint64_t next_pos)
{
    uint64_t latest = 0;
    for (; at < look->n && look->at[at].pos < next_pos; at++)
        if (look->at[at].max_time_ms > latest)
            latest = look->at[at].max_time_ms;
    return e->time_ms >= latest;
}

static const char *part_index_rows(struct part_look *look, const struct part_file *f, struct mqg_slice in)
{
    uint32_t at = 0;
    struct part_entry e, after;
    if (!jrn_part_idx_head_is(in, f))
        return "damaged";
    uint32_t seed = mqg_le32(in.ptr + 60);
    for (size_t off = PART_IDX_HEAD; off < in.len; off += PART_IDX_ROW) {
        if (in.len - off < PART_IDX_ROW || !jrn_part_idx_row_is(in.ptr + off, &e, seed))
            return "damaged";
        size_t next = off + PART_IDX_ROW;
        bool more = in.len - next >= PART_IDX_ROW && jrn_part_idx_row_is(in.ptr + next, &after, seed);
        if (look->damaged || e.pos > f->bytes) /* nothing to hold it against */
            continue;
        if (!part_row_fits(look, &e, &at) || (more && !part_row_time_fits(look, &e, at, after.pos))) {
            part_damage(look->t, f, "idx", off, next, "the row checks and names what is not there");
            return "wrong";
        }
    }
    return "good";
}

static void part_index(struct part_look *look, const struct part_file *f)
{
    uint8_t *bytes;
    ssize_t got = part_slurp(look->t, f, "idx", SIZE_MAX >> 1, &bytes);
    look->index = got == -ENOENT ? "missing" : got < 0 ? "unreadable" : "";
    if (got >= 0)
        look->index = part_index_rows(look, f, mqg_slice_of(bytes, (size_t)got));
    if (strcmp(look->index, "damaged") == 0)
        look->t->stale = true;
    free(bytes);
}

/* ---- a file, a partition ------------------------------------------------------------------------------------ */

/* torn: what stood behind its last whole batch had not been synced, and the journal has it. */
static void part_file_look(struct tool *t, const struct part_file *f, bool last, bool torn,
                           struct part_sum *sum)
{
    struct part_look look = {.t = t, .next = f->base};
    char name[PART_NAME];
    tool_part_name(f, name);
    enum mqg_err err = tool_part_walk(t, f, part_look_batch, &look);
    if (err == MQG_OK)
        part_index(&look, f);
    if (err == MQG_OK && !last && !f->gaps && !look.damaged && look.next != f->end)
        part_damage(t, f, "log", f->bytes, f->bytes, "the next file begins with a later offset");
    tool_row(t, "partition_file");
    tool_word(t, "file", name);
    tool_number(t, "from", f->base);
    tool_number(t, "to", f->end);
    tool_number(t, "bytes", f->bytes);
    tool_number(t, "batches", look.batches);
    tool_number(t, "records", look.records);
    tool_word(t, "index", look.index ? look.index : mqg_err_name(err));
    if (torn)
        tool_word(t, "torn", "yes");
    if (look.damaged)
        tool_number(t, "damaged", look.damaged);
    tool_row_end(t);
    t->damaged = t->damaged || err != MQG_OK;
    t->stale = t->stale || torn;
    sum->batches += look.batches;
    sum->records += look.records;
    free(look.at);
}

static void part_read_done(struct mqg_stream_read *r)
{
    (void)r;
}

/* Reads the partition as a consumer does, up to the first error. */
static void part_read(struct tool *t, const struct tool_part *p, struct part_sum *sum)
{
    uint64_t at = p->bounds.log_start;
    while (at < p->bounds.high_watermark && sum->err == MQG_OK) {
        struct mqg_stream_read r = {.partition = p->id,
                                    .offset = at,
                                    .max_bytes = 1 << 20,
                                    .durable_only = true,
                                    .done = part_read_done};
        jrn_ops.stream_read(t->s, &r); /* no reader threads run: it is answered when this returns */
        bool moved = r.err == MQG_OK && r.next_offset > at;
        if (r.data) {
            sum->read_bytes += r.data->len;
            mqg_buf_unref(&r.data);
        }
        if (!moved)
            sum->err = r.err == MQG_OK ? MQG_CORRUPT : r.err;
        sum->damaged_at = at;
        at = r.next_offset;
    }
    t->damaged = t->damaged || sum->err != MQG_OK;
}

static void part_row(struct tool *t, const struct tool_part *p, const struct part_sum *sum, bool whole)
{
    char number[24];
    tool_row(t, "partition");
    tool_number(t, "id", p->id);
    tool_word(t, "stream", tool_stream_name(t, p->id, number));
    tool_number(t, "index", p->id & 0xffff);
    tool_number(t, "log_start", p->bounds.log_start);
    tool_number(t, "high_watermark", p->bounds.high_watermark);
    tool_number(t, "files", sum->files);
    tool_number(t, "disk_bytes", sum->bytes);
    tool_number(t, "producers", p->producers);
    tool_number(t, "positions", p->positions);
    if (p->beyond)
        tool_number(t, "producers_beyond_end", p->beyond);
    if (whole) {
        tool_number(t, "batches", sum->batches);
        tool_number(t, "records", sum->records);
        tool_number(t, "bytes", sum->read_bytes);
    }
    if (sum->err != MQG_OK) {
        tool_number(t, "damaged_at", sum->damaged_at);
        tool_word(t, "why", mqg_err_name(sum->err));
    }
    tool_row_end(t);
}

void tool_parts(struct tool *t, bool whole)
{
    for (uint32_t i = 0; i < t->npart; i++) {
        const struct tool_part *p = &t->parts[i];
        const struct stream_part *part = jrn_stream_find(t->s->streams, p->id);
        struct part_sum sum = {.files = part ? part->nfile : 0};
        for (uint32_t k = 0; k < sum.files; k++) {
            bool last = k + 1 == sum.files;
            sum.bytes += part->files[k]->bytes;
            if (whole)
                part_file_look(t, part->files[k], last, last && (part->tail.torn || part->tail.lost), &sum);
        }
        if (whole)
            part_read(t, p, &sum);
        part_row(t, p, &sum, whole);
    }
}

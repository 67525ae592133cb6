/* stream.c - partitions: how far each log is whole, and where those batches stand that are not yet safe in its files.
 *
 * Offsets are given by the host under the partition's lock, but batches of one partition come by several lanes and so in
 * any order. The high watermark is the end of the run that is contiguous and durable: a batch beyond a gap is kept, not
 * shown. After an unclean stop a gap may remain for ever (the batch in it was never confirmed); stream_found.c cuts the log
 * there.
 *
 * A batch has a row here from the commit on: 40 bytes that say where in the journal it stands. The stream writer copies it
 * into the partition's file (part_write.c); the row, and with it the journal's segment, stays until that file was synced. As long as it is
 * there, the journal is what the batch is read from, unless it is small and stands in the file already. */
#include "stream.h"

#include <stdlib.h>

struct jrn_streams *jrn_streams_new(struct mqg_store *s)
{
    (void)s;
    struct jrn_streams *st = mqg_xcalloc(1, sizeof *st);
    st->free_position = JRN_MAP_NONE;
    pthread_mutex_init(&st->lock, NULL);
    return st;
}

void jrn_streams_free(struct mqg_store *s, struct jrn_streams **streams)
{
    struct jrn_streams *st = *streams;
    if (!st)
        return;
    for (uint32_t i = 0; i < st->npart; i++) {
        struct stream_part *p = st->parts[i];
        for (uint32_t k = 0; k < p->nfile; k++)
            jrn_part_file_unref(s, &p->files[k]);
        free(p->files);
        free(p->at);
        free(p->waits);
        free(p->found);
        free(p->cuts);
        free(p);
    }
    for (uint32_t i = 0; i < st->nword; i++)
        free(st->words[i].main);
    free(st->words);
    jrn_map_fini(&st->word_of);
    jrn_map_fini(&st->part_of);
    jrn_map_fini(&st->position_of);
    free(st->parts);
    free(st->positions);
    free(st->ready);
    pthread_mutex_destroy(&st->lock);
    free(st);
    *streams = NULL;
}

struct stream_part *jrn_stream_part(struct jrn_streams *st, uint64_t id)
{
    bool fresh;
    uint32_t *at = jrn_map_put(&st->part_of, id, &fresh);
    if (fresh) {
        *at = st->npart;
        struct stream_part *p = mqg_xcalloc(1, sizeof *p);
        p->id = id;
        *STREAM_PUSH(st, parts, npart, cap_part) = p;
    }
    return st->parts[*at];
}

struct stream_part *jrn_stream_find(struct jrn_streams *st, uint64_t id)
{
    uint32_t at = jrn_map_get(&st->part_of, id);
    return at == JRN_MAP_NONE || st->parts[at]->gone ? NULL : st->parts[at];
}

/* ---- the index of a partition -------------------------------------------------------------------------- */

/* The first row that ends beyond the offset. */
uint32_t jrn_stream_row(const struct stream_part *p, uint64_t offset)
{
    uint32_t low = 0, high = p->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (jrn_batch_end(&p->at[mid]) > offset)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

void jrn_stream_insert(struct stream_part *p, struct jrn_batch_ref ref)
{
    uint32_t at = p->n;
    while (at > 0 && p->at[at - 1].base_offset > ref.base_offset)
        at--;
    (void)STREAM_PUSH(p, at, n, cap);
    memmove(&p->at[at + 1], &p->at[at], (p->n - 1 - at) * sizeof *p->at);
    p->at[at] = ref;
    while (p->whole < p->n && p->at[p->whole].base_offset <= p->high) {
        uint64_t end = jrn_batch_end(&p->at[p->whole++]);
        if (end > p->high)
            p->high = end;
    }
}

/* Forgets the first n rows; their segments are one live thing poorer. */
void jrn_stream_drop(struct mqg_store *s, struct stream_part *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        jrn_seg_give(s, p->at[i].seg);
    if (p->n > n)
        memmove(p->at, p->at + n, (p->n - n) * sizeof *p->at);
    p->n -= n;
    p->whole = p->whole > n ? p->whole - n : 0;
}

static void stream_trim(struct mqg_store *s, struct stream_part *p, uint64_t start)
{
    if (start <= p->log_start)
        return;
    p->log_start = start;
    if (p->high < start)
        p->high = start;
    jrn_stream_drop(s, p, jrn_stream_row(p, start));
    jrn_part_due(s, p);
}

static void stream_delete(struct mqg_store *s, struct stream_part *p)
{
    p->gone = true;
    jrn_stream_drop(s, p, p->n);
    free(p->at);
    p->at = NULL;
    p->cap = 0;
    jrn_part_due(s, p);
}

/* ---- positions ----------------------------------------------------------------------------------------- */

/* Groups come and go for years: the row of a forgotten one is used again. */
static uint32_t stream_position_row(struct jrn_streams *st)
{
    uint32_t row = st->free_position;
    if (row != JRN_MAP_NONE) {
        st->free_position = (uint32_t)st->positions[row].offset;
        return row;
    }
    (void)STREAM_PUSH(st, positions, nposition, cap_position);
    return st->nposition - 1;
}

static void stream_position_forget(struct jrn_streams *st, const struct jrn_keyed *key)
{
    uint32_t at = jrn_map_get(&st->position_of, key->hash);
    if (at == JRN_MAP_NONE || st->positions[at].hash2 != key->hash2)
        return;
    jrn_map_remove(&st->position_of, key->hash);
    st->positions[at] = (struct stream_position){0, st->free_position};
    st->free_position = at;
}

void jrn_stream_position(struct jrn_streams *st, struct mqg_slice main, uint64_t offset)
{
    struct jrn_keyed key = {0};
    bool fresh;
    if (!jrn_key_of(JRN_REC_POSITION, main, &key))
        return;
    if (offset == MQG_OFFSET_NONE) {
        stream_position_forget(st, &key);
        return;
    }
    uint32_t *at = jrn_map_put(&st->position_of, key.hash, &fresh);
    if (fresh)
        *at = stream_position_row(st);
    st->positions[*at] = (struct stream_position){key.hash2, offset};
}

void jrn_position_get(struct mqg_store *s, struct mqg_position_req *req)
{
    struct jrn_streams *st = s->streams;
    struct mqg_slice group = req->group;
    struct jrn_keyed key = {0};
    uint8_t *main = mqg_xcalloc(1, 20 + group.len);
    mqg_put_le64(main, req->partition);
    mqg_put_le32(main + 16, (uint32_t)group.len);
    if (group.len)
        memcpy(main + 20, group.ptr, group.len);
    bool keyed = jrn_key_of(JRN_REC_POSITION, mqg_slice_of(main, 20 + group.len), &key);
    free(main);
    MQG_ASSERT(keyed);
    pthread_mutex_lock(&st->lock);
    uint32_t at = jrn_map_get(&st->position_of, key.hash);
    bool found = at != JRN_MAP_NONE && st->positions[at].hash2 == key.hash2 &&
                 st->positions[at].offset != MQG_OFFSET_NONE;
    if (found)
        req->offset = st->positions[at].offset;
    pthread_mutex_unlock(&st->lock);
    req->err = found ? MQG_OK : MQG_NOT_FOUND;
    req->done(req);
}

/* ---- what became durable ------------------------------------------------------------------------------- */

/* Moves the waits that are over to the list of those to tell. Under the lock. */
static void stream_wake(struct jrn_streams *st, struct stream_part *p)
{
    uint32_t kept = 0, had = p->nwait;
    for (uint32_t i = 0; i < had; i++)
        if (p->waits[i] >= p->high)
            p->waits[kept++] = p->waits[i];
    p->nwait = kept;
    if (kept < had)
        *STREAM_PUSH(st, ready, nready, cap_ready) = p->id;
}

static void stream_conf(struct stream_part *p, struct mqg_slice main)
{
    struct jrn_stream_conf conf;
    if (jrn_rec_stream_conf(main, &conf))
        p->conf = conf.conf;
}

static void stream_note(struct mqg_store *s, const struct jrn_chunk *c, const struct jrn_note *note)
{
    struct jrn_streams *st = s->streams;
    if (note->kind == JRN_NOTE_POSITION) {
        jrn_stream_position(st, mqg_slice_of(c->arena + note->arena_off, note->len), note->offset);
        return;
    }
    struct stream_part *p = jrn_stream_part(st, note->partition);
    if (p->gone) {
        if (note->kind == JRN_NOTE_BATCH)
            jrn_seg_give(s, c->seg);
        return;
    }
    switch (note->kind) {
    case JRN_NOTE_BATCH:
        jrn_stream_insert(p, (struct jrn_batch_ref){note->offset, note->max_time_ms, note->count, note->len,
                                                    (uint32_t)(c->place + note->off), c->seg});
        stream_wake(st, p);
        if (p->high > p->filed)
            jrn_part_grew(s, p, note->len);
        return;
    case JRN_NOTE_TRIM: stream_trim(s, p, note->offset); return;
    case JRN_NOTE_STREAM:
        if (!note->exists)
            stream_delete(s, p);
        return;
    case JRN_NOTE_CONF: stream_conf(p, mqg_slice_of(c->arena + note->arena_off, note->len)); return;
    case JRN_NOTE_POSITION: return;
    }
}

void jrn_streams_apply(struct mqg_store *s, const struct jrn_chunk *c)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    for (uint32_t i = 0; i < c->nnote; i++)
        stream_note(s, c, &c->notes[i]);
    pthread_mutex_unlock(&st->lock);
    for (uint32_t i = 0; i < st->nready; i++) /* the committer's own list */
        s->host.stream_ready(s->host.host, st->ready[i]);
    st->nready = 0;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

enum mqg_err jrn_streams_pick(struct mqg_store *s, struct mqg_stream_read *r, struct jrn_batch_ref *refs,
                              size_t max, size_t *n)
{
    struct jrn_streams *st = s->streams;
    enum mqg_err err = MQG_NOT_FOUND;
    uint64_t bytes = 0;
    *n = 0;
    pthread_mutex_lock(&st->lock);
    struct stream_part *p = jrn_stream_find(st, r->partition);
    if (p) {
        if (jrn_stream_in_files(p, r->offset)) {
            pthread_mutex_unlock(&st->lock);
            return MQG_MORE;
        }
        r->high_watermark = p->high;
        r->log_start = p->log_start;
        err = r->offset < p->log_start || r->offset > p->high ? MQG_NOT_FOUND : MQG_OK;
    }
    for (uint32_t i = err == MQG_OK ? jrn_stream_row(p, r->offset) : UINT32_MAX;
         i < (p ? p->whole : 0) && *n < max; i++) {
        if (*n > 0 && bytes + p->at[i].len > r->max_bytes)
            break;
        bytes += p->at[i].len;
        atomic_fetch_add(&p->at[i].seg->pins, 1);
        refs[(*n)++] = p->at[i];
    }
    pthread_mutex_unlock(&st->lock);
    return err;
}

static struct mqg_stream_bounds stream_bounds(const struct stream_part *p)
{
    uint64_t end = p->n ? jrn_batch_end(&p->at[p->n - 1]) : p->high;
    return (struct mqg_stream_bounds){p->log_start, p->high, end > p->high ? end : p->high};
}

enum mqg_err jrn_stream_stats(struct mqg_store *s, uint64_t partition, struct mqg_stream_stats *out)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    const struct stream_part *p = jrn_stream_find(st, partition);
    if (p) {
        *out = (struct mqg_stream_stats){.bounds = stream_bounds(p), .segments = p->nfile};
        for (uint32_t i = 0; i < p->nfile; i++)
            out->bytes += p->files[i]->bytes;
        for (uint32_t i = jrn_stream_row(p, p->filed); i < p->n; i++)
            out->bytes += p->at[i].len;
    }
    pthread_mutex_unlock(&st->lock);
    return p ? MQG_OK : MQG_NOT_FOUND;
}

enum mqg_err jrn_stream_bounds(struct mqg_store *s, uint64_t partition, struct mqg_stream_bounds *out)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    const struct stream_part *p = jrn_stream_find(st, partition);
    if (p)
        *out = stream_bounds(p);
    pthread_mutex_unlock(&st->lock);
    return p ? MQG_OK : MQG_NOT_FOUND;
}

void jrn_stream_wait(struct mqg_store *s, uint64_t partition, uint64_t offset)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    struct stream_part *p = jrn_stream_find(st, partition);
    bool now = !p || p->high > offset; /* gone: the reader learns it by reading */
    if (!now)
        *STREAM_PUSH(p, waits, nwait, cap_wait) = offset;
    pthread_mutex_unlock(&st->lock);
    if (now)
        s->host.stream_ready(s->host.host, partition);
}

/* Rows are asked when no file has an answer; those that are filed were asked there. */
uint64_t jrn_stream_row_time(const struct stream_part *p, uint64_t time_ms)
{
    for (uint32_t i = jrn_stream_row(p, p->filed); i < p->whole; i++)
        if (p->at[i].max_time_ms >= time_ms)
            return p->at[i].base_offset > p->log_start ? p->at[i].base_offset : p->log_start;
    return p->high;
}

bool jrn_stream_gone(struct mqg_store *s, uint64_t partition)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    uint32_t at = jrn_map_get(&st->part_of, partition);
    bool gone = at != JRN_MAP_NONE && st->parts[at]->gone;
    pthread_mutex_unlock(&st->lock);
    return gone;
}

bool jrn_stream_removed(struct mqg_store *s, uint64_t partition)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    uint32_t at = jrn_map_get(&st->part_of, partition);
    bool removed = at != JRN_MAP_NONE && st->parts[at]->removed;
    pthread_mutex_unlock(&st->lock);
    return removed;
}

bool jrn_stream_starts(struct mqg_store *s, struct mqg_slice trim)
{
    struct jrn_streams *st = s->streams;
    struct jrn_triple t;
    if (!jrn_rec_trim(trim, &t))
        return false;
    pthread_mutex_lock(&st->lock);
    const struct stream_part *p = jrn_stream_find(st, t.a);
    bool starts = p && t.b >= p->log_start;
    pthread_mutex_unlock(&st->lock);
    return starts;
}

uint64_t jrn_streams_bytes(struct mqg_store *s)
{
    struct jrn_streams *st = s->streams;
    uint64_t bytes = 0;
    pthread_mutex_lock(&st->lock);
    for (uint32_t i = 0; i < st->npart; i++)
        for (uint32_t k = 0; k < st->parts[i]->nfile; k++)
            bytes += st->parts[i]->files[k]->bytes;
    pthread_mutex_unlock(&st->lock);
    return bytes;
}

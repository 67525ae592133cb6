/* cold.c - see cold.h. */
#include "leave.h"

#include <errno.h>
#include <sys/uio.h>

static void cold_insert(struct mqg_store *s, struct jrn_seg *seg)
{
    pthread_mutex_lock(&s->seg_lock);
    seg->seq = JRN_SEQ_COLD | ++s->next_cold;
    atomic_store(&seg->state, JRN_COLD);
    seg->next = s->segs; /* in front: the last of the list is the tail of the main log */
    s->segs = seg;
    if (!s->segs_last)
        s->segs_last = seg;
    s->nseg++;
    pthread_mutex_unlock(&s->seg_lock);
}

/* A file with room for the frame. The committer's only spare is left to it. */
static int cold_open(struct mqg_store *s, struct jrn_cold *cold, uint64_t need)
{
    struct jrn_seg *seg = NULL;
    bool oversized = JRN_HEADER_BYTES + need > s->segment_bytes;
    pthread_mutex_lock(&s->seg_lock);
    bool plenty = s->nspare > 1;
    pthread_mutex_unlock(&s->seg_lock);
    int r = 0;
    if (!oversized && plenty)
        seg = jrn_spare_take(s);
    if (!seg)
        r = jrn_seg_create(s, oversized ? JRN_HEADER_BYTES + need : s->segment_bytes, oversized, !oversized,
                           &seg);
    if (r < 0)
        return r;
    cold_insert(s, seg);
    *cold = (struct jrn_cold){.seg = seg, .number = 0, .end = JRN_HEADER_BYTES};
    return 0;
}

static int cold_frame(struct mqg_store *s, struct jrn_cold *cold, struct jrn_chunk *c)
{
    uint8_t head[JRN_FRAME_HEAD];
    struct jrn_seg *seg = cold->seg;
    struct jrn_frame f = {.seq = seg->seq,
                          .number = cold->number + 1,
                          .term = s->com.term,
                          .offset = cold->end,
                          .length = (uint32_t)(JRN_FRAME_HEAD + c->total),
                          .chunks = 1,
                          .records = c->records};
    f.chunks_crc = jrn_crc32c(jrn_chunks_crc_begin(&seg->use), c->arena, JRN_CHUNK_HEAD);
    jrn_frame_encode(head, &seg->use, &f);
    struct iovec iov[2] = {{head, sizeof head}, {c->arena, c->len}};
    c->seg = seg;
    c->place = cold->end + JRN_FRAME_HEAD;
    int r = jrn_fs_write(s->fs, seg->fd, iov, 2, cold->end);
    if (r == 0)
        r = jrn_fs_sync(s->fs, seg->fd);
    return r;
}

static struct jrn_part *cold_part(struct jrn_part *parts, uint32_t *n, struct jrn_seg *seg)
{
    for (uint32_t i = 0; i < *n; i++)
        if (parts[i].seg == seg)
            return &parts[i];
    if (*n == JRN_PARTS_MAX)
        return NULL;
    parts[*n] = (struct jrn_part){.seg = seg};
    return &parts[(*n)++];
}

static bool cold_has(const struct jrn_part *parts, uint32_t n, const struct jrn_seg *seg)
{
    for (uint32_t i = 0; i < n; i++)
        if (parts[i].seg == seg)
            return true;
    return false;
}

int jrn_cold_append(struct mqg_store *s, struct jrn_cold *cold, struct jrn_chunk *c, struct jrn_part *parts,
                    uint32_t *nparts)
{
    uint64_t need = jrn_round_block(JRN_FRAME_HEAD + c->total);
    MQG_ASSERT(c->npiece == 0);
    if (cold->seg && cold->seg->bytes - cold->end < need) {
        if (!cold_has(parts, *nparts, cold->seg)) /* nothing new in it */
            atomic_store(&cold->seg->state, JRN_CLOSED);
        *cold = (struct jrn_cold){.seg = NULL};
    }
    int r = cold->seg ? 0 : *nparts == JRN_PARTS_MAX ? -E2BIG : cold_open(s, cold, need);
    if (r < 0)
        return r;
    struct jrn_part *part = cold_part(parts, nparts, cold->seg);
    if (!part)
        return -E2BIG;
    r = cold_frame(s, cold, c);
    if (r < 0)
        return r;
    cold->end += need;
    part->last_number = ++cold->number;
    part->end = cold->end;
    return 0;
}

/* A segment that was begun for nothing goes; one that was continued is as it was. */
void jrn_cold_undo(struct mqg_store *s, struct jrn_cold *cold, const struct jrn_part *parts, uint32_t nparts)
{
    for (uint32_t i = 0; i < nparts; i++) {
        struct jrn_seg *seg = parts[i].seg;
        if (!seg->promised) {
            if (cold->seg == seg)
                cold->seg = NULL;
            jrn_seg_remove(s, seg);
            jrn_leave_reuse(s, seg);
        } else if (cold->seg == seg) {
            cold->end = cold->sure_end;
            cold->number = cold->sure_number;
        } else {
            atomic_store(&seg->state, JRN_CLOSED);
        }
    }
    if (cold->seg && !cold->seg->promised) { /* opened, and nothing got into it */
        struct jrn_seg *seg = cold->seg;
        cold->seg = NULL;
        jrn_seg_remove(s, seg);
        jrn_leave_reuse(s, seg);
    }
}

void jrn_cold_promise(struct jrn_cold *cold, const struct jrn_part *parts, uint32_t nparts)
{
    for (uint32_t i = 0; i < nparts; i++) {
        parts[i].seg->promised = true;
        parts[i].seg->promised_end = parts[i].end;
    }
    cold->sure_end = cold->end;
    cold->sure_number = cold->number;
}

void jrn_cold_keep(struct jrn_cold *cold, const struct jrn_part *parts, uint32_t nparts)
{
    for (uint32_t i = 0; i < nparts; i++)
        if (parts[i].seg != cold->seg)
            atomic_store(&parts[i].seg->state, JRN_CLOSED);
}

void jrn_cold_adopted(struct mqg_store *s, const struct jrn_chunk *c)
{
    pthread_mutex_lock(&s->seg_lock);
    for (uint32_t i = 0; i < c->nparts; i++) {
        struct jrn_seg *seg = c->parts[i].seg;
        seg->last_number = c->parts[i].last_number;
        atomic_store(&seg->end, c->parts[i].end);
        seg->adopted = true;
    }
    pthread_mutex_unlock(&s->seg_lock);
}

void jrn_cold_reopen(struct mqg_store *s, struct jrn_cold *cold)
{
    struct jrn_seg *best = NULL;
    uint64_t room = s->segment_bytes / 4;
    pthread_mutex_lock(&s->seg_lock);
    for (struct jrn_seg *seg = s->segs; seg; seg = seg->next) {
        if (!jrn_seg_is_cold(seg))
            continue;
        seg->promised = true;
        if ((seg->seq & ~JRN_SEQ_COLD) > s->next_cold)
            s->next_cold = seg->seq & ~JRN_SEQ_COLD;
        uint64_t left = seg->bytes - atomic_load(&seg->end);
        if (left > room && !seg->oversized) {
            best = seg;
            room = left;
        }
    }
    pthread_mutex_unlock(&s->seg_lock);
    *cold = (struct jrn_cold){.seg = best};
    if (!best)
        return;
    cold->end = cold->sure_end = atomic_load(&best->end);
    cold->number = cold->sure_number = best->last_number;
    atomic_store(&best->state, JRN_COLD);
}

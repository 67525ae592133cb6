/* part_walk.c - a closed file from its first batch to its last, for a compaction pass.
 *
 * Nothing damaged may be written anew as if it were whole: each batch is checked, must begin where the one before it ends, and the
 * file must go on to its end. */
#include "part_pass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum { WALK_WINDOW = 1 << 20 };

int jrn_part_walk_enter(struct part_walk *w, struct mqg_store *s, struct part_file *f, uint64_t bytes,
                        uint64_t end)
{
    *w = (struct part_walk){.s = s, .f = f, .bytes = bytes, .next = f->base, .end = end};
    w->fd = jrn_part_file_open(s, f, O_RDWR);
    return w->fd < 0 ? w->fd : 0;
}

void jrn_part_walk_leave(struct part_walk *w)
{
    if (w->fd >= 0)
        jrn_part_file_unpin(w->s, w->f);
    free(w->buf);
}

static int walk_bytes(struct part_walk *w, size_t n)
{
    if (w->pos >= w->at && w->pos + n <= w->at + w->have)
        return 0;
    size_t want = n > WALK_WINDOW ? n : WALK_WINDOW;
    want = want < w->bytes - w->pos ? want : (size_t)(w->bytes - w->pos);
    if (want > w->cap) {
        w->buf = mqg_xrealloc(w->buf, want);
        w->cap = want;
    }
    ssize_t got = jrn_fs_read(w->s->fs, w->fd, w->buf, want, w->pos);
    w->at = w->pos;
    w->have = got > 0 ? (size_t)got : 0;
    return got < 0 ? (int)got : w->have < n ? -EBADMSG : 0;
}

/* Is the batch where the one before it says? What an earlier version compacted has gaps. */
static bool walk_follows(const struct part_walk *w, const struct part_batch *b)
{
    return (w->f->gaps ? b->base >= w->next : b->base == w->next) && b->end <= w->end;
}

static int walk_damaged(const struct part_walk *w)
{
    char name[PART_NAME];
    jrn_part_name(w->f, "log", "", name);
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION,
            "store=%s file=%s at=%llu what=\"a batch does not check; the partition is not compacted\"",
            w->s->section, name, (unsigned long long)w->pos);
    return -EBADMSG;
}

int jrn_part_walk_next(struct part_walk *w, struct part_batch *b, struct mqg_slice *whole)
{
    if (w->pos == w->bytes)
        return w->f->gaps || w->next == w->end ? 0 : walk_damaged(w);
    int r = walk_bytes(w, PART_BATCH_HEAD);
    if (r == 0 && !jrn_part_batch_head(mqg_slice_of(w->buf + (w->pos - w->at), PART_BATCH_HEAD), b))
        r = -EBADMSG;
    if (r == 0)
        r = b->len <= w->bytes - w->pos ? walk_bytes(w, b->len) : -EBADMSG;
    if (r < 0)
        return r == -EBADMSG ? walk_damaged(w) : r;
    *whole = mqg_slice_of(w->buf + (w->pos - w->at), b->len);
    if (!walk_follows(w, b) || !jrn_part_batch_sum(whole->ptr, b))
        return walk_damaged(w);
    w->pos += b->len;
    w->next = b->end;
    return 1;
}

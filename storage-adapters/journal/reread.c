/* reread.c - see reread.h. A window of 1 MiB, larger only for a frame that is. */
#include "reread.h"

#include <stdlib.h>

enum { REREAD_WINDOW = 1 << 20 };

struct reread {
    struct mqg_store *s;
    struct jrn_seg *seg;
    jrn_reread_fn fn;
    void *arg;
    uint8_t *buf;
    size_t cap, wanted; /* wanted: bytes of a frame that is larger than the window */
    bool damaged;
};

/* The frame at p; its length, or 0: not whole in the window, bad, or enough. */
static size_t reread_frame(struct reread *rr, const uint8_t *p, size_t have, uint64_t off)
{
    struct jrn_frame f;
    struct mqg_slice head = mqg_slice_of(p, have < JRN_FRAME_HEAD ? have : JRN_FRAME_HEAD);
    if (head.len < JRN_FRAME_HEAD) {
        rr->wanted = JRN_FRAME_HEAD;
        return 0;
    }
    if (jrn_frame_head(head, &rr->seg->use, off, &f) != MQG_OK || f.length > rr->seg->bytes) {
        rr->damaged = true;
        return 0;
    }
    rr->wanted = f.length;
    if (f.length > have)
        return 0;
    rr->damaged = jrn_frame_check(mqg_slice_of(p, f.length), &rr->seg->use, &f) != MQG_OK;
    if (rr->damaged || !rr->fn(rr->arg, off, mqg_slice_of(p, f.length)))
        return 0;
    return (size_t)jrn_round_block(f.length);
}

/* One window from off on: how many bytes of it are done; *enough: fn said so. */
static size_t reread_window(struct reread *rr, uint64_t off, uint64_t end, bool *enough)
{
    ssize_t got = jrn_fs_read(rr->s->fs, rr->seg->fd, rr->buf, rr->cap, off);
    size_t at = 0, n;
    rr->damaged = got <= 0;
    while (!rr->damaged && off + at < end && at < (size_t)got) {
        n = reread_frame(rr, rr->buf + at, (size_t)got - at, off + at);
        *enough = n == 0 && !rr->damaged && rr->wanted <= (size_t)got - at;
        if (n == 0)
            break;
        at += n;
    }
    return at;
}

bool jrn_reread(struct mqg_store *s, struct jrn_seg *seg, jrn_reread_fn fn, void *arg)
{
    struct reread rr = {.s = s, .seg = seg, .fn = fn, .arg = arg, .cap = REREAD_WINDOW};
    uint64_t off = JRN_HEADER_BYTES, end = atomic_load(&seg->end);
    bool enough = false;
    rr.buf = mqg_xmalloc(rr.cap);
    while (off < end && !rr.damaged && !enough) {
        size_t done = reread_window(&rr, off, end, &enough);
        if (done == 0 && !rr.damaged && !enough) {
            rr.damaged = rr.wanted <= rr.cap || rr.wanted > seg->bytes - off; /* the file is shorter */
            rr.cap = rr.damaged ? rr.cap : rr.wanted;
            rr.buf = mqg_xrealloc(rr.buf, rr.cap);
        }
        off += done;
    }
    free(rr.buf);
    if (rr.damaged)
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "store=%s file=%s at=%llu what=%s", s->section,
                seg->name, (unsigned long long)off,
                mqg_logqs("a frame that had been confirmed cannot be read; the file is kept"));
    return !rr.damaged && !enough;
}

/* last.c - the witness of the last segment: a small file that says which segment was in use last.
 *
 *   last    slot 0 at 0, slot 1 at 512, written in turn; the valid one with the higher count holds
 *   slot     0  8 "MQGJLAST"        16 16 journal uuid      48  8 count: of writes
 *   (512)    8  2 version = 1       32  8 sequence          56  452 zero
 *           10  6 zero              40  8 zero             508  4 crc32c of the first 508
 *
 * Every other segment is named by a manifest, but the tail only by itself: if its file vanishes (an operator, a file system
 * check), the one before it would pass for the tail, and all that was confirmed since would be missing in silence. So the keeper
 * notes the tail's sequence, and a start that does not find a sequence as high says what is missing.
 *
 * No false alarm. The note is written only after a sync that covers the segment's first frame: what it speaks of was durable
 * before, whatever of the note itself survives a power cut. A note that is late, missing, or does not check says nothing; so a
 * failure to write it is no failure of the store, and it is written again. */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>

#define LAST_MAGIC "MQGJLAST"

enum { LAST_VERSION = 1, LAST_SLOT = 512, LAST_AGAIN_US = 10 * 1000 * 1000 };

static void last_encode(uint8_t out[LAST_SLOT], const struct mqg_store *s, uint64_t seq, uint64_t count)
{
    memset(out, 0, LAST_SLOT);
    memcpy(out, LAST_MAGIC, 8);
    mqg_put_le16(out + 8, LAST_VERSION);
    memcpy(out + 16, s->uuid, 16);
    mqg_put_le64(out + 32, seq);
    mqg_put_le64(out + 48, count);
    mqg_put_le32(out + 508, jrn_crc32c(0, out, 508));
}

static bool last_is(const uint8_t in[LAST_SLOT])
{
    return memcmp(in, LAST_MAGIC, 8) == 0 && mqg_le32(in + 508) == jrn_crc32c(0, in, 508);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

enum mqg_err jrn_last_read(struct mqg_store *s, struct mqg_error *e)
{
    uint8_t slots[2 * LAST_SLOT] = {0};
    char path[4096];
    jrn_path(s, "last", path);
    int fd = s->fs->open(s->fs->ctx, path, O_RDONLY);
    if (fd == -ENOENT)
        return MQG_OK;
    ssize_t got = fd < 0 ? fd : jrn_fs_read(s->fs, fd, slots, sizeof slots, 0);
    if (fd >= 0)
        s->fs->close(s->fs->ctx, fd);
    if (got < 0)
        return mqg_error_set(e, MQG_IO, 0, "read of %s: %s", path, jrn_errno((int)got));
    for (int i = 0; i < 2; i++) {
        const uint8_t *slot = slots + (size_t)i * LAST_SLOT;
        if (!last_is(slot))
            continue;
        if (mqg_le16(slot + 8) > LAST_VERSION)
            return mqg_error_set(e, MQG_UNSUPPORTED, 0, "%s: format version %u, this program knows %d", path,
                                 mqg_le16(slot + 8), LAST_VERSION);
        if (mqg_le64(slot + 48) > s->last.count) {
            s->last.count = mqg_le64(slot + 48);
            s->last.seq = mqg_le64(slot + 32);
            memcpy(s->last.uuid, slot + 16, 16);
        }
    }
    return MQG_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static int last_write(struct mqg_store *s, uint64_t seq)
{
    uint8_t slot[LAST_SLOT];
    char path[4096];
    uint64_t count = s->last.count + 1;
    struct iovec iov = {slot, sizeof slot};
    last_encode(slot, s, seq, count);
    jrn_path(s, "last", path);
    int fd = s->fs->open(s->fs->ctx, path, O_RDWR | O_CREAT);
    if (fd < 0)
        return fd;
    int r = jrn_fs_write(s->fs, fd, &iov, 1, count % 2 * LAST_SLOT);
    if (r == 0)
        r = jrn_fs_sync(s->fs, fd);
    s->fs->close(s->fs->ctx, fd);
    if (r == 0 && !s->last.named)
        r = s->fs->fsync_dir(s->fs->ctx, s->path);
    s->last.named = s->last.named || r == 0;
    s->last.count = count;
    return r;
}

void jrn_last_note(struct mqg_store *s)
{
    uint64_t seq = atomic_load(&s->last.sure_seq), now = mqg_clock_mono_us();
    bool ours = memcmp(s->last.uuid, s->uuid, 16) == 0;
    if (seq == 0 || (seq == s->last.seq && ours) || now < s->last.again_us)
        return;
    int r = last_write(s, seq);
    if (r == 0) {
        s->last.seq = seq;
        memcpy(s->last.uuid, s->uuid, 16);
        return;
    }
    s->last.again_us = now + LAST_AGAIN_US;
    mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=not_noted file=last error=%s", s->section,
            mqg_logqs(jrn_errno(r)));
}

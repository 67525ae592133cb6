/* load.c - messages read back. */
#include "journal.h"

#include <stdlib.h>

/* The record as it stands in the file: head, then the stored form; checked against its own sum. */
static struct mqg_msg *load_msg(const uint8_t *p, uint32_t len, enum mqg_err *err)
{
    *err = MQG_CORRUPT;
    if (p[8] != JRN_REC_MSG || mqg_le32(p + 12) != len)
        return NULL;
    if (mqg_le32(p) != mqg_crc32c(mqg_le32(p + 4), p + 4, JRN_REC_HEAD - 4 + len))
        return NULL;
    *err = MQG_OK;
    return mqg_msg_from_stored(mqg_slice_of(p + JRN_REC_HEAD, len), err);
}

void jrn_load(struct mqg_store *s, struct mqg_load_req *req)
{
    for (uint32_t i = 0; i < req->n; i++) {
        struct mqg_load *it = &req->items[i];
        struct jrn_seg *seg = it->extent->owner;
        uint64_t place = atomic_load(&it->extent->place);
        uint8_t *buf = malloc(JRN_REC_HEAD + (size_t)it->len);
        it->msg = NULL;
        it->err = place == MQG_PLACE_NONE ? MQG_AGAIN : MQG_IO;
        ssize_t want = (ssize_t)JRN_REC_HEAD + it->len;
        if (buf && it->err == MQG_IO &&
            jrn_fs_read(s->fs, seg->fd, buf, (size_t)want, place + it->off - JRN_REC_HEAD) == want)
            it->msg = load_msg(buf, it->len, &it->err);
        free(buf);
    }
    req->done(req);
}
struct jrn_readers *jrn_readers_new(struct mqg_store *s) { (void)s; return NULL; }
int jrn_readers_start(struct jrn_readers *r) { (void)r; return 0; }
void jrn_readers_stop(struct jrn_readers *r) { (void)r; }
void jrn_readers_free(struct jrn_readers **r) { (void)r; }

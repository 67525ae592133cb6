/* fetch_down.c - what a fetch of versions 0 to 3 gets: batches made message sets (legacy.h), for consumers of before 0.11.
 *
 * The only place where a fetch looks into batches, so it is bounded: what is decompressed for one answer beside its first
 * partition, what one batch may become, how far reading goes on over what such a client is not shown (markers of transactions). What
 * was converted is sent and forgotten: who is old is served, not cached for. */
#include "fetch.h"
#include "legacy.h"

enum { DOWN_KEEP = 4 << 20 };

static _Thread_local struct mqg_dynbuf down_scratch, down_out;

static void down_begin(void)
{
    if (down_out.max == 0) {
        mqg_dynbuf_init(&down_out, kafka_settings.fetch_max_bytes);
        mqg_dynbuf_init(&down_scratch, kafka_settings.fetch_max_bytes);
    }
    mqg_dynbuf_reset(&down_out);
}

void fetch_down_stop(void)
{
    if (down_out.max == 0)
        return;
    mqg_dynbuf_fini(&down_out);
    mqg_dynbuf_fini(&down_scratch);
    down_out.max = 0;
}

static enum kafka_error down_error(enum mqg_err err)
{
    return err == MQG_UNSUPPORTED ? KAFKA_UNSUPPORTED_COMPRESSION_TYPE
           : err == MQG_TOO_LARGE ? KAFKA_MESSAGE_TOO_LARGE
                                  : KAFKA_CORRUPT_MESSAGE;
}

static size_t down_room(const struct fetch_part *p)
{
    const struct fetch_set *set = p->set;
    int64_t room = set->max_bytes - set->bytes, mine = p->max_bytes > 0 ? p->max_bytes : 1;
    return room < mine ? (room > 0 ? (size_t)room : 1) : (size_t)mine;
}

static enum mqg_err down_convert(struct fetch_part *p)
{
    struct kafka_legacy_down want = {
        .magic = p->set->magic, .from = (uint64_t)p->offset, .max_bytes = down_room(p)};
    down_begin();
    enum mqg_err err = kafka_legacy_down(p->records, &want, &down_scratch, &down_out);
    p->set->plain_bytes += want.plain_bytes;
    fetch_part_release(p);
    p->data = err == MQG_OK && down_out.len > 0 ? mqg_buf_new(down_out.len) : NULL;
    if (p->data == NULL)
        return err != MQG_OK || down_out.len == 0 ? err : MQG_NO_MEMORY;
    memcpy(p->data->data, down_out.ptr, down_out.len);
    p->records = mqg_slice_of(p->data->data, p->data->len);
    return MQG_OK;
}

enum fetch_down fetch_part_down(struct fetch_part *p, enum kafka_error *code)
{
    struct fetch_set *set = p->set;
    if (set->bytes > 0 &&
        (set->bytes >= set->max_bytes || set->plain_bytes >= kafka_settings.fetch_max_bytes)) {
        fetch_part_release(p);
        return FETCH_DOWN_LATER;
    }
    enum mqg_err err = down_convert(p);
    if (down_out.cap > DOWN_KEEP || down_scratch.cap > DOWN_KEEP)
        fetch_down_stop();
    if (err != MQG_OK) {
        *code = down_error(err);
        return FETCH_DOWN_FAILED;
    }
    return p->records.len > 0 ? FETCH_DOWN_DATA : FETCH_DOWN_NOTHING;
}

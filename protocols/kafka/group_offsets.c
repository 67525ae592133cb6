/* group_offsets.c - the rows of one group, and their form in the store; group_offsets.h says why. */
#include "group_offsets.h"

static struct group_offset *offset_new(const struct kafka_offset_row *row)
{
    struct group_offset *f = mqg_xmalloc(sizeof *f + row->topic.len + row->metadata.len);
    *f = (struct group_offset){.row = *row};
    if (row->topic.len > 0)
        memcpy(f->bytes, row->topic.ptr, row->topic.len);
    if (row->metadata.len > 0)
        memcpy(f->bytes + row->topic.len, row->metadata.ptr, row->metadata.len);
    f->row.topic.ptr = f->bytes;
    if (row->metadata.ptr != NULL)
        f->row.metadata.ptr = f->bytes + row->topic.len;
    return f;
}

static struct mqg_slice offset_key(const uint64_t *partition_id)
{
    return mqg_slice_of(partition_id, sizeof *partition_id);
}

void group_offsets_init(struct group_offsets *o)
{
    *o = (struct group_offsets){.number = 0};
    mqg_map_init(&o->rows, MQG_MAP_BORROW);
}

static void pending_free(struct group_pending *p)
{
    for (size_t i = 0; i < p->rows.n; i++)
        free(p->rows.items[i]);
    mqg_vec_fini(&p->rows);
    free(p);
}

void group_offsets_fini(struct group_offsets *o)
{
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&o->rows, &it);)
        free(it.value);
    mqg_map_fini(&o->rows);
    for (size_t i = 0; i < o->pending.n; i++)
        pending_free(o->pending.items[i]);
    mqg_vec_fini(&o->pending);
}

uint64_t group_offsets_number(struct group_offsets *o)
{
    return ++o->number;
}

static void offset_put(struct group_offsets *o, struct group_offset *f, uint64_t number)
{
    const struct group_offset *old = mqg_map_get(&o->rows, offset_key(&f->row.partition_id));
    f->number = number;
    if (old != NULL && old->number > number) {
        free(f);
        return;
    }
    free(mqg_map_set(&o->rows, offset_key(&f->row.partition_id), f));
}

void group_offsets_set(struct group_offsets *o, const struct kafka_offset_row *row, uint64_t number)
{
    offset_put(o, offset_new(row), number);
}

const struct kafka_offset_row *group_offsets_get(const struct group_offsets *o, uint64_t partition_id)
{
    const struct group_offset *f = mqg_map_get(&o->rows, offset_key(&partition_id));
    return f != NULL ? &f->row : NULL;
}

bool group_offsets_forget(struct group_offsets *o, uint64_t partition_id)
{
    struct group_offset *f = mqg_map_del(&o->rows, offset_key(&partition_id));
    free(f);
    return f != NULL;
}

size_t group_offsets_count(const struct group_offsets *o)
{
    return o->rows.count;
}

/* ---- transactions ------------------------------------------------------------------------------------------------------- */

struct group_pending *group_offsets_pending(const struct group_offsets *o, int64_t producer_id)
{
    for (size_t i = 0; i < o->pending.n; i++) {
        struct group_pending *p = o->pending.items[i];
        if (p->producer_id == producer_id)
            return p;
    }
    return NULL;
}

static size_t pending_row(const struct group_pending *p, uint64_t partition_id)
{
    for (size_t i = 0; i < p->rows.n; i++)
        if (((const struct group_offset *)p->rows.items[i])->row.partition_id == partition_id)
            return i;
    return SIZE_MAX;
}

void group_offsets_hold(struct group_offsets *o, int64_t producer_id, const struct kafka_offset_row *row)
{
    struct group_pending *p = group_offsets_pending(o, producer_id);
    if (p == NULL) {
        p = mqg_xcalloc(1, sizeof *p);
        p->producer_id = producer_id;
        mqg_vec_push(&o->pending, p);
    }
    size_t at = pending_row(p, row->partition_id);
    if (at == SIZE_MAX) {
        mqg_vec_push(&p->rows, offset_new(row));
        return;
    }
    free(p->rows.items[at]);
    p->rows.items[at] = offset_new(row);
}

bool group_offsets_unstable(const struct group_offsets *o, uint64_t partition_id)
{
    for (size_t i = 0; i < o->pending.n; i++)
        if (pending_row(o->pending.items[i], partition_id) != SIZE_MAX)
            return true;
    return false;
}

void group_offsets_release(struct group_offsets *o, int64_t producer_id, bool committed, uint64_t number)
{
    struct group_pending *p = group_offsets_pending(o, producer_id);
    if (p == NULL)
        return;
    for (size_t i = 0; committed && i < p->rows.n; i++) {
        offset_put(o, p->rows.items[i], number);
        p->rows.items[i] = NULL;
    }
    mqg_vec_remove_swap(&o->pending, mqg_vec_find(&o->pending, p));
    pending_free(p);
}

/* ---- retention ------------------------------------------------------------------------------------------------------------ */

static bool offset_due(const struct kafka_offset_row *r, uint64_t now_ms, uint64_t retention_ms,
                       uint64_t since_ms)
{
    if (r->expire_ms > 0)
        return now_ms >= r->expire_ms;
    uint64_t from = r->commit_ms > since_ms ? r->commit_ms : since_ms;
    return now_ms >= from && now_ms - from >= retention_ms;
}

size_t group_offsets_expire(struct group_offsets *o, uint64_t now_ms, uint64_t retention_ms,
                            uint64_t since_ms, bool (*kept)(void *arg, struct mqg_slice topic),
                            void (*gone)(void *arg, const struct kafka_offset_row *row), void *arg)
{
    size_t n = 0;
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&o->rows, &it);) {
        struct group_offset *f = it.value;
        if (!offset_due(&f->row, now_ms, retention_ms, since_ms) ||
            group_offsets_unstable(o, f->row.partition_id) || (kept != NULL && kept(arg, f->row.topic)))
            continue;
        gone(arg, &f->row);
        (void)mqg_map_del(&o->rows, it.key);
        free(f);
        n++;
    }
    return n;
}

/* ---- the store's form ------------------------------------------------------------------------------------------------------ */

enum { POSITION_VERSION = 1, POSITION_NULL = 1 };

struct mqg_slice group_position_encode(const struct kafka_offset_row *row, uint8_t *out)
{
    out[0] = POSITION_VERSION;
    out[1] = row->metadata.ptr == NULL ? POSITION_NULL : 0;
    mqg_put_le32(out + 2, (uint32_t)row->leader_epoch);
    mqg_put_le64(out + 6, row->commit_ms);
    mqg_put_le64(out + 14, row->expire_ms);
    if (row->metadata.len > 0)
        memcpy(out + GROUP_POSITION_HEAD_BYTES, row->metadata.ptr, row->metadata.len);
    return mqg_slice_of(out, GROUP_POSITION_HEAD_BYTES + row->metadata.len);
}

void group_position_decode(struct mqg_slice in, uint64_t now_ms, struct kafka_offset_row *row)
{
    row->leader_epoch = -1;
    row->commit_ms = now_ms;
    row->expire_ms = 0;
    row->metadata = MQG_SLICE_LIT("");
    if (in.len < GROUP_POSITION_HEAD_BYTES || in.ptr[0] != POSITION_VERSION)
        return;
    row->leader_epoch = (int32_t)mqg_le32(in.ptr + 2);
    row->commit_ms = mqg_le64(in.ptr + 6);
    row->expire_ms = mqg_le64(in.ptr + 14);
    row->metadata = mqg_slice_of(in.ptr + GROUP_POSITION_HEAD_BYTES, in.len - GROUP_POSITION_HEAD_BYTES);
    if ((in.ptr[1] & POSITION_NULL) != 0)
        row->metadata = (struct mqg_slice){NULL, 0};
}

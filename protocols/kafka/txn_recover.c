/* txn_recover.c - what a start makes of the records of transactional ids.
 *
 * An open transaction is open again: its partitions hold readers back, its positions wait. Of one that was ended everything
 * stands in one group of the store, with one exception: offsets are given before durability, so a crash may leave a gap in a
 * partition, and the store then cuts the log there. A marker behind it is gone, while the decision stays. So each marker that the
 * record names is looked for, and written again where the log ends before it. The record keeps the list until the markers are
 * safe (txn_table.c waits for that), hence none can be missed.
 *
 * All of it happens on the main thread before workers run, so that no reader sees the partition without its marker. */
#include "producer_part.h"
#include "txn_table.h"

#include <stdlib.h>

static struct mqg_vec found; /* of struct kafka_txn */

static void recover_record(struct mqg_slice key, struct mqg_slice value)
{
    struct kafka_txn *t = kafka_txn_read(value);
    if (t == NULL)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_RECOVERY, "what=transaction dropped=true why=damaged key=%.*s",
                MQG_SLICE_FMT(key));
    else
        mqg_vec_push(&found, t);
}

/* The record's transaction, moved to the table's. NULL: its vhost is gone. */
static struct kafka_txn *recover_take(struct kafka_txn *t)
{
    struct mqg_vhost *v = mqg_vhost_find(t->vhost);
    struct kafka_txn *mine = v != NULL ? kafka_txns_take(v, t->id) : NULL;
    if (mine == NULL)
        return NULL;
    mine->producer_id = t->producer_id;
    mine->epoch = t->epoch;
    mine->last_epoch = t->last_epoch;
    mine->rotated_id = t->rotated_id;
    mine->timeout_ms = t->timeout_ms;
    for (size_t i = 0; i < t->nparts; i++)
        kafka_txn_add_part(mine, t->parts[i].partition, t->parts[i].first, t->start_ms);
    for (size_t i = 0; i < t->nparts; i++)
        mine->parts[i].marker = t->parts[i].marker;
    mine->groups = t->groups;
    t->groups = (struct mqg_vec){NULL, 0, 0};
    mine->start_ms = t->start_ms;
    mine->update_ms = t->update_ms;
    mine->state = t->state;
    return mine;
}

static void recover_rows(struct mqg_vhost *v, const struct kafka_txn *t)
{
    for (size_t i = 0; i < t->groups.n; i++) {
        const struct kafka_txn_group *g = t->groups.items[i];
        for (size_t k = 0; k < g->rows.n; k++)
            kafka_offsets_hold(v, g->name, t->producer_id, &((struct kafka_txn_row *)g->rows.items[k])->row,
                               1);
    }
}

static void recover_open(const struct kafka_txn *t)
{
    for (size_t i = 0; i < t->nparts; i++) {
        struct mqg_partition *p = mqg_partition_find(t->parts[i].partition);
        struct mqg_stream *s = p != NULL ? mqg_partition_stream(p) : NULL;
        if (p == NULL)
            continue;
        kafka_part_begin_found(p, t->producer_id, t->epoch, t->parts[i].first);
        mqg_stream_unref(&s);
    }
    recover_rows(mqg_vhost_find(t->vhost), t);
}

/* True: the marker was lost, and is written again. */
static bool recover_marker(const struct kafka_txn *t, struct kafka_txn_part *part)
{
    struct mqg_stream_bounds b;
    struct mqg_partition *p = part->marker != MQG_OFFSET_NONE ? mqg_partition_find(part->partition) : NULL;
    if (p == NULL)
        return false;
    struct mqg_stream *s = mqg_partition_stream(p);
    bool lost = mqg_partition_bounds(p, &b) == MQG_OK && b.log_end <= part->marker;
    if (lost) {
        struct kafka_marker m = {.producer_id = t->producer_id,
                                 .epoch = t->epoch,
                                 .commit = t->state == KAFKA_TXN_COMPLETE_COMMIT};
        kafka_part_begin_found(p, t->producer_id, t->epoch, part->first);
        lost = kafka_part_end(p, &m) == MQG_OK;
        part->marker = m.offset;
    }
    mqg_stream_unref(&s);
    return lost;
}

static void recover_ended(struct kafka_txn *t)
{
    size_t again = 0;
    for (size_t i = 0; i < t->nparts; i++)
        again += recover_marker(t, &t->parts[i]);
    if (again > 0) {
        kafka_txns_write(t);
        t->busy = 0; /* nobody is served before it is handed to the store */
        mqg_log(MQG_LOG_WARN, MQG_EVENT_RECOVERY, "what=transaction markers_again=%zu id=%s", again,
                mqg_logq(t->id));
    }
    kafka_txn_forget(t);
}

static void recover_end(void)
{
    kafka_txns_lock();
    kafka_parts_recovered();
    for (size_t i = 0; i < found.n; i++) {
        struct kafka_txn *read = found.items[i], *t = recover_take(read);
        if (t == NULL)
            kafka_txns_erase(read);
        kafka_txn_free(&read);
        if (t != NULL && t->state == KAFKA_TXN_ONGOING)
            recover_open(t);
        else if (t != NULL)
            recover_ended(t);
    }
    mqg_vec_fini(&found);
    (void)mqg_lane_submit(mqg_storage_default());
    kafka_txns_unlock();
}

void kafka_txns_load(void)
{
    mqg_meta_on_recover(KAFKA_ABORT_PREFIX, kafka_parts_abort_record, NULL);
    mqg_meta_on_recover(KAFKA_TXN_PREFIX, recover_record, recover_end);
}

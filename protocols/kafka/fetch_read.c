/* fetch_read.c - looking at partitions that are ready: where the log stands, and what lies behind the offset.
 *
 * The store answers most reads at once; for the others the set waits until all are back. What comes are whole batches in a
 * buffer that other readers of the same place share. With read_committed nothing beyond the last stable offset is shown: the
 * buffer is cut before the batch that begins there. */
#include "fetch.h"
#include "producer_part.h"

/* ---- checks ------------------------------------------------------------------------------------------------------------------- */

static struct mqg_partition *part_resolve(struct fetch_part *p, enum kafka_error *code)
{
    struct mqg_slice topic = fetch_part_topic(p);
    struct kafka_conn *kc = p->set->conn;
    if (!p->set->by_id)
        return kafka_partition(kc, topic, p->index, MQG_READ, code);
    struct kafka_uuid id;
    memcpy(id.bytes, topic.ptr, sizeof id.bytes);
    return kafka_partition_by_id(kc, &id, p->index, MQG_READ, code);
}

static void part_failed(struct fetch_part *p, enum kafka_error code)
{
    p->code = code;
    p->set->errors = true;
}

/* ---- what was read -------------------------------------------------------------------------------------------------------------- */

/* Batches that begin before `limit`. */
static struct mqg_slice read_cut(struct mqg_slice all, int64_t limit)
{
    size_t at = 0;
    struct mqg_batch b;
    while (at < all.len) {
        struct mqg_slice rest = mqg_slice_of(all.ptr + at, all.len - at);
        if (mqg_batch_read(rest, &b) != MQG_OK || (int64_t)b.base_offset >= limit)
            break;
        at += b.bytes;
    }
    return mqg_slice_of(all.ptr, at);
}

static void read_committed(struct fetch_part *p)
{
    enum kafka_error code;
    bool full = false;
    int64_t to = (int64_t)p->read.next_offset < p->limit ? (int64_t)p->read.next_offset : p->limit;
    struct mqg_partition *part = part_resolve(p, &code);
    p->records = read_cut(p->records, p->limit);
    size_t n = 0;
    const struct kafka_aborted *aborted = part != NULL
                                              ? kafka_txn_aborted(part, (uint64_t)p->offset, (uint64_t)to,
                                                                  &p->set->call->arena, &n, &full)
                                              : NULL;
    full = full || !fetch_part_aborted(p, aborted, n);
    if (part == NULL || full) {
        fetch_part_release(p);
        part_failed(p, part == NULL ? code : KAFKA_UNKNOWN_SERVER_ERROR);
    }
}

/* False: nothing that this client can be shown. */
static bool read_down(struct fetch_part *p)
{
    enum kafka_error code = KAFKA_NONE;
    enum fetch_down what = fetch_part_down(p, &code);
    if (what == FETCH_DOWN_FAILED)
        part_failed(p, code);
    return what != FETCH_DOWN_NOTHING;
}

/* What does not fit beside what is there already stays for the next fetch. */
static void read_keep(struct fetch_part *p)
{
    struct fetch_set *set = p->set;
    if (set->committed)
        read_committed(p);
    if (set->bytes > 0 && set->bytes + (int64_t)p->records.len > set->max_bytes) {
        set->more = true; /* a full answer waits for no more */
        fetch_part_release(p);
    }
    set->bytes += (int64_t)p->records.len;
    set->more = set->more || (p->records.len > 0 && (int64_t)p->read.next_offset < p->limit);
}

/* False: there was nothing in it for this client, and reading goes on. */
static bool read_data(struct fetch_part *p)
{
    p->data = p->read.data;
    p->read.data = NULL;
    p->records = mqg_slice_of(p->data->data, p->data->len);
    if (MQG_UNLIKELY(p->set->magic < 2) && !read_down(p))
        return p->passed++ >= FETCH_PASSED_MAX;
    read_keep(p);
    return true;
}

static void read_out_of_range(struct fetch_part *p)
{
    enum kafka_error code;
    struct mqg_stream_bounds b;
    struct mqg_partition *part = part_resolve(p, &code);
    if (part == NULL || mqg_partition_bounds(part, &b) != MQG_OK) {
        part_failed(p, part == NULL ? code : KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
        return;
    }
    p->start = (int64_t)b.log_start;
    p->high = (int64_t)b.high_watermark;
    bool inside = p->offset >= p->start && p->offset <= (int64_t)b.log_end; /* appended, not durable yet */
    if (!inside)
        part_failed(p, KAFKA_OFFSET_OUT_OF_RANGE);
}

static bool read_begin(struct fetch_part *p, struct mqg_partition *part);

/* Deals with an answer; where compaction left nothing it reads on. False: the store has it again. */
static bool read_take(struct fetch_part *p)
{
    struct mqg_partition_read *r = &p->read;
    enum kafka_error code;
    if (r->err == MQG_NOT_FOUND) {
        read_out_of_range(p);
        return true;
    }
    if (r->err != MQG_OK) {
        mqg_buf_unref(&r->data);
        part_failed(p, kafka_error_of(r->err));
        return true;
    }
    p->high = (int64_t)r->high_watermark;
    p->start = (int64_t)r->log_start;
    if (!p->set->committed)
        p->stable = p->limit = p->high;
    if (r->data != NULL && read_data(p))
        return true;
    if (r->next_offset <= r->offset || (int64_t)r->next_offset >= p->limit)
        return true;
    struct mqg_partition *part = part_resolve(p, &code);
    if (part == NULL) {
        part_failed(p, code);
        return true;
    }
    r->offset = r->next_offset;
    return read_begin(p, part);
}

static void read_came(struct mqg_partition_read *r)
{
    struct fetch_part *p = MQG_CONTAINER_OF(r, struct fetch_part, read);
    struct fetch_set *set = p->set;
    bool orphan = set->dead, dead = p->dead;
    p->reading = false;
    set->reading--;
    set->asked -= r->max_bytes;
    if (dead) {
        mqg_buf_unref(&r->data);
        p->wait.partition = NULL;
        fetch_part_free(p);
    }
    if (orphan) {
        if (set->reading == 0)
            fetch_set_bury(set);
        return;
    }
    if (!dead && !read_take(p))
        return;
    if (set->reading == 0 && set->call != NULL)
        fetch_judge(set);
}

/* The answer has no room left for this one: its bounds are told, its records stay for the next fetch, unread. */
static bool read_passed_over(struct fetch_part *p, struct mqg_partition *part)
{
    struct mqg_stream_bounds b;
    p->read.err = mqg_partition_bounds(part, &b);
    p->read.data = NULL;
    if (p->read.err == MQG_OK) {
        p->read.high_watermark = b.high_watermark;
        p->read.log_start = b.log_start;
        if (p->read.offset < b.log_start || p->read.offset > b.high_watermark)
            p->read.err = MQG_NOT_FOUND;
        p->set->more = p->set->more || (p->offset < (int64_t)b.high_watermark && p->offset < p->limit);
    }
    return read_take(p);
}

/* True: the answer is there. What the store was asked for and has not answered yet takes room, too, so that a request of a
 * thousand partitions does not bring a thousand of them into memory. */
static bool read_begin(struct fetch_part *p, struct mqg_partition *part)
{
    struct fetch_set *set = p->set;
    int64_t room = set->max_bytes - set->bytes - set->asked;
    uint32_t max = p->max_bytes > 0 ? (uint32_t)p->max_bytes : 1;
    if (room <= 0 && set->bytes + set->asked > 0)
        return read_passed_over(p, part);
    p->read.max_bytes = room < (int64_t)max ? (room > 0 ? (uint32_t)room : 1) : max;
    if (MQG_UNLIKELY(p->passed > 0))
        p->read.max_bytes = FETCH_PASSED_BYTES;
    p->read.done = read_came;
    if (mqg_partition_read(part, &p->read))
        return read_take(p);
    p->reading = true;
    set->reading++;
    set->asked += p->read.max_bytes;
    return false;
}

/* ---- looking ---------------------------------------------------------------------------------------------------------------------- */

static void part_look(struct fetch_part *p)
{
    struct fetch_set *set = p->set;
    mqg_partition_unwait(&p->wait);
    fetch_part_release(p);
    p->code = KAFKA_NONE;
    p->high = p->stable = p->start = -1;
    struct mqg_partition *part = part_resolve(p, &p->code);
    if (part != NULL)
        p->code = kafka_leader_epoch_check(p->epoch);
    if (part != NULL && p->code == KAFKA_NONE && p->offset < 0)
        p->code = KAFKA_OFFSET_OUT_OF_RANGE;
    if (p->code != KAFKA_NONE) {
        part_failed(p, p->code);
        return;
    }
    p->limit = INT64_MAX;
    p->passed = 0;
    if (set->committed)
        p->stable = p->limit = (int64_t)kafka_txn_lso(part);
    p->read.offset = (uint64_t)p->offset;
    p->read.next_offset = p->read.offset;
    (void)read_begin(p, part);
}

void fetch_run(struct fetch_set *set)
{
    if (set->reading > 0) {
        set->again = true;
        return;
    }
    set->again = set->errors = set->more = false;
    set->bytes = 0;
    set->plain_bytes = 0;
    set->reading++; /* nobody judges before all were looked at */
    for (struct fetch_part *p = set->ready, *next; p != NULL; p = next) {
        next = p->ready_next;
        part_look(p);
    }
    set->reading--;
    if (set->reading == 0)
        fetch_judge(set);
}

void fetch_part_wait(struct fetch_part *p)
{
    enum kafka_error code;
    if (p->wait.partition != NULL)
        return;
    struct mqg_partition *part = part_resolve(p, &code);
    if (part == NULL) {
        fetch_part_ready(p); /* gone meanwhile: the next look says it */
        return;
    }
    mqg_partition_wait(part, &p->wait, (uint64_t)(p->high > p->offset ? p->high : p->offset));
}

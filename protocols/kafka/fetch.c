/* fetch.c - Fetch: which partitions are asked for, and when there is enough to answer.
 *
 * A full request names all its partitions; an incremental one (KIP-227) names those that changed, for a session that knows the
 * others. Either way the set that results is looked at; with fewer bytes than the client wants, the request is parked: the
 * partitions wait for their high watermarks, the request for its time, and nothing runs until one of these comes. An error of
 * any partition is told at once.
 *
 * The request lies in the input, and what is needed of it is in the set when the handler returns. Requests behind a fetch wait for
 * its answer (KAFKA_API_ALONE), as answers have an order anyway; so a session is never used by two. */
#include "fetch.h"

enum { FETCH_GRID_FROM_MS = 100, FETCH_GRID_MS = 10, FETCH_GRID_SHARE = 20, FETCH_GRID_MAX_MS = 100 };

/* ---- judging -------------------------------------------------------------------------------------------------------------------- */

static void fetch_gone(struct kafka_call *c)
{
    struct fetch_set *set = c->owner;
    set->call = NULL;
    if (!set->session)
        fetch_set_free(&set);
    else
        for (struct fetch_part *p = set->ready; p != NULL; p = p->ready_next)
            fetch_part_release(p);
}

static void fetch_resume(struct kafka_call *c)
{
    fetch_run(c->owner);
}

static void fetch_expired(struct kafka_call *c)
{
    struct fetch_set *set = c->owner;
    set->expired = true;
    fetch_run(set);
}

void fetch_news(struct fetch_set *set)
{
    if (set->call != NULL && set->call->resume != NULL)
        kafka_call_wake(set->call);
}

/* Those that have something, but not enough, stay ready: what came together is told when the time is over. */
static void fetch_park(struct fetch_set *set)
{
    set->call->resume = fetch_resume;
    for (struct fetch_part *p = set->ready, *next; p != NULL; p = next) {
        next = p->ready_next;
        if (p->records.len == 0)
            fetch_part_unready(p);
        fetch_part_release(p);
        fetch_part_wait(p);
    }
}

void fetch_judge(struct fetch_set *set)
{
    bool enough = set->errors || set->more || set->bytes >= set->min_bytes || set->expired;
    if (enough) {
        set->call->write = fetch_write;
        kafka_call_answer(set->call);
    } else if (set->again) {
        fetch_run(set);
    } else {
        fetch_park(set);
    }
}

/* ---- what is asked for ------------------------------------------------------------------------------------------------------------ */

typedef struct kafka_fetch_request_topics topic_row;
typedef struct kafka_fetch_request_topics_partitions partition_row;

static void part_asked(struct fetch_part *p, const partition_row *want)
{
    p->offset = want->fetch_offset;
    p->max_bytes = want->partition_max_bytes;
    p->epoch = want->current_leader_epoch;
}

static bool fetch_add(struct fetch_set *set, const struct kafka_fetch_request *q)
{
    for (int32_t t = 0; t < q->topics_n; t++) {
        const topic_row *topic = &q->topics[t];
        const struct kafka_uuid *id = set->by_id ? &topic->topic_id : NULL;
        for (int32_t i = 0; i < topic->partitions_n; i++) {
            const partition_row *want = &topic->partitions[i];
            struct fetch_part *p = fetch_part_find(set, id, topic->topic, want->partition);
            if (p == NULL && set->session && set->nparts >= FETCH_SESSION_PARTS_MAX)
                return false;
            if (p == NULL)
                p = fetch_part_add(set, id, topic->topic, want->partition);
            else
                fetch_part_ready(p);
            part_asked(p, want);
        }
    }
    return true;
}

static void fetch_forget(struct fetch_set *set, const struct kafka_fetch_request *q)
{
    for (int32_t t = 0; t < q->forgotten_topics_data_n; t++) {
        const struct kafka_fetch_request_forgotten_topics_data *topic = &q->forgotten_topics_data[t];
        for (int32_t i = 0; i < topic->partitions_n; i++) {
            struct fetch_part *p = fetch_part_find(set, set->by_id ? &topic->topic_id : NULL, topic->topic,
                                                   topic->partitions[i]);
            if (p != NULL)
                fetch_part_remove(p);
        }
    }
}

/* The set of this request, or what is wrong with its session. */
static struct fetch_set *fetch_session(struct kafka_call *c, enum kafka_error *code)
{
    const struct kafka_fetch_request *q = c->request;
    struct kafka_conn *kc = c->conn;
    struct fetch_set *set = kc->fetch_session;
    bool by_id = c->head.version >= 13, mine = set != NULL && set->id == q->session_id;
    *code = KAFKA_NONE;
    if (q->session_epoch <= 0) { /* -1: without, 0: a new one */
        if (q->session_id != 0 && mine)
            fetch_session_close(kc);
        set = fetch_set_new(kc, by_id);
        set->full = fetch_add(set, q);
        if (q->session_epoch == 0)
            (void)fetch_session_open(set); /* too many: the answer has no session's id */
        return set;
    }
    if (!mine)
        *code = KAFKA_FETCH_SESSION_ID_NOT_FOUND;
    else if (set->epoch != q->session_epoch)
        *code = KAFKA_INVALID_FETCH_SESSION_EPOCH;
    else if (set->by_id != by_id)
        *code = KAFKA_FETCH_SESSION_TOPIC_ID_ERROR;
    else if (!fetch_add(set, q))
        *code = KAFKA_INVALID_REQUEST;
    if (*code != KAFKA_NONE)
        return NULL;
    fetch_forget(set, q);
    set->full = false;
    set->epoch = set->epoch == INT32_MAX ? 1 : set->epoch + 1;
    return set;
}

/* Long waits end on a grid of a twentieth of their length, so that a thousand parked requests end in some turns together and not
 * each in one of its own. */
static uint64_t fetch_wait_ms(const struct kafka_call *c, int32_t max_wait_ms)
{
    uint64_t now_ms = c->worker->now.mono_ms, due_ms = now_ms + (uint64_t)max_wait_ms;
    if (max_wait_ms >= FETCH_GRID_FROM_MS) {
        uint64_t grid_ms = (uint64_t)max_wait_ms / FETCH_GRID_SHARE;
        grid_ms = grid_ms < FETCH_GRID_MS       ? FETCH_GRID_MS
                  : grid_ms > FETCH_GRID_MAX_MS ? FETCH_GRID_MAX_MS
                                                : grid_ms;
        due_ms = (due_ms + grid_ms - 1) / grid_ms * grid_ms;
    }
    return due_ms - now_ms;
}

/* KIP-98, KIP-32: what a client of that version reads. */
static uint8_t fetch_magic(int16_t version)
{
    return version >= 4 ? 2 : version >= 2 ? 1 : 0;
}

static void fetch_call(struct kafka_call *c)
{
    const struct kafka_fetch_request *q = c->request;
    struct kafka_fetch_response *r = c->response;
    enum kafka_error code;
    struct fetch_set *set = fetch_session(c, &code);
    if (set == NULL) {
        r->error_code = (int16_t)code;
        kafka_call_answer(c);
        return;
    }
    set->call = c;
    set->committed = q->isolation_level == 1;
    set->min_bytes = q->min_bytes;
    set->magic = fetch_magic(c->head.version);
    if (set->magic < 2 && set->min_bytes > 1)
        set->min_bytes = 1; /* nothing is converted again and again while more is waited for */
    set->max_bytes = q->max_bytes < 0 ? 0
                     : (uint32_t)q->max_bytes > kafka_settings.fetch_max_bytes
                         ? (int32_t)kafka_settings.fetch_max_bytes
                         : q->max_bytes;
    set->expired = q->max_wait_ms <= 0;
    c->owner = set;
    c->gone = fetch_gone;
    if (!set->expired)
        kafka_call_timer(c, fetch_wait_ms(c, q->max_wait_ms), fetch_expired);
    fetch_run(set);
}

const struct kafka_api kafka_fetch_apis[] = {
    {KAFKA_API_FETCH, 0, 18, KAFKA_API_INPLACE | KAFKA_API_ALONE, fetch_call},
    {.key = -1},
};

/* told.c - see told.h. */
#include "told.h"

#include "ledger.h"

#include <mqgate/module.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

extern const struct mqg_module mqg_module;

/* ---- the host --------------------------------------------------------------------------------------------------- */

static void told_done(void *host, uint32_t lane, uint64_t ticket)
{
    struct told *t = host;
    disk_mark(t->disk, (uint64_t)lane << 32 | ticket);
    atomic_store(&t->done[lane], (uint32_t)ticket);
}

static void told_failed(void *host, enum mqg_err err, const char *text)
{
    struct told *t = host;
    mqg_error_set(&t->error, err, 0, "%s", text);
    atomic_store(&t->failed, true);
}

static void told_pressure(void *host, bool blocked, const char *why)
{
    (void)host;
    (void)blocked;
    (void)why;
}

static void told_ready(void *host, uint64_t partition)
{
    (void)host;
    (void)partition;
}

#define TOLD_PUSH(t, list, count, cap)                                                                  \
    ((t)->count == (t)->cap ? (void)((t)->cap = (t)->cap ? (t)->cap * 2 : 64,                           \
                                     (t)->list = mqg_xrealloc((t)->list, (t)->cap * sizeof *(t)->list)) \
                            : (void)0,                                                                  \
     &(t)->list[(t)->count++])

static void told_meta(void *arg, struct mqg_slice key, struct mqg_slice value)
{
    struct told *t = arg;
    char want[4096];
    struct told_meta *m = TOLD_PUSH(t, metas, nmeta, cap_meta);
    snprintf(m->key, sizeof m->key, "%.*s", (int)key.len, (const char *)key.ptr);
    m->value = 0;
    for (size_t i = 0; i < value.len && value.ptr[i] >= '0' && value.ptr[i] <= '9'; i++)
        m->value = m->value * 10 + (uint64_t)(value.ptr[i] - '0');
    if (!mqg_slice_eq(ledger_value(m->value, want), value))
        m->value = UINT64_MAX;
}

static bool told_msg(void *arg, uint64_t queue_id, uint64_t qseq, struct mqg_extent *extent, uint32_t off,
                     uint32_t len, const struct mqg_stored *head, uint32_t delivery_count,
                     uint32_t acquired_count)
{
    struct told *t = arg;
    (void)head;
    (void)acquired_count;
    *TOLD_PUSH(t, msgs, nmsg, cap_msg) = (struct told_msg){.queue_id = queue_id,
                                                           .qseq = qseq,
                                                           .extent = extent,
                                                           .off = off,
                                                           .len = len,
                                                           .delivery_count = delivery_count};
    return true;
}

static bool told_span(void *arg, uint64_t queue_id, uint64_t first, uint64_t last, uint64_t count,
                      uint64_t body_bytes)
{
    struct told *t = arg;
    (void)body_bytes;
    *TOLD_PUSH(t, spans, nspan, cap_span) = (struct told_span){queue_id, first, last, count};
    return true;
}

/* Every second queue of every second start. */
static bool told_wanted(void *arg, uint64_t queue_id)
{
    struct told *t = arg;
    return (queue_id ^ t->disk->rng) % 2 == 0;
}

static void told_stream(void *arg, uint64_t partition, const struct mqg_stream_bounds *b)
{
    struct told *t = arg;
    *TOLD_PUSH(t, parts, npart, cap_part) = (struct told_part){partition, *b};
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static struct mqg_conf *told_conf(bool go_on)
{
    static struct mqg_conf *confs[2];
    struct mqg_error e;
    struct mqg_conf *conf = confs[go_on];
    if (conf)
        return conf;
    conf = confs[go_on] = mqg_conf_new();
    mqg_conf_schema(conf, mqg_module.conf);
    bool good = mqg_conf_set(conf, "store.journal.path=" CI_PATH, &e) == MQG_OK &&
                mqg_conf_set(conf, "store.journal.min_free=0", &e) == MQG_OK &&
                (!go_on || mqg_conf_set(conf, "store.journal.on_corruption=continue", &e) == MQG_OK) &&
                mqg_conf_check(conf, &e) == MQG_OK;
    MQG_ASSERT(good);
    return conf;
}

enum mqg_err told_open(struct told *t, struct disk *disk, uint64_t segment_bytes)
{
    struct mqg_store_host host = {told_done, told_failed, told_pressure, told_ready, NULL, t};
    struct mqg_recover r = {.meta = told_meta,
                            .message = told_msg,
                            .stream = told_stream,
                            .span = told_span,
                            .spans_wanted = told_wanted,
                            .arg = t};
    *t = (struct told){.disk = disk, .go_on = t->go_on, .faulty = t->faulty};
    mqg_journal_fs(&disk->fs);
    enum mqg_err err = jrn_ops.open(&t->s, &host, told_conf(t->go_on), "store.journal", CI_LANES, &t->error);
    if (err != MQG_OK)
        return err;
    t->s->row_min = 2;
    t->s->digest_wait_us = 0;
    atomic_store(&t->s->clean_tick_ms, 3600 * 1000); /* what is judged is what was recovered: see work_new */
    t->s->segment_bytes = segment_bytes; /* smaller than anybody may set it: hours of segments in a second */
    err = jrn_ops.recover(t->s, &r, &t->error);
    disk_mark(disk, CI_TOLD);
    if (err == MQG_OK)
        err = jrn_ops.start(t->s, &t->error);
    if (err != MQG_OK) {
        struct mqg_error why = t->error;
        told_end(t, false);
        t->error = why;
    }
    return err;
}

void told_end(struct told *t, bool clean)
{
    if (t->s) {
        if (clean)
            jrn_ops.close(t->s);
        jrn_ops.stop(t->s);
        jrn_ops.fini(&t->s);
    }
    free(t->msgs);
    free(t->spans);
    free(t->metas);
    free(t->parts);
    memset(t, 0, sizeof *t);
}

bool told_wait(struct told *t, uint32_t lane, uint32_t ticket)
{
    for (int i = 0; i < 400000; i++) {
        if (atomic_load(&t->done[lane]) >= ticket)
            return true;
        if (atomic_load(&t->failed))
            return false;
        usleep(50);
    }
    return false;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

struct told_answer {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool there;
};

static void told_answer(struct told_answer *a)
{
    pthread_mutex_lock(&a->lock);
    a->there = true;
    pthread_cond_signal(&a->cond);
    pthread_mutex_unlock(&a->lock);
}

static void told_await(struct told_answer *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->there)
        pthread_cond_wait(&a->cond, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

static void told_loaded(struct mqg_load_req *req)
{
    told_answer(req->arg);
}

static void told_was_read(struct mqg_stream_read *r)
{
    told_answer(r->arg);
}

static void told_has_position(struct mqg_position_req *r)
{
    told_answer(r->arg);
}

uint64_t told_position(struct told *t, uint32_t group, uint64_t partition)
{
    struct told_answer answer = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    char name[16];
    snprintf(name, sizeof name, "group-%u", group);
    struct mqg_position_req req = {
        .group = mqg_slice_str(name), .partition = partition, .done = told_has_position, .arg = &answer};
    jrn_ops.position_get(t->s, &req);
    told_await(&answer);
    return req.err == MQG_OK ? req.offset + 1 : 0;
}

uint64_t told_hash(struct mqg_slice key, struct mqg_slice body)
{
    return XXH3_64bits_withSeed(body.ptr, body.len, XXH3_64bits(key.ptr, key.len));
}

static void told_has_index(struct mqg_index_req *req)
{
    told_answer(req->arg);
}

void told_index(struct told *t, struct mqg_index_req *req)
{
    struct told_answer answer = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    req->done = told_has_index;
    req->arg = &answer;
    jrn_ops.index_read(t->s, req);
    told_await(&answer);
}

void told_loads(struct told *t, struct mqg_load_req *req)
{
    struct told_answer answer = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    req->done = told_loaded;
    req->arg = &answer;
    jrn_ops.load(t->s, req);
    told_await(&answer);
}

static void told_was_put(struct mqg_scratch_req *req)
{
    told_answer(req->arg);
}

void told_scratch(struct told *t, struct mqg_scratch_req *req)
{
    struct told_answer answer = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    req->done = told_was_put;
    req->arg = &answer;
    jrn_ops.scratch_put(t->s, req);
    told_await(&answer);
}

/* Reads a span back: its entries become messages. */
static void told_read_span(struct told *t, const struct told_span *span)
{
    enum { MAX = 64 };
    struct mqg_index_entry e[MAX];
    struct mqg_stored head = {.body_len = 0};
    uint64_t count = 0, first = span->first;
    for (uint32_t n = MAX; n == MAX;) {
        struct mqg_index_req req = {
            .queue_id = span->queue_id, .first = first, .last = span->last, .entries = e, .max = MAX};
        told_index(t, &req);
        if (req.err != MQG_OK && t->faulty && t->span_errors++ < 3) {
            n = MAX;
            continue; /* what cannot be read stays where it is, and is asked for again */
        }
        MQG_ASSERT(req.err == MQG_OK || t->faulty);
        n = req.n;
        for (uint32_t i = 0; i < n; i++)
            (void)told_msg(t, span->queue_id, e[i].qseq, e[i].extent, e[i].off, e[i].len, &head, 0, 0);
        count += n;
        first = n ? e[n - 1].qseq + 1 : first;
    }
    MQG_ASSERT(count == span->count || t->span_errors > 3);
}

static void told_load_messages(struct told *t)
{
    struct mqg_load_req req = {.n = (uint32_t)t->nmsg};
    req.items = mqg_xcalloc(t->nmsg, sizeof *req.items);
    for (size_t i = 0; i < t->nmsg; i++)
        req.items[i] = (struct mqg_load){
            .extent = t->msgs[i].extent, .off = t->msgs[i].off, .len = t->msgs[i].len};
    told_loads(t, &req);
    for (size_t i = 0; i < t->nmsg; i++) {
        struct mqg_msg *m = req.items[i].msg;
        t->msgs[i].err = req.items[i].err;
        if (m)
            t->msgs[i].hash = told_hash(mqg_msg_key(m), mqg_msg_body(m));
        mqg_msg_unref(&m);
    }
    free(req.items);
}

static int told_order(const void *a, const void *b)
{
    const struct told_msg *x = a, *y = b;
    if (x->queue_id != y->queue_id)
        return x->queue_id < y->queue_id ? -1 : 1;
    return x->qseq < y->qseq ? -1 : x->qseq > y->qseq;
}

void told_load(struct told *t)
{
    for (size_t i = 0; i < t->nspan; i++)
        told_read_span(t, &t->spans[i]);
    if (t->nspan) /* to where they belong */
        qsort(t->msgs, t->nmsg, sizeof *t->msgs, told_order);
    t->nspan = 0;
    if (t->nmsg)
        told_load_messages(t);
}

enum mqg_err told_read(struct told *t, uint64_t partition, uint64_t offset, struct mqg_stream_read *out)
{
    struct told_answer answer = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    *out = (struct mqg_stream_read){.partition = partition,
                                    .offset = offset,
                                    .max_bytes = 1 << 16,
                                    .durable_only = true,
                                    .done = told_was_read,
                                    .arg = &answer};
    jrn_ops.stream_read(t->s, out);
    told_await(&answer);
    return out->err;
}

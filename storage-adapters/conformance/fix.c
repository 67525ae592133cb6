/* fix.c - see fix.h: the store's life, and what the host's callbacks note. */
#include "fix.h"

#include <ftw.h>
#include <time.h>
#include <unistd.h>

const struct suite_adapter *fix_adapter;

/* Extents carry the counting table's address; it must find the fixture, and there is one at a time. */
static struct fix *fix_now;

uint64_t fix_now_ms(void)
{
    return mqg_clock_mono_us() / 1000;
}

void fix_pause(void)
{
    struct timespec ts = {0, 1000000};
    nanosleep(&ts, NULL);
}

bool fix_local(const struct fix *f)
{
    return (f->caps & MQG_STORE_REMOTE) == 0;
}

/* ---- rules that always hold ------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 0))) static void fix_broke_locked(struct fix *f, const char *fmt,
                                                                   va_list args)
{
    if (!f->broken[0])
        vsnprintf(f->broken, sizeof(f->broken), fmt, args);
}

void fix_broke(struct fix *f, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    pthread_mutex_lock(&f->lock);
    fix_broke_locked(f, fmt, args);
    pthread_mutex_unlock(&f->lock);
    va_end(args);
}

static void host_done(void *host, uint32_t lane, uint64_t ticket)
{
    struct fix *f = host;
    if (lane >= FIX_LANES) {
        fix_broke(f, "done for lane %u, which does not exist", lane);
        return;
    }
    struct fix_lane *l = &f->lanes[lane];
    uint64_t submitted = atomic_load(&l->submitted);
    pthread_mutex_lock(&f->lock);
    uint64_t before = l->done;
    l->done = ticket;
    l->done_calls++;
    uint64_t calls = l->done_calls;
    bool failed = f->failed;
    pthread_cond_broadcast(&f->moved);
    pthread_mutex_unlock(&f->lock);
    if (ticket <= before)
        fix_broke(f, "done(%u, %llu) after %llu", lane, (unsigned long long)ticket,
                  (unsigned long long)before);
    if (ticket > submitted)
        fix_broke(f, "done(%u, %llu), but only %llu submitted", lane, (unsigned long long)ticket,
                  (unsigned long long)submitted);
    if (calls > submitted)
        fix_broke(f, "lane %u: %llu calls of done for %llu batches", lane, (unsigned long long)calls,
                  (unsigned long long)submitted);
    if (failed)
        fix_broke(f, "done(%u, %llu) after failed()", lane, (unsigned long long)ticket);
}

static void host_failed(void *host, enum mqg_err err, const char *text)
{
    struct fix *f = host;
    fix_broke(f, "failed(%s, %s)", mqg_err_name(err), text);
    pthread_mutex_lock(&f->lock);
    f->failed = true;
    pthread_cond_broadcast(&f->moved);
    pthread_mutex_unlock(&f->lock);
}

static void host_pressure(void *host, bool blocked, const char *why)
{
    struct fix *f = host;
    (void)why;
    pthread_mutex_lock(&f->lock);
    f->blocked = blocked;
    pthread_mutex_unlock(&f->lock);
}

static void host_stream_ready(void *host, uint64_t partition)
{
    struct fix *f = host;
    pthread_mutex_lock(&f->lock);
    mqg_vec_push(&f->ready, (void *)(uintptr_t)partition);
    pthread_cond_broadcast(&f->moved);
    pthread_mutex_unlock(&f->lock);
}

static size_t host_queue_live(void *host, uint64_t queue_id, struct mqg_range *ranges, size_t max,
                              uint64_t *upto)
{
    (void)host;
    (void)queue_id;
    (void)ranges;
    (void)max;
    *upto = 0; /* this host cannot say what is settled */
    return 0;
}

static void counted_extent_dead(struct mqg_store *s, struct mqg_extent *x)
{
    struct fix *f = fix_now;
    if (atomic_load(&x->live) != 0)
        fix_broke(f, "extent_dead with live = %lld", (long long)atomic_load(&x->live));
    pthread_mutex_lock(&f->lock);
    f->dead++;
    if (f->dead > f->opened && !f->broken[0])
        snprintf(f->broken, sizeof(f->broken), "more extents died than were made");
    pthread_cond_broadcast(&f->moved);
    pthread_mutex_unlock(&f->lock);
    f->ops->extent_dead(s, x);
}

/* ---- recovery ---------------------------------------------------------------------------------------------------------- */

static void found_meta(void *arg, struct mqg_slice key, struct mqg_slice value)
{
    struct fix *f = arg;
    if (f->phase != 0)
        fix_broke(f, "recovery told metadata after meta_end");
    struct fix_meta *m = mqg_xcalloc(1, sizeof(*m));
    m->key = mqg_slice_dup(key);
    m->key_len = key.len;
    m->value = mqg_slice_of(mqg_slice_dup(value), value.len);
    mqg_vec_push(&f->metas, m);
}

static void found_meta_end(void *arg)
{
    struct fix *f = arg;
    if (f->phase != 0)
        fix_broke(f, "meta_end twice, or late");
    f->phase = 1;
}

static bool found_message(void *arg, uint64_t queue_id, uint64_t qseq, struct mqg_extent *extent,
                          uint32_t off, uint32_t len, const struct mqg_stored *head, uint32_t delivery_count,
                          uint32_t acquired_count)
{
    struct fix *f = arg;
    if (f->phase != 1)
        fix_broke(f, "recovery told a message out of its time");
    const struct fix_msg *last = f->msgs.n ? f->msgs.items[f->msgs.n - 1] : NULL;
    if (last && last->queue_id == queue_id && last->qseq >= qseq)
        fix_broke(f, "queue %llx: message %llu told after %llu", (unsigned long long)queue_id,
                  (unsigned long long)qseq, (unsigned long long)last->qseq);
    if (f->drop_messages)
        return false;
    if (atomic_load(&extent->place) == MQG_PLACE_NONE || atomic_load(&extent->live) < 1)
        fix_broke(f, "a recovered message's extent has no place, or no count");
    struct fix_msg *m = mqg_xcalloc(1, sizeof(*m));
    *m = (struct fix_msg){queue_id, qseq, extent, off, len, delivery_count, acquired_count, *head};
    mqg_vec_push(&f->msgs, m);
    return true;
}

static void found_stream(void *arg, uint64_t partition, const struct mqg_stream_bounds *b)
{
    struct fix *f = arg;
    if (f->phase == 0)
        fix_broke(f, "recovery told a stream before meta_end");
    f->phase = 2;
    struct fix_stream *s = mqg_xcalloc(1, sizeof(*s));
    *s = (struct fix_stream){partition, *b};
    mqg_vec_push(&f->streams, s);
}

static void found_position(void *arg, struct mqg_slice group, uint64_t partition, uint64_t offset,
                           struct mqg_slice metadata)
{
    struct fix *f = arg;
    struct fix_position *p = mqg_xcalloc(1, sizeof(*p));
    *p = (struct fix_position){mqg_slice_dup(group), mqg_slice_dup(metadata), partition, offset};
    mqg_vec_push(&f->positions, p);
}

static void found_producer(void *arg, uint64_t partition, uint64_t producer_id, int16_t epoch,
                           int32_t base_seq, int32_t last_seq, uint64_t offset)
{
    struct fix *f = arg;
    struct fix_producer *p = mqg_xcalloc(1, sizeof(*p));
    *p = (struct fix_producer){partition, producer_id, offset, base_seq, last_seq, epoch};
    mqg_vec_push(&f->producers, p);
}

static void fix_forget(struct fix *f)
{
    for (size_t i = 0; i < f->positions.n; i++) {
        struct fix_position *p = f->positions.items[i];
        free(p->group);
        free(p->metadata);
        free(p);
    }
    for (size_t i = 0; i < f->producers.n; i++)
        free(f->producers.items[i]);
    f->positions.n = f->producers.n = 0;
    for (size_t i = 0; i < f->metas.n; i++) {
        struct fix_meta *m = f->metas.items[i];
        free(m->key);
        free((void *)(uintptr_t)m->value.ptr);
        free(m);
    }
    for (size_t i = 0; i < f->msgs.n; i++)
        free(f->msgs.items[i]);
    for (size_t i = 0; i < f->streams.n; i++)
        free(f->streams.items[i]);
    f->metas.n = f->msgs.n = f->streams.n = 0;
    f->phase = 0;
}

struct fix_msg *fix_found(struct fix *f, uint64_t queue_id, uint64_t qseq)
{
    for (size_t i = 0; i < f->msgs.n; i++) {
        struct fix_msg *m = f->msgs.items[i];
        if (m->queue_id == queue_id && m->qseq == qseq)
            return m;
    }
    return NULL;
}

size_t fix_found_count(struct fix *f, uint64_t queue_id)
{
    size_t n = 0;
    for (size_t i = 0; i < f->msgs.n; i++)
        n += ((struct fix_msg *)f->msgs.items[i])->queue_id == queue_id;
    return n;
}

struct fix_meta *fix_found_meta(struct fix *f, const char *key)
{
    struct fix_meta *found = NULL;
    for (size_t i = 0; i < f->metas.n; i++) {
        struct fix_meta *m = f->metas.items[i];
        if (m->key_len != strlen(key) || memcmp(m->key, key, m->key_len) != 0)
            continue;
        if (found)
            fix_broke(f, "recovery told the key %s twice", key);
        found = m;
    }
    return found;
}

/* ---- life -------------------------------------------------------------------------------------------------------------- */

static void fix_configure(struct fix *f)
{
    static const struct mqg_conf_row type_row[] = {
        {"store.*", "type", MQG_CONF_STR, NULL, 0, 0, NULL, "storage module"},
        {"store", "default", MQG_CONF_STR, "another", 0, 0, NULL,
         "the store under test is not the default one"},
        {NULL, NULL, MQG_CONF_STR, NULL, 0, 0, NULL, NULL},
    };
    char text[512];
    struct mqg_error e = {0};
    f->conf = mqg_conf_new();
    mqg_conf_schema(f->conf, type_row);
    mqg_conf_schema(f->conf, f->adapter->module->conf);
    snprintf(text, sizeof(text), "store.suite.type=%s", f->ops->type);
    assert_int_equal(mqg_conf_set(f->conf, text, &e), MQG_OK);
    for (const char *const *s = f->adapter->settings; s && *s; s++) {
        snprintf(text, sizeof(text), "store.suite.%s", *s);
        assert_int_equal(mqg_conf_set(f->conf, text, &e), MQG_OK);
    }
    if (f->adapter->folder) {
        snprintf(text, sizeof(text), "store.suite.path=%s/data", f->folder);
        assert_int_equal(mqg_conf_set(f->conf, text, &e), MQG_OK);
    }
    if (mqg_conf_check(f->conf, &e) != MQG_OK)
        fail_msg("%s", e.text);
}

struct fix *fix_new(void)
{
    struct fix *f = mqg_xcalloc(1, sizeof(*f));
    f->adapter = fix_adapter;
    f->ops = fix_adapter->module->storage;
    f->caps = f->ops->caps;
    f->counted = *f->ops;
    f->counted.extent_dead = counted_extent_dead;
    pthread_mutex_init(&f->lock, NULL);
    mqg_cond_init(&f->moved);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->folder, sizeof(f->folder), "%s/mqg-suite-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    if (f->adapter->folder)
        assert_non_null(mkdtemp(f->folder));
    fix_configure(f);
    fix_now = f;
    return f;
}

static int fix_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void fix_free(struct fix **fix)
{
    struct fix *f = *fix;
    *fix = NULL;
    if (f->adapter->folder)
        nftw(f->folder, fix_unlink, 8, FTW_DEPTH | FTW_PHYS);
    fix_forget(f);
    mqg_vec_fini(&f->metas);
    mqg_vec_fini(&f->msgs);
    mqg_vec_fini(&f->streams);
    mqg_vec_fini(&f->positions);
    mqg_vec_fini(&f->producers);
    mqg_vec_fini(&f->ready);
    mqg_conf_free(&f->conf);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->moved);
    fix_now = NULL;
    char broken[sizeof(f->broken)];
    memcpy(broken, f->broken, sizeof(broken));
    free(f);
    if (broken[0])
        fail_msg("%s", broken);
}

enum mqg_err fix_open(struct fix *f, struct mqg_error *e)
{
    struct mqg_store_host host = {
        .done = host_done,
        .failed = host_failed,
        .pressure = host_pressure,
        .stream_ready = host_stream_ready,
        .queue_live = host_queue_live,
        .host = f,
    };
    enum mqg_err err = f->ops->open(&f->store, &host, f->conf, "store.suite", FIX_LANES, e);
    if (err == MQG_OK && f->ops->caps_of)
        f->caps = f->ops->caps_of(f->store);
    return err;
}

void fix_recover(struct fix *f)
{
    struct mqg_error e = {0};
    fix_forget(f);
    struct mqg_recover r = {.meta = found_meta,
                            .meta_end = found_meta_end,
                            .message = found_message,
                            .stream = found_stream,
                            .position = found_position,
                            .producer = found_producer,
                            .arg = f};
    if (f->ops->recover(f->store, &r, &e) != MQG_OK)
        fail_msg("recover: %s", e.text);
    if ((f->caps & MQG_STORE_META) && f->phase == 0)
        fix_broke(f, "recovery told no meta_end");
    f->unclean = r.unclean;
}

void fix_start(struct fix *f)
{
    struct mqg_error e = {0};
    if (f->ops->start(f->store, &e) != MQG_OK)
        fail_msg("start: %s", e.text);
}

void fix_up(struct fix *f)
{
    struct mqg_error e = {0};
    for (uint32_t i = 0; i < FIX_LANES; i++) {
        atomic_store(&f->lanes[i].submitted, 0);
        f->lanes[i].done = f->lanes[i].done_calls = 0;
        f->lanes[i].current = NULL;
    }
    f->opened = f->dead = 0;
    if (fix_open(f, &e) != MQG_OK)
        fail_msg("open: %s", e.text);
    fix_recover(f);
    fix_start(f);
}

void fix_down(struct fix *f, bool cleanly)
{
    if (!f->store)
        return;
    if (cleanly)
        f->ops->close(f->store);
    f->ops->stop(f->store);
    f->ops->fini(&f->store);
    for (uint32_t i = 0; i < FIX_LANES; i++)
        held_free(&f->lanes[i].held);
    if (f->store)
        fix_broke(f, "fini left a pointer");
}

void fix_reopen(struct fix *f, bool cleanly)
{
    fix_down(f, cleanly);
    fix_up(f);
}

int fix_setup(void **state)
{
    struct fix *f = fix_new();
    fix_up(f);
    *state = f;
    return 0;
}

int fix_teardown(void **state)
{
    struct fix *f = *state;
    fix_down(f, true);
    fix_free(&f);
    return 0;
}

/* scratch.c - a sample storage module: metadata in memory, nothing else.
 *
 * The least a store can be: it declares one capability (META), so the host never asks it for queues or streams, and their
 * functions stay NULL. A batch is answered at once, because here nothing takes time; a store with a disk would answer
 * from the thread that waited for it. What it keeps is gone with the process, so it does not declare DURABLE. */
#include <mqgate/conf.h>
#include <mqgate/module.h>
#include <mqgate/store.h>
#include <mqgate/vec.h>

#include <pthread.h>
#include <stdio.h>

struct scratch_pair {
    char *key, *value;
    size_t key_len, value_len;
};

struct mqg_store {
    struct mqg_store_host host;
    pthread_mutex_t lock; /* lanes are threads */
    struct mqg_vec pairs;
    uint64_t commits, records;
};

static enum mqg_err scratch_open(struct mqg_store **out, const struct mqg_store_host *host,
                                 const struct mqg_conf *conf, const char *section, uint32_t nlanes,
                                 struct mqg_error *e)
{
    (void)conf;
    (void)section;
    (void)nlanes;
    (void)e;
    struct mqg_store *s = mqg_xcalloc(1, sizeof *s);
    s->host = *host;
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return MQG_OK;
}

static uint32_t scratch_caps(const struct mqg_store *s)
{
    (void)s;
    return MQG_STORE_META;
}

static enum mqg_err scratch_recover(struct mqg_store *s, struct mqg_recover *r, struct mqg_error *e)
{
    (void)e;
    for (size_t i = 0; i < s->pairs.n; i++) { /* nothing, after a real start */
        const struct scratch_pair *p = mqg_vec_at(&s->pairs, i);
        r->meta(r->arg, mqg_slice_of(p->key, p->key_len), mqg_slice_of(p->value, p->value_len));
    }
    if (r->meta_end != NULL)
        r->meta_end(r->arg);
    return MQG_OK;
}

static enum mqg_err scratch_start(struct mqg_store *s, struct mqg_error *e)
{
    (void)s;
    (void)e;
    return MQG_OK;
}

static size_t scratch_find(const struct mqg_store *s, struct mqg_slice key)
{
    size_t i = 0;
    for (; i < s->pairs.n; i++) {
        const struct scratch_pair *p = mqg_vec_at(&s->pairs, i);
        if (mqg_slice_eq(key, mqg_slice_of(p->key, p->key_len)))
            break;
    }
    return i;
}

static void scratch_remove(struct mqg_store *s, size_t at)
{
    struct scratch_pair *p = mqg_vec_at(&s->pairs, at);
    mqg_vec_remove(&s->pairs, at);
    free(p->key);
    free(p->value);
    free(p);
}

static void scratch_meta(struct mqg_store *s, const struct mqg_store_op *op)
{
    size_t at = scratch_find(s, op->meta.key);
    if (at < s->pairs.n)
        scratch_remove(s, at);
    if (op->meta.remove)
        return;
    struct scratch_pair *p = mqg_xcalloc(1, sizeof *p);
    *p = (struct scratch_pair){mqg_slice_dup(op->meta.key), mqg_slice_dup(op->meta.value), op->meta.key.len,
                               op->meta.value.len};
    mqg_vec_push(&s->pairs, p);
}

static enum mqg_err scratch_submit(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops,
                                   size_t n, uint64_t ticket, unsigned flags)
{
    (void)flags;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < n; i++)
        if (ops[i].kind == MQG_OP_META)
            scratch_meta(s, &ops[i]);
    s->commits++;
    s->records += n;
    pthread_mutex_unlock(&s->lock);
    s->host.done(s->host.host, lane, ticket);
    return MQG_OK;
}

static void scratch_stats(struct mqg_store *s, struct mqg_store_stats *out)
{
    pthread_mutex_lock(&s->lock);
    *out = (struct mqg_store_stats){.commits = s->commits, .records = s->records, .state = "ok"};
    pthread_mutex_unlock(&s->lock);
}

static void scratch_close(struct mqg_store *s)
{
    (void)s; /* nothing is on its way */
}

static void scratch_fini(struct mqg_store **store)
{
    struct mqg_store *s = *store;
    *store = NULL;
    while (s->pairs.n > 0)
        scratch_remove(s, 0);
    mqg_vec_fini(&s->pairs);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static const struct mqg_store_ops scratch_ops = {
    .type = "scratch",
    .caps = MQG_STORE_META,
    .open = scratch_open,
    .caps_of = scratch_caps,
    .recover = scratch_recover,
    .start = scratch_start,
    .submit = scratch_submit,
    .stats = scratch_stats,
    .close = scratch_close,
    .stop = scratch_close,
    .fini = scratch_fini,
};

MQG_MODULE(scratch) = {
    MQG_MODULE_HEAD(struct mqg_store_ops),
    .kind = MQG_MODULE_STORAGE,
    .name = "scratch",
    .version = "1",
    .storage = &scratch_ops,
};

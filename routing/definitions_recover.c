/* definitions_recover.c - from the store's metadata back to a topology, and the first vhost of a new store.
 *
 * Records come in no order, each with its key's final value, so they are kept until the last has come, then
 * built by kind: vhosts, exchanges, queues, bindings; one edit per vhost, so that 100,000 bindings are one
 * publication. A record that does not decode, that sits under another's key, or whose vhost or ends are not
 * there, is reported and left out: the rest must start. (A binding without its ends is no damage: its removal
 * may have been torn off that of its exchange by a crash, and is made up for.)
 *
 * Every start also counts up an epoch ("node/epoch"), from which sequence numbers of queues are made. */
#include "definitions_int.h"

#include "publish.h"

#include <mqgate/obs.h>

#include <stdlib.h>

enum { RECOVER_ARGS_MAX_BYTES = 16u << 20, RECOVER_KEY_MAX_BYTES = 4u << 20, RECOVER_BATCH = 256 };

struct recover_item {
    struct recover_item *next;
    size_t key_len, value_len;
    uint8_t bytes[];
};

/* main thread, before workers start */
static struct recover_item *recover_items[META_KIND_COUNT];
static bool recover_damaged;
static struct recover_item *recover_ownerless; /* bindings without a source or a destination */
static uint64_t recover_next_id, recover_epoch;
static struct mqg_queue *recover_last; /* messages come queue by queue */

/* ---- one record ---------------------------------------------------------------------------------------- */

static struct mqg_slice recover_key(const struct recover_item *item)
{
    return mqg_slice_of(item->bytes, item->key_len);
}

static void recover_report(struct mqg_slice key, const char *why)
{
    recover_damaged = true;
    mqg_log(MQG_LOG_WARN, MQG_EVENT_CORRUPTION, "what=definition key=%s why=%s", mqg_logq(key),
            mqg_logqs(why));
}

/* Is this the key that the value would be put under? */
static bool recover_key_fits(const struct meta_record *r, struct mqg_slice key)
{
    struct mqg_dynbuf own;
    mqg_dynbuf_init(&own, RECOVER_KEY_MAX_BYTES);
    meta_key(&own, r);
    bool fits = !own.failed && mqg_slice_eq(mqg_dynbuf_view(&own), key);
    mqg_dynbuf_fini(&own);
    return fits;
}

static bool recover_decode(const struct recover_item *item, enum meta_kind kind, struct mqg_arena *a,
                           struct meta_record *r)
{
    struct mqg_slice value = mqg_slice_of(item->bytes + item->key_len, item->value_len);
    enum mqg_err err = meta_decode(kind, value, a, r);
    if (err == MQG_OK && recover_key_fits(r, recover_key(item)))
        return true;
    recover_report(recover_key(item), err != MQG_OK ? mqg_err_name(err) : "the value belongs to another key");
    return false;
}

void mqg_routing_recover_meta(struct mqg_slice key, struct mqg_slice value)
{
    enum meta_kind kind = meta_kind_of(key);
    if (kind == META_KIND_COUNT) {
        recover_report(key, "unknown kind of record");
        return;
    }
    struct recover_item *item = mqg_xmalloc(sizeof *item + key.len + value.len);
    item->key_len = key.len;
    item->value_len = value.len;
    memcpy(item->bytes, key.ptr, key.len);
    if (value.len > 0)
        memcpy(item->bytes + key.len, value.ptr, value.len);
    item->next = recover_items[kind];
    recover_items[kind] = item;
}

/* ---- building ------------------------------------------------------------------------------------------ */

static void recover_exchange(struct definitions_edit *d, const struct meta_record *r, struct mqg_slice key)
{
    enum mqg_exchange_type type;
    if (!exchange_type_parse(r->exchange.type, &type))
        recover_report(key, "unknown exchange type");
    else if (mqg_map_get(&d->vhost->exchanges, r->exchange.name) == NULL)
        exchange_create(d, &r->exchange, type);
}

static void recover_queue(struct definitions_edit *d, const struct meta_record *r, struct mqg_slice key)
{
    struct queue_opts opts;
    struct mqg_error e = {.err = MQG_OK};
    if (queue_opts_parse(&r->queue, d->vhost->name, &opts, &e) != MQG_OK) {
        recover_report(key, e.text);
        return;
    }
    if (r->number == 0 || topology_queue_by_id(r->number) != NULL) {
        recover_report(key, "the queue's id is taken");
        return;
    }
    definitions_queue_id_used(r->number);
    queue_create(d, &r->queue, &opts, r->number);
}

/* Its record goes, or an exchange of that name would find itself bound after the next start but one. */
static void recover_left_out(struct mqg_slice key)
{
    struct recover_item *item = mqg_xmalloc(sizeof *item + key.len);
    MQG_TRACE("routing", 0, "binding=%s left_out=no_ends", mqg_logq(key));
    item->key_len = key.len;
    item->value_len = 0;
    memcpy(item->bytes, key.ptr, key.len);
    item->next = recover_ownerless;
    recover_ownerless = item;
}

static void recover_remove_ownerless(void)
{
    for (unsigned n = 1; recover_ownerless != NULL; n++) {
        struct recover_item *item = recover_ownerless;
        struct mqg_store_op op = {.kind = MQG_OP_META, .meta = {.key = recover_key(item), .remove = true}};
        recover_ownerless = item->next;
        if (!recover_damaged) /* else their ends may only be unreadable */
            mqg_lane_add(mqg_storage_default(), &op, true);
        if (!recover_damaged && n % RECOVER_BATCH == 0)
            mqg_lane_submit(mqg_storage_default());
        free(item);
    }
}

static void recover_binding(struct definitions_edit *d, const struct meta_record *r, struct mqg_slice key)
{
    const struct mqg_binding_def *b = &r->binding;
    struct exchange_entry *source = mqg_map_get(&d->vhost->exchanges, b->source), *to_exchange = NULL;
    struct queue_entry *to_queue = NULL;
    struct mqg_error e = {.err = MQG_OK};
    if (b->to_exchange)
        to_exchange = mqg_map_get(&d->vhost->exchanges, b->destination);
    else
        to_queue = queue_find(d, b->destination);
    if (source == NULL || (to_exchange == NULL && to_queue == NULL))
        recover_left_out(key);
    else if (binding_create(d, b, source, to_exchange, to_queue, &e) != MQG_OK)
        recover_report(key, e.text);
}

static void recover_node(const struct meta_record *r)
{
    if (r->kind == META_QUEUE_ID)
        recover_next_id = r->number;
    else if (r->kind == META_EPOCH)
        recover_epoch = r->number;
}

static void recover_vhost(const struct meta_record *r)
{
    if (mqg_vhost_find(r->vhost) == NULL)
        vhost_add(r->vhost);
}

static void recover_build(struct definitions_edit *d, const struct meta_record *r, struct mqg_slice key)
{
    if (r->kind == META_EXCHANGE)
        recover_exchange(d, r, key);
    else if (r->kind == META_QUEUE)
        recover_queue(d, r, key);
    else if (r->kind == META_BINDING)
        recover_binding(d, r, key);
}

/* One edit as long as records are of one vhost. */
static struct definitions_edit *recover_edit(struct definitions_edit *d, struct mqg_vhost *v)
{
    if (d->vhost == v)
        return d;
    if (d->vhost != NULL)
        definitions_publish(d);
    definitions_edit_init(d, v);
    d->recovering = true;
    return d;
}

static void recover_one(struct definitions_edit *d, const struct meta_record *r, struct mqg_slice key)
{
    if (r->kind == META_VHOST || r->kind == META_QUEUE_ID || r->kind == META_EPOCH) {
        recover_node(r);
        if (r->kind == META_VHOST)
            recover_vhost(r);
        return;
    }
    struct mqg_vhost *v = mqg_vhost_find(r->vhost);
    if (v == NULL)
        recover_report(key, "no such vhost");
    else
        recover_build(recover_edit(d, v), r, key);
}

static void recover_kind(enum meta_kind kind, struct definitions_edit *d)
{
    struct mqg_arena arena;
    mqg_arena_init(&arena, RECOVER_ARGS_MAX_BYTES);
    while (recover_items[kind] != NULL) {
        struct recover_item *item = recover_items[kind];
        struct meta_record r;
        recover_items[kind] = item->next;
        mqg_arena_reset(&arena);
        if (recover_decode(item, kind, &arena, &r))
            recover_one(d, &r, recover_key(item));
        free(item);
    }
    mqg_arena_fini(&arena);
}

static void recover_predeclared(struct definitions_edit *d)
{
    for (struct mqg_vhost *v = vhost_first(); v != NULL; v = v->next_all)
        exchange_create_predeclared(recover_edit(d, v));
}

void mqg_routing_recovered_meta(void)
{
    struct definitions_edit d = {.vhost = NULL};
    definitions_lock();
    recover_kind(META_QUEUE_ID, &d);
    recover_kind(META_EPOCH, &d);
    publish_epoch_set((uint16_t)(recover_epoch + 1)); /* before the queues, whose numbers begin with it */
    if (recover_next_id > 0)
        definitions_queue_id_used(recover_next_id - 1);
    recover_kind(META_VHOST, &d);
    recover_predeclared(&d);
    recover_kind(META_EXCHANGE, &d);
    recover_kind(META_QUEUE, &d);
    recover_kind(META_BINDING, &d);
    if (d.vhost != NULL)
        definitions_publish(&d);
    definitions_unlock();
}

/* ---- messages ------------------------------------------------------------------------------------------ */

static struct mqg_queue *recover_queue_of(uint64_t queue_id)
{
    if (recover_last == NULL || mqg_queue_id(recover_last) != queue_id)
        recover_last = topology_queue_by_id(queue_id);
    return recover_last;
}

bool mqg_routing_spans_wanted(uint64_t queue_id)
{
    struct mqg_queue *q = topology_queue_by_id(queue_id);
    return q != NULL && queue_recover_spans(q);
}

bool mqg_routing_recover_span(uint64_t queue_id, uint64_t first, uint64_t last, uint64_t count,
                              uint64_t body_bytes)
{
    struct mqg_queue *q = recover_queue_of(queue_id);
    if (q == NULL)
        return false;
    queue_recover_span(q, first, last, count, body_bytes);
    return true;
}

bool mqg_routing_recover_message(uint64_t queue_id, uint64_t qseq, struct mqg_extent *extent, uint32_t off,
                                 uint32_t len, const struct mqg_stored *head, uint32_t delivery_count,
                                 uint32_t acquired_count)
{
    if (recover_queue_of(queue_id) == NULL)
        return false;
    queue_recover(recover_last, qseq, extent, off, len, head, delivery_count, acquired_count > 0);
    return true;
}

size_t mqg_routing_queue_live(uint64_t queue_id, struct mqg_range *ranges, size_t max, uint64_t *upto)
{
    definitions_lock(); /* the thread need not be a reader of epochs */
    struct mqg_queue *q = topology_queue_by_id(queue_id);
    if (q != NULL)
        mqg_queue_ref(q);
    definitions_unlock();
    *upto = UINT64_MAX; /* unknown: all of it is settled */
    if (q == NULL)
        return 0;
    size_t n = queue_live_ranges(q, ranges, max, upto);
    mqg_queue_unref(&q);
    return n;
}

/* ---- begin and end ------------------------------------------------------------------------------------- */

static bool recover_any_vhost(void)
{
    for (struct mqg_vhost *v = vhost_first(); v != NULL; v = v->next_all)
        if (mqg_vhost_alive(v))
            return true;
    return false;
}

static void recover_queues_done(bool unclean)
{
    struct mqg_pmap_cursor c;
    for (struct mqg_vhost *v = vhost_first(); v != NULL; v = v->next_all)
        for (mqg_pmap_cursor_init(&c, vhost_root(v)->queues); mqg_pmap_cursor_next(&c);) {
            queue_recovered(c.value, unclean);
            queue_stream_recovered(c.value);
        }
}

static void recover_streams_route(void)
{
    struct mqg_pmap_cursor c;
    for (struct mqg_vhost *v = vhost_first(); v != NULL; v = v->next_all)
        for (mqg_pmap_cursor_init(&c, vhost_root(v)->queues); mqg_pmap_cursor_next(&c);)
            queue_stream_routed(c.value);
}

void mqg_routing_recovered(bool unclean)
{
    struct definitions_edit d = {.vhost = NULL};
    uint64_t ticket;
    definitions_lock();
    recover_queues_done(unclean);
    definitions_record(&d, &(struct meta_record){.kind = META_EPOCH, .number = publish_epoch()}, false);
    recover_remove_ownerless();
    definitions_queue_id_start(&d);
    definitions_unlock();
    recover_streams_route();
    if (recover_any_vhost())
        return;
    enum mqg_err err = mqg_vhost_put(MQG_SLICE_LIT("/"), &ticket, NULL);
    MQG_ASSERT(err == MQG_OK);
}

enum mqg_err mqg_routing_init(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)e;
    queue_limits(conf);
    publish_init();
    return MQG_OK;
}

/* The model lets go of everything; queues end with their last reference. */
static void routing_forget(struct mqg_vhost *v)
{
    struct definitions_edit d;
    definitions_edit_init(&d, v);
    vhost_forget(&d);
    topology_edit_commit(&d.topology);
}

void mqg_routing_fini(void)
{
    queue_streams_fini();
    for (struct mqg_vhost *v = vhost_first(); v != NULL; v = v->next_all)
        routing_forget(v);
    recover_last = NULL;
    recover_next_id = recover_epoch = 0;
    recover_damaged = false;
    queue_owners_fini();
    queue_ids_fini();
    topology_fini();
    while (mqg_epoch_reclaim() > 0)
        continue;
    vhost_fini();
    definitions_reset();
    publish_fini();
}

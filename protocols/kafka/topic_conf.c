/* topic_conf.c - what was set for each topic: records, and a map that Produce reads without a lock.
 *
 *   key    kafka-topic/ID       ID: of the stream's queue, 16 hexadecimal digits; never given again, so a topic made anew begins anew
 *   value  | 1 | count u16 | name, value ... |     strings: u16 length, bytes; little-endian
 *
 * The map is persistent (pmap.h): who changes it holds a mutex, publishes a new root and retires what it replaced. */
#include "topic_conf.h"

#include "kafka.h"

#include <mqgate/broker.h>
#include <mqgate/epoch.h>
#include <mqgate/lanes.h>
#include <mqgate/map.h>
#include <mqgate/pmap.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#define CONF_PREFIX "kafka-topic/"
enum { CONF_VERSION = 1, CONF_RECORD_MAX_BYTES = 256 << 10 };

struct conf_entry {
    struct kafka_topic_conf conf;
    struct kafka_key_set set;
    uint8_t text[];
};

static pthread_mutex_t conf_change = PTHREAD_MUTEX_INITIALIZER; /* read, change, put back */
static pthread_mutex_t conf_lock = PTHREAD_MUTEX_INITIALIZER;   /* the map's writer */
static struct mqg_pmap *_Atomic conf_root;                      /* queue id (8 bytes) -> struct conf_entry */
static struct kafka_topic_conf conf_default;

void kafka_topic_conf_lock(void)
{
    pthread_mutex_lock(&conf_change);
}

void kafka_topic_conf_unlock(void)
{
    pthread_mutex_unlock(&conf_change);
}

/* ---- the map --------------------------------------------------------------------------------------------------------------- */

static struct mqg_slice conf_key(const uint64_t *id)
{
    return mqg_slice_of((const uint8_t *)id, sizeof *id);
}

static const struct conf_entry *conf_find(uint64_t id)
{
    const struct mqg_pmap *root = atomic_load_explicit(&conf_root, memory_order_acquire);
    return root != NULL ? mqg_pmap_get(root, conf_key(&id)) : NULL;
}

const struct kafka_topic_conf *kafka_topic_conf(const struct mqg_stream *s)
{
    if (MQG_LIKELY(atomic_load_explicit(&conf_root, memory_order_relaxed) == NULL))
        return &conf_default;
    const struct conf_entry *entry = conf_find(mqg_queue_id(mqg_stream_queue(s)));
    return entry != NULL ? &entry->conf : &conf_default;
}

static void conf_entry_free(void *entry, void *arg)
{
    (void)arg;
    free(entry);
}

/* entry NULL: removes. */
static void conf_publish(uint64_t id, struct conf_entry *entry)
{
    struct mqg_pmap_edit edit;
    pthread_mutex_lock(&conf_lock);
    struct mqg_pmap *root = atomic_load_explicit(&conf_root, memory_order_relaxed);
    void *old = root != NULL ? mqg_pmap_get(root, conf_key(&id)) : NULL;
    mqg_pmap_edit_begin(&edit, mqg_epoch_retire);
    if (entry != NULL)
        root = mqg_pmap_set(&edit, root, conf_key(&id), entry);
    else if (old != NULL)
        root = mqg_pmap_del(&edit, root, conf_key(&id));
    atomic_store_explicit(&conf_root, root, memory_order_release);
    pthread_mutex_unlock(&conf_lock);
    if (old != NULL)
        mqg_epoch_retire(old, conf_entry_free, NULL);
}

static struct conf_entry *conf_entry_new(const struct kafka_key_set *set)
{
    size_t bytes = 0;
    for (int i = 0; i < KAFKA_KEYS; i++)
        bytes += set->value[i].len;
    struct conf_entry *entry = mqg_xcalloc(1, sizeof *entry + bytes);
    uint8_t *at = entry->text;
    for (int i = 0; i < KAFKA_KEYS; i++) {
        if (set->value[i].ptr == NULL)
            continue;
        if (set->value[i].len > 0)
            memcpy(at, set->value[i].ptr, set->value[i].len);
        entry->set.value[i] = mqg_slice_of(at, set->value[i].len);
        at += set->value[i].len;
    }
    entry->conf = conf_default;
    kafka_key_topic(&entry->set, &entry->conf);
    return entry;
}

/* ---- records ---------------------------------------------------------------------------------------------------------------- */

/* Nothing set: the record goes. */
static uint64_t conf_record(uint64_t id, const struct kafka_key_set *set)
{
    struct mqg_dynbuf key, value;
    uint16_t n = 0;
    mqg_dynbuf_init(&key, 64);
    mqg_dynbuf_init(&value, CONF_RECORD_MAX_BYTES);
    mqg_dynbuf_printf(&key, CONF_PREFIX "%016" PRIx64, id);
    for (int i = 0; i < KAFKA_KEYS; i++)
        n = (uint16_t)(n + (set->value[i].ptr != NULL));
    mqg_dynbuf_u8(&value, CONF_VERSION);
    mqg_dynbuf_le16(&value, n);
    for (int i = 0; n > 0 && i < KAFKA_KEYS; i++) {
        if (set->value[i].ptr == NULL)
            continue;
        mqg_dynbuf_le16(&value, (uint16_t)strlen(kafka_topic_keys[i].name));
        mqg_dynbuf_slice(&value, mqg_slice_str(kafka_topic_keys[i].name));
        mqg_dynbuf_le16(&value, (uint16_t)set->value[i].len);
        mqg_dynbuf_slice(&value, set->value[i]);
    }
    MQG_ASSERT(!key.failed && !value.failed); /* values were measured */
    uint64_t ticket = n > 0 ? mqg_meta_put(mqg_dynbuf_view(&key), mqg_dynbuf_view(&value))
                            : mqg_meta_remove(mqg_dynbuf_view(&key));
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
    return ticket;
}

static bool conf_decode(struct mqg_slice value, struct kafka_key_set *set)
{
    struct mqg_cursor c = mqg_cursor_of(value);
    struct mqg_error e;
    bool good = mqg_cursor_u8(&c) == CONF_VERSION;
    uint16_t n = mqg_cursor_le16(&c);
    for (uint16_t i = 0; i < n && good && !c.failed; i++) {
        int key = kafka_key_find(mqg_cursor_slice(&c, mqg_cursor_le16(&c)));
        struct mqg_slice text = mqg_cursor_slice(&c, mqg_cursor_le16(&c));
        good = key >= 0 && !c.failed && kafka_key_check(key, text, &e);
        if (good)
            set->value[key] = text;
    }
    return good && mqg_cursor_done(&c);
}

static bool conf_id(struct mqg_slice key, uint64_t *id)
{
    const size_t prefix = sizeof CONF_PREFIX - 1;
    *id = 0;
    for (size_t i = prefix; i < key.len; i++) {
        uint8_t c = key.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        *id = *id << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return key.len == prefix + 16;
}

static void conf_recover(struct mqg_slice key, struct mqg_slice value)
{
    struct kafka_key_set set = {.value = {MQG_SLICE_NONE}};
    uint64_t id;
    if (conf_id(key, &id) && conf_decode(value, &set))
        conf_publish(id, conf_entry_new(&set));
    else
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "what=topic_configuration key=%s", mqg_logq(key));
}

/* ---- those whose stream is gone: deleted over another protocol ----------------------------------------------------------------- */

static bool conf_seen_queue(void *arg, const struct mqg_queue_info *info)
{
    uint64_t id = mqg_queue_id(info->queue);
    if (conf_find(id) != NULL)
        mqg_map_set(arg, conf_key(&id), arg);
    return true;
}

static bool conf_seen_vhost(void *arg, struct mqg_vhost *v)
{
    mqg_queue_each(v, conf_seen_queue, arg);
    return true;
}

static bool conf_drop_unseen(struct mqg_slice key, void *value, void *arg)
{
    uint64_t id;
    (void)value;
    memcpy(&id, key.ptr, sizeof id);
    if (mqg_map_get(arg, key) == NULL)
        kafka_topic_forget(id);
    return true;
}

static void conf_recovered(void)
{
    struct mqg_map seen;
    mqg_map_init(&seen, MQG_MAP_COPY);
    mqg_vhost_each(conf_seen_vhost, &seen);
    const struct mqg_pmap *root = atomic_load(&conf_root);
    if (root != NULL)
        mqg_pmap_each(root, conf_drop_unseen, &seen);
    mqg_map_fini(&seen);
}

/* ---- setting ------------------------------------------------------------------------------------------------------------------- */

void kafka_topic_set(const struct mqg_stream *s, struct mqg_arena *a, struct kafka_key_set *set)
{
    const struct conf_entry *entry = conf_find(mqg_queue_id(mqg_stream_queue(s)));
    const struct mqg_stream_conf conf = mqg_stream_conf(s);
    *set = (struct kafka_key_set){.value = {MQG_SLICE_NONE}};
    for (int i = 0; entry != NULL && i < KAFKA_KEYS; i++)
        if (entry->set.value[i].ptr != NULL)
            set->value[i] = mqg_arena_dup(a, entry->set.value[i]);
    kafka_key_from_stream(set, &conf, a);
}

static bool conf_is_empty(const struct kafka_key_set *set)
{
    for (int i = 0; i < KAFKA_KEYS; i++)
        if (set->value[i].ptr != NULL)
            return false;
    return true;
}

uint64_t kafka_topic_keep(const struct mqg_stream *s, const struct kafka_key_set *set)
{
    uint64_t id = mqg_queue_id(mqg_stream_queue(s));
    if (conf_is_empty(set))
        return conf_find(id) != NULL ? kafka_topic_forget(id) : 0;
    uint64_t ticket = conf_record(id, set);
    conf_publish(id, conf_entry_new(set));
    return ticket;
}

uint64_t kafka_topic_forget(uint64_t queue_id)
{
    if (conf_find(queue_id) == NULL)
        return 0;
    const struct kafka_key_set none = {.value = {MQG_SLICE_NONE}};
    uint64_t ticket = conf_record(queue_id, &none);
    conf_publish(queue_id, NULL);
    return ticket;
}

static bool conf_same(const struct mqg_stream_conf *a, const struct mqg_stream_conf *b)
{
    return a->cleanup == b->cleanup && a->retention_ms == b->retention_ms &&
           a->retention_bytes == b->retention_bytes && a->segment_bytes == b->segment_bytes &&
           a->segment_ms == b->segment_ms && a->compact_lag_min_ms == b->compact_lag_min_ms &&
           a->compact_lag_max_ms == b->compact_lag_max_ms && a->tombstone_ms == b->tombstone_ms;
}

enum mqg_err kafka_topic_put(struct mqg_session *session, struct mqg_stream *s,
                             const struct kafka_key_set *set, uint64_t *ticket, struct mqg_error *e)
{
    const struct mqg_stream_conf old = mqg_stream_conf(s);
    struct mqg_stream_conf conf;
    kafka_key_stream(set, &conf);
    *ticket = 0;
    if (!conf_same(&conf, &old)) {
        enum mqg_err err = mqg_stream_alter(session, mqg_stream_name(s), 0, &conf, ticket, e);
        if (err != MQG_OK)
            return err;
    }
    uint64_t kept = kafka_topic_keep(s, set);
    *ticket = kept > *ticket ? kept : *ticket;
    return MQG_OK;
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------- */

void kafka_topic_conf_load(void)
{
    struct kafka_key_set none = {.value = {MQG_SLICE_NONE}};
    conf_default.max_message_bytes = kafka_settings.batch_max_bytes;
    kafka_key_topic(&none, &conf_default);
    mqg_meta_on_recover(CONF_PREFIX, conf_recover, conf_recovered);
}

static bool conf_free_one(struct mqg_slice key, void *value, void *arg)
{
    (void)key;
    (void)arg;
    free(value);
    return true;
}

void kafka_topic_conf_unload(void)
{
    struct mqg_pmap *root = atomic_exchange(&conf_root, NULL);
    if (root == NULL)
        return;
    mqg_pmap_each(root, conf_free_one, NULL);
    mqg_pmap_free(root, NULL);
}

/* topic.c - names and ids of topics.
 *
 * A connection keeps the topics that it used: name, stream, id and what its user may do there, so that a Produce of ten
 * partitions is ten look-ups in a small map. An entry is believed as long as the vhost's definitions are of the generation in
 * which it was looked up, a right as long as the accounts are; only streams that are there have entries.
 *
 * A topic's id (KIP-516) is made of the cluster's id and the number of the stream's queue, which is never given again. Finding a
 * stream by its id goes through the entries; where there is none, all topics of the vhost are looked at once per generation. */
#include "kafka_int.h"

#include <mqgate/map.h>

#include <stdlib.h>

enum { TOPICS_MAX = 16384 };

struct topic {
    struct mqg_stream *stream; /* one reference */
    struct kafka_uuid id;
    uint64_t generation;      /* of the vhost */
    uint64_t auth_generation; /* of known and allowed */
    uint8_t known, allowed;   /* bits by enum mqg_perm */
    uint16_t name_len;
    uint8_t name[];
};

struct kafka_topics {
    struct mqg_map by_name, by_id; /* keys borrow from the entries */
    uint64_t scanned;              /* generation of the last look at all */
    bool scanned_once;
};

/* ---- names and ids --------------------------------------------------------------------------------------------------------- */

bool kafka_topic_name_ok(struct mqg_slice name)
{
    if (name.len == 0 || name.len > 249)
        return false;
    bool dots = true;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                     c == '-';
        if (!plain && c != '.')
            return false;
        dots = dots && c == '.';
    }
    return !dots || name.len > 2;
}

struct kafka_uuid kafka_topic_id(const struct mqg_stream *s)
{
    struct kafka_uuid id = {{0}};
    memcpy(id.bytes, kafka_cluster_id().ptr, 8);
    mqg_put_be64(id.bytes + 8, mqg_queue_id(mqg_stream_queue(s)));
    return id;
}

/* ---- entries ----------------------------------------------------------------------------------------------------------------- */

static struct mqg_slice topic_key(const struct topic *t)
{
    return mqg_slice_of(t->name, t->name_len);
}

static struct mqg_slice id_key(const struct kafka_uuid *id)
{
    return mqg_slice_of(id->bytes, sizeof id->bytes);
}

static struct kafka_topics *topics_of(struct kafka_conn *kc)
{
    if (kc->topics == NULL) {
        kc->topics = mqg_xcalloc(1, sizeof *kc->topics);
        mqg_map_init(&kc->topics->by_name, MQG_MAP_BORROW);
        mqg_map_init(&kc->topics->by_id, MQG_MAP_BORROW);
    }
    return kc->topics;
}

static void topic_drop(struct kafka_topics *ts, struct topic *t)
{
    mqg_map_del(&ts->by_name, topic_key(t));
    if (mqg_map_get(&ts->by_id, id_key(&t->id)) == t)
        mqg_map_del(&ts->by_id, id_key(&t->id));
    mqg_stream_unref(&t->stream);
    free(t);
}

void kafka_topics_free(struct kafka_conn *kc)
{
    struct kafka_topics *ts = kc->topics;
    if (ts == NULL)
        return;
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&ts->by_name, &it);) {
        struct topic *t = it.value;
        mqg_stream_unref(&t->stream);
        free(t);
    }
    mqg_map_fini(&ts->by_name);
    mqg_map_fini(&ts->by_id);
    free(ts);
    kc->topics = NULL;
}

/* s: the reference goes over. */
static struct topic *topic_add(struct kafka_conn *kc, struct mqg_slice name, struct mqg_stream *s)
{
    if (kc->topics != NULL && kc->topics->by_name.count >= TOPICS_MAX)
        kafka_topics_free(kc);
    struct kafka_topics *ts = topics_of(kc);
    struct topic *t = mqg_xcalloc(1, sizeof *t + name.len);
    t->stream = s;
    t->id = kafka_topic_id(s);
    t->generation = mqg_vhost_generation(kafka_vhost(kc));
    t->name_len = (uint16_t)name.len;
    memcpy(t->name, name.ptr, name.len);
    mqg_map_set(&ts->by_name, topic_key(t), t);
    mqg_map_set(&ts->by_id, id_key(&t->id), t);
    return t;
}

/* The entry of a topic that is there now, or NULL. */
static struct topic *topic_find(struct kafka_conn *kc, struct mqg_slice name)
{
    struct kafka_topics *ts = topics_of(kc);
    struct topic *t = mqg_map_get(&ts->by_name, name);
    uint64_t generation = mqg_vhost_generation(kafka_vhost(kc));
    if (MQG_LIKELY(t != NULL && t->generation == generation))
        return t;
    struct mqg_error e;
    struct mqg_stream *s = NULL;
    if (!kafka_topic_name_ok(name) || mqg_stream_open(kc->session, name, &s, &e) != MQG_OK)
        s = NULL;
    if (t != NULL && t->stream == s) {
        mqg_stream_unref(&s);
        t->generation = generation;
        return t;
    }
    if (t != NULL)
        topic_drop(ts, t);
    return s != NULL ? topic_add(kc, name, s) : NULL;
}

static bool topic_allowed(struct kafka_conn *kc, struct topic *t, enum mqg_perm perm)
{
    uint64_t generation = mqg_auth_generation();
    uint8_t bit = (uint8_t)(1u << perm);
    if (t->auth_generation != generation) {
        t->auth_generation = generation;
        t->known = t->allowed = 0;
    }
    if (!(t->known & bit)) {
        t->known |= bit;
        if (kafka_allowed(kc, perm, "topic", topic_key(t)))
            t->allowed |= bit;
    }
    return t->allowed & bit;
}

/* ---- by name ------------------------------------------------------------------------------------------------------------------ */

struct mqg_stream *kafka_topic(struct kafka_conn *kc, struct mqg_slice name, enum mqg_perm perm,
                               enum kafka_error *code)
{
    struct topic *t = topic_find(kc, name);
    bool allowed = t != NULL ? topic_allowed(kc, t, perm) : kafka_allowed(kc, perm, "topic", name);
    *code = !allowed    ? KAFKA_TOPIC_AUTHORIZATION_FAILED
            : t == NULL ? KAFKA_UNKNOWN_TOPIC_OR_PARTITION
                        : KAFKA_NONE;
    return *code == KAFKA_NONE ? t->stream : NULL;
}

struct mqg_partition *kafka_partition(struct kafka_conn *kc, struct mqg_slice name, int32_t index,
                                      enum mqg_perm perm, enum kafka_error *code)
{
    struct mqg_stream *s = kafka_topic(kc, name, perm, code);
    struct mqg_partition *p = s != NULL && index >= 0 ? mqg_stream_partition(s, (uint32_t)index) : NULL;
    if (s != NULL && p == NULL)
        *code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    return p;
}

/* ---- all of them --------------------------------------------------------------------------------------------------------------- */

struct each {
    bool (*visit)(void *arg, struct mqg_stream *s);
    void *arg;
};

static bool each_queue(void *arg, const struct mqg_queue_info *info)
{
    struct each *e = arg;
    struct mqg_stream *s = mqg_queue_stream(info->queue);
    return s == NULL || !kafka_topic_name_ok(info->name) || e->visit(e->arg, s);
}

void kafka_topics_each(struct kafka_conn *kc, bool (*visit)(void *arg, struct mqg_stream *s), void *arg)
{
    struct each e = {visit, arg};
    mqg_queue_each(kafka_vhost(kc), each_queue, &e);
}

/* ---- by id ---------------------------------------------------------------------------------------------------------------------- */

struct wanted {
    const struct kafka_uuid *id;
    struct mqg_stream *found; /* one reference */
};

static bool wanted_visit(void *arg, struct mqg_stream *s)
{
    struct wanted *w = arg;
    struct kafka_uuid id = kafka_topic_id(s);
    if (memcmp(id.bytes, w->id->bytes, sizeof id.bytes) == 0)
        w->found = mqg_stream_ref(s);
    return w->found == NULL;
}

static struct topic *topic_by_id(struct kafka_conn *kc, const struct kafka_uuid *id)
{
    struct kafka_topics *ts = topics_of(kc);
    struct topic *t = mqg_map_get(&ts->by_id, id_key(id));
    if (t != NULL) { /* is it still the stream of that name? */
        struct topic *now = topic_find(kc, topic_key(t));
        return now == t ? t : NULL;
    }
    uint64_t generation = mqg_vhost_generation(kafka_vhost(kc));
    if (ts->scanned_once && ts->scanned == generation)
        return NULL;
    struct wanted w = {.id = id};
    kafka_topics_each(kc, wanted_visit, &w);
    if (w.found != NULL)
        return topic_add(kc, mqg_stream_name(w.found), w.found);
    ts->scanned = generation;
    ts->scanned_once = true;
    return NULL;
}

struct mqg_stream *kafka_topic_by_id(struct kafka_conn *kc, const struct kafka_uuid *id, enum mqg_perm perm,
                                     enum kafka_error *code)
{
    struct topic *t = topic_by_id(kc, id);
    *code = t == NULL                    ? KAFKA_UNKNOWN_TOPIC_ID
            : topic_allowed(kc, t, perm) ? KAFKA_NONE
                                         : KAFKA_TOPIC_AUTHORIZATION_FAILED;
    return *code == KAFKA_NONE ? t->stream : NULL;
}

struct mqg_partition *kafka_partition_by_id(struct kafka_conn *kc, const struct kafka_uuid *id, int32_t index,
                                            enum mqg_perm perm, enum kafka_error *code)
{
    struct mqg_stream *s = kafka_topic_by_id(kc, id, perm, code);
    struct mqg_partition *p = s != NULL && index >= 0 ? mqg_stream_partition(s, (uint32_t)index) : NULL;
    if (s != NULL && p == NULL)
        *code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    return p;
}

enum kafka_error kafka_leader_epoch_check(int32_t told)
{
    int32_t here = mqg_stream_epoch();
    if (told < 0 || told == here)
        return KAFKA_NONE;
    return told < here ? KAFKA_FENCED_LEADER_EPOCH : KAFKA_UNKNOWN_LEADER_EPOCH;
}

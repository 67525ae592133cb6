/* share.c - shared subscriptions (5.0: 4.8.2): a queue per group and filter, which the group's members consume by credit.
 *
 * The queue is durable, whoever made it: members that outlive their connections may join later. It lives as long as a session has
 * the subscription, also one whose client is away; the last to leave takes it along. Joining and leaving happen on any worker. */
#include "mqtt.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct mqtt_share {
    struct mqg_slice key; /* vhost NUL group NUL filter; owned */
    struct mqg_slice filter;
    struct mqg_vhost *vhost; /* NULL after recovery, until it is used */
    uint32_t members;
    char name[64]; /* of its queue */
};

static pthread_mutex_t share_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_map shares = {.keys = MQG_MAP_BORROW};
static uint64_t share_members; /* of all, under the lock */

static struct mqtt_share *share_new(struct mqg_slice key, size_t filter_len)
{
    struct mqtt_share *s = mqg_xcalloc(1, sizeof(*s));
    char hex[33];
    s->key = mqg_slice_of(mqg_slice_dup(key), key.len);
    s->filter = mqg_slice_of(s->key.ptr + key.len - filter_len, filter_len);
    mqtt_digest_hex(key, hex);
    snprintf(s->name, sizeof(s->name), "mqtt-share-%s", hex);
    mqg_map_set(&shares, s->key, s);
    return s;
}

struct mqtt_share *mqtt_share_ref(struct mqg_vhost *v, struct mqg_slice group, struct mqg_slice filter)
{
    struct mqg_dynbuf key;
    mqg_dynbuf_init(&key, 1u << 18);
    mqg_dynbuf_slice(&key, mqg_vhost_name(v));
    mqg_dynbuf_u8(&key, 0);
    mqg_dynbuf_slice(&key, group);
    mqg_dynbuf_u8(&key, 0);
    mqg_dynbuf_slice(&key, filter);
    pthread_mutex_lock(&share_lock);
    struct mqtt_share *s = mqg_map_get(&shares, mqg_dynbuf_view(&key));
    if (!s)
        s = share_new(mqg_dynbuf_view(&key), filter.len);
    s->vhost = v;
    s->members++;
    share_members++;
    pthread_mutex_unlock(&share_lock);
    mqg_dynbuf_fini(&key);
    return s;
}

static void share_drop_queue(struct mqtt_share *s)
{
    uint64_t messages, ticket;
    struct mqg_error e = {0};
    if (!mqg_worker_self())
        return;
    struct mqg_session *own = mqg_session_internal(s->vhost);
    if (mqg_queue_delete(own, mqg_slice_str(s->name), false, false, &messages, &ticket, &e) != MQG_OK)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_DEFINE, "queue=%s why=%s", s->name, mqg_logqs(e.text));
    mqg_session_unref(&own);
}

/* The lock is held while the queue goes, so that a member that joins just now makes it anew, after. */
void mqtt_share_unref(struct mqtt_share **share)
{
    struct mqtt_share *s = *share;
    *share = NULL;
    pthread_mutex_lock(&share_lock);
    share_members--;
    bool last = --s->members == 0;
    if (last) {
        mqg_map_del(&shares, s->key);
        share_drop_queue(s);
    }
    pthread_mutex_unlock(&share_lock);
    if (!last)
        return;
    free((void *)(uintptr_t)s->key.ptr);
    free(s);
}

static enum mqg_err share_declare(struct mqtt_share *s, struct mqg_session *own, uint64_t *ticket,
                                  struct mqg_error *e)
{
    struct mqg_arena a;
    struct mqg_queue_ok ok;
    uint64_t declared = 0;
    mqg_arena_init(&a, 4096);
    struct mqg_queue_def d = {.name = mqg_slice_str(s->name), .durable = true};
    mqg_table_set_int(&a, &d.args, "x-max-length", (int64_t)mqtt_settings()->queue_length);
    mqg_table_set_int(&a, &d.args, "x-max-length-bytes", (int64_t)mqtt_settings()->queue_bytes);
    enum mqg_err err = mqg_queue_declare(own, &d, false, &ok, &declared, e);
    mqg_arena_fini(&a);
    if (declared > *ticket)
        *ticket = declared;
    return err == MQG_OK ? mqtt_bind(s->vhost, d.name, s->filter, true, ticket, e) : err;
}

enum mqg_err mqtt_share_queue(struct mqtt_share *s, struct mqg_queue **out, uint64_t *ticket,
                              struct mqg_error *e)
{
    struct mqg_session *own = mqg_session_internal(s->vhost);
    pthread_mutex_lock(&share_lock);
    enum mqg_err err = mqg_queue_open(own, mqg_slice_str(s->name), out, e);
    if (err == MQG_NOT_FOUND) {
        err = share_declare(s, own, ticket, e);
        if (err == MQG_OK)
            err = mqg_queue_open(own, mqg_slice_str(s->name), out, e);
    }
    pthread_mutex_unlock(&share_lock);
    mqg_session_unref(&own);
    return err;
}

uint64_t mqtt_share_members(void)
{
    pthread_mutex_lock(&share_lock);
    uint64_t n = share_members;
    pthread_mutex_unlock(&share_lock);
    return n;
}

void mqtt_share_fini(void)
{
    mqg_map_fini(&shares);
    mqg_map_init(&shares, MQG_MAP_BORROW);
}

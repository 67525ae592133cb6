/* persist.c - what sessions write down, as metadata records of the default store, and how they come back.
 *
 *   mqtt/s/SESSION          version, vhost, client, expiry, when it went, highest number sent
 *   mqtt/f/SESSION/FILTER   version, vhost, client, the subscription as its client said it, its options
 *   mqtt/w/SESSION          version, vhost, client, when it is due, or MQTT_WILL_OPEN and the delay while its client is there; retain,
 *                           the will's message in its stored form
 *   mqtt/q/SESSION          version, vhost, client, identifiers received and not released; received by the client, with numbers;
 *                           sent to it and not acknowledged, with numbers and QoS: those whose QoS or time must not count anew
 *
 * SESSION and FILTER are 128 bits of a SHA-256 in hex, so that keys are short whatever clients call themselves; the values say
 * it in full. Messages are not here: they lie in the session's durable queue. Values are little-endian, texts have a 16 bit
 * length. Records come back in no order; what has no record of its session is left over from one that ended, and dropped. */
#include "mqtt.h"

#include <openssl/sha.h>

#include <stdio.h>
#include <stdlib.h>

#define PERSIST_VERSION   1u
#define PERSIST_MAX_BYTES (4u << 20) /* a will is the largest, which came in a CONNECT */

void mqtt_digest_hex(struct mqg_slice s, char out[33])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256(s.ptr, s.len, digest);
    for (size_t i = 0; i < 16; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[32] = '\0';
}

/* ---- writing ---------------------------------------------------------------------------------------------------------- */

static void persist_text(struct mqg_dynbuf *b, struct mqg_slice s)
{
    mqg_dynbuf_le16(b, (uint16_t)s.len);
    mqg_dynbuf_slice(b, s);
}

static void persist_head(struct mqg_dynbuf *b, const struct mqtt_session *s)
{
    mqg_dynbuf_init(b, PERSIST_MAX_BYTES);
    mqg_dynbuf_u8(b, PERSIST_VERSION);
    persist_text(b, mqg_vhost_name(s->vhost));
    persist_text(b, s->client);
}

static struct mqg_slice persist_key(char *room, size_t n, char kind, const struct mqtt_session *s,
                                    const char *more)
{
    int len = snprintf(room, n, "mqtt/%c/%s%s%s", kind, s->hex, more ? "/" : "", more ? more : "");
    return mqg_slice_of(room, (size_t)len);
}

static void persist_put(struct mqtt_session *s, struct mqg_slice key, struct mqg_dynbuf *value)
{
    MQG_ASSERT(!value->failed);
    s->ticket = mqg_meta_put(key, mqg_dynbuf_view(value));
    mqg_dynbuf_fini(value);
}

void mqtt_persist_session(struct mqtt_session *s)
{
    char key[96];
    struct mqg_dynbuf b;
    persist_head(&b, s);
    mqg_dynbuf_le32(&b, s->expiry_s);
    mqg_dynbuf_le64(&b, s->gone_us);
    mqg_dynbuf_le64(&b, s->sent_upto);
    persist_put(s, persist_key(key, sizeof(key), 's', s, NULL), &b);
}

void mqtt_persist_session_gone(struct mqtt_session *s)
{
    char key[96];
    s->ticket = mqg_meta_remove(persist_key(key, sizeof(key), 'q', s, NULL));
    s->ticket = mqg_meta_remove(persist_key(key, sizeof(key), 's', s, NULL));
}

void mqtt_persist_will(struct mqtt_session *s, const struct mqtt_will *will, uint64_t due_us)
{
    char key[96];
    struct mqg_dynbuf b;
    persist_head(&b, s);
    mqg_dynbuf_le64(&b, due_us == MQTT_WILL_OPEN ? MQTT_WILL_OPEN | will->delay_s : due_us);
    mqg_dynbuf_u8(&b, will->retain);
    mqg_dynbuf_slice(&b, mqg_msg_stored(will->msg));
    persist_put(s, persist_key(key, sizeof(key), 'w', s, NULL), &b);
}

void mqtt_persist_will_gone(struct mqtt_session *s)
{
    char key[96];
    s->ticket = mqg_meta_remove(persist_key(key, sizeof(key), 'w', s, NULL));
}

void mqtt_persist_sub(struct mqtt_session *s, const struct mqtt_sub *sub, bool remove)
{
    char key[128], hex[33];
    mqtt_digest_hex(mqtt_sub_name(sub), hex);
    struct mqg_slice k = persist_key(key, sizeof(key), 'f', s, hex);
    if (remove) {
        s->ticket = mqg_meta_remove(k);
        return;
    }
    struct mqg_dynbuf b;
    persist_head(&b, s);
    persist_text(&b, mqtt_sub_name(sub));
    mqg_dynbuf_u8(&b, (uint8_t)(sub->qos | sub->no_local << 2 | sub->retain_as_published << 3));
    mqg_dynbuf_le32(&b, sub->id);
    persist_put(s, k, &b);
}

static bool persist_in(const struct mqtt_id *x)
{
    return x->state == MQTT_IN_PENDING || x->state == MQTT_IN_RECEIVED;
}

static bool persist_out(const struct mqtt_id *x)
{
    return x->state == MQTT_OUT_RECEIVED || x->state == MQTT_OUT_RELEASED;
}

static bool persist_sent(const struct mqtt_id *x)
{
    return x->noted && (x->state == MQTT_OUT_QOS1 || x->state == MQTT_OUT_QOS2);
}

static uint32_t persist_count(const struct mqtt_ids *ids, bool (*wanted)(const struct mqtt_id *x))
{
    uint32_t n = 0;
    struct mqtt_id *x;
    for (uint32_t at = 0; (x = mqtt_ids_next(ids, &at)) != NULL;)
        n += wanted(x);
    return n;
}

void mqtt_persist_ids(struct mqtt_session *s)
{
    char key[96];
    struct mqg_dynbuf b;
    struct mqtt_id *x;
    if (!s->durable)
        return;
    persist_head(&b, s);
    mqg_dynbuf_le16(&b, (uint16_t)persist_count(&s->in, persist_in));
    for (uint32_t at = 0; (x = mqtt_ids_next(&s->in, &at)) != NULL;)
        if (persist_in(x))
            mqg_dynbuf_le16(&b, x->id);
    mqg_dynbuf_le16(&b, (uint16_t)persist_count(&s->out, persist_out));
    for (uint32_t at = 0; (x = mqtt_ids_next(&s->out, &at)) != NULL;)
        if (persist_out(x)) {
            mqg_dynbuf_le16(&b, x->id);
            mqg_dynbuf_le64(&b, x->qseq);
        }
    mqg_dynbuf_le16(&b, (uint16_t)persist_count(&s->out, persist_sent));
    for (uint32_t at = 0; (x = mqtt_ids_next(&s->out, &at)) != NULL;)
        if (persist_sent(x)) {
            mqg_dynbuf_le16(&b, x->id);
            mqg_dynbuf_le64(&b, x->qseq);
            mqg_dynbuf_u8(&b, x->state == MQTT_OUT_QOS2 ? 2 : 1);
        }
    MQG_ASSERT(!b.failed);
    struct mqg_store_op op = {
        .kind = MQG_OP_META,
        .meta = {persist_key(key, sizeof(key), 'q', s, NULL), mqg_dynbuf_view(&b), false}};
    mqg_lane_add(mqg_storage_default(), &op, true);
    s->ticket = mqg_lane_ticket(mqg_storage_default());
    mqg_dynbuf_fini(&b);
}

/* ---- recovery: before workers run ----------------------------------------------------------------------------------------- */

static struct mqg_slice persist_take(struct mqg_cursor *c)
{
    return mqg_cursor_slice(c, mqg_cursor_le16(c));
}

static void recover_session(struct mqtt_session *s, struct mqg_cursor *c)
{
    s->known = true;
    s->expiry_s = mqg_cursor_le32(c);
    s->gone_us = mqg_cursor_le64(c);
    s->sent_upto = mqg_cursor_le64(c);
}

static void recover_sub(struct mqtt_session *s, struct mqg_cursor *c)
{
    struct mqg_slice name = persist_take(c);
    uint8_t options = mqg_cursor_u8(c);
    uint32_t id = mqg_cursor_le32(c);
    bool fresh;
    if (c->failed || name.len == 0)
        return;
    struct mqtt_sub *sub = mqtt_sub_put(s, name, &fresh);
    sub->qos = options & 3;
    sub->no_local = (options & 4) != 0;
    sub->retain_as_published = (options & 8) != 0;
    sub->id = id;
    if (!sub->share)
        s->has_queue[sub->qos == 0 ? MQTT_FEED_QOS0 : MQTT_FEED_SESSION] = true;
    else if (sub->qos == 2)
        s->has_queue[MQTT_FEED_SESSION] = true; /* share.c */
}

static void recover_will(struct mqtt_session *s, struct mqg_cursor *c)
{
    uint64_t due_us = mqg_cursor_le64(c), now_us = mqg_clock_now().wall_us;
    bool retain = mqg_cursor_u8(c) != 0;
    struct mqg_slice stored = mqg_cursor_slice(c, mqg_cursor_left(c));
    if (due_us &
        MQTT_WILL_OPEN) /* the client was there when the node ended: its connection is closed since now */
        due_us = now_us + UINT64_C(1000000) * (due_us & UINT32_MAX);
    mqtt_will_free(&s->will);
    s->will = c->failed ? NULL : mqtt_will_recover(s->vhost, stored, retain);
    c->failed = s->will == NULL;
    s->will_stored = true;
    if (s->will)
        s->will_ms = mqg_clock_now().mono_ms + (due_us > now_us ? (due_us - now_us) / 1000 : 0) + 1;
}

static void recover_sent(struct mqtt_session *s, struct mqg_cursor *c)
{
    if (mqg_cursor_left(c) == 0) /* written before there was such a list */
        return;
    for (uint16_t n = mqg_cursor_le16(c); n > 0 && !c->failed; n--) {
        uint16_t id = mqg_cursor_le16(c);
        uint64_t qseq = mqg_cursor_le64(c);
        uint8_t qos = mqg_cursor_u8(c);
        if (c->failed || qos - 1u > 1 || mqtt_ids_get(&s->out, id))
            continue;
        struct mqtt_id *x = mqtt_ids_add(&s->out, id);
        x->state = qos == 2 ? MQTT_OUT_QOS2 : MQTT_OUT_QOS1;
        x->noted = true;
        x->qseq = qseq;
        s->begun = true;
    }
}

static void recover_ids(struct mqtt_session *s, struct mqg_cursor *c)
{
    for (uint16_t n = mqg_cursor_le16(c); n > 0 && !c->failed; n--) {
        uint16_t id = mqg_cursor_le16(c);
        if (!c->failed && !mqtt_ids_get(&s->in, id))
            mqtt_ids_add(&s->in, id)->state = MQTT_IN_RECEIVED;
    }
    for (uint16_t n = mqg_cursor_le16(c); n > 0 && !c->failed; n--) {
        uint16_t id = mqg_cursor_le16(c);
        uint64_t qseq = mqg_cursor_le64(c);
        if (c->failed || mqtt_ids_get(&s->out, id))
            continue;
        struct mqtt_id *x = mqtt_ids_add(&s->out, id);
        x->state = MQTT_OUT_RELEASED;
        x->qseq = qseq;
    }
    recover_sent(s, c);
}

/* Vhosts are only built when all records have been told: ours are kept until then. */
struct kept {
    struct kept *next;
    struct mqg_slice key, value;
};
static struct kept *kept_first;

static void persist_recover(struct mqg_slice key, struct mqg_slice value)
{
    struct kept *k = mqg_xcalloc(1, sizeof(*k));
    k->key = mqg_slice_of(mqg_slice_dup(key), key.len);
    k->value = mqg_slice_of(mqg_slice_dup(value), value.len);
    k->next = kept_first;
    kept_first = k;
}

static void recover_record(struct mqg_slice key, struct mqg_slice value)
{
    struct mqg_cursor c = mqg_cursor_of(value);
    uint8_t version = mqg_cursor_u8(&c);
    struct mqg_slice vhost_name = persist_take(&c), client = persist_take(&c);
    struct mqg_vhost *vhost = c.failed ? NULL : mqg_vhost_find(vhost_name);
    if (version != PERSIST_VERSION || key.len < 7 || client.len > MQTT_CLIENT_ID_MAX) {
        mqg_log(MQG_LOG_WARN, MQG_EVENT_RECOVERY, "record=%s why=\"not understood\"", mqg_logq(key));
        return;
    }
    if (!vhost) /* it was deleted with its sessions' queues */
        return;
    struct mqtt_session *s = mqtt_session_recover(vhost_name, client);
    s->vhost = vhost;
    if (key.ptr[5] == 's')
        recover_session(s, &c);
    else if (key.ptr[5] == 'f')
        recover_sub(s, &c);
    else if (key.ptr[5] == 'q')
        recover_ids(s, &c);
    else if (key.ptr[5] == 'w')
        recover_will(s, &c);
    if (c.failed)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_RECOVERY, "record=%s why=\"cut short\"", mqg_logq(key));
}

/* ---- after it ------------------------------------------------------------------------------------------------------------------ */

static void recovered_visit(struct mqtt_session *s, void *arg)
{
    mqg_vec_push(arg, s);
}

/* A session may have messages without a subscription that says so. What was sent with QoS 2 before does not expire there. */
static void recovered_queue(struct mqtt_session *s)
{
    uint64_t upto = 0;
    char room[256];
    struct mqtt_id *x;
    struct mqg_queue *q = NULL;
    struct mqg_error e = {0};
    for (uint32_t at = 0; (x = mqtt_ids_next(&s->out, &at)) != NULL;)
        if (x->state == MQTT_OUT_QOS2 && x->qseq > upto)
            upto = x->qseq;
    struct mqg_session *own = mqg_session_internal(s->vhost);
    if (mqg_queue_open(own, mqtt_session_queue_name(s, MQTT_FEED_SESSION, room), &q, &e) == MQG_OK) {
        s->has_queue[MQTT_FEED_SESSION] = true;
        mqg_queue_keep(q, upto);
    }
    mqg_queue_unref(&q);
    mqg_session_unref(&own);
}

static void recovered_one(struct mqtt_session *s, uint32_t at, struct mqg_time now)
{
    recovered_queue(s);
    s->holder = at % mqg_worker_count();
    if (s->gone_us == 0) /* its client was there when the node stopped */
        s->gone_us = now.wall_us;
    if (s->expiry_s == MQTT_EXPIRY_NEVER)
        return;
    uint64_t end_us = s->gone_us + UINT64_C(1000000) * s->expiry_s;
    s->expire_ms = now.mono_ms + (end_us > now.wall_us ? (end_us - now.wall_us) / 1000 : 1);
}

static void recover_all(void)
{
    while (kept_first) {
        struct kept *k = kept_first;
        kept_first = k->next;
        recover_record(k->key, k->value);
        free((void *)(uintptr_t)k->key.ptr);
        free((void *)(uintptr_t)k->value.ptr);
        free(k);
    }
}

static void persist_recovered(void)
{
    struct mqg_vec all = {0};
    recover_all();
    struct mqg_time now = mqg_clock_now();
    mqtt_session_each(recovered_visit, &all);
    for (size_t i = 0; i < all.n; i++) {
        struct mqtt_session *s = all.items[i];
        if (s->known)
            recovered_one(s, (uint32_t)i, now);
        else
            mqtt_session_drop_recovered(s);
    }
    if (all.n > 0)
        mqg_log(MQG_LOG_INFO, MQG_EVENT_RECOVERY, "mqtt_sessions=%zu", all.n);
    mqg_vec_fini(&all);
}

void mqtt_persist_init(void)
{
    mqg_meta_on_recover("mqtt/", persist_recover, persist_recovered);
}

/* match.c - which of a session's own filters a message came by: the highest QoS, all identifiers, once per session.
 *
 * Most sessions have one or two filters and get many messages of one topic, so the last answer is kept; it is right until the
 * filters change. No-local depends on the publisher, so filters that have it are looked at each time. */
#include "mqtt.h"

static bool match_is_own(const struct mqtt_session *s, const struct mqg_msg *m)
{
    struct mqg_slice client = mqg_slice_of(mqg_msg_at_user(m) + m->st.user_len, m->st.client_len);
    return m->st.proto == MQG_PROTO_MQTT && mqg_slice_eq(client, s->client);
}

static bool match_cached(const struct mqtt_session *s, const struct mqtt_matched *last,
                         struct mqg_slice topic)
{
    return s->cached && last->len == topic.len && memcmp(last->topic, topic.ptr, topic.len) == 0;
}

static struct mqtt_matched *match_last(struct mqtt_conn *c)
{
    if (MQG_UNLIKELY(!c->matched))
        c->matched = mqg_xcalloc(1, sizeof(*c->matched));
    return c->matched;
}

const struct mqtt_match *mqtt_match(struct mqtt_session *s, const struct mqg_msg *m, struct mqg_slice topic)
{
    struct mqtt_matched *last = match_last(s->conn);
    struct mqtt_match *out = &last->match;
    if (match_cached(s, last, topic))
        return out;
    bool own = match_is_own(s, m), skipped = false;
    *out = (struct mqtt_match){.any = false};
    for (uint32_t i = 0; i < s->subs.n; i++) {
        const struct mqtt_sub *sub = s->subs.list[i];
        if (sub->share || !mqtt_topic_matches(mqtt_sub_filter(sub), topic))
            continue;
        skipped = skipped || sub->no_local;
        if (sub->no_local && own) /* [MQTT-3.8.3-3] */
            continue;
        out->any = true;
        out->retain = out->retain || sub->retain_as_published;
        if (sub->qos > out->qos)
            out->qos = sub->qos;
        if (sub->id != 0 && out->nids < MQTT_SUBIDS_MAX)
            out->ids[out->nids++] = sub->id;
    }
    s->cached = !skipped && topic.len <= sizeof(last->topic);
    if (s->cached) {
        last->len = (uint16_t)topic.len;
        memcpy(last->topic, topic.ptr, topic.len);
    }
    return out;
}

/* topic.c - topic names and filters (4.7), shared subscriptions' names (4.8.2), and routing keys.
 *
 * A routing key is a list of levels; AMQP joins it by '.', MQTT by '/', and the other's separator inside a level is swapped, so
 * that "a/b.c" and "a.b/c" are one address (MAPPING "Names"). Matching here is what decides about a delivery; the binding that
 * brought it may be coarser. */
#include "wire.h"

static size_t topic_levels(struct mqg_slice s)
{
    size_t n = 1;
    for (const uint8_t *p = s.ptr; p && (p = memchr(p, '/', (size_t)(s.ptr + s.len - p))) != NULL; p++)
        n++;
    return n;
}

bool mqtt_topic_ok(struct mqg_slice topic)
{
    return topic.len > 0 && memchr(topic.ptr, '+', topic.len) == NULL &&
           memchr(topic.ptr, '#', topic.len) == NULL && mqtt_utf8_ok(topic) &&
           topic_levels(topic) <= MQTT_LEVELS_MAX;
}

/* '+' alone in its level; '#' alone, and last (4.7.1-1, 4.7.1-2). */
bool mqtt_filter_ok(struct mqg_slice f)
{
    if (f.len == 0 || !mqtt_utf8_ok(f) || topic_levels(f) > MQTT_LEVELS_MAX)
        return false;
    for (size_t i = 0; i < f.len; i++) {
        if (f.ptr[i] != '+' && f.ptr[i] != '#')
            continue;
        bool starts = i == 0 || f.ptr[i - 1] == '/';
        bool ends = i + 1 == f.len || (f.ptr[i] == '+' && f.ptr[i + 1] == '/');
        if (!starts || !ends)
            return false;
    }
    return true;
}

bool mqtt_share_split(struct mqg_slice name, struct mqg_slice *group, struct mqg_slice *filter, bool *bad)
{
    static const struct mqg_slice prefix = MQG_SLICE_INIT("$share/");
    *bad = mqg_slice_eq(name, MQG_SLICE_LIT("$share"));
    if (!mqg_slice_starts(name, prefix))
        return false;
    struct mqg_slice rest = mqg_slice_of(name.ptr + prefix.len, name.len - prefix.len);
    const uint8_t *slash = rest.len ? memchr(rest.ptr, '/', rest.len) : NULL;
    *group = mqg_slice_of(rest.ptr, slash ? (size_t)(slash - rest.ptr) : rest.len);
    *filter = slash ? mqg_slice_of(slash + 1, rest.len - group->len - 1) : MQG_SLICE_NONE;
    *bad = group->len == 0 || memchr(group->ptr, '+', group->len) != NULL ||
           memchr(group->ptr, '#', group->len) != NULL || !mqtt_filter_ok(*filter);
    return true;
}

bool mqtt_topic_matches(struct mqg_slice filter, struct mqg_slice topic)
{
    const uint8_t *f = filter.ptr, *fe = f + filter.len, *t = topic.ptr, *te = t + topic.len;
    if (topic.len > 0 && *t == '$' && filter.len > 0 && (*f == '+' || *f == '#')) /* [MQTT-4.7.2-1] */
        return false;
    for (;;) {
        if (f < fe && *f == '#')
            return true;
        if (f < fe && *f == '+') {
            f++;
            while (t < te && *t != '/')
                t++;
        } else {
            while (f < fe && t < te && *f == *t && *f != '/') {
                f++;
                t++;
            }
        }
        bool f_ends = f == fe, t_ends = t == te;
        if (f_ends || t_ends)
            return (f_ends && t_ends) || (t_ends && fe - f == 2 && f[0] == '/' && f[1] == '#');
        if (*f != '/' || *t != '/')
            return false;
        f++;
        t++;
    }
}

void mqtt_filter_key(struct mqg_dynbuf *out, struct mqg_slice filter)
{
    uint8_t *p = mqg_dynbuf_reserve(out, filter.len);
    if (!p)
        return;
    for (size_t i = 0; i < filter.len; i++) {
        uint8_t c = filter.ptr[i];
        p[i] = c == '/' ? '.' : c == '.' ? '/' : c == '+' ? '*' : c;
    }
    out->len += filter.len;
}

void mqtt_topic_of_key(struct mqg_dynbuf *out, struct mqg_slice key, char sep, bool *escaped)
{
    static const char hex[] = "0123456789ABCDEF";
    *escaped = key.len == 0;
    if (key.len == 0)
        mqg_dynbuf_put(out, "%", 1);
    for (size_t i = 0; i < key.len; i++) {
        uint8_t c = key.ptr[i];
        if (c == '+' || c == '#' || c == 0) {
            uint8_t text[3] = {'%', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15]};
            mqg_dynbuf_put(out, text, 3);
            *escaped = true;
            continue;
        }
        if (sep != '/' && c == (uint8_t)sep)
            c = '/';
        else if (sep != '/' && c == '/')
            c = (uint8_t)sep;
        mqg_dynbuf_u8(out, c);
    }
}

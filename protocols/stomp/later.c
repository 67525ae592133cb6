/* later.c - what is written of a message that is to come later, and which stretch of time it waits in.
 *
 * A waiting message has its own exchange, key, headers and body already; when it is due stands in its overlay, which nobody but
 * the node can write and which it loses when it leaves. Stretches are a minute, an hour or a day long: near ones short, so that few
 * messages at a time have to be watched by the clock, far ones long, so that there are few of them whatever delays clients think of. */
#include "later.h"

#include <stdio.h>

#define LATER_SECOND_US UINT64_C(1000000)

static const struct {
    const char *word;
    uint64_t us;
    uint64_t least_us; /* what is nearer waits in a shorter one */
} later_spans[STOMP_SPANS] = {
    [STOMP_MINUTE] = {"minute", 60 * LATER_SECOND_US, 0},
    [STOMP_HOUR] = {"hour", 3600 * LATER_SECOND_US, 3600 * LATER_SECOND_US},
    [STOMP_DAY] = {"day", 86400 * LATER_SECOND_US, 2 * 86400 * LATER_SECOND_US},
};

/* ---- the overlay -------------------------------------------------------------------------------------------------------- */

void stomp_later_encode(struct mqg_dynbuf *out, struct mqg_arena *a, const struct stomp_later *l)
{
    struct mqg_overlay o = {.drop = 0};
    mqg_table_set_int(a, &o.set, "mqgate-later-due", (int64_t)l->due_us);
    mqg_table_set_int(a, &o.set, "mqgate-later-period", (int64_t)l->period_ms);
    mqg_table_set_int(a, &o.set, "mqgate-later-left", l->left);
    mqg_table_set_int(a, &o.set, "mqgate-later-make", l->make);
    if (l->has_ttl)
        mqg_table_set_int(a, &o.set, "mqgate-later-ttl", (int64_t)l->ttl_ms);
    mqg_overlay_encode(out, &o);
}

static bool later_int(const struct mqg_table *t, const char *name, uint64_t *out)
{
    const struct mqg_value *v = mqg_table_get(t, mqg_slice_str(name));
    int64_t n;
    if (v == NULL || !mqg_value_int(v, &n) || n < 0)
        return false;
    *out = (uint64_t)n;
    return true;
}

bool stomp_later_decode(const struct mqg_msg *m, struct mqg_arena *a, struct stomp_later *l)
{
    struct mqg_overlay o;
    uint64_t left, make;
    *l = (struct stomp_later){.left = 0};
    if (m->st.overlay_len == 0 || mqg_overlay_decode(mqg_msg_overlay(m), a, &o) != MQG_OK)
        return false;
    if (!later_int(&o.set, "mqgate-later-due", &l->due_us) ||
        !later_int(&o.set, "mqgate-later-period", &l->period_ms) ||
        !later_int(&o.set, "mqgate-later-left", &left) || left > UINT32_MAX ||
        !later_int(&o.set, "mqgate-later-make", &make))
        return false;
    l->left = (uint32_t)left;
    l->make = make != 0;
    l->has_ttl = later_int(&o.set, "mqgate-later-ttl", &l->ttl_ms);
    return true;
}

/* ---- stretches of time -------------------------------------------------------------------------------------------------- */

struct stomp_slot_id stomp_slot_for(uint64_t now_us, uint64_t due_us, enum stomp_span longest)
{
    uint64_t at_us = due_us > now_us ? due_us : now_us;
    enum stomp_span span = longest;
    while (span > STOMP_MINUTE && at_us - now_us < later_spans[span].least_us)
        span--;
    return (struct stomp_slot_id){span, at_us / later_spans[span].us};
}

uint64_t stomp_slot_begin_us(struct stomp_slot_id id)
{
    return id.number * later_spans[id.span].us;
}

uint64_t stomp_slot_end_us(struct stomp_slot_id id)
{
    return (id.number + 1) * later_spans[id.span].us;
}

struct mqg_slice stomp_slot_name(struct stomp_slot_id id, char room[64])
{
    int n = snprintf(room, 64, STOMP_LATER_PREFIX "%s.%llu", later_spans[id.span].word,
                     (unsigned long long)id.number);
    return mqg_slice_of(room, (size_t)n);
}

bool stomp_slot_parse(struct mqg_slice name, struct stomp_slot_id *id)
{
    char again[64];
    for (id->span = STOMP_MINUTE; id->span < STOMP_SPANS; id->span++) {
        char head[64];
        size_t n = (size_t)snprintf(head, sizeof head, STOMP_LATER_PREFIX "%s.", later_spans[id->span].word);
        if (!mqg_slice_starts(name, mqg_slice_of(head, n)) || name.len - n > 12)
            continue;
        id->number = 0;
        for (size_t i = n; i < name.len; i++)
            id->number = id->number * 10 + (uint64_t)(name.ptr[i] - '0') % 10;
        return mqg_slice_eq(name, stomp_slot_name(*id, again));
    }
    return false;
}

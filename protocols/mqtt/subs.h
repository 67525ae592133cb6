/* subs.h - the subscriptions of a session. Internal to protocols/mqtt. */
#ifndef MQGATE_MQTT_SUBS_H
#define MQGATE_MQTT_SUBS_H

#include <mqgate/base.h>

struct mqtt_share;

/* One piece of memory, since there may be a million of them. */
struct mqtt_sub {
    struct mqtt_share *share; /* NULL: not shared */
    uint32_t id;              /* subscription identifier, 0: none */
    uint32_t hash;            /* subs.c */
    uint16_t name_len, filter_at;
    uint8_t qos;
    bool no_local : 1, retain_as_published : 1;
    uint8_t name[]; /* as the client said it */
};

static inline struct mqg_slice mqtt_sub_name(const struct mqtt_sub *sub)
{
    return mqg_slice_of(sub->name, sub->name_len);
}

/* Without `$share/GROUP/`. */
static inline struct mqg_slice mqtt_sub_filter(const struct mqtt_sub *sub)
{
    return mqg_slice_of(sub->name + sub->filter_at, (size_t)sub->name_len - sub->filter_at);
}

/* Zeroed is empty. `list` may be read: in no order, and another after each add and del. */
struct mqtt_subs {
    struct mqtt_sub **list;
    uint32_t *index;
    uint32_t n, cap, index_cap;
};

/* NULL: not there. */
struct mqtt_sub *mqtt_subs_get(const struct mqtt_subs *t, struct mqg_slice name);
/* A new one, without options; name must not be there, and has at most 65,535 bytes. */
struct mqtt_sub *mqtt_subs_add(struct mqtt_subs *t, struct mqg_slice name);
/* Takes it out and frees it. */
void mqtt_subs_del(struct mqtt_subs *t, struct mqtt_sub *sub);
/* Frees all. */
void mqtt_subs_fini(struct mqtt_subs *t);

/* Of all tables together. (any thread) */
uint64_t mqtt_subs_total(void);

#endif

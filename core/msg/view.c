/* view.c - the common view of a message: what its origin bytes say, with the overlay of its hops applied.
 *
 * Made only when somebody must look inside (headers exchange, dead letter, another protocol): decoding for every
 * message would cost more than routing it. Each protocol registers one function that reads its own origin form; this
 * file knows none of them. */
#include <mqgate/msg.h>

#include "common.h"

static const struct mqg_origin_ops *view_origins[MQG_PROTO_COUNT];

void mqg_origin_register(const struct mqg_origin_ops *ops)
{
    MQG_ASSERT((size_t)ops->proto < MQG_PROTO_COUNT && ops->decode != NULL);
    view_origins[ops->proto] = ops;
}

static const struct mqg_origin_ops *view_origin(uint8_t proto)
{
    const struct mqg_origin_ops *ops = view_origins[proto];
    return ops == NULL && proto == MQG_PROTO_INTERNAL ? &common_origin_ops : ops;
}

const struct mqg_origin_ops *mqg_origin_writer(enum mqg_proto proto)
{
    const struct mqg_origin_ops *ops = view_origins[proto];
    return ops != NULL && ops->encode != NULL ? ops : &common_origin_ops;
}

/* ---- the overlay on top -------------------------------------------------------------------------------------------- */

static bool view_is_removed(const struct mqg_overlay *o, struct mqg_slice name)
{
    return mqg_table_get(&o->remove, name) != NULL;
}

/* Drops removed headers, and repeats of set ones: the first place of a name is where its new value goes. */
static void view_filter_headers(struct mqg_table *headers, const struct mqg_overlay *o)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < headers->n; i++) {
        struct mqg_field field = headers->fields[i];
        if (view_is_removed(o, field.name))
            continue;
        const struct mqg_value *set = mqg_table_get(&o->set, field.name);
        struct mqg_table before = {headers->fields, kept, kept};
        if (set != NULL && mqg_table_get(&before, field.name) != NULL)
            continue;
        if (set != NULL)
            field.value = *set;
        headers->fields[kept++] = field;
    }
    headers->n = kept;
}

static enum mqg_err view_add_headers(struct mqg_table *headers, struct mqg_arena *a,
                                     const struct mqg_overlay *o)
{
    for (uint32_t i = 0; i < o->set.n; i++) {
        const struct mqg_field *set = &o->set.fields[i];
        if (mqg_table_get(headers, set->name) != NULL)
            continue;
        struct mqg_field *field = mqg_table_add(a, headers, set->name);
        if (field == NULL)
            return MQG_NO_MEMORY;
        field->value = set->value;
    }
    return MQG_OK;
}

static enum mqg_err view_apply(struct mqg_view *v, struct mqg_arena *a, const struct mqg_overlay *o)
{
    v->has &= ~o->drop;
    if (o->has_reply_to) {
        v->reply_to = o->reply_to;
        v->has |= MQG_PROP_REPLY_TO;
    }
    view_filter_headers(&v->headers, o);
    return view_add_headers(&v->headers, a, o);
}

const struct view_text view_texts[VIEW_TEXTS] = {
    {MQG_PROP_CONTENT_TYPE, offsetof(struct mqg_view, content_type)},
    {MQG_PROP_CONTENT_ENCODING, offsetof(struct mqg_view, content_encoding)},
    {MQG_PROP_CORRELATION_ID, offsetof(struct mqg_view, correlation_id)},
    {MQG_PROP_REPLY_TO, offsetof(struct mqg_view, reply_to)},
    {MQG_PROP_MESSAGE_ID, offsetof(struct mqg_view, message_id)},
    {MQG_PROP_TYPE, offsetof(struct mqg_view, type)},
    {MQG_PROP_APP_ID, offsetof(struct mqg_view, app_id)},
    {MQG_PROP_USER_ID, offsetof(struct mqg_view, user_id)},
    {MQG_PROP_CLUSTER_ID, offsetof(struct mqg_view, cluster_id)},
};

/* What is not there must not be read by accident. */
static void view_clear_missing(struct mqg_view *v)
{
    for (size_t i = 0; i < VIEW_TEXTS; i++)
        if ((v->has & view_texts[i].bit) == 0)
            *view_text_at(v, i) = MQG_SLICE_NONE;
    if ((v->has & MQG_PROP_TIMESTAMP) == 0)
        v->timestamp_us = 0;
    if ((v->has & MQG_PROP_EXPIRATION) == 0)
        v->expiration_ms = 0;
    if ((v->has & MQG_PROP_PRIORITY) == 0)
        v->priority = 0;
    if ((v->has & MQG_PROP_DELIVERY_MODE) == 0)
        v->delivery_mode = 0;
}

enum mqg_err mqg_msg_view(const struct mqg_msg *m, struct mqg_arena *a, struct mqg_view *out)
{
    *out = (struct mqg_view){0};
    const struct mqg_origin_ops *ops = view_origin(m->st.proto);
    if (ops == NULL)
        return MQG_UNSUPPORTED;
    struct mqg_overlay overlay;
    enum mqg_err err = mqg_overlay_decode(mqg_msg_overlay(m), a, &overlay);
    if (err == MQG_OK)
        err = ops->decode(mqg_msg_origin(m), a, out);
    if (err == MQG_OK)
        err = view_apply(out, a, &overlay);
    if (err == MQG_OK)
        view_clear_missing(out);
    else
        *out = (struct mqg_view){0};
    return err;
}

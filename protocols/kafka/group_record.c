/* group_record.c - what is written down of a group, and what a start makes of it; the form stands in group_table.h.
 *
 * A record is looked at whenever a group is given back, and written when a generation has begun or the last member left: so a group
 * that only beats costs nothing. */
#include "group_table.h"

#include <stdlib.h>

#define GROUP_PREFIX "kafka/group/"

/* ---- keys ------------------------------------------------------------------------------------------------------------- */

static void key_part(struct mqg_dynbuf *out, struct mqg_slice part)
{
    for (size_t i = 0; i < part.len; i++) {
        uint8_t b = part.ptr[i];
        if (b <= ' ' || b >= 0x7f || b == '/' || b == '%')
            mqg_dynbuf_printf(out, "%%%02X", b);
        else
            mqg_dynbuf_u8(out, b);
    }
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One part of a record's key, as it was; false: no such form. */
static bool key_unpart(struct mqg_slice in, struct mqg_dynbuf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        if (in.ptr[i] != '%') {
            mqg_dynbuf_u8(out, in.ptr[i]);
            continue;
        }
        int high = i + 2 < in.len ? hex_digit(in.ptr[i + 1]) : -1;
        int low = i + 2 < in.len ? hex_digit(in.ptr[i + 2]) : -1;
        if (i + 2 >= in.len || high < 0 || low < 0)
            return false;
        mqg_dynbuf_u8(out, (uint8_t)(high * 16 + low));
        i += 2;
    }
    return !out->failed;
}

static void record_key(struct mqg_dynbuf *out, const struct kafka_group *g)
{
    mqg_dynbuf_init(out, 4096 + 3 * (size_t)g->name->len);
    mqg_dynbuf_put(out, GROUP_PREFIX, sizeof GROUP_PREFIX - 1);
    key_part(out, mqg_vhost_name(g->vhost));
    mqg_dynbuf_u8(out, '/');
    key_part(out, group_view(g->name));
}

/* ---- records -------------------------------------------------------------------------------------------------------------- */

static int32_t group_number(const struct kafka_group *g)
{
    return g->kind == KAFKA_GROUP_CLASSIC ? g->classic.generation : g->consumer.epoch;
}

static void record_write(struct kafka_group *g)
{
    struct mqg_dynbuf key, value;
    struct mqg_slice type = group_view(g->classic.protocol_type);
    record_key(&key, g);
    mqg_dynbuf_init(&value, 64 + type.len);
    mqg_dynbuf_u8(&value, 1);
    mqg_dynbuf_u8(&value, (uint8_t)g->kind);
    mqg_dynbuf_le32(&value, (uint32_t)group_number(g));
    mqg_dynbuf_le64(&value, g->empty ? g->since_ms : 0);
    mqg_dynbuf_slice(&value, type);
    (void)mqg_meta_put(mqg_dynbuf_view(&key), mqg_dynbuf_view(&value));
    g->written = group_number(g);
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
}

/* A generation that has begun, or a group that its members left. */
void kafka_group_record_look(struct kafka_group *g)
{
    bool empty = kafka_group_empty(g);
    bool turned = empty != g->empty;
    if (turned && empty)
        g->since_ms = kafka_wall_ms();
    g->empty = empty;
    bool settled = empty ? turned : g->kind == KAFKA_GROUP_CONSUMER || g->classic.state == GROUP_STABLE;
    if (!g->gone && settled && (turned || g->written != group_number(g)))
        record_write(g);
}

uint64_t kafka_group_record_remove(const struct kafka_group *g)
{
    struct mqg_dynbuf key;
    record_key(&key, g);
    uint64_t ticket = mqg_meta_remove(mqg_dynbuf_view(&key));
    mqg_dynbuf_fini(&key);
    return ticket;
}

/* ---- recovery ------------------------------------------------------------------------------------------------------------------- */

/* Records come before there are vhosts: they wait for the end. */
struct recovered {
    struct mqg_buf *key, *value;
};
static struct mqg_vec recovered;

static void recover_record(struct mqg_slice key, struct mqg_slice value)
{
    struct recovered *r = mqg_xcalloc(1, sizeof *r);
    r->key = group_text(key);
    r->value = group_text(value.ptr != NULL ? value : MQG_SLICE_LIT(""));
    mqg_vec_push(&recovered, r);
}

static void recover_position(const struct mqg_group_found *f)
{
    if (f->offset > INT64_MAX)
        return;
    struct kafka_group *g = kafka_group_find(f->vhost, f->group, true);
    if (g == NULL)
        return;
    struct kafka_offset_row row = {.topic = mqg_stream_name(f->stream),
                                   .index = (int32_t)f->index,
                                   .partition_id = mqg_partition_id(f->partition),
                                   .offset = (int64_t)f->offset};
    group_position_decode(f->metadata, mqg_clock_now().wall_us / 1000, &row);
    group_offsets_set(&g->offsets, &row, 0);
    kafka_group_unref(g);
}

static bool record_names(struct mqg_slice key, struct mqg_dynbuf *vhost, struct mqg_dynbuf *name)
{
    size_t prefix = sizeof GROUP_PREFIX - 1;
    if (key.len <= prefix)
        return false;
    struct mqg_slice rest = mqg_slice_of(key.ptr + prefix, key.len - prefix);
    const uint8_t *slash = memchr(rest.ptr, '/', rest.len);
    if (slash == NULL)
        return false;
    size_t at = (size_t)(slash - rest.ptr);
    return key_unpart(mqg_slice_of(rest.ptr, at), vhost) &&
           key_unpart(mqg_slice_of(slash + 1, rest.len - at - 1), name);
}

static void record_take(struct kafka_group *g, struct mqg_slice value)
{
    struct mqg_cursor c = mqg_cursor_of(value);
    uint8_t version = mqg_cursor_u8(&c), kind = mqg_cursor_u8(&c);
    int32_t number = (int32_t)mqg_cursor_le32(&c);
    uint64_t since_ms = mqg_cursor_le64(&c);
    if (c.failed || version != 1 || kind > KAFKA_GROUP_CONSUMER || number < 0)
        return;
    g->kind = (enum kafka_group_kind)kind;
    g->classic.generation = g->consumer.epoch = number;
    /* members that were there when the node stopped are gone since now */
    g->since_ms = since_ms > 0 ? since_ms : mqg_clock_now().wall_us / 1000;
    g->written = number;
    group_replace_text(&g->classic.protocol_type, mqg_slice_of(c.pos, mqg_cursor_left(&c)));
}

static void recover_end(void)
{
    for (size_t i = 0; i < recovered.n; i++) {
        struct recovered *r = recovered.items[i];
        struct mqg_dynbuf vhost, name;
        mqg_dynbuf_init(&vhost, 4096);
        mqg_dynbuf_init(&name, 1u << 16);
        bool named = record_names(group_view(r->key), &vhost, &name);
        struct mqg_vhost *v = named ? mqg_vhost_find(mqg_dynbuf_view(&vhost)) : NULL;
        struct kafka_group *g = v != NULL ? kafka_group_find(v, mqg_dynbuf_view(&name), true) : NULL;
        if (g != NULL) {
            record_take(g, group_view(r->value));
            kafka_group_unref(g);
        } else {
            (void)mqg_meta_remove(group_view(r->key));
        }
        mqg_dynbuf_fini(&vhost);
        mqg_dynbuf_fini(&name);
        mqg_buf_unref(&r->key);
        mqg_buf_unref(&r->value);
        free(r);
    }
    mqg_vec_fini(&recovered);
}

void kafka_group_records_load(void)
{
    mqg_group_on_recover(recover_position);
    mqg_meta_on_recover(GROUP_PREFIX, recover_record, recover_end);
}

/* wire.c - one walk over a message's table decodes it, another encodes it.
 *
 * The tables are ours and right by construction; the bytes are the peer's. So every count is checked against the bytes that
 * are left (an element takes at least one, but for empty structs of old versions, which take none: these are bounded by the
 * arena alone), and the depth is the table's own. */
#include "wire.h"

/* ---- primitive reads ---------------------------------------------------------------------------------------------------- */

struct reading {
    struct mqg_cursor c;
    struct mqg_arena *arena;
    int16_t version;
    bool flexible;
    bool too_large;
};

/* An unsigned varint of at most 32 bits. */
static uint32_t read_uvarint(struct reading *r)
{
    uint64_t v = mqg_cursor_varint(&r->c);
    if (v > UINT32_MAX)
        mqg_cursor_fail(&r->c);
    return r->c.failed ? 0 : (uint32_t)v;
}

/* A length: -1 is null. `wide`: 4 bytes before flexible, else 2. */
static int64_t read_length(struct reading *r, bool wide)
{
    if (r->flexible)
        return (int64_t)read_uvarint(r) - 1;
    return wide ? (int32_t)mqg_cursor_be32(&r->c) : (int16_t)mqg_cursor_be16(&r->c);
}

static struct mqg_slice read_bytes(struct reading *r, const struct kafka_field *f)
{
    int64_t n = read_length(r, f->type != KAFKA_STRING);
    if (n == -1 && kafka_range_has(f->null, r->version))
        return MQG_SLICE_NONE;
    if (n < 0)
        mqg_cursor_fail(&r->c);
    return r->c.failed ? MQG_SLICE_NONE : mqg_cursor_slice(&r->c, (size_t)n);
}

static double read_double(struct reading *r)
{
    double d;
    uint64_t bits = mqg_cursor_be64(&r->c);
    memcpy(&d, &bits, sizeof d);
    return d;
}

static void read_struct(struct reading *r, const struct kafka_layout *l, uint8_t *out);

static void read_one(struct reading *r, const struct kafka_field *f, void *out)
{
    switch (f->type) {
    case KAFKA_BOOL: *(bool *)out = mqg_cursor_u8(&r->c) != 0; break;
    case KAFKA_INT8: *(int8_t *)out = (int8_t)mqg_cursor_u8(&r->c); break;
    case KAFKA_INT16:
    case KAFKA_UINT16: *(uint16_t *)out = mqg_cursor_be16(&r->c); break;
    case KAFKA_INT32:
    case KAFKA_UINT32: *(uint32_t *)out = mqg_cursor_be32(&r->c); break;
    case KAFKA_INT64: *(uint64_t *)out = mqg_cursor_be64(&r->c); break;
    case KAFKA_FLOAT64: *(double *)out = read_double(r); break;
    case KAFKA_STRING:
    case KAFKA_BYTES:
    case KAFKA_RECORDS: *(struct mqg_slice *)out = read_bytes(r, f); break;
    case KAFKA_UUID: {
        const uint8_t *p = mqg_cursor_take(&r->c, sizeof(struct kafka_uuid));
        if (p)
            memcpy(out, p, sizeof(struct kafka_uuid));
        break;
    }
    case KAFKA_STRUCT: read_struct(r, f->sub, out); break;
    }
}

/* ---- defaults -------------------------------------------------------------------------------------------------------------- */

static void field_init(const struct kafka_field *f, uint8_t *out)
{
    void *at = out + f->offset;
    if (f->array) {
        *(int32_t *)(void *)(out + f->extra) = (int32_t)f->initial;
        return;
    }
    switch (f->type) {
    case KAFKA_BOOL: *(bool *)at = f->initial != 0; break;
    case KAFKA_INT8: *(int8_t *)at = (int8_t)f->initial; break;
    case KAFKA_INT16:
    case KAFKA_UINT16: *(int16_t *)at = (int16_t)f->initial; break;
    case KAFKA_INT32:
    case KAFKA_UINT32: *(int32_t *)at = (int32_t)f->initial; break;
    case KAFKA_INT64: *(int64_t *)at = f->initial; break;
    case KAFKA_STRING:
    case KAFKA_BYTES:
    case KAFKA_RECORDS:
        *(struct mqg_slice *)at = f->initial == -1 ? MQG_SLICE_NONE : MQG_SLICE_LIT("");
        break;
    case KAFKA_FLOAT64:
    case KAFKA_UUID:
    case KAFKA_STRUCT: break; /* zero; structs below */
    }
}

static void layout_init(const struct kafka_layout *l, uint8_t *out)
{
    memset(out, 0, l->size);
    for (size_t i = 0; i < l->nfields; i++) {
        const struct kafka_field *f = &l->fields[i];
        if (f->type == KAFKA_STRUCT && !f->array)
            layout_init(f->sub, out + f->offset);
        else
            field_init(f, out);
    }
}

void kafka_init(const struct kafka_message *m, void *out)
{
    layout_init(m->layout, out);
}

/* ---- decoding ---------------------------------------------------------------------------------------------------------------- */

static uint8_t *read_room(struct reading *r, const struct kafka_field *f, size_t n)
{
    size_t left = mqg_cursor_left(&r->c);
    bool empty = f->type == KAFKA_STRUCT && f->sub->nfields == 0;
    if (n > left && !empty) {
        mqg_cursor_fail(&r->c);
        return NULL;
    }
    uint8_t *room = n <= SIZE_MAX / f->size ? mqg_arena_alloc(r->arena, n * f->size) : NULL;
    if (!room) {
        r->too_large = true;
        mqg_cursor_fail(&r->c);
    }
    return room;
}

static void read_array(struct reading *r, const struct kafka_field *f, uint8_t *out)
{
    int32_t *count = (int32_t *)(void *)(out + f->extra);
    int64_t n = read_length(r, true);
    *count = -1;
    if (n == -1 && kafka_range_has(f->null, r->version))
        return;
    if (n < 0 || n > INT32_MAX)
        mqg_cursor_fail(&r->c);
    *count = 0;
    if (r->c.failed || n == 0)
        return;
    uint8_t *room = read_room(r, f, (size_t)n);
    for (int64_t i = 0; i < n && !r->c.failed; i++)
        read_one(r, f, room + (size_t)i * f->size);
    *count = r->c.failed ? 0 : (int32_t)n;
    memcpy(out + f->offset, &room, sizeof room);
}

static void read_field(struct reading *r, const struct kafka_field *f, uint8_t *out)
{
    if (f->array) {
        read_array(r, f, out);
    } else if (f->type == KAFKA_STRUCT && kafka_range_has(f->null, r->version)) {
        bool there = (int8_t)mqg_cursor_u8(&r->c) >= 0;
        *(bool *)(out + f->extra) = there && !r->c.failed;
        if (there)
            read_struct(r, f->sub, out + f->offset);
    } else {
        if (f->type == KAFKA_STRUCT && f->extra)
            *(bool *)(out + f->extra) = true;
        read_one(r, f, out + f->offset);
    }
}

static const struct kafka_field *field_of_tag(const struct kafka_layout *l, int16_t version, uint32_t tag)
{
    for (size_t i = 0; i < l->nfields; i++)
        if (l->fields[i].tag >= 0 && (uint32_t)l->fields[i].tag == tag &&
            kafka_range_has(l->fields[i].tagged, version))
            return &l->fields[i];
    return NULL;
}

/* A tagged field has its size before it, and must fill it. Tags ascend. */
static void read_tag(struct reading *r, const struct kafka_layout *l, uint32_t tag, uint8_t *out)
{
    struct reading inner = *r;
    inner.c = mqg_cursor_sub(&r->c, read_uvarint(r));
    const struct kafka_field *f = field_of_tag(l, r->version, tag);
    if (!f || r->c.failed)
        return;
    read_field(&inner, f, out);
    r->too_large = inner.too_large;
    if (!mqg_cursor_done(&inner.c))
        mqg_cursor_fail(&r->c);
}

static void read_tags(struct reading *r, const struct kafka_layout *l, uint8_t *out)
{
    int64_t last = -1;
    for (uint32_t n = read_uvarint(r); n > 0 && !r->c.failed; n--) {
        uint32_t tag = read_uvarint(r);
        if (tag <= last)
            mqg_cursor_fail(&r->c);
        last = tag;
        read_tag(r, l, tag, out);
    }
}

static void read_struct(struct reading *r, const struct kafka_layout *l, uint8_t *out)
{
    layout_init(l, out);
    for (size_t i = 0; i < l->nfields && !r->c.failed; i++) {
        const struct kafka_field *f = &l->fields[i];
        if (kafka_range_has(f->versions, r->version) && !kafka_range_has(f->tagged, r->version))
            read_field(r, f, out);
    }
    if (r->flexible)
        read_tags(r, l, out);
}

enum mqg_err kafka_decode(const struct kafka_message *m, int16_t version, struct mqg_slice in,
                          struct mqg_arena *a, void *out)
{
    MQG_ASSERT(version >= m->first && version <= m->last);
    struct reading r = {mqg_cursor_of(in), a, version, kafka_is_flexible(m, version), false};
    read_struct(&r, m->layout, out);
    if (!r.c.failed)
        return MQG_OK;
    layout_init(m->layout, out); /* nobody reads half a message */
    return r.too_large ? MQG_TOO_LARGE : MQG_MALFORMED;
}

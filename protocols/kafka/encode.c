/* encode.c - a struct becomes the bytes of a version; see wire.c for the other way. */
#include "wire.h"

struct writing {
    struct mqg_dynbuf *out;
    int16_t version;
    bool flexible;
};

/* n = -1: null. */
static void write_length(struct writing *w, int64_t n, bool wide)
{
    if (w->flexible)
        mqg_dynbuf_varint(w->out, (uint64_t)(n + 1));
    else if (wide)
        mqg_dynbuf_be32(w->out, (uint32_t)n);
    else
        mqg_dynbuf_be16(w->out, (uint16_t)n);
}

/* What does not fit the length of an old version's string is cut: they are names and texts of ours. */
static void write_bytes(struct writing *w, const struct kafka_field *f, struct mqg_slice s)
{
    bool wide = f->type != KAFKA_STRING;
    if (s.ptr == NULL && kafka_range_has(f->null, w->version)) {
        write_length(w, -1, wide);
        return;
    }
    if (!wide && s.len > INT16_MAX)
        s.len = INT16_MAX;
    write_length(w, (int64_t)s.len, wide);
    mqg_dynbuf_slice(w->out, s);
}

static void write_struct(struct writing *w, const struct kafka_layout *l, const uint8_t *in);

static void write_one(struct writing *w, const struct kafka_field *f, const void *in)
{
    uint64_t bits;
    switch (f->type) {
    case KAFKA_BOOL: mqg_dynbuf_u8(w->out, *(const bool *)in); break;
    case KAFKA_INT8: mqg_dynbuf_u8(w->out, *(const uint8_t *)in); break;
    case KAFKA_INT16:
    case KAFKA_UINT16: mqg_dynbuf_be16(w->out, *(const uint16_t *)in); break;
    case KAFKA_INT32:
    case KAFKA_UINT32: mqg_dynbuf_be32(w->out, *(const uint32_t *)in); break;
    case KAFKA_INT64:
    case KAFKA_FLOAT64:
        memcpy(&bits, in, sizeof bits);
        mqg_dynbuf_be64(w->out, bits);
        break;
    case KAFKA_STRING:
    case KAFKA_BYTES:
    case KAFKA_RECORDS: write_bytes(w, f, *(const struct mqg_slice *)in); break;
    case KAFKA_UUID: mqg_dynbuf_put(w->out, in, sizeof(struct kafka_uuid)); break;
    case KAFKA_STRUCT: write_struct(w, f->sub, in); break;
    }
}

static const uint8_t *array_at(const struct kafka_field *f, const uint8_t *in)
{
    const uint8_t *items;
    memcpy(&items, in + f->offset, sizeof items);
    return items;
}

static int32_t array_count(const struct kafka_field *f, const uint8_t *in)
{
    return *(const int32_t *)(const void *)(in + f->extra);
}

static void write_field(struct writing *w, const struct kafka_field *f, const uint8_t *in)
{
    bool nullable = kafka_range_has(f->null, w->version);
    if (f->array) {
        int32_t n = array_count(f, in);
        write_length(w, n >= 0 ? n : nullable ? -1 : 0, true);
        for (int32_t i = 0; i < n; i++)
            write_one(w, f, array_at(f, in) + (size_t)i * f->size);
        return;
    }
    if (f->type == KAFKA_STRUCT && nullable) {
        bool there = *(const bool *)(in + f->extra);
        mqg_dynbuf_u8(w->out, there ? 1 : 0xff);
        if (!there)
            return;
    }
    write_one(w, f, in + f->offset);
}

/* ---- tagged fields: only what differs from its default ------------------------------------------------------------------ */

static bool layout_is_default(const struct kafka_layout *l, const uint8_t *in, int16_t version);

static bool value_is_default(const struct kafka_field *f, const void *at, int16_t version)
{
    static const struct kafka_uuid zero;
    switch (f->type) {
    case KAFKA_BOOL: return *(const bool *)at == (f->initial != 0);
    case KAFKA_INT8: return *(const int8_t *)at == (int8_t)f->initial;
    case KAFKA_INT16:
    case KAFKA_UINT16: return *(const int16_t *)at == (int16_t)f->initial;
    case KAFKA_INT32:
    case KAFKA_UINT32: return *(const int32_t *)at == (int32_t)f->initial;
    case KAFKA_INT64: return *(const int64_t *)at == f->initial;
    case KAFKA_FLOAT64: return *(const int64_t *)at == 0; /* the bits of 0.0 */
    case KAFKA_STRING:
    case KAFKA_BYTES:
    case KAFKA_RECORDS: {
        const struct mqg_slice *s = at;
        return s->len == 0 && (s->ptr == NULL) == (f->initial == -1);
    }
    case KAFKA_UUID: return memcmp(at, &zero, sizeof zero) == 0;
    case KAFKA_STRUCT: return layout_is_default(f->sub, at, version);
    }
    return false;
}

static bool field_is_default(const struct kafka_field *f, const uint8_t *in, int16_t version)
{
    if (f->array)
        return array_count(f, in) == (int32_t)f->initial;
    if (f->type == KAFKA_STRUCT && kafka_range_has(f->null, version))
        return !*(const bool *)(in + f->extra);
    return value_is_default(f, in + f->offset, version);
}

static bool layout_is_default(const struct kafka_layout *l, const uint8_t *in, int16_t version)
{
    for (size_t i = 0; i < l->nfields; i++)
        if (kafka_range_has(l->fields[i].versions, version) && !field_is_default(&l->fields[i], in, version))
            return false;
    return true;
}

static bool field_is_sent_tagged(const struct kafka_field *f, const uint8_t *in, int16_t version)
{
    return kafka_range_has(f->tagged, version) && !field_is_default(f, in, version);
}

/* Its size is known once it is written; the varint goes before it. */
static void write_tag(struct writing *w, const struct kafka_field *f, const uint8_t *in)
{
    struct mqg_dynbuf value;
    mqg_dynbuf_init(&value, w->out->max);
    struct writing inner = {&value, w->version, w->flexible};
    write_field(&inner, f, in);
    mqg_dynbuf_varint(w->out, (uint64_t)f->tag);
    mqg_dynbuf_varint(w->out, value.len);
    mqg_dynbuf_slice(w->out, mqg_dynbuf_view(&value));
    w->out->failed = w->out->failed || value.failed;
    mqg_dynbuf_fini(&value);
}

static void write_tags(struct writing *w, const struct kafka_layout *l, const uint8_t *in)
{
    uint64_t n = 0;
    for (size_t i = 0; i < l->nfields; i++)
        n += field_is_sent_tagged(&l->fields[i], in, w->version);
    mqg_dynbuf_varint(w->out, n);
    for (int tag = 0; n > 0 && tag <= INT8_MAX; tag++)
        for (size_t i = 0; i < l->nfields; i++)
            if (l->fields[i].tag == tag && field_is_sent_tagged(&l->fields[i], in, w->version)) {
                write_tag(w, &l->fields[i], in);
                n--;
            }
}

static void write_struct(struct writing *w, const struct kafka_layout *l, const uint8_t *in)
{
    for (size_t i = 0; i < l->nfields; i++) {
        const struct kafka_field *f = &l->fields[i];
        if (kafka_range_has(f->versions, w->version) && !kafka_range_has(f->tagged, w->version))
            write_field(w, f, in);
    }
    if (w->flexible)
        write_tags(w, l, in);
}

void kafka_encode(const struct kafka_message *m, int16_t version, const void *in, struct mqg_dynbuf *out)
{
    MQG_ASSERT(version >= m->first && version <= m->last);
    struct writing w = {out, version, kafka_is_flexible(m, version)};
    write_struct(&w, m->layout, in);
}

/* convert_test.c - envelope to record and back: what one protocol said comes back equal in value, type and order; what
 * another Kafka client said is read as it means it; forged origins are ignored. */
#include "../base/test_kit.h"

#include <mqgate/obs.h>
#include <mqgate/records.h>

#include <float.h>
#include <math.h>

#include "natural.h"

enum { ROUNDS = 3000 };

static struct mqg_arena arena;
static struct mqg_batch_builder builder;
static struct mqg_dynbuf scratch;

static int setup(void **state)
{
    (void)state;
    mqg_arena_init(&arena, 64u << 20);
    mqg_builder_init(&builder, 64u << 20);
    mqg_dynbuf_init(&scratch, 64u << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mqg_arena_fini(&arena);
    mqg_builder_fini(&builder);
    mqg_dynbuf_fini(&scratch);
    return 0;
}

/* ---- a message of a view, and the record of a message --------------------------------------------------------------- */

static struct mqg_msg *msg_of(const struct mqg_view *v, struct mqg_msg_parts *parts, struct mqg_slice body)
{
    struct mqg_dynbuf origin;
    mqg_dynbuf_init(&origin, 64u << 20);
    assert_int_equal(mqg_origin_writer(MQG_PROTO_INTERNAL)->encode(v, &arena, &origin), MQG_OK);
    parts->proto = MQG_PROTO_INTERNAL;
    parts->origin = mqg_dynbuf_view(&origin);
    parts->body_len = (uint32_t)body.len;
    struct mqg_msg *m = mqg_msg_new(parts);
    assert_non_null(m);
    if (body.len)
        memcpy(mqg_msg_body_mut(m), body.ptr, body.len);
    mqg_dynbuf_fini(&origin);
    return m;
}

/* Borrows from the builder. */
static struct mqg_record record_of(const struct mqg_msg *m)
{
    struct mqg_batch b;
    struct mqg_record_iter it;
    struct mqg_record r;
    mqg_builder_begin(&builder);
    assert_true(mqg_record_from_msg(&builder, m, &arena));
    struct mqg_slice bytes = mqg_builder_end(&builder);
    assert_int_equal(mqg_batch_read(bytes, &b), MQG_OK);
    mqg_record_iter_init(&it, &b, b.records);
    assert_true(mqg_record_next(&it, &r));
    return r;
}

static struct mqg_slice encoded(const struct mqg_view *v, struct mqg_dynbuf *out)
{
    mqg_dynbuf_init(out, 64u << 20);
    assert_int_equal(mqg_origin_writer(MQG_PROTO_INTERNAL)->encode(v, &arena, out), MQG_OK);
    return mqg_dynbuf_view(out);
}

/* Equal to the bit: both in the one encoding that says everything. */
static void assert_same_view(const struct mqg_view *a, const struct mqg_view *b)
{
    struct mqg_dynbuf x, y;
    assert_true(mqg_slice_eq(encoded(a, &x), encoded(b, &y)));
    mqg_dynbuf_fini(&x);
    mqg_dynbuf_fini(&y);
}

static struct mqg_record_view round_trip(const struct mqg_view *v, struct mqg_msg_parts *parts,
                                         struct mqg_slice body)
{
    struct mqg_record_view out;
    struct mqg_msg *m = msg_of(v, parts, body);
    struct mqg_record r = record_of(m);
    assert_true(mqg_slice_eq(r.value, body));
    assert_int_equal(mqg_record_view(&r, &arena, &out), MQG_OK);
    assert_int_equal(out.proto, MQG_PROTO_INTERNAL);
    assert_true(mqg_slice_eq(out.exchange, parts->exchange) && mqg_slice_eq(out.key, parts->key));
    assert_int_equal(out.key_sep, parts->key_sep);
    assert_int_equal(out.flags, parts->flags & (MQG_MSG_PERSISTENT | MQG_MSG_NULL_BODY));
    assert_same_view(v, &out.view);
    mqg_msg_unref(&m);
    return out;
}

/* ---- random values --------------------------------------------------------------------------------------------------- */

static uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t pick(uint64_t n)
{
    return test_random(&seed) % n;
}

static struct mqg_slice random_bytes(size_t max, bool text)
{
    size_t n = pick(max + 1);
    uint8_t *p = mqg_arena_alloc(&arena, n + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(text ? 'a' + pick(26) : pick(256));
    return mqg_slice_of(p, n);
}

static int64_t random_signed(unsigned bits)
{
    static const int64_t edges[] = {0, 1, -1, INT64_MAX, INT64_MIN};
    uint64_t n = pick(2) ? (uint64_t)edges[pick(MQG_COUNTOF(edges))] : test_random(&seed);
    return (int64_t)n >> (64 - bits);
}

static double random_double(bool is_float)
{
    static const double edges[] = {0.0, -0.0, 0.1, 1e300, -5e-324, INFINITY, -INFINITY, NAN, DBL_MAX};
    double d = pick(2) ? edges[pick(MQG_COUNTOF(edges))] : (double)random_signed(53) / 1024;
    return is_float ? (double)(float)d : d;
}

static struct mqg_value random_value(int depth);

static void random_table(struct mqg_table *t, int depth)
{
    for (uint64_t n = pick(6); n > 0; n--) {
        struct mqg_field *f = mqg_table_add(&arena, t, random_bytes(8, pick(4) > 0)); /* names repeat */
        f->value = random_value(depth);
    }
}

static struct mqg_value random_value(int depth)
{
    struct mqg_value v = {
        .type = (enum mqg_value_type)pick(depth > 0 ? MQG_VALUE_TYPE_COUNT : MQG_VALUE_ARRAY)};
    switch (v.type) {
    case MQG_VALUE_BOOL: v.boolean = pick(2); break;
    case MQG_VALUE_INT8: v.i = random_signed(8); break;
    case MQG_VALUE_INT16: v.i = random_signed(16); break;
    case MQG_VALUE_INT32: v.i = random_signed(32); break;
    case MQG_VALUE_INT64: v.i = random_signed(64); break;
    case MQG_VALUE_UINT8: v.u = (uint64_t)random_signed(64) >> 56; break;
    case MQG_VALUE_UINT16: v.u = (uint64_t)random_signed(64) >> 48; break;
    case MQG_VALUE_UINT32: v.u = (uint64_t)random_signed(64) >> 32; break;
    case MQG_VALUE_UINT64: v.u = (uint64_t)random_signed(64); break;
    case MQG_VALUE_FLOAT: v.d = random_double(true); break;
    case MQG_VALUE_DOUBLE: v.d = random_double(false); break;
    case MQG_VALUE_DECIMAL:
        v.dec.scale = (uint8_t)(pick(4) ? pick(10) : pick(256));
        v.dec.unscaled = (int32_t)random_signed(32);
        break;
    case MQG_VALUE_TIMESTAMP:
        v.i = pick(3) ? (int64_t)pick(UINT64_C(4000000000000000)) : random_signed(64);
        break;
    case MQG_VALUE_STRING: v.bytes = random_bytes(40, pick(3) > 0); break;
    case MQG_VALUE_BYTES: v.bytes = random_bytes(40, pick(2)); break;
    case MQG_VALUE_ARRAY:
        for (uint64_t n = pick(4); n > 0; n--) {
            struct mqg_value *item = mqg_array_add(&arena, &v.array);
            *item = random_value(depth - 1);
        }
        break;
    case MQG_VALUE_TABLE: random_table(&v.table, depth - 1); break;
    default: break;
    }
    return v;
}

static void random_view(struct mqg_view *v)
{
    struct mqg_slice *texts[] = {&v->content_type, &v->content_encoding, &v->correlation_id,
                                 &v->reply_to,     &v->message_id,       &v->type,
                                 &v->app_id,       &v->user_id,          &v->cluster_id};
    static const uint32_t bits[] = {MQG_PROP_CONTENT_TYPE, MQG_PROP_CONTENT_ENCODING, MQG_PROP_CORRELATION_ID,
                                    MQG_PROP_REPLY_TO,     MQG_PROP_MESSAGE_ID,       MQG_PROP_TYPE,
                                    MQG_PROP_APP_ID,       MQG_PROP_USER_ID,          MQG_PROP_CLUSTER_ID};
    *v = (struct mqg_view){0};
    for (size_t i = 0; i < MQG_COUNTOF(bits); i++) {
        if (pick(2))
            continue;
        v->has |= bits[i];
        *texts[i] = random_bytes(20, pick(2));
    }
    v->has |= (uint32_t)(pick(16) * MQG_PROP_TIMESTAMP); /* timestamp, priority, delivery mode, expiration */
    if (v->has & MQG_PROP_TIMESTAMP)
        v->timestamp_us = pick(4) ? pick(UINT64_C(4000000000000000)) : test_random(&seed);
    if (v->has & MQG_PROP_PRIORITY)
        v->priority = (uint8_t)pick(256);
    if (v->has & MQG_PROP_DELIVERY_MODE)
        v->delivery_mode = (uint8_t)pick(256);
    if (v->has & MQG_PROP_EXPIRATION)
        v->expiration_ms = test_random(&seed) >> pick(64);
    random_table(&v->headers, 3);
}

static void test_every_view_comes_back(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct mqg_view v;
        mqg_arena_reset(&arena);
        random_view(&v);
        struct mqg_msg_parts parts = {
            .flags = pick(2) ? MQG_MSG_PERSISTENT : 0,
            .key_sep = pick(2) ? '.' : '/',
            .exchange = random_bytes(30, true),
            .key = random_bytes(pick(2) ? 255 : 10, pick(2)),
        };
        if (pick(2)) {
            parts.flags |= MQG_MSG_HAS_PKEY;
            parts.pkey = random_bytes(20, false);
        }
        round_trip(&v, &parts, random_bytes(100, false));
    }
}

static void test_null_is_not_empty(void **state)
{
    (void)state;
    struct mqg_view v = {0};
    struct mqg_msg_parts parts = {.flags = MQG_MSG_NULL_BODY, .key_sep = '.', .key = MQG_SLICE_LIT("k")};
    mqg_arena_reset(&arena);
    struct mqg_msg *m = msg_of(&v, &parts, MQG_SLICE_NONE);
    assert_true(record_of(m).null_value);
    mqg_msg_unref(&m);
    parts.flags = 0;
    m = msg_of(&v, &parts, MQG_SLICE_NONE);
    assert_false(record_of(m).null_value);
    mqg_msg_unref(&m);
    /* from a protocol that has no null */
    mqg_table_set_bool(&arena, &v.headers, "mqgate-null-body", true);
    m = msg_of(&v, &parts, MQG_SLICE_NONE);
    struct mqg_record r = record_of(m);
    assert_true(r.null_value && r.nheaders == 1);
    mqg_msg_unref(&m);
    m = msg_of(&v, &parts, MQG_SLICE_LIT("a body"));
    assert_false(record_of(m).null_value);
    mqg_msg_unref(&m);
}

static void test_keys(void **state)
{
    (void)state;
    static const struct {
        struct mqg_slice routing, partition, header, wanted;
        bool has_pkey, has_header, null;
    } rows[] = {
        {MQG_SLICE_INIT("r"), {NULL, 0}, {NULL, 0}, MQG_SLICE_INIT("r"), false, false, false},
        {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, false, false, true},
        {MQG_SLICE_INIT("r"), MQG_SLICE_INIT("p"), {NULL, 0}, MQG_SLICE_INIT("p"), true, false, false},
        {MQG_SLICE_INIT("r"), {NULL, 0}, {NULL, 0}, {NULL, 0}, true, false, false},
        {MQG_SLICE_INIT("r"), {NULL, 0}, MQG_SLICE_INIT("h"), MQG_SLICE_INIT("h"), false, true, false},
        {MQG_SLICE_INIT("r"), MQG_SLICE_INIT("p"), MQG_SLICE_INIT("h"), MQG_SLICE_INIT("p"), true, true,
         false},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_view v = {0};
        mqg_arena_reset(&arena);
        if (rows[i].has_header)
            mqg_table_set_str(&arena, &v.headers, "x-partition-key", rows[i].header);
        struct mqg_msg_parts parts = {.key_sep = '.',
                                      .key = rows[i].routing,
                                      .pkey = rows[i].partition,
                                      .flags = rows[i].has_pkey ? MQG_MSG_HAS_PKEY : 0};
        struct mqg_msg *m = msg_of(&v, &parts, MQG_SLICE_NONE);
        struct mqg_record r = record_of(m);
        struct mqg_slice key;
        assert_true(r.null_key == rows[i].null && mqg_slice_eq(r.key, rows[i].wanted));
        assert_true(mqg_record_key(m, &arena, &key) == !rows[i].null && mqg_slice_eq(key, rows[i].wanted));
        mqg_msg_unref(&m);
    }
}

/* What a Kafka client sees of typed headers and properties. */
static void test_natural_text(void **state)
{
    (void)state;
    mqg_arena_reset(&arena);
    struct mqg_view v = {.has = MQG_PROP_CONTENT_TYPE | MQG_PROP_PRIORITY | MQG_PROP_TIMESTAMP,
                         .content_type = MQG_SLICE_LIT("text/plain"),
                         .priority = 7,
                         .timestamp_us = UINT64_C(1700000000000000)};
    struct mqg_value array = {.type = MQG_VALUE_ARRAY};
    *mqg_array_add(&arena, &array.array) = (struct mqg_value){.type = MQG_VALUE_INT32, .i = 1};
    *mqg_array_add(&arena, &array.array) = (struct mqg_value){.type = MQG_VALUE_NULL};
    static const struct mqg_value plain[] = {
        {.type = MQG_VALUE_INT32, .i = -5},
        {.type = MQG_VALUE_BOOL, .boolean = true},
        {.type = MQG_VALUE_DOUBLE, .d = 0.1},
        {.type = MQG_VALUE_DECIMAL, .dec = {2, -5}},
        {.type = MQG_VALUE_TIMESTAMP, .i = 951782400500000},
        {.type = MQG_VALUE_NULL},
        {.type = MQG_VALUE_BYTES, .bytes = MQG_SLICE_INIT("\xff\0")},
    };
    for (size_t i = 0; i < MQG_COUNTOF(plain); i++)
        mqg_table_add(&arena, &v.headers, MQG_SLICE_LIT("h"))->value = plain[i];
    mqg_table_add(&arena, &v.headers, MQG_SLICE_LIT("h"))->value = array;
    static const struct mqg_record_header wanted[] = {
        {MQG_SLICE_INIT("mqgate-content-type"), MQG_SLICE_INIT("text/plain"), false},
        {MQG_SLICE_INIT("mqgate-timestamp"), MQG_SLICE_INIT("2023-11-14T22:13:20Z"), false},
        {MQG_SLICE_INIT("mqgate-priority"), MQG_SLICE_INIT("7"), false},
        {MQG_SLICE_INIT("h"), MQG_SLICE_INIT("-5"), false},
        {MQG_SLICE_INIT("h"), MQG_SLICE_INIT("true"), false},
        {MQG_SLICE_INIT("h"), MQG_SLICE_INIT("0.1"), false},
        {MQG_SLICE_INIT("h"), MQG_SLICE_INIT("-0.05"), false},
        {MQG_SLICE_INIT("h"), MQG_SLICE_INIT("2000-02-29T00:00:00.500000Z"), false},
        {MQG_SLICE_INIT("h"), {NULL, 0}, true},
        {MQG_SLICE_INIT("h"), MQG_SLICE_INIT("\xff\0"), false},
        {MQG_SLICE_INIT("h"), MQG_SLICE_INIT("[1,null]"), false},
    };
    struct mqg_msg_parts parts = {.key_sep = '.', .key = MQG_SLICE_LIT("k")};
    struct mqg_msg *m = msg_of(&v, &parts, MQG_SLICE_NONE);
    struct mqg_record r = record_of(m);
    struct mqg_slice rest = r.headers;
    struct mqg_record_header h;
    assert_int_equal(r.nheaders, MQG_COUNTOF(wanted) + 1);
    for (size_t i = 0; i < MQG_COUNTOF(wanted); i++) {
        assert_true(mqg_record_header(&rest, &h));
        assert_true(mqg_slice_eq(h.name, wanted[i].name) && mqg_slice_eq(h.value, wanted[i].value) &&
                    h.null_value == wanted[i].null_value);
    }
    assert_true(mqg_record_header(&rest, &h) && mqg_slice_eq(h.name, MQG_SLICE_LIT(MQG_RECORD_ORIGIN)));
    mqg_msg_unref(&m);
}

/* ---- records of other clients ------------------------------------------------------------------------------------------ */

static struct mqg_record record_end(struct mqg_slice key, bool null_key)
{
    struct mqg_batch b;
    struct mqg_record_iter it;
    struct mqg_record r;
    assert_true(mqg_builder_record(&builder, 5, key, null_key, MQG_SLICE_LIT("v"), false));
    assert_int_equal(mqg_batch_read(mqg_builder_end(&builder), &b), MQG_OK);
    mqg_record_iter_init(&it, &b, b.records);
    assert_true(mqg_record_next(&it, &r));
    return r;
}

static void test_of_a_kafka_client(void **state)
{
    (void)state;
    struct mqg_record_view v;
    mqg_arena_reset(&arena);
    mqg_builder_begin(&builder);
    mqg_builder_header(&builder, MQG_SLICE_LIT("a"), MQG_SLICE_LIT("5"), false);
    mqg_builder_header(&builder, MQG_SLICE_LIT("a"), MQG_SLICE_LIT("\xff"), false);
    mqg_builder_header(&builder, MQG_SLICE_LIT("n"), MQG_SLICE_NONE, true);
    mqg_builder_header(&builder, MQG_SLICE_LIT("mqgate-type"), MQG_SLICE_LIT("order"), false);
    mqg_builder_header(&builder, MQG_SLICE_LIT("mqgate-priority"), MQG_SLICE_LIT("high"), false);
    mqg_builder_header(&builder, MQG_SLICE_LIT("routing-key"), MQG_SLICE_LIT("r.k"), false);
    struct mqg_record r = record_end(MQG_SLICE_LIT("key"), false);
    assert_int_equal(mqg_record_view(&r, &arena, &v), MQG_OK);
    assert_int_equal(v.proto, MQG_PROTO_NONE);
    assert_true(mqg_slice_eq(v.key, MQG_SLICE_LIT("r.k")) && v.exchange.len == 0 && v.key_sep == '.');
    assert_true(v.view.has == MQG_PROP_TYPE && mqg_slice_eq(v.view.type, MQG_SLICE_LIT("order")));
    assert_int_equal(v.view.headers.n, 5);
    static const enum mqg_value_type types[] = {MQG_VALUE_STRING, MQG_VALUE_BYTES, MQG_VALUE_NULL,
                                                MQG_VALUE_STRING, MQG_VALUE_STRING};
    for (size_t i = 0; i < MQG_COUNTOF(types); i++)
        assert_int_equal(v.view.headers.fields[i].value.type, types[i]);
}

static void test_key_as_routing_key(void **state)
{
    (void)state;
    static const struct {
        struct mqg_slice key;
        bool null;
        struct mqg_slice wanted;
    } rows[] = {{MQG_SLICE_INIT("text"), false, MQG_SLICE_INIT("text")},
                {MQG_SLICE_INIT("\xff\xfe"), false, {NULL, 0}},
                {{NULL, 0}, true, {NULL, 0}}};
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_record_view v;
        mqg_builder_begin(&builder);
        struct mqg_record r = record_end(rows[i].key, rows[i].null);
        assert_int_equal(mqg_record_view(&r, &arena, &v), MQG_OK);
        assert_true(mqg_slice_eq(v.key, rows[i].wanted));
    }
}

/* A repeated name is an array for protocols whose clients want one; null says so in a header. */
static enum mqg_err once_decode(struct mqg_slice origin, struct mqg_arena *a, struct mqg_view *out)
{
    return mqg_origin_writer(MQG_PROTO_INTERNAL)->decode(origin, a, out);
}
static enum mqg_err once_encode(const struct mqg_view *v, struct mqg_arena *a, struct mqg_dynbuf *out)
{
    return mqg_origin_writer(MQG_PROTO_INTERNAL)->encode(v, a, out);
}

static void test_message_of_a_record(void **state)
{
    (void)state;
    static const struct mqg_origin_ops once = {.proto = MQG_PROTO_STOMP,
                                               .decode = once_decode,
                                               .encode = once_encode,
                                               .names_once = true,
                                               .no_null = true};
    mqg_origin_register(&once);
    mqg_arena_reset(&arena);
    mqg_builder_begin(&builder);
    for (int i = 0; i < 3; i++)
        mqg_builder_header(&builder, MQG_SLICE_LIT("a"), MQG_SLICE_LIT("x"), i == 1);
    struct mqg_record r = record_end(MQG_SLICE_LIT("key"), false);
    r.null_value = true;
    r.value = MQG_SLICE_NONE;
    struct mqg_record_to to = {.proto = MQG_PROTO_STOMP, .partition = 9, .offset_header = true};
    enum mqg_err err;
    struct mqg_msg *m = mqg_record_to_msg(&r, &to, &arena, &scratch, &err);
    struct mqg_view v;
    assert_non_null(m);
    assert_int_equal(mqg_msg_view(m, &arena, &v), MQG_OK);
    assert_true(v.headers.n == 3 && v.headers.fields[0].value.type == MQG_VALUE_ARRAY &&
                v.headers.fields[0].value.array.n == 3 &&
                v.headers.fields[0].value.array.items[1].type == MQG_VALUE_NULL);
    assert_true(mqg_table_get(&v.headers, MQG_SLICE_LIT("mqgate-null-body"))->boolean);
    assert_int_equal(mqg_table_get(&v.headers, MQG_SLICE_LIT("x-stream-offset"))->i, 0);
    assert_true((m->st.flags & MQG_MSG_NULL_BODY) && m->st.body_len == 0);
    assert_true(m->st.id_hi == 9 && m->st.id_lo == 0 && m->st.append_us == 5000);
    mqg_msg_unref(&m);
}

/* NAMES names, each TIMES times, as numbers from 0 on. */
static struct mqg_table repeated(uint32_t names, uint32_t times, char (*texts)[8])
{
    struct mqg_table t = {.n = 0};
    for (uint32_t i = 0; i < names * times; i++) {
        uint32_t which = i % names;
        int n = snprintf(texts[which], sizeof texts[which], "h%u", which);
        struct mqg_field *f = mqg_table_add(&arena, &t, mqg_slice_of(texts[which], (size_t)n));
        assert_non_null(f);
        f->value = (struct mqg_value){.type = MQG_VALUE_INT64, .i = i};
    }
    return t;
}

/* However many there are, looked through or kept in a map: first places, items in order, single ones left alone. */
static void test_headers_once(void **state)
{
    (void)state;
    static char texts[8192][8];
    static const uint32_t rows[][2] = {{0, 0},  {1, 1},    {4, 8},    {11, 3},
                                       {33, 1}, {1, 8192}, {4096, 2}, {8192, 1}};
    for (size_t row = 0; row < MQG_COUNTOF(rows); row++) {
        uint32_t names = rows[row][0], times = rows[row][1];
        mqg_arena_reset(&arena);
        struct mqg_table t = repeated(names, times, texts);
        assert_true(mqg_headers_once(&t, &arena));
        assert_int_equal(t.n, names);
        for (uint32_t i = 0; i < names; i++) {
            const struct mqg_value *v = &t.fields[i].value;
            assert_true(mqg_slice_eq(t.fields[i].name, mqg_slice_str(texts[i])));
            assert_int_equal(v->type, times > 1 ? MQG_VALUE_ARRAY : MQG_VALUE_INT64);
            assert_int_equal(times > 1 ? v->array.n : 1, times);
            for (uint32_t k = 0; k < times; k++)
                assert_int_equal(times > 1 ? v->array.items[k].i : v->i, i + k * names);
        }
    }
}

static void test_headers_once_without_room(void **state)
{
    (void)state;
    static char texts[64][8];
    struct mqg_arena small;
    mqg_arena_reset(&arena);
    struct mqg_table t = repeated(64, 64, texts);
    mqg_arena_init(&small, 1024);
    assert_false(mqg_headers_once(&t, &small));
    mqg_arena_fini(&small);
}

/* ---- forged origins --------------------------------------------------------------------------------------------------------- */

static void test_forged_origin(void **state)
{
    (void)state;
    uint64_t dropped = mqg_count_sum(MQG_COUNT_CONVERSION_DROPPED);
    for (int round = 0; round < ROUNDS; round++) {
        struct mqg_record_view v;
        mqg_arena_reset(&arena);
        mqg_builder_begin(&builder);
        for (uint64_t n = pick(4); n > 0; n--)
            mqg_builder_header(&builder, MQG_SLICE_LIT("h"), random_bytes(8, true), false);
        uint8_t origin[40];
        size_t len = 4 + pick(30);
        for (size_t i = 0; i < len; i++)
            origin[i] = (uint8_t)pick(pick(2) ? 4 : 256);
        origin[0] = 1;
        origin[1] = (uint8_t)pick(MQG_PROTO_COUNT);
        origin[2] = (uint8_t)pick(8);
        origin[3] = '.';
        mqg_builder_header(&builder, MQG_SLICE_LIT(MQG_RECORD_ORIGIN), mqg_slice_of(origin, len), false);
        struct mqg_record r = record_end(MQG_SLICE_LIT("k"), false);
        assert_int_equal(mqg_record_view(&r, &arena, &v), MQG_OK);
        for (uint32_t i = 0; i < v.view.headers.n; i++)
            assert_false(mqg_slice_eq(v.view.headers.fields[i].name, MQG_SLICE_LIT(MQG_RECORD_ORIGIN)));
    }
    assert_true(mqg_count_sum(MQG_COUNT_CONVERSION_DROPPED) > dropped);
}

static void test_times(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
        bool good;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0, true},
        {"0000-01-01T00:00:00Z", -62167219200000000, true},
        {"9999-12-31T23:59:59.999999Z", 253402300799999999, true},
        {"2000-02-29T12:00:00.5Z", 951825600500000, true},
        {"1969-12-31T23:59:59.999999Z", -1, true},
        {"1970-01-01T00:00:00", 0, false},
        {"1970-01-01 00:00:00Z", 0, false},
        {"1970-13-01T00:00:00Z", 0, false},
        {"1970-01-00T00:00:00Z", 0, false},
        {"1970-01-01T00:00:00.Z", 0, false},
        {"", 0, false},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        int64_t us = 0;
        assert_int_equal(natural_take_time(mqg_slice_str(rows[i].text), &us), rows[i].good);
        if (rows[i].good)
            assert_true(us == rows[i].us);
    }
    for (int round = 0; round < ROUNDS; round++) {
        int64_t us = (int64_t)pick(UINT64_C(315569520000000000)) - 62167219200000000, again = 0;
        mqg_dynbuf_reset(&scratch);
        assert_true(natural_put_time(&scratch, us));
        assert_true(natural_take_time(mqg_dynbuf_view(&scratch), &again) && again == us);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_view_comes_back),
        cmocka_unit_test(test_null_is_not_empty),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_natural_text),
        cmocka_unit_test(test_of_a_kafka_client),
        cmocka_unit_test(test_key_as_routing_key),
        cmocka_unit_test(test_message_of_a_record),
        cmocka_unit_test(test_headers_once),
        cmocka_unit_test(test_headers_once_without_room),
        cmocka_unit_test(test_forged_origin),
        cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests_name("convert", tests, setup, teardown);
}

/* quota.c - quotas and the meters that count against them.
 *
 * A meter is one number: the time at which all that was counted so far would have been sent at the permitted rate. It may run up
 * to a second behind the clock (so that a pause can be made up for), and how far it is ahead of the clock is how long its user
 * must wait. So a meter needs no samples and no timer, and forgetting one is harmless.
 *
 * A quota on a user is shared by all its connections, one on a client id by all of that id, a default by each user or client on
 * its own: a meter's name is the quota's entity with the defaults filled in. */
#include "quota.h"

#include <mqgate/map.h>

#include <pthread.h>
#include <stdlib.h>

enum { QUOTA_BURST_US = 1000000, QUOTA_WAIT_MAX_MS = 30000, QUOTA_METERS_MAX = 65536, QUOTA_VERSION = 1 };
enum { QUOTA_ID_BYTES = 2 * (3 + KAFKA_QUOTA_NAME_MAX_BYTES) };

struct quota_row {
    struct kafka_quota_entity entity;
    struct kafka_quota_values values;
    uint8_t text[];
};

static pthread_mutex_t quota_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_map quota_rows = {.keys = MQG_MAP_COPY};   /* id -> struct quota_row; under the lock */
static struct mqg_map quota_meters = {.keys = MQG_MAP_COPY}; /* id of the meter -> uint64_t: microseconds */
static _Atomic size_t quota_count;

/* ---- names ----------------------------------------------------------------------------------------------------------------- */

struct quota_id {
    uint8_t bytes[QUOTA_ID_BYTES];
    size_t len;
};

static void id_part(struct quota_id *id, enum kafka_quota_part part, struct mqg_slice name)
{
    size_t n = part == KAFKA_PART_NAMED ? name.len : 0;
    id->bytes[id->len++] = (uint8_t)part;
    id->bytes[id->len++] = (uint8_t)n;
    if (n > 0)
        memcpy(id->bytes + id->len, name.ptr, n);
    id->len += n;
}

static struct mqg_slice quota_id(struct quota_id *id, const struct kafka_quota_entity *e)
{
    id->len = 0;
    id_part(id, e->user, e->user_name);
    id_part(id, e->client, e->client_name);
    return mqg_slice_of(id->bytes, id->len);
}

static struct mqg_slice quota_name(struct mqg_slice s)
{
    return mqg_slice_of(s.ptr, s.len < KAFKA_QUOTA_NAME_MAX_BYTES ? s.len : KAFKA_QUOTA_NAME_MAX_BYTES);
}

/* ---- the table --------------------------------------------------------------------------------------------------------------- */

static struct quota_row *row_new(const struct kafka_quota_entity *e, const struct kafka_quota_values *v)
{
    struct quota_row *row = mqg_xcalloc(1, sizeof *row + e->user_name.len + e->client_name.len);
    uint8_t *at = row->text;
    row->entity = *e;
    row->values = *v;
    if (e->user_name.len > 0)
        memcpy(at, e->user_name.ptr, e->user_name.len);
    row->entity.user_name = mqg_slice_of(at, e->user_name.len);
    at += e->user_name.len;
    if (e->client_name.len > 0)
        memcpy(at, e->client_name.ptr, e->client_name.len);
    row->entity.client_name = mqg_slice_of(at, e->client_name.len);
    return row;
}

static void meters_forget(void)
{
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&quota_meters, &it);)
        free(it.value);
    mqg_map_fini(&quota_meters);
    mqg_map_init(&quota_meters, MQG_MAP_COPY);
}

void kafka_quota_put(const struct kafka_quota_entity *e, const struct kafka_quota_values *v)
{
    struct quota_id id;
    bool any = false;
    for (int i = 0; i < KAFKA_QUOTA_KINDS; i++)
        any = any || v->set[i];
    pthread_mutex_lock(&quota_lock);
    struct mqg_slice key = quota_id(&id, e);
    free(any ? mqg_map_set(&quota_rows, key, row_new(e, v)) : mqg_map_del(&quota_rows, key));
    meters_forget(); /* they count at the old rates */
    atomic_store_explicit(&quota_count, quota_rows.count, memory_order_release);
    pthread_mutex_unlock(&quota_lock);
}

bool kafka_quota_get(const struct kafka_quota_entity *e, struct kafka_quota_values *v)
{
    struct quota_id id;
    pthread_mutex_lock(&quota_lock);
    const struct quota_row *row = mqg_map_get(&quota_rows, quota_id(&id, e));
    *v = row != NULL ? row->values : (struct kafka_quota_values){.set = {false}};
    pthread_mutex_unlock(&quota_lock);
    return row != NULL;
}

size_t kafka_quota_count(void)
{
    return atomic_load_explicit(&quota_count, memory_order_acquire);
}

void kafka_quota_each(void (*visit)(void *arg, const struct kafka_quota_entity *e,
                                    const struct kafka_quota_values *v),
                      void *arg)
{
    pthread_mutex_lock(&quota_lock);
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&quota_rows, &it);) {
        const struct quota_row *row = it.value;
        visit(arg, &row->entity, &row->values);
    }
    pthread_mutex_unlock(&quota_lock);
}

void kafka_quota_clear(void)
{
    pthread_mutex_lock(&quota_lock);
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&quota_rows, &it);)
        free(it.value);
    mqg_map_fini(&quota_rows);
    mqg_map_init(&quota_rows, MQG_MAP_COPY);
    meters_forget();
    mqg_map_fini(&quota_meters);
    atomic_store_explicit(&quota_count, 0, memory_order_release);
    pthread_mutex_unlock(&quota_lock);
}

/* ---- counting ------------------------------------------------------------------------------------------------------------------ */

/* The most particular first (KIP-55). */
static const struct {
    enum kafka_quota_part user, client;
} quota_order[] = {
    {KAFKA_PART_NAMED, KAFKA_PART_NAMED},     {KAFKA_PART_NAMED, KAFKA_PART_DEFAULT},
    {KAFKA_PART_NAMED, KAFKA_PART_NONE},      {KAFKA_PART_DEFAULT, KAFKA_PART_NAMED},
    {KAFKA_PART_DEFAULT, KAFKA_PART_DEFAULT}, {KAFKA_PART_DEFAULT, KAFKA_PART_NONE},
    {KAFKA_PART_NONE, KAFKA_PART_NAMED},      {KAFKA_PART_NONE, KAFKA_PART_DEFAULT},
};

/* The rate that holds, and the meter's name in *id; 0: none. */
static double quota_rate(struct mqg_slice user, struct mqg_slice client, enum kafka_quota_kind kind,
                         struct quota_id *id)
{
    for (size_t i = 0; i < MQG_COUNTOF(quota_order); i++) {
        struct kafka_quota_entity e = {quota_order[i].user, quota_order[i].client, user, client};
        const struct quota_row *row = mqg_map_get(&quota_rows, quota_id(id, &e));
        if (row == NULL || !row->values.set[kind])
            continue;
        e.user = e.user == KAFKA_PART_NONE ? KAFKA_PART_NONE : KAFKA_PART_NAMED;
        e.client = e.client == KAFKA_PART_NONE ? KAFKA_PART_NONE : KAFKA_PART_NAMED;
        (void)quota_id(id, &e);
        id->bytes[id->len++] = (uint8_t)kind;
        return row->values.rate[kind];
    }
    return 0;
}

static uint64_t *quota_meter(const struct quota_id *id)
{
    struct mqg_slice key = mqg_slice_of(id->bytes, id->len);
    uint64_t *meter = mqg_map_get(&quota_meters, key);
    if (meter != NULL)
        return meter;
    if (quota_meters.count >= QUOTA_METERS_MAX)
        meters_forget();
    meter = mqg_xcalloc(1, sizeof *meter);
    mqg_map_set(&quota_meters, key, meter);
    return meter;
}

uint32_t kafka_quota_take(struct mqg_slice user, struct mqg_slice client, enum kafka_quota_kind kind,
                          uint64_t bytes, uint64_t now_us)
{
    struct quota_id id;
    uint64_t wait_us = 0;
    pthread_mutex_lock(&quota_lock);
    double rate = quota_rate(quota_name(user), quota_name(client), kind, &id);
    if (rate > 0) {
        uint64_t *meter = quota_meter(&id), behind = now_us > QUOTA_BURST_US ? now_us - QUOTA_BURST_US : 0;
        double cost_us = (double)bytes * 1e6 / rate;
        *meter = (*meter > behind ? *meter : behind) + (cost_us < 1e15 ? (uint64_t)cost_us : (uint64_t)1e15);
        wait_us = *meter > now_us ? *meter - now_us : 0;
        if (wait_us > (uint64_t)QUOTA_WAIT_MAX_MS * 1000) {
            wait_us = (uint64_t)QUOTA_WAIT_MAX_MS * 1000;
            *meter = now_us + wait_us;
        }
    }
    pthread_mutex_unlock(&quota_lock);
    return (uint32_t)((wait_us + 999) / 1000);
}

/* ---- records ---------------------------------------------------------------------------------------------------------------------
 *
 *   key    kafka-quota/UU.../CC...   each part its kind as a digit, and its name in hexadecimal
 *   value  | 1 | part u8, name | part u8, name | set u8 (bits by kind) | rate f64 each |     user, client; names: u8 length, bytes */

static void record_part(struct mqg_dynbuf *out, enum kafka_quota_part part, struct mqg_slice name)
{
    mqg_dynbuf_printf(out, "%d", (int)part);
    for (size_t i = 0; part == KAFKA_PART_NAMED && i < name.len; i++)
        mqg_dynbuf_printf(out, "%02x", name.ptr[i]);
}

void kafka_quota_key(struct mqg_dynbuf *out, const struct kafka_quota_entity *e)
{
    mqg_dynbuf_slice(out, MQG_SLICE_LIT(KAFKA_QUOTA_PREFIX));
    record_part(out, e->user, e->user_name);
    mqg_dynbuf_u8(out, '/');
    record_part(out, e->client, e->client_name);
}

void kafka_quota_encode(struct mqg_dynbuf *out, const struct kafka_quota_entity *e,
                        const struct kafka_quota_values *v)
{
    struct quota_id id;
    uint8_t set = 0;
    mqg_dynbuf_u8(out, QUOTA_VERSION);
    mqg_dynbuf_slice(out, quota_id(&id, e));
    for (int i = 0; i < KAFKA_QUOTA_KINDS; i++)
        set = (uint8_t)(set | (v->set[i] ? 1u << i : 0));
    mqg_dynbuf_u8(out, set);
    for (int i = 0; i < KAFKA_QUOTA_KINDS; i++) {
        uint64_t bits;
        memcpy(&bits, &v->rate[i], sizeof bits);
        mqg_dynbuf_le64(out, bits);
    }
}

static bool record_take(struct mqg_cursor *c, enum kafka_quota_part *part, struct mqg_slice *name)
{
    uint8_t kind = mqg_cursor_u8(c);
    *name = mqg_cursor_slice(c, mqg_cursor_u8(c));
    *part = kind <= KAFKA_PART_NAMED ? (enum kafka_quota_part)kind : KAFKA_PART_NONE;
    return kind <= KAFKA_PART_NAMED;
}

enum mqg_err kafka_quota_decode(struct mqg_slice value, struct kafka_quota_entity *e,
                                struct kafka_quota_values *v)
{
    struct mqg_cursor c = mqg_cursor_of(value);
    if (mqg_cursor_u8(&c) != QUOTA_VERSION)
        return MQG_UNSUPPORTED;
    bool good = record_take(&c, &e->user, &e->user_name) && record_take(&c, &e->client, &e->client_name);
    uint8_t set = mqg_cursor_u8(&c);
    for (int i = 0; i < KAFKA_QUOTA_KINDS; i++) {
        uint64_t bits = mqg_cursor_le64(&c);
        memcpy(&v->rate[i], &bits, sizeof bits);
        v->set[i] = (set & 1u << i) != 0;
        good = good && (!v->set[i] || (v->rate[i] > 0 && v->rate[i] < 1e18));
    }
    return good && mqg_cursor_done(&c) && set < 1u << KAFKA_QUOTA_KINDS ? MQG_OK : MQG_CORRUPT;
}

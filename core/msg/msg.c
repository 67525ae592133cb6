/* msg.c - making, copying and checking messages.
 *
 * A message's bytes are laid out once, in the order in which the journal writes them (drawn in msg.h), so storing and
 * sending never gather. Lengths are checked here and nowhere else: a handler passes slices that its protocol already
 * bounds, a stored form comes from a disk and is checked as any hostile input before it is believed.
 *
 * What comes from a peer for the first time (mqg_msg_new) is refused when the node's message memory is used up. What
 * was accepted before (loaded again, dead-lettered, copied to a second store) is not: it would be lost, or stop the
 * consumers who alone can make room. */
#include "slab.h"

#include <mqgate/msg.h>
#include <mqgate/worker.h>

#include <pthread.h>

#define MSG_FLAGS_KNOWN (MQG_MSG_PERSISTENT | MQG_MSG_NULL_BODY | MQG_MSG_HAS_PKEY | MQG_MSG_HAS_TTL)

_Static_assert(offsetof(struct mqg_msg, data) == offsetof(struct mqg_msg, st) + sizeof(struct mqg_stored),
               "the stored form is contiguous");

/* ---- identity ------------------------------------------------------------------------------------------------------ */

/* id_hi: microseconds, never back on one thread. id_lo: 24 random bits per process, 8 bits worker, 32 bits counter. */
static _Thread_local uint64_t msg_last_us;
static _Thread_local uint32_t msg_counter;
static _Atomic uint64_t msg_foreign_counter;
static uint64_t msg_node_epoch;
static pthread_once_t msg_node_once = PTHREAD_ONCE_INIT;

static void msg_node_init(void)
{
    msg_node_epoch = mqg_random_u64() << 40;
}

static void msg_stamp(struct mqg_stored *st)
{
    struct mqg_worker *self = mqg_worker_self();
    uint64_t now_us = self != NULL ? self->now.wall_us : mqg_clock_now().wall_us;
    uint64_t lane = self != NULL ? self->index : 0xff;
    uint64_t count = self != NULL ? ++msg_counter : (uint32_t)atomic_fetch_add(&msg_foreign_counter, 1);
    pthread_once(&msg_node_once, msg_node_init);
    if (now_us > msg_last_us)
        msg_last_us = now_us;
    st->id_hi = msg_last_us;
    st->id_lo = msg_node_epoch | lane << 32 | (uint32_t)count;
    st->create_us = now_us;
    st->append_us = now_us;
}

/* ---- blocks -------------------------------------------------------------------------------------------------------- */

static size_t msg_block_bytes(size_t total_len)
{
    return offsetof(struct mqg_msg, st) + total_len;
}

static struct mqg_msg *msg_alloc(size_t total_len, bool force)
{
    struct mqg_slab *slab;
    struct mqg_msg *m = msg_slab_alloc(msg_block_bytes(total_len), force, &slab);
    if (MQG_UNLIKELY(m == NULL))
        return NULL;
    m->magic = MQG_MSG_MAGIC;
    atomic_init(&m->refs, 1);
    m->slab = slab;
    m->extent = NULL;
    m->extent_off = 0;
    m->total_len = (uint32_t)total_len;
    return m;
}

void mqg_msg_free_block(struct mqg_msg *m)
{
    MQG_CHECK(m, MQG_MSG_MAGIC);
    m->magic = 0;
    msg_slab_free(m->slab, m, msg_block_bytes(m->total_len));
}

/* ---- new ----------------------------------------------------------------------------------------------------------- */

static inline uint8_t *msg_put(uint8_t *to, struct mqg_slice s)
{
    if (s.len > 0)
        memcpy(to, s.ptr, s.len);
    return to + s.len;
}

static size_t msg_parts_bytes(const struct mqg_msg_parts *p)
{
    MQG_ASSERT(p->exchange.len <= UINT16_MAX && p->key.len <= UINT16_MAX);
    MQG_ASSERT(p->user.len <= UINT8_MAX && p->client.len <= UINT8_MAX);
    MQG_ASSERT(p->body_len <= MQG_MSG_BODY_MAX);
    size_t total = sizeof(struct mqg_stored) + p->exchange.len + p->key.len + p->pkey.len + p->user.len +
                   p->client.len + p->origin.len + p->overlay.len + p->body_len;
    MQG_ASSERT(total <= INT32_MAX);
    return total;
}

static void msg_fill_head(struct mqg_stored *st, const struct mqg_msg_parts *p)
{
    *st = (struct mqg_stored){
        .version = MQG_STORED_VERSION,
        .proto = (uint8_t)p->proto,
        .flags = p->flags,
        .priority = p->priority,
        .key_sep = p->key_sep == '/' ? '/' : '.',
        .user_len = (uint8_t)p->user.len,
        .client_len = (uint8_t)p->client.len,
        .ttl_ms = p->ttl_ms,
        .exchange_len = (uint16_t)p->exchange.len,
        .key_len = (uint16_t)p->key.len,
        .pkey_len = (uint32_t)p->pkey.len,
        .origin_len = (uint32_t)p->origin.len,
        .overlay_len = (uint32_t)p->overlay.len,
        .body_len = p->body_len,
    };
}

static uint8_t *msg_fill_parts(struct mqg_msg *m, const struct mqg_msg_parts *p)
{
    msg_fill_head(&m->st, p);
    uint8_t *to = msg_put(m->data, p->exchange);
    to = msg_put(to, p->key);
    to = msg_put(to, p->pkey);
    to = msg_put(to, p->user);
    to = msg_put(to, p->client);
    to = msg_put(to, p->origin);
    return msg_put(to, p->overlay);
}

struct mqg_msg *mqg_msg_new(const struct mqg_msg_parts *parts)
{
    struct mqg_msg *m = msg_alloc(msg_parts_bytes(parts), false);
    if (MQG_UNLIKELY(m == NULL))
        return NULL;
    msg_fill_parts(m, parts);
    msg_stamp(&m->st);
    return m;
}

struct mqg_msg *mqg_msg_restore(const struct mqg_msg_parts *parts, uint64_t partition, uint64_t offset,
                                uint64_t time_us)
{
    struct mqg_msg *m = msg_alloc(msg_parts_bytes(parts), true);
    if (m == NULL)
        return NULL;
    msg_fill_parts(m, parts);
    m->st.id_hi = partition;
    m->st.id_lo = offset;
    m->st.create_us = m->st.append_us = time_us;
    return m;
}

/* ---- from bytes ------------------------------------------------------------------------------------------------------ */

static bool msg_stored_fits(const struct mqg_stored *st, size_t len)
{
    uint64_t total = sizeof *st;
    total += (uint64_t)st->exchange_len + st->key_len + st->user_len + st->client_len;
    total += (uint64_t)st->pkey_len + st->origin_len + st->overlay_len + st->body_len;
    return total == len && len <= INT32_MAX && st->body_len <= MQG_MSG_BODY_MAX;
}

static enum mqg_err msg_stored_check(struct mqg_slice stored, struct mqg_stored *st)
{
    if (stored.len < sizeof *st)
        return MQG_CORRUPT;
    memcpy(st, stored.ptr, sizeof *st);
    if (st->version > MQG_STORED_VERSION)
        return MQG_UNSUPPORTED;
    bool head = st->version == MQG_STORED_VERSION && st->proto < MQG_PROTO_COUNT &&
                (st->flags & ~MSG_FLAGS_KNOWN) == 0 && (st->key_sep == '.' || st->key_sep == '/') &&
                st->reserved == 0 && st->reserved2 == 0 && st->reserved3 == 0;
    bool null_body = (st->flags & MQG_MSG_NULL_BODY) == 0 || st->body_len == 0;
    bool pkey = (st->flags & MQG_MSG_HAS_PKEY) != 0 || st->pkey_len == 0;
    return head && null_body && pkey && msg_stored_fits(st, stored.len) ? MQG_OK : MQG_CORRUPT;
}

struct mqg_msg *mqg_msg_from_stored(struct mqg_slice stored, enum mqg_err *err)
{
    struct mqg_stored st;
    *err = msg_stored_check(stored, &st);
    if (*err != MQG_OK)
        return NULL;
    struct mqg_msg *m = msg_alloc(stored.len, true);
    if (m == NULL) {
        *err = MQG_NO_MEMORY;
        return NULL;
    }
    memcpy(&m->st, stored.ptr, stored.len);
    return m;
}

/* ---- copies ------------------------------------------------------------------------------------------------------------ */

static struct mqg_slice msg_client(const struct mqg_msg *m)
{
    return mqg_slice_of(mqg_msg_at_user(m) + m->st.user_len, m->st.client_len);
}

static struct mqg_msg_parts msg_derived_parts(const struct mqg_msg *m, uint8_t flags, uint64_t ttl_ms)
{
    return (struct mqg_msg_parts){
        .proto = (enum mqg_proto)m->st.proto,
        .flags = flags,
        .priority = m->st.priority,
        .key_sep = (char)m->st.key_sep,
        .ttl_ms = ttl_ms,
        .pkey = mqg_msg_pkey(m),
        .user = mqg_msg_user(m),
        .client = msg_client(m),
        .origin = mqg_msg_origin(m),
        .body_len = m->st.body_len,
    };
}

/* Its append time is now: a TTL given here counts from the moment it enters its next queue. */
static void msg_derived_stamp(struct mqg_stored *st, const struct mqg_stored *from)
{
    struct mqg_worker *self = mqg_worker_self();
    st->id_hi = from->id_hi;
    st->id_lo = from->id_lo;
    st->create_us = from->create_us;
    st->append_us = self != NULL ? self->now.wall_us : mqg_clock_now().wall_us;
}

struct mqg_msg *mqg_msg_derive(const struct mqg_msg *m, struct mqg_slice exchange, struct mqg_slice key,
                               struct mqg_slice overlay, uint8_t flags, uint64_t ttl_ms)
{
    struct mqg_msg_parts parts = msg_derived_parts(m, flags, ttl_ms);
    parts.exchange = exchange;
    parts.key = key;
    parts.overlay = overlay;
    struct mqg_msg *copy = msg_alloc(msg_parts_bytes(&parts), true);
    if (copy == NULL)
        return NULL;
    msg_put(msg_fill_parts(copy, &parts), mqg_msg_body(m));
    msg_derived_stamp(&copy->st, &m->st);
    return copy;
}

struct mqg_msg *mqg_msg_clone(const struct mqg_msg *m)
{
    struct mqg_msg *copy = msg_alloc(m->total_len, true);
    if (copy != NULL)
        memcpy(&copy->st, &m->st, m->total_len);
    return copy;
}

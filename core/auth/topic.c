/* topic.c - topic permissions: patterns on routing keys, beside the permission on the exchange.
 *
 * RabbitMQ's: a row is a user, a vhost and an exchange with a pattern for writing and one for reading. Where there is no row every
 * key is allowed; {username}, {vhost} and {client_id} in a pattern stand for the session's, taken literally (a client that calls
 * itself ".*" gains nothing). Rows are few and seldom change: a list under a mutex, copied into a **guard** that a connection
 * keeps: its patterns, compiled, right until the generation moves on. Without any row in the node a check is one load.
 *
 *   record tperm/VHOST/USER/EXCHANGE: | 1 | vhost | user | exchange | write | read |   strings as u16 length and bytes, little-endian */
#include "auth_int.h"

#include <mqgate/broker.h>
#include <mqgate/lanes.h>
#include <mqgate/obs.h>

#include <stdlib.h>

enum { TOPIC_VERSION = 1, TOPIC_FIELDS = 5, TOPIC_EXPANDED_MAX_BYTES = 64 << 10 };
enum { TOPIC_VHOST, TOPIC_USER, TOPIC_EXCHANGE, TOPIC_WRITE, TOPIC_READ };

struct topic_row {
    struct topic_row *next;
    char *text[TOPIC_FIELDS];
};

/* under auth_lock */
static struct topic_row *topic_rows;
static _Atomic uint64_t topic_generation = 1;
static _Atomic size_t topic_count;

struct mqg_topic_guard {
    uint64_t generation;
    bool limited;
    struct auth_pattern *pattern[MQG_PERM_COUNT];
};

/* ---- rows: under the lock ----------------------------------------------------------------------------------------- */

static bool topic_is(const struct topic_row *r, int field, struct mqg_slice s)
{
    return mqg_slice_eq(mqg_slice_str(r->text[field]), s);
}

static struct topic_row **topic_find(struct mqg_slice vhost, struct mqg_slice user, struct mqg_slice exchange)
{
    struct topic_row **at = &topic_rows;
    while (*at != NULL && !(topic_is(*at, TOPIC_VHOST, vhost) && topic_is(*at, TOPIC_USER, user) &&
                            topic_is(*at, TOPIC_EXCHANGE, exchange)))
        at = &(*at)->next;
    return at;
}

static void topic_row_free(struct topic_row *r)
{
    for (int i = 0; i < TOPIC_FIELDS; i++)
        free(r->text[i]);
    free(r);
}

static void topic_changed(int by)
{
    atomic_fetch_add(&topic_count, (size_t)by);
    atomic_fetch_add(&topic_generation, 1);
}

static void topic_take_out(struct topic_row **at)
{
    struct topic_row *r = *at;
    *at = r->next;
    topic_row_free(r);
    topic_changed(-1);
}

static void topic_set(const struct mqg_slice text[TOPIC_FIELDS])
{
    struct topic_row **at = topic_find(text[TOPIC_VHOST], text[TOPIC_USER], text[TOPIC_EXCHANGE]);
    if (*at != NULL)
        topic_take_out(at);
    struct topic_row *r = mqg_xcalloc(1, sizeof *r);
    for (int i = 0; i < TOPIC_FIELDS; i++)
        r->text[i] = mqg_slice_dup(text[i]);
    r->next = topic_rows;
    topic_rows = r;
    topic_changed(1);
}

/* ---- records -------------------------------------------------------------------------------------------------------- */

static void topic_key(struct mqg_dynbuf *out, const struct mqg_slice text[TOPIC_FIELDS])
{
    mqg_dynbuf_init(out, 16384);
    auth_topic_key(out, text[TOPIC_VHOST], text[TOPIC_USER], text[TOPIC_EXCHANGE]);
}

static uint64_t topic_record(const struct mqg_slice text[TOPIC_FIELDS], bool remove)
{
    struct mqg_dynbuf key, value;
    topic_key(&key, text);
    mqg_dynbuf_init(&value, 65536);
    mqg_dynbuf_u8(&value, TOPIC_VERSION);
    for (int i = 0; i < TOPIC_FIELDS && !remove; i++) {
        mqg_dynbuf_le16(&value, (uint16_t)text[i].len);
        mqg_dynbuf_slice(&value, text[i]);
    }
    MQG_ASSERT(!key.failed && !value.failed); /* bounds were checked */
    uint64_t ticket = remove ? mqg_meta_remove(mqg_dynbuf_view(&key))
                             : mqg_meta_put(mqg_dynbuf_view(&key), mqg_dynbuf_view(&value));
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
    return ticket;
}

enum mqg_err auth_topic_recover(struct mqg_slice value)
{
    struct mqg_cursor c = mqg_cursor_of(value);
    struct mqg_slice text[TOPIC_FIELDS];
    if (mqg_cursor_u8(&c) != TOPIC_VERSION)
        return MQG_UNSUPPORTED;
    for (int i = 0; i < TOPIC_FIELDS; i++)
        text[i] = mqg_cursor_slice(&c, mqg_cursor_le16(&c));
    if (!mqg_cursor_done(&c))
        return MQG_CORRUPT;
    auth_lock();
    topic_set(text);
    auth_unlock();
    return MQG_OK;
}

static void topic_slices(const struct topic_row *r, struct mqg_slice text[TOPIC_FIELDS])
{
    for (int i = 0; i < TOPIC_FIELDS; i++)
        text[i] = mqg_slice_str(r->text[i]);
}

/* Rows of a user (vhost NULL) or of a vhost (user NULL) go with it. Under the lock. */
void auth_topic_forget_locked(const struct mqg_slice *vhost, const struct mqg_slice *user)
{
    struct topic_row **at = &topic_rows;
    while (*at != NULL) {
        struct mqg_slice text[TOPIC_FIELDS];
        if ((vhost != NULL && !topic_is(*at, TOPIC_VHOST, *vhost)) ||
            (user != NULL && !topic_is(*at, TOPIC_USER, *user))) {
            at = &(*at)->next;
            continue;
        }
        topic_slices(*at, text);
        topic_record(text, true);
        topic_take_out(at);
    }
}

void auth_topic_clear(void)
{
    while (topic_rows != NULL)
        topic_take_out(&topic_rows);
}

/* ---- commands ------------------------------------------------------------------------------------------------------- */

static enum mqg_err topic_check(const struct mqg_slice text[TOPIC_FIELDS], struct mqg_error *e)
{
    for (int i = TOPIC_EXCHANGE; i < TOPIC_FIELDS; i++)
        if (text[i].len > (i == TOPIC_EXCHANGE ? AUTH_NAME_MAX_BYTES : AUTH_PATTERN_MAX_BYTES) ||
            !mqg_utf8_valid(text[i]) || (text[i].len > 0 && memchr(text[i].ptr, 0, text[i].len) != NULL))
            return mqg_error_set(e, MQG_INVALID, 0,
                                 "a topic permission's name or pattern is too long or no text");
    for (int i = TOPIC_WRITE; i <= TOPIC_READ; i++) {
        struct auth_pattern *p = auth_pattern_new(text[i], e);
        if (p == NULL)
            return MQG_INVALID;
        auth_pattern_free(&p);
    }
    if (mqg_vhost_find(text[TOPIC_VHOST]) == NULL)
        return mqg_error_set(e, MQG_NOT_FOUND, 0, "vhost '%.*s' does not exist",
                             MQG_SLICE_FMT(text[TOPIC_VHOST]));
    return MQG_OK;
}

enum mqg_err mqg_topic_perm_put(struct mqg_slice user, struct mqg_slice vhost, struct mqg_slice exchange,
                                struct mqg_slice write, struct mqg_slice read, uint64_t *ticket,
                                struct mqg_error *e)
{
    const struct mqg_slice text[TOPIC_FIELDS] = {vhost, user, exchange, write, read};
    enum mqg_err err = topic_check(text, e);
    if (err != MQG_OK)
        return err;
    auth_lock();
    bool found = auth_user_locked(user) != NULL;
    if (found) {
        *ticket = topic_record(text, false);
        topic_set(text);
    }
    auth_unlock();
    if (!found)
        return mqg_error_set(e, MQG_NOT_FOUND, 0, "user '%.*s' does not exist", MQG_SLICE_FMT(user));
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT,
            "user=%s change=topic_permissions vhost=%s exchange=%s write=%s read=%s", mqg_logq(user),
            mqg_logq(vhost), mqg_logq(exchange), mqg_logq(write), mqg_logq(read));
    return MQG_OK;
}

enum mqg_err mqg_topic_perm_delete(struct mqg_slice user, struct mqg_slice vhost, uint64_t *ticket,
                                   struct mqg_error *e)
{
    size_t before = atomic_load(&topic_count);
    auth_lock();
    struct topic_row **at = &topic_rows;
    while (*at != NULL) {
        struct mqg_slice text[TOPIC_FIELDS];
        if (!topic_is(*at, TOPIC_VHOST, vhost) || !topic_is(*at, TOPIC_USER, user)) {
            at = &(*at)->next;
            continue;
        }
        topic_slices(*at, text);
        *ticket = topic_record(text, true);
        topic_take_out(at);
    }
    auth_unlock();
    if (atomic_load(&topic_count) == before)
        return mqg_error_set(e, MQG_NOT_FOUND, 0, "user '%.*s' has no topic permissions in vhost '%.*s'",
                             MQG_SLICE_FMT(user), MQG_SLICE_FMT(vhost));
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT, "user=%s change=topic_permissions_delete vhost=%s",
            mqg_logq(user), mqg_logq(vhost));
    return MQG_OK;
}

void mqg_topic_perm_each(void (*visit)(void *arg, const struct mqg_topic_perm_info *p), void *arg)
{
    auth_lock();
    for (const struct topic_row *r = topic_rows; r != NULL; r = r->next)
        visit(arg, &(struct mqg_topic_perm_info){r->text[TOPIC_USER], r->text[TOPIC_VHOST],
                                                 r->text[TOPIC_EXCHANGE], r->text[TOPIC_WRITE],
                                                 r->text[TOPIC_READ]});
    auth_unlock();
}

/* ---- checks ----------------------------------------------------------------------------------------------------------- */

/* As a pattern that matches just these bytes as a level of a key is written: '.' and '/' inside it are swapped. */
static void topic_quote(struct mqg_dynbuf *out, struct mqg_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i] == '.' ? '/' : s.ptr[i] == '/' ? '.' : s.ptr[i];
        bool plain = c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!plain)
            mqg_dynbuf_u8(out, '\\');
        mqg_dynbuf_u8(out, c);
    }
}

static void topic_expand(struct mqg_dynbuf *out, const char *pattern, const struct mqg_session *s,
                         struct mqg_slice client_id)
{
    const struct topic_word {
        const char *word;
        struct mqg_slice value;
    } words[] = {{"{username}", mqg_slice_str(s->user)},
                 {"{vhost}", mqg_vhost_name(s->vhost)},
                 {"{client_id}", client_id}};
    while (*pattern != '\0') {
        size_t i = 0;
        while (i < MQG_COUNTOF(words) && strncmp(pattern, words[i].word, strlen(words[i].word)) != 0)
            i++;
        if (i < MQG_COUNTOF(words)) {
            topic_quote(out, words[i].value);
            pattern += strlen(words[i].word);
        } else {
            mqg_dynbuf_u8(out, (uint8_t)*pattern++);
        }
    }
}

static struct auth_pattern *topic_compile(const char *pattern, const struct mqg_session *s,
                                          struct mqg_slice client_id)
{
    struct mqg_dynbuf text;
    struct mqg_error e;
    mqg_dynbuf_init(&text, TOPIC_EXPANDED_MAX_BYTES);
    topic_expand(&text, pattern, s, client_id);
    struct auth_pattern *p = text.failed
                                 ? NULL
                                 : auth_pattern_new(mqg_dynbuf_view(&text), &e); /* NULL matches nothing */
    mqg_dynbuf_fini(&text);
    return p;
}

static void topic_guard_clear(struct mqg_topic_guard *g)
{
    for (size_t i = 0; i < MQG_PERM_COUNT; i++)
        auth_pattern_free(&g->pattern[i]);
    g->limited = false;
}

static void topic_guard_fill(struct mqg_topic_guard *g, const struct mqg_session *s,
                             struct mqg_slice exchange, struct mqg_slice client_id)
{
    topic_guard_clear(g);
    auth_lock();
    g->generation = atomic_load(&topic_generation);
    const struct topic_row *r = *topic_find(mqg_vhost_name(s->vhost), mqg_slice_str(s->user), exchange);
    g->limited = r != NULL;
    if (r != NULL) {
        g->pattern[MQG_WRITE] = topic_compile(r->text[TOPIC_WRITE], s, client_id);
        g->pattern[MQG_READ] = topic_compile(r->text[TOPIC_READ], s, client_id);
    }
    auth_unlock();
}

bool mqg_topic_can(struct mqg_topic_guard **guard, const struct mqg_session *s, enum mqg_perm perm,
                   struct mqg_slice exchange, struct mqg_slice client_id, struct mqg_slice key)
{
    if (atomic_load_explicit(&topic_count, memory_order_relaxed) == 0)
        return true;
    if (*guard == NULL)
        *guard = mqg_xcalloc(1, sizeof **guard);
    struct mqg_topic_guard *g = *guard;
    if (g->generation != atomic_load_explicit(&topic_generation, memory_order_acquire))
        topic_guard_fill(g, s, exchange, client_id);
    return !g->limited || auth_pattern_match(g->pattern[perm], key);
}

void mqg_topic_guard_free(struct mqg_topic_guard **guard)
{
    if (*guard != NULL)
        topic_guard_clear(*guard);
    free(*guard);
    *guard = NULL;
}

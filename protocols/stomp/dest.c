/* dest.c - destinations as RabbitMQ's adapter has them.
 *
 *   /exchange/x[/key]   exchange x, routing key (or binding pattern)      /queue/q       queue q, made when it is not there
 *   /topic/key          exchange amq.topic                                /amq/queue/q   queue q, which must be there
 *   /temp-queue/name    reply-to only: a queue of this connection         /reply-queue/q the name of somebody's temporary queue
 *   q                   a name without slashes is a queue
 *
 * Between slashes a byte may be written %xx; a slash in a name must be. The rest behind /reply-queue/ is taken as it is. */
#include "dest.h"

#include <mqgate/msg.h>

static const struct {
    struct mqg_slice prefix;
    enum stomp_dest_kind kind;
} dest_prefixes[] = {
    {MQG_SLICE_INIT("/queue/"), STOMP_DEST_QUEUE},
    {MQG_SLICE_INIT("/topic/"), STOMP_DEST_TOPIC},
    {MQG_SLICE_INIT("/exchange/"), STOMP_DEST_EXCHANGE},
    {MQG_SLICE_INIT("/amq/queue/"), STOMP_DEST_AMQ_QUEUE},
    {MQG_SLICE_INIT("/temp-queue/"), STOMP_DEST_TEMP_QUEUE},
    {MQG_SLICE_INIT("/reply-queue/"), STOMP_DEST_REPLY_QUEUE},
};

const char *stomp_dest_word(enum stomp_dest_kind kind)
{
    static const char *const words[] = {"exchange", "queue",      "amq/queue",
                                        "topic",    "temp-queue", "reply-queue"};
    return words[kind];
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

static int dest_hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One part between slashes; false when a % is not followed by two digits. */
static bool dest_decode(struct mqg_slice in, struct mqg_arena *a, struct mqg_slice *out)
{
    *out = in;
    if (in.len == 0 || memchr(in.ptr, '%', in.len) == NULL)
        return true;
    uint8_t *to = mqg_arena_alloc(a, in.len);
    size_t n = 0;
    for (size_t i = 0; i < in.len && to != NULL; i++) {
        if (in.ptr[i] != '%') {
            to[n++] = in.ptr[i];
            continue;
        }
        int high = i + 2 < in.len ? dest_hex(in.ptr[i + 1]) : -1;
        int low = i + 2 < in.len ? dest_hex(in.ptr[i + 2]) : -1;
        if (high < 0 || low < 0)
            return false;
        to[n++] = (uint8_t)(high * 16 + low);
        i += 2;
    }
    *out = mqg_slice_of(to, n);
    return to != NULL;
}

static enum mqg_err dest_invalid(struct mqg_slice rest, enum stomp_dest_kind kind, struct mqg_error *e)
{
    return mqg_error_set(e, MQG_INVALID, 0, "'%.*s' is not a valid %s destination", MQG_SLICE_FMT(rest),
                         stomp_dest_word(kind));
}

static enum mqg_err dest_exchange(struct mqg_slice rest, struct mqg_arena *a, struct stomp_dest *out,
                                  struct mqg_error *e)
{
    const uint8_t *slash = rest.len > 0 ? memchr(rest.ptr, '/', rest.len) : NULL;
    struct mqg_slice name = mqg_slice_of(rest.ptr, slash != NULL ? (size_t)(slash - rest.ptr) : rest.len);
    struct mqg_slice key = slash != NULL ? mqg_slice_of(slash + 1, rest.len - name.len - 1) : MQG_SLICE_NONE;
    if (name.len == 0 || (key.len > 0 && memchr(key.ptr, '/', key.len) != NULL) ||
        !dest_decode(name, a, &out->exchange) || !dest_decode(key, a, &out->key))
        return dest_invalid(rest, STOMP_DEST_EXCHANGE, e);
    return MQG_OK;
}

static enum mqg_err dest_rest(struct mqg_slice rest, struct mqg_arena *a, struct stomp_dest *out,
                              struct mqg_error *e)
{
    if (out->kind == STOMP_DEST_EXCHANGE)
        return dest_exchange(rest, a, out, e);
    if (rest.len == 0)
        return dest_invalid(rest, out->kind, e);
    if (out->kind == STOMP_DEST_REPLY_QUEUE) {
        out->key = rest;
        return MQG_OK;
    }
    if (memchr(rest.ptr, '/', rest.len) != NULL || !dest_decode(rest, a, &out->key))
        return dest_invalid(rest, out->kind, e);
    if (out->kind == STOMP_DEST_TOPIC)
        out->exchange = MQG_SLICE_LIT("amq.topic");
    return MQG_OK;
}

enum mqg_err stomp_dest_read(struct mqg_slice in, struct mqg_arena *a, struct stomp_dest *out,
                             struct mqg_error *e)
{
    *out = (struct stomp_dest){.kind = STOMP_DEST_QUEUE};
    if (in.len > 0 && memchr(in.ptr, '/', in.len) == NULL)
        return dest_decode(in, a, &out->key) ? MQG_OK : dest_invalid(in, STOMP_DEST_QUEUE, e);
    for (size_t i = 0; i < MQG_COUNTOF(dest_prefixes); i++) {
        struct mqg_slice p = dest_prefixes[i].prefix;
        if (!mqg_slice_starts(in, p) && !mqg_slice_eq(in, mqg_slice_of(p.ptr, p.len - 1)))
            continue;
        size_t skip = in.len < p.len ? in.len : p.len;
        out->kind = dest_prefixes[i].kind;
        return dest_rest(mqg_slice_of(in.ptr + skip, in.len - skip), a, out, e);
    }
    return mqg_error_set(
        e, MQG_INVALID, 1,
        "'%.*s' is not a valid destination. Valid destination types are: /temp-queue, /exchange, "
        "/topic, /queue, /amq/queue, /reply-queue",
        MQG_SLICE_FMT(in));
}

/* ---- writing ------------------------------------------------------------------------------------------------------------- */

static void dest_encode(struct mqg_dynbuf *out, struct mqg_slice s)
{
    static const char digits[] = "0123456789ABCDEF";
    uint8_t *to = mqg_dynbuf_reserve(out, s.len * 3);
    if (to == NULL)
        return;
    uint8_t *at = to;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c != '/' && c != '%' && c >= 0x20 && c < 0x7f) {
            *at++ = c;
            continue;
        }
        *at++ = '%';
        *at++ = (uint8_t)digits[c >> 4];
        *at++ = (uint8_t)digits[c & 15];
    }
    out->len += (size_t)(at - to);
}

static void dest_encode_key(struct mqg_dynbuf *out, struct mqg_slice key, char sep)
{
    if (sep == '.') {
        dest_encode(out, key);
        return;
    }
    struct mqg_dynbuf dotted;
    mqg_dynbuf_init(&dotted, out->max);
    mqg_key_render(&dotted, key, sep, '.');
    dest_encode(out, mqg_dynbuf_view(&dotted));
    mqg_dynbuf_fini(&dotted);
}

void stomp_dest_write(struct mqg_dynbuf *out, struct mqg_slice exchange, struct mqg_slice key, char sep)
{
    if (exchange.len == 0) {
        mqg_dynbuf_slice(out, MQG_SLICE_LIT("/queue/"));
    } else if (mqg_slice_eq(exchange, MQG_SLICE_LIT("amq.topic"))) {
        mqg_dynbuf_slice(out, MQG_SLICE_LIT("/topic/"));
    } else {
        mqg_dynbuf_slice(out, MQG_SLICE_LIT("/exchange/"));
        dest_encode(out, exchange);
        if (key.len == 0)
            return;
        mqg_dynbuf_slice(out, MQG_SLICE_LIT("/"));
    }
    dest_encode_key(out, key, sep);
}

/* queue_args.c - what the arguments of a queue say, checked as RabbitMQ 3.10 checks them.
 *
 * The passes and the table stand in the order that decides which of several mistakes a client is told: the
 * dead letter exchange's type, the queue type, arguments that the queue type does not know, every argument's
 * type and value, properties that a quorum queue cannot have. Unknown arguments are kept and listed, never
 * refused, because applications carry their own; so are the ones that stand for features of a cluster
 * (ha-mode, x-queue-mode...). Texts quote Erlang terms: clients' tests compare them. */
#include "queue_args.h"

#include "names.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    ARGS_PRIORITY_MAX = 255,
    ARGS_QUORUM_DELIVERY_LIMIT = 20,
    ARGS_PARTITIONS_MAX = 10000,
    ARGS_BRIDGE_MAX = 3
};
#define ARGS_SEGMENT_MAX_BYTES UINT64_C(3000000000)
#define ARGS_EXPIRY_MAX_MS     UINT64_C(315360000000) /* ten years */

/* Who asks, for the texts. */
struct args_check {
    const struct mqg_queue_def *def;
    struct mqg_slice vhost;
    struct queue_opts *opts;
    struct mqg_error *e;
    const char *name; /* the argument being looked at */
};

enum args_types { ARGS_CLASSIC = 1, ARGS_QUORUM = 2, ARGS_STREAM = 4, ARGS_ALL = 7 };

struct args_row {
    const char *name;
    unsigned types; /* the queue types that know it */
    enum mqg_err (*check)(struct args_check *c, const struct mqg_value *v);
};

static enum mqg_err args_refuse(struct args_check *c, const char *how)
{
    return mqg_error_set(c->e, MQG_INVALID, 406, "invalid arg '%s' for queue '%.*s' in vhost '%.*s': %s",
                         c->name, MQG_SLICE_FMT(c->def->name), MQG_SLICE_FMT(c->vhost), how);
}

static enum mqg_err args_refuse_type(struct args_check *c, const struct mqg_value *v)
{
    char how[64];
    snprintf(how, sizeof how, "{unacceptable_type,%s}", names_value_type(v->type));
    return args_refuse(c, how);
}

static enum mqg_err args_refuse_number(struct args_check *c, const char *word, int64_t n)
{
    char how[64];
    snprintf(how, sizeof how, "{%s,%" PRId64 "}", word, n);
    return args_refuse(c, how);
}

static enum mqg_err args_refuse_word(struct args_check *c, const char *what, struct mqg_slice word)
{
    char how[320];
    snprintf(how, sizeof how, "\"unsupported %s '%.*s'\"", what, MQG_SLICE_FMT(word));
    return args_refuse(c, how);
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

static bool args_is_integer(const struct mqg_value *v)
{
    return v->type >= MQG_VALUE_INT8 && v->type <= MQG_VALUE_UINT64;
}

static enum mqg_err args_integer(struct args_check *c, const struct mqg_value *v, int64_t *out)
{
    if (args_is_integer(v)) {
        if (!mqg_value_int(v, out))
            *out = INT64_MAX; /* an unsigned 64-bit number beyond any limit here */
        return MQG_OK;
    }
    char how[64];
    snprintf(how, sizeof how, "\"expected integer, got %s\"", names_value_type(v->type));
    return args_refuse(c, how);
}

static enum mqg_err args_not_negative(struct args_check *c, const struct mqg_value *v, uint64_t *out)
{
    int64_t n = 0;
    enum mqg_err err = args_integer(c, v, &n);
    if (err == MQG_OK && n < 0)
        err = args_refuse_number(c, "value_negative", n);
    if (err == MQG_OK)
        *out = (uint64_t)n;
    return err;
}

static enum mqg_err args_duration(struct args_check *c, const struct mqg_value *v, uint64_t *out)
{
    uint64_t ms = 0;
    enum mqg_err err = args_not_negative(c, v, &ms);
    if (err == MQG_OK && ms > ARGS_EXPIRY_MAX_MS)
        err = args_refuse_number(c, "value_too_large", (int64_t)ms);
    if (err == MQG_OK)
        *out = ms;
    return err;
}

static enum mqg_err args_expires(struct args_check *c, const struct mqg_value *v)
{
    uint64_t ms = 0;
    enum mqg_err err = args_duration(c, v, &ms);
    if (err == MQG_OK && ms == 0)
        err = args_refuse_number(c, "value_zero", 0);
    if (err == MQG_OK)
        c->opts->expires_ms = ms;
    return err;
}

static enum mqg_err args_message_ttl(struct args_check *c, const struct mqg_value *v)
{
    return args_duration(c, v, &c->opts->ttl_ms);
}

static enum mqg_err args_max_length(struct args_check *c, const struct mqg_value *v)
{
    return args_not_negative(c, v, &c->opts->max_length);
}

static enum mqg_err args_max_bytes(struct args_check *c, const struct mqg_value *v)
{
    return args_not_negative(c, v, &c->opts->max_bytes);
}

static enum mqg_err args_no_effect_number(struct args_check *c, const struct mqg_value *v)
{
    uint64_t unused = 0;
    return args_not_negative(c, v, &unused);
}

static enum mqg_err args_group_size(struct args_check *c, const struct mqg_value *v)
{
    uint64_t n = 0;
    enum mqg_err err = args_not_negative(c, v, &n);
    return err == MQG_OK && n == 0 ? args_refuse_number(c, "value_zero", 0) : err;
}

static enum mqg_err args_max_priority(struct args_check *c, const struct mqg_value *v)
{
    uint64_t n = 0;
    enum mqg_err err = args_not_negative(c, v, &n);
    if (err == MQG_OK && n > ARGS_PRIORITY_MAX)
        err = args_refuse_number(c, "max_value_exceeded", (int64_t)n);
    if (err == MQG_OK)
        c->opts->max_priority = (uint8_t)n;
    return err;
}

/* RabbitMQ takes anything here and then ignores what is no number; a limit that is silently none is refused
 * instead. */
static enum mqg_err args_delivery_limit(struct args_check *c, const struct mqg_value *v)
{
    uint64_t n = 0;
    enum mqg_err err = args_not_negative(c, v, &n);
    if (err == MQG_OK)
        c->opts->delivery_limit = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    return err;
}

static enum mqg_err args_queue_version(struct args_check *c, const struct mqg_value *v)
{
    int64_t n = 0;
    enum mqg_err err = args_integer(c, v, &n);
    if (err != MQG_OK || n == 1 || n == 2)
        return err;
    char how[64];
    snprintf(how, sizeof how, "\"unsupported queue version '%" PRId64 "'\"", n);
    return args_refuse(c, how);
}

/* ---- words --------------------------------------------------------------------------------------------- */

static bool args_is(const struct mqg_value *v, const char *word)
{
    return mqg_slice_eq(v->bytes, mqg_slice_str(word));
}

static enum mqg_err args_dlx(struct args_check *c, const struct mqg_value *v)
{
    if (v->type != MQG_VALUE_STRING)
        return args_refuse_type(c, v);
    c->opts->has_dlx = true;
    c->opts->dlx = v->bytes;
    return MQG_OK;
}

static enum mqg_err args_dlk(struct args_check *c, const struct mqg_value *v)
{
    if (v->type != MQG_VALUE_STRING)
        return args_refuse_type(c, v);
    if (mqg_table_get(&c->def->args, MQG_SLICE_LIT("x-dead-letter-exchange")) == NULL)
        return args_refuse(c, "routing_key_but_no_dlx_defined");
    c->opts->has_dlk = true;
    c->opts->dlk = v->bytes;
    return MQG_OK;
}

static enum mqg_err args_dlx_strategy(struct args_check *c, const struct mqg_value *v)
{
    if (v->type != MQG_VALUE_STRING)
        return args_refuse_type(c, v);
    return args_is(v, "at-most-once") || args_is(v, "at-least-once") ? MQG_OK
                                                                     : args_refuse(c, "invalid_dlx_strategy");
}

static enum mqg_err args_overflow(struct args_check *c, const struct mqg_value *v)
{
    static const char *const words[] = {[QUEUE_DROP_HEAD] = "drop-head",
                                        [QUEUE_REJECT_PUBLISH] = "reject-publish",
                                        [QUEUE_REJECT_PUBLISH_DLX] = "reject-publish-dlx"};
    if (v->type != MQG_VALUE_STRING)
        return args_refuse_type(c, v);
    for (unsigned i = 0; i < MQG_COUNTOF(words); i++) {
        if (args_is(v, words[i])) {
            c->opts->overflow = (enum queue_overflow)i;
            return MQG_OK;
        }
    }
    return args_refuse(c, "invalid_overflow");
}

static enum mqg_err args_queue_mode(struct args_check *c, const struct mqg_value *v)
{
    if (v->type != MQG_VALUE_STRING)
        return args_refuse_type(c, v);
    return args_is(v, "default") || args_is(v, "lazy") ? MQG_OK : args_refuse_word(c, "queue mode", v->bytes);
}

static enum mqg_err args_leader_locator(struct args_check *c, const struct mqg_value *v)
{
    if (v->type != MQG_VALUE_STRING)
        return args_refuse_type(c, v);
    bool known = args_is(v, "client-local") || args_is(v, "random") || args_is(v, "least-leaders") ||
                 args_is(v, "balanced");
    return known ? MQG_OK : args_refuse(c, "invalid_queue_locator_arg");
}

static enum mqg_err args_single_active(struct args_check *c, const struct mqg_value *v)
{
    if (v->type != MQG_VALUE_BOOL)
        return args_refuse_type(c, v);
    c->opts->single_active = v->boolean;
    return MQG_OK;
}

static enum mqg_err args_queue_type(struct args_check *c, const struct mqg_value *v)
{
    if (v->type != MQG_VALUE_STRING)
        return args_refuse_type(c, v);
    if (!args_is(v, "classic") && !args_is(v, "quorum") && !args_is(v, "stream"))
        return args_refuse_word(c, "queue type", v->bytes);
    c->opts->type = args_is(v, "quorum") ? QUEUE_QUORUM : args_is(v, "stream") ? QUEUE_STREAM : QUEUE_CLASSIC;
    c->opts->partitions = c->opts->type == QUEUE_STREAM ? 1 : 0;
    if (c->opts->type == QUEUE_QUORUM)
        c->opts->delivery_limit = ARGS_QUORUM_DELIVERY_LIMIT;
    return MQG_OK;
}

/* ---- streams ------------------------------------------------------------------------------------------- */

bool queue_args_age(struct mqg_slice text, uint64_t *ms)
{
    static const struct {
        char letter;
        uint64_t ms;
    } units[] = {{'s', 1000},
                 {'m', 60000},
                 {'h', 3600000},
                 {'D', 86400000},
                 {'M', UINT64_C(30) * 86400000},
                 {'Y', UINT64_C(365) * 86400000}};
    uint64_t n = 0;
    size_t at = 0;
    for (; at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9' && n < UINT32_MAX; at++)
        n = n * 10 + (uint64_t)(text.ptr[at] - '0');
    if (n == 0 || at + 1 != text.len)
        return false;
    for (size_t i = 0; i < MQG_COUNTOF(units); i++) {
        if ((uint8_t)units[i].letter != text.ptr[at])
            continue;
        *ms = n > UINT64_MAX / 2 / units[i].ms ? UINT64_MAX / 2 : n * units[i].ms;
        return true;
    }
    return false;
}

static enum mqg_err args_max_age(struct args_check *c, const struct mqg_value *v)
{
    if (v->type != MQG_VALUE_STRING)
        return args_refuse_type(c, v);
    return queue_args_age(v->bytes, &c->opts->stream.retention_ms) ? MQG_OK
                                                                   : args_refuse(c, "invalid_max_age");
}

static enum mqg_err args_segment_bytes(struct args_check *c, const struct mqg_value *v)
{
    return args_not_negative(c, v, &c->opts->stream.segment_bytes);
}

/* Ours: what a topic's configuration may say beyond the arguments of RabbitMQ. */
static const struct args_stream {
    const char *name;
    size_t offset;
} args_streams[] = {
    {"x-mqgate-retention-ms", offsetof(struct mqg_stream_conf, retention_ms)},
    {"x-mqgate-segment-ms", offsetof(struct mqg_stream_conf, segment_ms)},
    {"x-mqgate-compact-lag-min-ms", offsetof(struct mqg_stream_conf, compact_lag_min_ms)},
    {"x-mqgate-compact-lag-max-ms", offsetof(struct mqg_stream_conf, compact_lag_max_ms)},
    {"x-mqgate-tombstone-ms", offsetof(struct mqg_stream_conf, tombstone_ms)},
};

static enum mqg_err args_stream_number(struct args_check *c, const struct mqg_value *v)
{
    size_t i = 0;
    while (strcmp(args_streams[i].name, c->name) != 0)
        i++;
    return args_not_negative(c, v, (uint64_t *)(void *)((char *)&c->opts->stream + args_streams[i].offset));
}

static enum mqg_err args_cleanup(struct args_check *c, const struct mqg_value *v)
{
    uint64_t bits = 0;
    enum mqg_err err = args_not_negative(c, v, &bits);
    if (err == MQG_OK && bits > (MQG_CLEANUP_DELETE | MQG_CLEANUP_COMPACT))
        err = args_refuse_number(c, "max_value_exceeded", (int64_t)bits);
    if (err == MQG_OK)
        c->opts->stream.cleanup = (uint32_t)bits;
    return err;
}

static enum mqg_err args_bridge(struct args_check *c, const struct mqg_value *v)
{
    uint64_t bits = 0;
    enum mqg_err err = args_not_negative(c, v, &bits);
    if (err == MQG_OK && bits > ARGS_BRIDGE_MAX)
        err = args_refuse_number(c, "max_value_exceeded", (int64_t)bits);
    if (err == MQG_OK)
        c->opts->stream.bridge = (uint32_t)bits;
    return err;
}

static enum mqg_err args_partitions(struct args_check *c, const struct mqg_value *v)
{
    uint64_t n = 0;
    enum mqg_err err = args_not_negative(c, v, &n);
    if (err == MQG_OK && (n == 0 || n > ARGS_PARTITIONS_MAX))
        err = args_refuse_number(c, n == 0 ? "value_zero" : "max_value_exceeded", (int64_t)n);
    if (err == MQG_OK)
        c->opts->partitions = (uint32_t)n;
    return err;
}

static enum mqg_err args_segment_limit(struct args_check *c)
{
    if (c->opts->type != QUEUE_STREAM || c->opts->stream.segment_bytes <= ARGS_SEGMENT_MAX_BYTES)
        return MQG_OK;
    return mqg_error_set(c->e, MQG_INVALID, 406, "Exceeded max value for x-stream-max-segment-size-bytes");
}

/* ---- the table ----------------------------------------------------------------------------------------- */

/* In RabbitMQ's order, ours behind. */
static const struct args_row args_rows[] = {
    {"x-expires", ARGS_CLASSIC | ARGS_QUORUM, args_expires},
    {"x-message-ttl", ARGS_CLASSIC | ARGS_QUORUM, args_message_ttl},
    {"x-dead-letter-exchange", ARGS_CLASSIC | ARGS_QUORUM, args_dlx},
    {"x-dead-letter-routing-key", ARGS_CLASSIC | ARGS_QUORUM, args_dlk},
    {"x-dead-letter-strategy", ARGS_QUORUM, args_dlx_strategy},
    {"x-max-length", ARGS_CLASSIC | ARGS_QUORUM, args_max_length},
    {"x-max-length-bytes", ARGS_ALL, args_max_bytes},
    {"x-max-in-memory-length", ARGS_QUORUM, args_no_effect_number},
    {"x-max-in-memory-bytes", ARGS_QUORUM, args_no_effect_number},
    {"x-max-priority", ARGS_CLASSIC, args_max_priority},
    {"x-overflow", ARGS_CLASSIC | ARGS_QUORUM, args_overflow},
    {"x-queue-mode", ARGS_CLASSIC, args_queue_mode},
    {"x-queue-version", ARGS_CLASSIC, args_queue_version},
    {"x-single-active-consumer", ARGS_CLASSIC | ARGS_QUORUM, args_single_active},
    {"x-queue-type", ARGS_ALL, NULL}, /* read before all others */
    {"x-quorum-initial-group-size", ARGS_QUORUM, args_group_size},
    {"x-max-age", ARGS_STREAM, args_max_age},
    {"x-stream-max-segment-size-bytes", ARGS_STREAM, args_segment_bytes},
    {"x-initial-cluster-size", ARGS_STREAM, args_group_size},
    {"x-queue-leader-locator", ARGS_QUORUM | ARGS_STREAM, args_leader_locator},
    {"x-delivery-limit", ARGS_QUORUM, args_delivery_limit},
    {"x-mqgate-partitions", ARGS_STREAM, args_partitions},
    {"x-mqgate-cleanup", ARGS_STREAM, args_cleanup},
    {"x-mqgate-bridge", ARGS_STREAM, args_bridge},
    {"x-mqgate-retention-ms", ARGS_STREAM, args_stream_number},
    {"x-mqgate-segment-ms", ARGS_STREAM, args_stream_number},
    {"x-mqgate-compact-lag-min-ms", ARGS_STREAM, args_stream_number},
    {"x-mqgate-compact-lag-max-ms", ARGS_STREAM, args_stream_number},
    {"x-mqgate-tombstone-ms", ARGS_STREAM, args_stream_number},
};

static enum mqg_err args_values(struct args_check *c)
{
    for (size_t i = 0; i < MQG_COUNTOF(args_rows); i++) {
        const struct args_row *row = &args_rows[i];
        const struct mqg_value *v = mqg_table_get(&c->def->args, mqg_slice_str(row->name));
        if (v == NULL || row->check == NULL)
            continue;
        c->name = row->name;
        enum mqg_err err = row->check(c, v);
        if (err != MQG_OK)
            return err;
    }
    return MQG_OK;
}

static const char *args_type_word(const struct args_check *c)
{
    return c->opts->type == QUEUE_STREAM   ? "rabbit_stream_queue"
           : c->opts->type == QUEUE_QUORUM ? "rabbit_quorum_queue"
                                           : "rabbit_classic_queue";
}

static enum mqg_err args_type(struct args_check *c)
{
    c->name = "x-queue-type";
    const struct mqg_value *v = mqg_table_get(&c->def->args, mqg_slice_str(c->name));
    return v != NULL ? args_queue_type(c, v) : MQG_OK;
}

static unsigned args_type_bit(const struct queue_opts *opts)
{
    return opts->type == QUEUE_STREAM ? ARGS_STREAM : opts->type == QUEUE_QUORUM ? ARGS_QUORUM : ARGS_CLASSIC;
}

static enum mqg_err args_known_to_type(struct args_check *c)
{
    unsigned bit = args_type_bit(c->opts);
    for (size_t i = 0; i < MQG_COUNTOF(args_rows); i++) {
        const struct args_row *row = &args_rows[i];
        if ((row->types & bit) == 0 && mqg_table_get(&c->def->args, mqg_slice_str(row->name)) != NULL)
            return mqg_error_set(
                c->e, MQG_INVALID, 406, "invalid arg '%s' for queue '%.*s' in vhost '%.*s' of queue type %s",
                row->name, MQG_SLICE_FMT(c->def->name), MQG_SLICE_FMT(c->vhost), args_type_word(c));
    }
    return MQG_OK;
}

static enum mqg_err args_properties(struct args_check *c)
{
    const struct mqg_queue_def *d = c->def;
    if (c->opts->type == QUEUE_CLASSIC)
        return MQG_OK;
    const char *what = d->auto_delete ? "auto-delete"
                       : d->exclusive ? "exclusive-owner"
                       : !d->durable  ? "non-durable"
                                      : NULL;
    if (what == NULL)
        return MQG_OK;
    return mqg_error_set(c->e, MQG_INVALID, 406, "invalid property '%s' for queue '%.*s' in vhost '%.*s'",
                         what, MQG_SLICE_FMT(d->name), MQG_SLICE_FMT(c->vhost));
}

static enum mqg_err args_dlx_type(struct args_check *c)
{
    const struct mqg_value *v = mqg_table_get(&c->def->args, MQG_SLICE_LIT("x-dead-letter-exchange"));
    if (v == NULL || v->type == MQG_VALUE_STRING)
        return MQG_OK;
    return mqg_error_set(c->e, MQG_INVALID, 406,
                         "invalid type '%s' for arg 'x-dead-letter-exchange' in queue '%.*s' in vhost '%.*s'",
                         names_value_type(v->type), MQG_SLICE_FMT(c->def->name), MQG_SLICE_FMT(c->vhost));
}

enum mqg_err queue_opts_parse(const struct mqg_queue_def *d, struct mqg_slice vhost, struct queue_opts *out,
                              struct mqg_error *e)
{
    *out = (struct queue_opts){.ttl_ms = UINT64_MAX,
                               .delivery_limit = UINT32_MAX,
                               .expires_ms = UINT64_MAX,
                               .max_length = UINT64_MAX,
                               .max_bytes = UINT64_MAX,
                               .overflow = QUEUE_DROP_HEAD};
    struct args_check c = {.def = d, .vhost = vhost, .opts = out, .e = e};
    enum mqg_err err = args_dlx_type(&c);
    if (err == MQG_OK)
        err = args_type(&c);
    if (err == MQG_OK)
        err = args_known_to_type(&c);
    if (err == MQG_OK)
        err = args_values(&c);
    if (err == MQG_OK)
        err = args_properties(&c);
    if (err == MQG_OK)
        err = args_segment_limit(&c);
    return err;
}

const char *queue_args_compared(const struct queue_opts *opts, size_t i)
{
    unsigned bit = args_type_bit(opts);
    for (size_t at = 0; at < MQG_COUNTOF(args_rows); at++)
        if ((args_rows[at].types & bit) != 0 && i-- == 0)
            return args_rows[at].name;
    return NULL;
}

/* queue_args_test.c - arguments of queues, valid and invalid, with RabbitMQ's texts. */
#include "queue_args.h"

#include "../core/base/test_kit.h"

enum type { NONE, INT, LONG, STR, BOOL, VOID, DEC, ARR, TAB, DBL, U64 };

struct arg {
    const char *name;
    enum type type;
    int64_t number;
    const char *text;
};

enum { DURABLE = 1, EXCLUSIVE = 2, AUTO_DELETE = 4 };

static struct mqg_value value(const struct arg *a)
{
    switch (a->type) {
    case INT: return (struct mqg_value){.type = MQG_VALUE_INT32, .i = a->number};
    case LONG: return (struct mqg_value){.type = MQG_VALUE_INT64, .i = a->number};
    case U64: return (struct mqg_value){.type = MQG_VALUE_UINT64, .u = (uint64_t)a->number};
    case STR: return (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = mqg_slice_str(a->text)};
    case BOOL: return (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = a->number != 0};
    case DEC: return (struct mqg_value){.type = MQG_VALUE_DECIMAL, .dec = {0, 5}};
    case ARR: return (struct mqg_value){.type = MQG_VALUE_ARRAY};
    case TAB: return (struct mqg_value){.type = MQG_VALUE_TABLE};
    case DBL: return (struct mqg_value){.type = MQG_VALUE_DOUBLE, .d = 10.0};
    default: return (struct mqg_value){.type = MQG_VALUE_NULL};
    }
}

static enum mqg_err parse(const struct arg args[4], unsigned properties, struct queue_opts *out,
                          struct mqg_error *e)
{
    struct mqg_field fields[4];
    struct mqg_queue_def d = {.name = MQG_SLICE_LIT("q"),
                              .durable = properties & DURABLE,
                              .exclusive = properties & EXCLUSIVE,
                              .auto_delete = properties & AUTO_DELETE,
                              .args = {fields, 0, 4}};
    for (size_t i = 0; i < 4 && args[i].type != NONE; i++)
        fields[d.args.n++] = (struct mqg_field){mqg_slice_str(args[i].name), value(&args[i])};
    return queue_opts_parse(&d, MQG_SLICE_LIT("/"), out, e);
}

#define Q        "queue 'q' in vhost '/'"
#define BAD(arg) "invalid arg '" arg "' for " Q ": "
#define STREAM                           \
    {                                    \
        "x-queue-type", STR, 0, "stream" \
    }
#define QUORUM                           \
    {                                    \
        "x-queue-type", STR, 0, "quorum" \
    }

static const struct {
    struct arg args[4];
    unsigned properties;
    const char *text;
} refused[] = {
    {{{"x-message-ttl", STR, 0, "abc"}}, 0, BAD("x-message-ttl") "\"expected integer, got longstr\""},
    {{{"x-message-ttl", INT, -1, 0}}, 0, BAD("x-message-ttl") "{value_negative,-1}"},
    {{{"x-message-ttl", BOOL, 1, 0}}, 0, BAD("x-message-ttl") "\"expected integer, got bool\""},
    {{{"x-message-ttl", DEC, 0, 0}}, 0, BAD("x-message-ttl") "\"expected integer, got decimal\""},
    {{{"x-message-ttl", ARR, 0, 0}}, 0, BAD("x-message-ttl") "\"expected integer, got array\""},
    {{{"x-message-ttl", TAB, 0, 0}}, 0, BAD("x-message-ttl") "\"expected integer, got table\""},
    {{{"x-message-ttl", DBL, 0, 0}}, 0, BAD("x-message-ttl") "\"expected integer, got double\""},
    {{{"x-message-ttl", LONG, 315360000001, 0}}, 0, BAD("x-message-ttl") "{value_too_large,315360000001}"},
    {{{"x-message-ttl", U64, -1, 0}}, 0, BAD("x-message-ttl") "{value_too_large,9223372036854775807}"},
    {{{"x-expires", INT, 0, 0}}, 0, BAD("x-expires") "{value_zero,0}"},
    {{{"x-expires", INT, -5, 0}}, 0, BAD("x-expires") "{value_negative,-5}"},
    {{{"x-expires", STR, 0, "1"}}, 0, BAD("x-expires") "\"expected integer, got longstr\""},
    {{{"x-expires", VOID, 0, 0}}, 0, BAD("x-expires") "\"expected integer, got void\""},
    {{{"x-expires", LONG, 400000000000, 0}}, 0, BAD("x-expires") "{value_too_large,400000000000}"},
    {{{"x-max-length", INT, -1, 0}}, 0, BAD("x-max-length") "{value_negative,-1}"},
    {{{"x-max-length", STR, 0, "x"}}, 0, BAD("x-max-length") "\"expected integer, got longstr\""},
    {{{"x-max-length-bytes", INT, -1, 0}}, 0, BAD("x-max-length-bytes") "{value_negative,-1}"},
    {{{"x-max-priority", INT, -1, 0}}, 0, BAD("x-max-priority") "{value_negative,-1}"},
    {{{"x-max-priority", INT, 256, 0}}, 0, BAD("x-max-priority") "{max_value_exceeded,256}"},
    {{{"x-max-priority", STR, 0, "9"}}, 0, BAD("x-max-priority") "\"expected integer, got longstr\""},
    {{{"x-overflow", STR, 0, "explode"}}, 0, BAD("x-overflow") "invalid_overflow"},
    {{{"x-overflow", INT, 3, 0}}, 0, BAD("x-overflow") "{unacceptable_type,signedint}"},
    {{{"x-dead-letter-exchange", INT, 3, 0}},
     0,
     "invalid type 'signedint' for arg 'x-dead-letter-exchange' in " Q},
    {{{"x-dead-letter-routing-key", STR, 0, "k"}},
     0,
     BAD("x-dead-letter-routing-key") "routing_key_but_no_dlx_defined"},
    {{{"x-dead-letter-routing-key", INT, 4, 0}},
     0,
     BAD("x-dead-letter-routing-key") "{unacceptable_type,signedint}"},
    {{{"x-queue-mode", STR, 0, "odd"}}, 0, BAD("x-queue-mode") "\"unsupported queue mode 'odd'\""},
    {{{"x-queue-mode", INT, 3, 0}}, 0, BAD("x-queue-mode") "{unacceptable_type,signedint}"},
    {{{"x-queue-version", INT, 3, 0}}, 0, BAD("x-queue-version") "\"unsupported queue version '3'\""},
    {{{"x-queue-version", STR, 0, "a"}}, 0, BAD("x-queue-version") "\"expected integer, got longstr\""},
    {{{"x-queue-type", STR, 0, "bogus"}}, 0, BAD("x-queue-type") "\"unsupported queue type 'bogus'\""},
    {{{"x-queue-type", INT, 3, 0}}, 0, BAD("x-queue-type") "{unacceptable_type,signedint}"},
    {{STREAM}, 0, "invalid property 'non-durable' for " Q},
    {{STREAM}, DURABLE | EXCLUSIVE, "invalid property 'exclusive-owner' for " Q},
    {{STREAM, {"x-expires", INT, 1, 0}},
     DURABLE,
     "invalid arg 'x-expires' for " Q " of queue type rabbit_stream_queue"},
    {{STREAM, {"x-max-age", STR, 0, "1w"}}, DURABLE, BAD("x-max-age") "invalid_max_age"},
    {{STREAM, {"x-max-age", STR, 0, "h"}}, DURABLE, BAD("x-max-age") "invalid_max_age"},
    {{STREAM, {"x-max-age", STR, 0, "1hh"}}, DURABLE, BAD("x-max-age") "invalid_max_age"},
    {{STREAM, {"x-stream-max-segment-size-bytes", LONG, INT64_C(3000000001), 0}},
     DURABLE,
     "Exceeded max value for x-stream-max-segment-size-bytes"},
    {{STREAM, {"x-mqgate-partitions", INT, 0, 0}}, DURABLE, BAD("x-mqgate-partitions") "{value_zero,0}"},
    {{STREAM, {"x-mqgate-partitions", INT, 10001, 0}},
     DURABLE,
     BAD("x-mqgate-partitions") "{max_value_exceeded,10001}"},
    {{{"x-single-active-consumer", STR, 0, "yes"}},
     0,
     BAD("x-single-active-consumer") "{unacceptable_type,longstr}"},
    /* not for this type */
    {{{"x-delivery-limit", INT, 5, 0}},
     0,
     "invalid arg 'x-delivery-limit' for " Q " of queue type rabbit_classic_queue"},
    {{{"x-dead-letter-strategy", STR, 0, "zz"}},
     0,
     "invalid arg 'x-dead-letter-strategy' for " Q " of queue type rabbit_classic_queue"},
    {{{"x-max-age", STR, 0, "1h"}},
     0,
     "invalid arg 'x-max-age' for " Q " of queue type rabbit_classic_queue"},
    {{QUORUM, {"x-max-age", STR, 0, "1h"}},
     DURABLE,
     "invalid arg 'x-max-age' for " Q " of queue type rabbit_quorum_queue"},
    {{QUORUM, {"x-max-priority", STR, 0, "a"}},
     DURABLE,
     "invalid arg 'x-max-priority' for " Q " of queue type rabbit_quorum_queue"},
    {{QUORUM, {"x-queue-mode", STR, 0, "lazy"}},
     DURABLE,
     "invalid arg 'x-queue-mode' for " Q " of queue type rabbit_quorum_queue"},
    {{QUORUM, {"x-queue-leader-locator", STR, 0, "foo"}},
     DURABLE,
     BAD("x-queue-leader-locator") "invalid_queue_locator_arg"},
    {{QUORUM, {"x-dead-letter-strategy", STR, 0, "some"}},
     DURABLE,
     BAD("x-dead-letter-strategy") "invalid_dlx_strategy"},
    {{QUORUM, {"x-quorum-initial-group-size", INT, 0, 0}},
     DURABLE,
     BAD("x-quorum-initial-group-size") "{value_zero,0}"},
    {{QUORUM, {"x-max-in-memory-bytes", INT, -1, 0}},
     DURABLE,
     BAD("x-max-in-memory-bytes") "{value_negative,-1}"},
    {{QUORUM, {"x-delivery-limit", INT, -1, 0}}, DURABLE, BAD("x-delivery-limit") "{value_negative,-1}"},
    /* properties of a quorum queue */
    {{QUORUM}, 0, "invalid property 'non-durable' for " Q},
    {{QUORUM}, DURABLE | EXCLUSIVE, "invalid property 'exclusive-owner' for " Q},
    {{QUORUM}, DURABLE | AUTO_DELETE, "invalid property 'auto-delete' for " Q},
    {{QUORUM}, EXCLUSIVE | AUTO_DELETE, "invalid property 'auto-delete' for " Q},
    /* which of two */
    {{{"x-max-length", INT, -1, 0}, {"x-expires", INT, 0, 0}, {"x-message-ttl", STR, 0, "a"}},
     0,
     BAD("x-expires") "{value_zero,0}"},
    {{{"x-message-ttl", STR, 0, "a"}, {"x-dead-letter-exchange", INT, 3, 0}},
     0,
     "invalid type 'signedint' for arg 'x-dead-letter-exchange' in " Q},
    {{{"x-expires", INT, 0, 0}, {"x-queue-type", STR, 0, "bogus"}},
     0,
     BAD("x-queue-type") "\"unsupported queue type 'bogus'\""},
    {{QUORUM, {"x-expires", INT, 0, 0}}, 0, BAD("x-expires") "{value_zero,0}"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(refused); i++) {
        struct queue_opts opts;
        struct mqg_error e = {.err = MQG_OK};
        assert_int_equal(parse(refused[i].args, refused[i].properties, &opts, &e), MQG_INVALID);
        assert_string_equal(e.text, refused[i].text);
        assert_int_equal(e.code, 406);
    }
}

static void test_absent(void **state)
{
    (void)state;
    struct queue_opts o;
    const struct arg none[4] = {{0}};
    assert_int_equal(parse(none, 0, &o, NULL), MQG_OK);
    assert_true(o.type == QUEUE_CLASSIC && o.overflow == QUEUE_DROP_HEAD && !o.has_dlx && !o.has_dlk &&
                !o.single_active);
    assert_true(o.ttl_ms == UINT64_MAX && o.expires_ms == UINT64_MAX && o.max_length == UINT64_MAX &&
                o.max_bytes == UINT64_MAX);
    assert_true(o.max_priority == 0 && o.delivery_limit == UINT32_MAX);
}

static void test_values(void **state)
{
    (void)state;
    struct queue_opts o;
    const struct arg limits[4] = {{"x-message-ttl", LONG, 315360000000, 0},
                                  {"x-expires", INT, 1, 0},
                                  {"x-max-length", INT, 0, 0},
                                  {"x-max-length-bytes", LONG, INT64_MAX, 0}};
    assert_int_equal(parse(limits, 0, &o, NULL), MQG_OK);
    assert_true(o.ttl_ms == UINT64_C(315360000000) && o.expires_ms == 1 && o.max_length == 0 &&
                o.max_bytes == INT64_MAX);
    const struct arg dead[4] = {{"x-dead-letter-exchange", STR, 0, ""},
                                {"x-dead-letter-routing-key", STR, 0, "k"},
                                {"x-overflow", STR, 0, "reject-publish-dlx"},
                                {"x-max-priority", INT, 255, 0}};
    assert_int_equal(parse(dead, 0, &o, NULL), MQG_OK);
    assert_true(o.has_dlx && o.dlx.len == 0 && o.has_dlk && mqg_slice_eq(o.dlk, MQG_SLICE_LIT("k")));
    assert_true(o.overflow == QUEUE_REJECT_PUBLISH_DLX && o.max_priority == 255);
    const struct arg quorum[4] = {QUORUM, {"x-single-active-consumer", BOOL, 1, 0}};
    assert_int_equal(parse(quorum, DURABLE, &o, NULL), MQG_OK);
    assert_true(o.type == QUEUE_QUORUM && o.delivery_limit == 20 && o.single_active);
    const struct arg stream[4] = {STREAM,
                                  {"x-max-age", STR, 0, "2D"},
                                  {"x-max-length-bytes", INT, 100, 0},
                                  {"x-mqgate-partitions", INT, 12, 0}};
    assert_int_equal(parse(stream, DURABLE, &o, NULL), MQG_OK);
    assert_true(o.type == QUEUE_STREAM && o.stream.retention_ms == 172800000 && o.max_bytes == 100 &&
                o.partitions == 12);
    const struct arg limited[4] = {
        QUORUM, {"x-delivery-limit", INT, 3, 0}, {"x-overflow", STR, 0, "reject-publish"}};
    assert_int_equal(parse(limited, DURABLE, &o, NULL), MQG_OK);
    assert_true(o.delivery_limit == 3 && o.overflow == QUEUE_REJECT_PUBLISH);
}

/* Without effect, and never refused. */
static void test_accepted(void **state)
{
    (void)state;
    struct queue_opts o;
    static const struct arg rows[][4] = {
        {{"x-queue-mode", STR, 0, "lazy"}, {"x-queue-version", INT, 2, 0}},
        {{"ha-mode", STR, 0, "all"}, {"x-ha-policy", STR, 0, "all"}, {"anything", TAB, 0, 0}},
        {{"x-queue-type", STR, 0, "classic"}, {"x-queue-master-locator", STR, 0, "min-masters"}},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++)
        assert_int_equal(parse(rows[i], 0, &o, NULL), MQG_OK);
    static const struct arg quorum[4] = {QUORUM,
                                         {"x-queue-leader-locator", STR, 0, "client-local"},
                                         {"x-quorum-initial-group-size", INT, 3, 0},
                                         {"x-dead-letter-strategy", STR, 0, "at-least-once"}};
    assert_int_equal(parse(quorum, DURABLE, &o, NULL), MQG_OK);
}

static void test_compared(void **state)
{
    (void)state;
    struct queue_opts classic = {.type = QUEUE_CLASSIC}, quorum = {.type = QUEUE_QUORUM};
    size_t n = 0, m = 0;
    bool limit = false, priority = false;
    for (const char *name; (name = queue_args_compared(&classic, n)) != NULL; n++)
        priority = priority || strcmp(name, "x-max-priority") == 0;
    for (const char *name; (name = queue_args_compared(&quorum, m)) != NULL; m++)
        limit = limit || strcmp(name, "x-delivery-limit") == 0;
    assert_true(limit && priority && n > 8 && m > 8);
    assert_string_equal(queue_args_compared(&classic, 0), "x-expires");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_absent),   cmocka_unit_test(test_values),
        cmocka_unit_test(test_accepted), cmocka_unit_test(test_compared),
    };
    return cmocka_run_group_tests_name("queue_args", tests, NULL, NULL);
}

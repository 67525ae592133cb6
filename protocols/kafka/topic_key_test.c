/* topic_key_test.c - the keys of a topic's configuration: which values they take, what those become here, and back. */
#include "topic_conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define S(text) mqg_slice_str(text)

static int key(const char *name)
{
    int at = kafka_key_find(S(name));
    assert_true(at >= 0);
    return at;
}

static void values(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *refusal; /* NULL: taken */
    } rows[] = {
        {"retention.ms", "-1", NULL},
        {"retention.ms", " 604800000 ", NULL},
        {"retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"},
        {"retention.ms", "1d", "Invalid value 1d for configuration retention.ms: Not a number of type LONG"},
        {"retention.ms", "", "Invalid value  for configuration retention.ms: Not a number of type LONG"},
        {"retention.ms", "9223372036854775808",
         "Invalid value 9223372036854775808 for configuration retention.ms: Not a number of type LONG"},
        {"segment.bytes", "2147483648",
         "Invalid value 2147483648 for configuration segment.bytes: Not a number of type INT"},
        {"segment.bytes", "13",
         "Invalid value 13 for configuration segment.bytes: Value must be at least 14"},
        {"cleanup.policy", "delete, compact", NULL},
        {"cleanup.policy", "",
         "Invalid value  for configuration cleanup.policy: must be one of: delete|compact"},
        {"cleanup.policy", "compact,burn",
         "Invalid value compact,burn for configuration cleanup.policy: must be one of: delete|compact"},
        {"message.timestamp.type", "LogAppendTime", NULL},
        {"message.timestamp.type", "logappendtime",
         "Invalid value logappendtime for configuration message.timestamp.type: must be one of: "
         "CreateTime|LogAppendTime"},
        {"preallocate", "true", NULL},
        {"preallocate", "yes",
         "Invalid value yes for configuration preallocate: Expected value to be either true or false"},
        {"min.cleanable.dirty.ratio", "0.01", NULL},
        {"min.cleanable.dirty.ratio", "1.5",
         "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be between 0 and 1"},
        {"min.cleanable.dirty.ratio", "nan",
         "Invalid value nan for configuration min.cleanable.dirty.ratio: Value must be between 0 and 1"},
        {"compression.type", "zstd", NULL},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_error e = {.text = ""};
        assert_int_equal(kafka_key_check(key(rows[i].name), S(rows[i].value), &e), rows[i].refusal == NULL);
        assert_string_equal(e.text, rows[i].refusal != NULL ? rows[i].refusal : "");
    }
    assert_int_equal(kafka_key_find(S("retention")), -1);
    assert_int_equal(kafka_key_find(S("")), -1);
}

/* Every default is a value of its key. */
static void defaults(void **state)
{
    (void)state;
    for (int i = 0; i < KAFKA_KEYS; i++) {
        struct mqg_error e;
        const struct kafka_topic_key *k = &kafka_topic_keys[i];
        assert_non_null(k->name);
        assert_true(i == 0 || strcmp(kafka_topic_keys[i - 1].name, k->name) < 0);
        if (k->initial != NULL && *k->initial != '\0')
            assert_true(kafka_key_check(i, S(k->initial), &e));
    }
}

static void set(struct kafka_key_set *s, const char *name, const char *value)
{
    s->value[key(name)] = S(value);
}

static void to_stream(void **state)
{
    (void)state;
    struct kafka_key_set s = {.value = {MQG_SLICE_NONE}};
    struct mqg_stream_conf c;
    kafka_key_stream(&s, &c);
    const struct mqg_stream_conf none = {0};
    assert_memory_equal(&c, &none, sizeof c);
    set(&s, "cleanup.policy", "compact, delete");
    set(&s, "retention.ms", "5000");
    set(&s, "retention.bytes", "-1");
    set(&s, "segment.bytes", "1000");
    set(&s, "segment.ms", "9223372036854775807");
    set(&s, "min.compaction.lag.ms", "7");
    set(&s, "max.compaction.lag.ms", "8");
    set(&s, "delete.retention.ms", "0");
    kafka_key_stream(&s, &c);
    assert_int_equal(c.cleanup, MQG_CLEANUP_COMPACT | MQG_CLEANUP_DELETE);
    assert_int_equal(c.retention_ms, 5000);
    assert_int_equal(c.retention_bytes, 0);
    assert_int_equal(c.segment_bytes, 1000);
    assert_int_equal(c.segment_ms, 0);
    assert_int_equal(c.compact_lag_min_ms, 7);
    assert_int_equal(c.compact_lag_max_ms, 8);
    assert_int_equal(c.tombstone_ms, 1); /* 0 would be the store's choice */
    assert_false(kafka_key_only_compact(&c));
    set(&s, "retention.ms", "0");
    set(&s, "cleanup.policy", "compact");
    kafka_key_stream(&s, &c);
    assert_int_equal(c.retention_ms, 1);
    assert_true(kafka_key_only_compact(&c));
}

static void to_topic(void **state)
{
    (void)state;
    struct kafka_key_set s = {.value = {MQG_SLICE_NONE}};
    struct kafka_topic_conf c = {.max_message_bytes = 1048588};
    kafka_key_topic(&s, &c);
    assert_true(c.max_message_bytes == 1048588 && !c.append_time && c.codec == -1);
    assert_true(c.before_max_ms == INT64_MAX && c.after_max_ms == INT64_MAX);
    set(&s, "max.message.bytes", "5000");
    set(&s, "message.timestamp.type", "LogAppendTime");
    set(&s, "message.timestamp.difference.max.ms", "9");
    set(&s, "message.timestamp.after.max.ms", "3");
    set(&s, "compression.type", "lz4");
    kafka_key_topic(&s, &c);
    assert_true(c.max_message_bytes == 5000 && c.append_time && c.codec == 3);
    assert_true(c.before_max_ms == 9 && c.after_max_ms == 3);
}

/* What another protocol set is told in Kafka's words; what says the same in other words stays as it was said. */
static void from_stream(void **state)
{
    (void)state;
    struct kafka_key_set s = {.value = {MQG_SLICE_NONE}};
    struct mqg_stream_conf c = {
        .retention_ms = 60000, .retention_bytes = 0, .segment_bytes = 500, .cleanup = 3};
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    set(&s, "retention.ms", " 60000");
    set(&s, "retention.bytes", "77");
    set(&s, "cleanup.policy", "compact,delete");
    kafka_key_from_stream(&s, &c, &a);
    assert_true(mqg_slice_eq(s.value[key("retention.ms")], S(" 60000")));
    assert_null(s.value[key("retention.bytes")].ptr);
    assert_true(mqg_slice_eq(s.value[key("segment.bytes")], S("500")));
    assert_true(mqg_slice_eq(s.value[key("cleanup.policy")], S("compact,delete")));
    mqg_arena_fini(&a);
}

static void words(void **state)
{
    (void)state;
    struct mqg_slice left = S("a, b,,c"), word;
    const char *expected[] = {"a", "b", "", "c"};
    for (size_t i = 0; i < MQG_COUNTOF(expected); i++) {
        assert_true(kafka_key_word(&left, &word));
        assert_true(mqg_slice_eq(word, S(expected[i])));
    }
    assert_false(kafka_key_word(&left, &word));
    assert_true(kafka_key_contains(S("a, b"), S("b")));
    assert_false(kafka_key_contains(S("a, b"), S("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),   cmocka_unit_test(defaults),    cmocka_unit_test(to_stream),
        cmocka_unit_test(to_topic), cmocka_unit_test(from_stream), cmocka_unit_test(words),
    };
    return cmocka_run_group_tests_name("kafka_topic_key", tests, NULL, NULL);
}

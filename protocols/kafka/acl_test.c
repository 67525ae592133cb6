/* acl_test.c - the table of ACLs: who is judged how, filters, records. */
#include "acl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define S(text) mqg_slice_str(text)

static struct kafka_acl_rule rule(const char *name, uint8_t pattern, const char *who, const char *host,
                                  uint8_t op, uint8_t permission)
{
    return (struct kafka_acl_rule){S("/"),  S(name), S(who),    S(host), KAFKA_RESOURCE_TOPIC,
                                   pattern, op,      permission};
}

static void add(const char *name, uint8_t pattern, const char *who, const char *host, uint8_t op,
                uint8_t permission)
{
    struct kafka_acl_rule r = rule(name, pattern, who, host, op, permission);
    assert_true(kafka_acl_add(&r));
    assert_false(kafka_acl_add(&r));
}

static int clear(void **state)
{
    (void)state;
    kafka_acl_clear();
    return 0;
}

static void judged(void **state)
{
    (void)state;
    add("orders", KAFKA_PATTERN_LITERAL, "User:alice", "*", KAFKA_OP_READ, KAFKA_PERMISSION_ALLOW);
    add("orders", KAFKA_PATTERN_LITERAL, "User:bob", "10.0.0.1", KAFKA_OP_ALL, KAFKA_PERMISSION_ALLOW);
    add("orders", KAFKA_PATTERN_LITERAL, "User:bob", "*", KAFKA_OP_DELETE, KAFKA_PERMISSION_DENY);
    add("log.", KAFKA_PATTERN_PREFIXED, "User:*", "*", KAFKA_OP_WRITE, KAFKA_PERMISSION_ALLOW);
    add("log.secret", KAFKA_PATTERN_LITERAL, "User:eve", "*", KAFKA_OP_ALL, KAFKA_PERMISSION_DENY);
    add("conf", KAFKA_PATTERN_LITERAL, "User:alice", "*", KAFKA_OP_ALTER_CONFIGS, KAFKA_PERMISSION_ALLOW);
    static const struct {
        const char *name, *user, *host;
        enum kafka_op op;
        enum kafka_verdict verdict;
    } rows[] = {
        {"orders", "alice", "10.9.9.9", KAFKA_OP_READ, KAFKA_VERDICT_ALLOW},
        {"orders", "alice", "10.9.9.9", KAFKA_OP_DESCRIBE, KAFKA_VERDICT_ALLOW},
        {"orders", "alice", "10.9.9.9", KAFKA_OP_WRITE, KAFKA_VERDICT_DENY},
        {"orders", "bob", "10.0.0.1", KAFKA_OP_WRITE, KAFKA_VERDICT_ALLOW},
        {"orders", "bob", "10.0.0.2", KAFKA_OP_WRITE, KAFKA_VERDICT_DENY},
        {"orders", "bob", "10.0.0.1", KAFKA_OP_DELETE, KAFKA_VERDICT_DENY},
        {"orders", "eve", "10.0.0.1", KAFKA_OP_READ, KAFKA_VERDICT_DENY},
        {"orders2", "alice", "h", KAFKA_OP_READ, KAFKA_VERDICT_NONE},
        {"log.web", "eve", "h", KAFKA_OP_WRITE, KAFKA_VERDICT_ALLOW},
        {"log.web", "eve", "h", KAFKA_OP_DESCRIBE, KAFKA_VERDICT_ALLOW},
        {"log.web", "eve", "h", KAFKA_OP_READ, KAFKA_VERDICT_DENY},
        {"log.secret", "eve", "h", KAFKA_OP_WRITE, KAFKA_VERDICT_DENY},
        {"log.secret", "alice", "h", KAFKA_OP_WRITE, KAFKA_VERDICT_ALLOW},
        {"log", "alice", "h", KAFKA_OP_WRITE, KAFKA_VERDICT_NONE},
        {"conf", "alice", "h", KAFKA_OP_DESCRIBE_CONFIGS, KAFKA_VERDICT_ALLOW},
        {"conf", "alice", "h", KAFKA_OP_DESCRIBE, KAFKA_VERDICT_DENY},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        enum kafka_verdict v = kafka_acl_judge(S("/"), KAFKA_RESOURCE_TOPIC, S(rows[i].name), S(rows[i].user),
                                               S(rows[i].host), rows[i].op);
        if (v != rows[i].verdict)
            fail_msg("%s, %s from %s, operation %d: %d", rows[i].name, rows[i].user, rows[i].host, rows[i].op,
                     v);
    }
    assert_int_equal(
        kafka_acl_judge(S("v"), KAFKA_RESOURCE_TOPIC, S("orders"), S("alice"), S("h"), KAFKA_OP_READ),
        KAFKA_VERDICT_NONE);
    assert_int_equal(
        kafka_acl_judge(S("/"), KAFKA_RESOURCE_GROUP, S("orders"), S("alice"), S("h"), KAFKA_OP_READ),
        KAFKA_VERDICT_NONE);
}

/* The name "*" stands for every resource of its type. */
static void wildcard(void **state)
{
    (void)state;
    add("*", KAFKA_PATTERN_LITERAL, "User:ann", "*", KAFKA_OP_ALL, KAFKA_PERMISSION_ALLOW);
    assert_int_equal(
        kafka_acl_judge(S("/"), KAFKA_RESOURCE_TOPIC, S("any"), S("ann"), S("h"), KAFKA_OP_ALTER),
        KAFKA_VERDICT_ALLOW);
    assert_int_equal(kafka_acl_judge(S("/"), KAFKA_RESOURCE_TOPIC, S("any"), S("bo"), S("h"), KAFKA_OP_ALTER),
                     KAFKA_VERDICT_DENY);
}

static void count_one(void *arg, const struct kafka_acl_rule *r)
{
    (void)r;
    ++*(size_t *)arg;
}

static void filters(void **state)
{
    (void)state;
    add("*", KAFKA_PATTERN_LITERAL, "User:a", "*", KAFKA_OP_READ, KAFKA_PERMISSION_ALLOW);
    add("or", KAFKA_PATTERN_PREFIXED, "User:a", "*", KAFKA_OP_READ, KAFKA_PERMISSION_ALLOW);
    add("or", KAFKA_PATTERN_LITERAL, "User:b", "h", KAFKA_OP_WRITE, KAFKA_PERMISSION_DENY);
    add("orders", KAFKA_PATTERN_LITERAL, "User:b", "*", KAFKA_OP_READ, KAFKA_PERMISSION_ALLOW);
    static const struct {
        const char *name, *principal, *host;
        int8_t type, pattern, op, permission;
        size_t found;
    } rows[] = {
        {NULL, NULL, NULL, 1, 1, 1, 1, 4},     {NULL, NULL, NULL, 2, 1, 1, 1, 4},
        {NULL, NULL, NULL, 3, 1, 1, 1, 0},     {"orders", NULL, NULL, 1, 2, 1, 1, 3},
        {"orders", NULL, NULL, 1, 3, 1, 1, 1}, {"or", NULL, NULL, 1, 1, 1, 1, 2},
        {"or", NULL, NULL, 1, 4, 1, 1, 1},     {NULL, "User:b", NULL, 1, 1, 1, 1, 2},
        {NULL, "User:b", "h", 1, 1, 1, 1, 1},  {NULL, NULL, NULL, 1, 1, KAFKA_OP_READ, 1, 3},
        {NULL, NULL, NULL, 1, 1, 1, 2, 1},     {NULL, NULL, "*", 1, 1, 1, 3, 3},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct kafka_acl_filter f = {.vhost = S("/"),
                                     .type = rows[i].type,
                                     .pattern = rows[i].pattern,
                                     .op = rows[i].op,
                                     .permission = rows[i].permission};
        size_t found = 0;
        if (rows[i].name != NULL)
            f.name = S(rows[i].name);
        if (rows[i].principal != NULL)
            f.principal = S(rows[i].principal);
        if (rows[i].host != NULL)
            f.host = S(rows[i].host);
        kafka_acl_each(&f, count_one, &found);
        if (found != rows[i].found)
            fail_msg("row %zu finds %zu", i, found);
    }
    struct kafka_acl_rule gone = rule("or", KAFKA_PATTERN_PREFIXED, "User:a", "*", KAFKA_OP_READ,
                                      KAFKA_PERMISSION_ALLOW);
    assert_true(kafka_acl_remove(&gone));
    assert_false(kafka_acl_remove(&gone));
    assert_int_equal(kafka_acl_count(), 3);
}

struct swept {
    struct mqg_slice vhost;
    size_t told;
};

static bool is_swept(void *arg, struct mqg_slice vhost)
{
    return mqg_slice_eq(((struct swept *)arg)->vhost, vhost);
}

static void count_swept(void *arg, const struct kafka_acl_rule *r)
{
    struct swept *s = arg;
    assert_true(mqg_slice_eq(r->vhost, s->vhost));
    s->told++;
}

static void a_vhost_takes_its_rules_along(void **state)
{
    (void)state;
    struct kafka_acl_rule other = rule("t", KAFKA_PATTERN_LITERAL, "User:a", "*", KAFKA_OP_READ,
                                       KAFKA_PERMISSION_ALLOW);
    struct swept s = {.vhost = S("other")};
    add("t", KAFKA_PATTERN_LITERAL, "User:a", "*", KAFKA_OP_READ, KAFKA_PERMISSION_ALLOW);
    add("u", KAFKA_PATTERN_LITERAL, "User:a", "*", KAFKA_OP_READ, KAFKA_PERMISSION_ALLOW);
    other.vhost = s.vhost;
    assert_true(kafka_acl_add(&other));
    other.name = S("zz");
    assert_true(kafka_acl_add(&other));
    assert_int_equal(kafka_acl_sweep(is_swept, count_swept, &s), 2);
    assert_int_equal(kafka_acl_count(), 2);
    assert_false(kafka_acl_remove(&other));
    assert_int_equal(s.told, 2);
    add("v", KAFKA_PATTERN_LITERAL, "User:a", "*", KAFKA_OP_READ,
        KAFKA_PERMISSION_ALLOW); /* still in order */
    assert_int_equal(kafka_acl_count(), 3);
}

/* A record comes back as it was; cut or with a flipped bit it is refused or another rule, and never read beyond. */
static void records(void **state)
{
    (void)state;
    struct kafka_acl_rule r = rule("a/b c", KAFKA_PATTERN_PREFIXED, "User:\xc3\xa9", "*", KAFKA_OP_ALTER,
                                   KAFKA_PERMISSION_DENY),
                          back;
    struct mqg_dynbuf key, value;
    mqg_dynbuf_init(&key, 4096);
    mqg_dynbuf_init(&value, 4096);
    kafka_acl_key(&key, &r);
    kafka_acl_encode(&value, &r);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&key), S("kafka-acl/%2F/2/4/a%2Fb%20c/User%3A%C3%A9/%2A/7/2")));
    assert_int_equal(kafka_acl_decode(mqg_dynbuf_view(&value), &back), MQG_OK);
    assert_true(mqg_slice_eq(back.name, r.name) && mqg_slice_eq(back.principal, r.principal) &&
                mqg_slice_eq(back.host, r.host) && mqg_slice_eq(back.vhost, r.vhost));
    assert_true(back.type == r.type && back.pattern == r.pattern && back.op == r.op &&
                back.permission == r.permission);
    for (size_t i = 0; i < value.len; i++) {
        uint8_t *cut = malloc(i > 0 ? i : 1);
        memcpy(cut, mqg_dynbuf_view(&value).ptr, i);
        assert_int_not_equal(kafka_acl_decode(mqg_slice_of(cut, i), &back), MQG_OK);
        free(cut);
    }
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(judged, clear),
        cmocka_unit_test_teardown(wildcard, clear),
        cmocka_unit_test_teardown(filters, clear),
        cmocka_unit_test_teardown(a_vhost_takes_its_rules_along, clear),
        cmocka_unit_test(records),
    };
    return cmocka_run_group_tests_name("kafka_acl", tests, NULL, NULL);
}

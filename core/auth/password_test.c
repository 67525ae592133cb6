/* password_test.c - hashes and patterns. */
#include "fake.h"

#include <openssl/crypto.h>

/* RabbitMQ's documentation computes the first one: salt 90 8D C6 0A, password "test12". */
static const struct {
    const char *algorithm, *base64, *password;
} rows[] = {
    {AUTH_SHA256, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR", "test12"},
    {AUTH_SHA512,
     "kI3GChuNuIYf8lRbCCxZjgjKwsY19ns6+uFO0zcXRBGA/XGJPYD8OWMy7EB8TaOmAzjP2azv84GbINYwX2cDWb4DHnc=",
     "test12"},
};

static void hash_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct auth_hash h;
        char text[AUTH_HASH_TEXT_BYTES];
        assert_true(auth_hash_parse(&h, rows[i].algorithm, mqg_slice_str(rows[i].base64)));
        assert_true(auth_hash_check(&h, mqg_slice_str(rows[i].password)));
        assert_false(auth_hash_check(&h, MQG_SLICE_LIT("test13")));
        assert_false(auth_hash_check(&h, MQG_SLICE_LIT("test1")));
        assert_false(auth_hash_check(&h, MQG_SLICE_LIT("")));
        auth_hash_print(&h, text);
        assert_string_equal(text, rows[i].base64);
    }
}

static void hash_made(void **state)
{
    (void)state;
    struct auth_hash a, b;
    auth_hash_make(&a, MQG_SLICE_LIT("secret"));
    auth_hash_make(&b, MQG_SLICE_LIT("secret"));
    assert_true(auth_hash_check(&a, MQG_SLICE_LIT("secret")));
    assert_memory_not_equal(a.digest, b.digest, a.digest_bytes); /* salted */
}

static void hash_refused(void **state)
{
    (void)state;
    const char *bad[] = {"x",
                         "====",
                         "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR=",
                         "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2P==",
                         "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30",
                         "!I3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"};
    struct auth_hash h;
    for (size_t i = 0; i < MQG_COUNTOF(bad); i++)
        assert_false(auth_hash_parse(&h, AUTH_SHA256, mqg_slice_str(bad[i])));
    assert_false(auth_hash_parse(&h, AUTH_SHA512, mqg_slice_str(rows[0].base64)));
    assert_null(auth_algorithm(MQG_SLICE_LIT("rabbit_password_hashing_md5")));
    assert_string_equal(auth_algorithm(MQG_SLICE_LIT("")), AUTH_SHA256);
}

/* Neither nobody nor a user without a password comes in, with no password at all. */
static void hash_nobody(void **state)
{
    (void)state;
    struct auth_hash none;
    assert_true(auth_hash_parse(&none, AUTH_SHA256, MQG_SLICE_NONE));
    assert_int_equal(none.digest_bytes, 0);
    assert_false(auth_hash_check(&none, MQG_SLICE_LIT("x")));
    assert_false(auth_hash_check(&none, MQG_SLICE_NONE));
    assert_false(auth_hash_check(NULL, MQG_SLICE_LIT("x")));
    assert_false(auth_hash_check(NULL, MQG_SLICE_NONE));
}

static void patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *subject;
        bool match;
    } cases[] = {
        {".*", "anything", true},
        {".*", "", true},
        {"", "", true},
        {"", "a", false},
        {"^$", "", true},
        {"^my-", "my-queue", true},
        {"^my-", "not-my-queue", false},
        {"my", "not-my-queue", true}, /* not anchored */
        {"^(a|b)$", "a", true},
        {"^(a|b)$", "ab", false},
        {"^amq\\.default$", "amq.default", true},
        {"^q\\d+$", "q12", true},
        {"^.$", "\xc3\xa9", false}, /* bytes, as RabbitMQ: two of them */
        {"(?i)^ABC$", "abc", true},
        {"^(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", false},
    };
    for (size_t i = 0; i < MQG_COUNTOF(cases); i++) {
        struct mqg_error e = {0};
        struct auth_pattern *p = auth_pattern_new(mqg_slice_str(cases[i].pattern), &e);
        assert_non_null(p);
        if (auth_pattern_match(p, mqg_slice_str(cases[i].subject)) != cases[i].match)
            fail_msg("'%s' on '%s'", cases[i].pattern, cases[i].subject);
        auth_pattern_free(&p);
    }
    assert_false(auth_pattern_match(NULL, MQG_SLICE_LIT("x")));
}

/* A match that explodes ends soon, and is no permission. */
static void pattern_limit(void **state)
{
    (void)state;
    struct mqg_error e;
    struct auth_pattern *p = auth_pattern_new(MQG_SLICE_LIT("^(a|aa|a?)+(b)(?=c)$"), &e);
    char subject[200];
    memset(subject, 'a', sizeof subject);
    assert_false(
        auth_pattern_match(p, mqg_slice_of(subject, sizeof subject))); /* else the harness's limit ends it */
    auth_pattern_free(&p);
}

static void pattern_invalid(void **state)
{
    (void)state;
    const char *bad[] = {"(", "[a", "*", "a{2,1}", "\\C"};
    for (size_t i = 0; i < MQG_COUNTOF(bad); i++) {
        struct mqg_error e = {0};
        assert_null(auth_pattern_new(mqg_slice_str(bad[i]), &e));
        assert_int_equal(e.err, MQG_INVALID);
        assert_non_null(strstr(e.text, "invalid regular expression '"));
    }
}

static void tags(void **state)
{
    (void)state;
    char out[96];
    assert_int_equal(mqg_tags_parse(MQG_SLICE_LIT("administrator")), MQG_TAG_ADMINISTRATOR);
    assert_int_equal(mqg_tags_parse(MQG_SLICE_LIT("management, monitoring")),
                     MQG_TAG_MANAGEMENT | MQG_TAG_MONITORING);
    assert_int_equal(mqg_tags_parse(MQG_SLICE_LIT(",,none administrators")), 0);
    mqg_tags_print(~0u, out);
    assert_string_equal(out, "administrator,monitoring,policymaker,management,impersonator");
    assert_int_equal(mqg_tags_parse(mqg_slice_str(out)), 31);
    mqg_tags_print(0, out);
    assert_string_equal(out, "");
}

int password_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_vectors),    cmocka_unit_test(hash_made), cmocka_unit_test(hash_refused),
        cmocka_unit_test(hash_nobody),     cmocka_unit_test(patterns),  cmocka_unit_test(pattern_limit),
        cmocka_unit_test(pattern_invalid), cmocka_unit_test(tags),
    };
    return cmocka_run_group_tests_name("password", tests, NULL, NULL);
}

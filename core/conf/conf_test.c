/* conf_test.c - reading, precedence, checking with places and suggestions, printing. */
#include "conf_addr.h"
#include "core_rows.h"

#include <mqgate/conf.h>

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const struct mqg_conf_row store_rows[] = {
    {"store.*", "segment_size", MQG_CONF_SIZE, "64MiB", 1 << 20, 1LL << 30, NULL, "segment"},
    {"store.*", "flush", MQG_CONF_ENUM, "sync", 0, 0, "sync|os", "flush"},
    {.section = NULL},
};

static char path[] = "/tmp/mqgate-conf-XXXXXX";

static int path_setup(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    close(fd);
    return fd < 0;
}

static int path_teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct mqg_conf *conf_new(void)
{
    struct mqg_conf *c = mqg_conf_new();
    mqg_conf_schema(c, mqg_core_rows);
    mqg_conf_schema(c, store_rows);
    return c;
}

/* Reads text as the file; the text of the refusal, or "" when it is accepted. */
static const char *refusal(const char *text)
{
    static struct mqg_error e;
    e = (struct mqg_error){0};
    write_file(text);
    struct mqg_conf *c = conf_new();
    if (mqg_conf_file(c, path, &e) == MQG_OK && mqg_conf_check(c, &e) == MQG_OK)
        e.text[0] = '\0';
    mqg_conf_free(&c);
    return strncmp(e.text, path, strlen(path)) == 0 ? e.text + strlen(path) : e.text;
}

static void test_defaults_are_good(void **state)
{
    (void)state;
    struct mqg_conf *c = conf_new();
    struct mqg_error e;
    assert_int_equal(mqg_conf_check(c, &e), MQG_OK);
    for (const struct mqg_conf_row *r = mqg_core_rows; r->section != NULL; r++) {
        if (r->type != MQG_CONF_STR)
            (void)mqg_conf_int(c, r->section, r->key); /* asserts that the default reads */
        assert_non_null(r->help);
        assert_null(strchr(r->key, '-'));
    }
    assert_string_equal(mqg_conf_str(c, "listeners", "amqp"), "127.0.0.1:5672,[::1]:5672");
    assert_int_equal(mqg_conf_int(c, "node", "drain_timeout"), 5000);
    assert_false(mqg_conf_given(c, "node", "workers"));
    assert_string_equal(mqg_conf_where(c, "node", "workers"), "default");
    for (const struct mqg_core_listener *l = mqg_core_listeners; l->name != NULL; l++)
        assert_non_null(mqg_conf_str(c, "listeners", l->name));
    mqg_conf_free(&c);
}

static void test_values_of_each_type(void **state)
{
    (void)state;
    write_file(
        "# comment\n[node]\nworkers = 4 ; four\n  debug_dribble = yes\n"
        "[store.journal]\nsegment_size=2MiB\nflush=os\n[listeners]\namqp = [::1]:0, 0.0.0.0:1\nmqtt=off\n");
    struct mqg_conf *c = conf_new();
    struct mqg_error e;
    assert_int_equal(mqg_conf_file(c, path, &e), MQG_OK);
    assert_int_equal(mqg_conf_check(c, &e), MQG_OK);
    assert_int_equal(mqg_conf_int(c, "node", "workers"), 4);
    assert_true(mqg_conf_bool(c, "node", "debug_dribble"));
    assert_int_equal(mqg_conf_int(c, "store.journal", "segment_size"), 2 << 20);
    assert_int_equal(mqg_conf_int(c, "store.journal", "flush"), 1);
    assert_int_equal(mqg_conf_int(c, "store.other", "segment_size"), 64 << 20);
    assert_string_equal(mqg_conf_section(c, "store.", 0), "store.journal");
    assert_null(mqg_conf_section(c, "store.", 1));
    char where[64];
    snprintf(where, sizeof where, "%s:3", path);
    assert_string_equal(mqg_conf_where(c, "node", "workers"), where);
    mqg_conf_free(&c);
}

static void test_precedence(void **state)
{
    (void)state;
    write_file("[node]\nworkers=1\nname=file\ndrain_timeout=1s\n");
    static char e1[] = "MQGATE__NODE__WORKERS=2", e2[] = "MQGATE__NODE__NAME=env", e3[] = "OTHER=x",
                e4[] = "MQGATE__STORE__JOURNAL__FLUSH=os", e5[] = "MQGATE_KEEP=1";
    char *env[] = {e1, e2, e3, e4, e5, NULL};
    struct mqg_conf *c = conf_new();
    struct mqg_error e;
    assert_int_equal(mqg_conf_set(c, "node.workers=3", &e), MQG_OK);
    assert_int_equal(mqg_conf_set(c, "node.workers=5", &e), MQG_OK);
    assert_int_equal(mqg_conf_environ(c, env, &e), MQG_OK);
    assert_int_equal(mqg_conf_file(c, path, &e), MQG_OK);
    assert_int_equal(mqg_conf_check(c, &e), MQG_OK);
    assert_int_equal(mqg_conf_int(c, "node", "workers"), 5);
    assert_string_equal(mqg_conf_str(c, "node", "name"), "env");
    assert_int_equal(mqg_conf_int(c, "node", "drain_timeout"), 1000);
    assert_string_equal(mqg_conf_str(c, "store.journal", "flush"), "os");
    assert_string_equal(mqg_conf_where(c, "node", "workers"), "--set");
    assert_string_equal(mqg_conf_where(c, "node", "name"), "environment MQGATE__NODE__NAME");
    mqg_conf_free(&c);
}

static void test_refusals_name_line_and_what_is_right(void **state)
{
    (void)state;
    static const struct {
        const char *text, *refusal;
    } rows[] = {
        {"[node]\nworkers=2\n", ""},
        {"\n[listeners]\nampq=off\n", ":3: unknown key listeners.ampq; did you mean listeners.amqp?"},
        {"[listener]\namqp=off\n", ":2: unknown key listener.amqp; did you mean listeners.amqp?"},
        {"[node]\ndrain-timeout=5s\n",
         ":2: unknown key node.drain-timeout; did you mean node.drain_timeout?"},
        {"[tls]\nworkers=2\n", ":2: unknown key tls.workers; did you mean node.workers?"},
        {"[store.journal]\nsegmentsize=1MiB\n",
         ":2: unknown key store.journal.segmentsize; did you mean store.journal.segment_size?"},
        {"[zzz]\nyyyyyyy=1\n", ":2: unknown key zzz.yyyyyyy; --print-config lists all keys"},
        {"[node]\nworkers=many\n", ":2: node.workers=many: expected a whole number, from 0 to 64"},
        {"[node]\nworkers=65\n", ":2: node.workers=65: expected a whole number, from 0 to 64"},
        {"[node]\nworkers=2 x\n", ":2: node.workers=2 x: expected a whole number, from 0 to 64"},
        {"[node]\ndebug_dribble=maybe\n", ":2: node.debug_dribble=maybe: expected on or off"},
        {"[node]\ndrain_timeout=5\n",
         ":2: node.drain_timeout=5: expected a duration such as 500ms, 5s, 1m, 2h or "
         "7d, from 0 to 86400000 ms"},
        {"[store.a]\nflush=never\n", ":2: store.a.flush=never: expected one of sync|os"},
        {"[store.a]\nsegment_size=1KiB\n",
         ":2: store.a.segment_size=1KiB: expected a size such as 64KiB, 16MiB or "
         "1GiB, from 1048576 to 1073741824 bytes"},
        {"[listeners]\namqp=5672\n", ":2: listeners.amqp=5672: expected host:port[,host:port] such as "
                                     "127.0.0.1:5672 or [::1]:5672, or off"},
        {"workers=2\n", ":1: workers stands before the first [section]"},
        {"[node]\nworkers=2\nbroken line\n", ":3: expected [section], key = value or # comment"},
        {"[node\nworkers=2\n", ":1: expected [section], key = value or # comment"},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++)
        assert_string_equal(refusal(rows[i].text), rows[i].refusal);
}

static void test_the_same_key_twice_is_a_conflict(void **state)
{
    (void)state;
    assert_non_null(
        strstr(refusal("[node]\nworkers=1\n[log]\n[node]\nworkers=1\n"), ":5: node.workers stands at "));
}

static void test_long_lines(void **state)
{
    (void)state;
    char text[1000];
    snprintf(text, sizeof text, "#%0400d\n[node]\nname=x\n", 0);
    assert_string_equal(refusal(text), "");
    snprintf(text, sizeof text, "[node]\nname=%0400d\n", 0);
    assert_non_null(strstr(refusal(text), ":2: line is longer than "));
}

static void test_assignments_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "x", "node.workers", "=1", "workers=1", ".workers=1", "node.=1"};
    struct mqg_conf *c = conf_new();
    struct mqg_error e;
    for (size_t i = 0; i < MQG_COUNTOF(bad); i++)
        assert_int_equal(mqg_conf_set(c, bad[i], &e), MQG_INVALID);
    char e1[] = "MQGATE__NODE=1";
    char *env[] = {e1, NULL};
    assert_int_equal(mqg_conf_environ(c, env, &e), MQG_INVALID);
    assert_non_null(strstr(e.text, "MQGATE__NODE"));
    assert_int_equal(mqg_conf_set(c, "node.name=a=b", &e), MQG_OK);
    assert_string_equal(mqg_conf_str(c, "node", "name"), "a=b");
    assert_int_equal(mqg_conf_file(c, "/nonexistent.conf", &e), MQG_IO);
    assert_non_null(strstr(e.text, "/nonexistent.conf"));
    mqg_conf_free(&c);
}

/* What is printed reads again to the same values. */
static void test_print_goes_round(void **state)
{
    (void)state;
    struct mqg_conf *c = conf_new();
    struct mqg_error e;
    assert_int_equal(mqg_conf_set(c, "node.workers=7", &e), MQG_OK);
    assert_int_equal(mqg_conf_set(c, "store.journal.flush=os", &e), MQG_OK);
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 1 << 20);
    mqg_conf_print(c, &out);
    assert_true(mqg_dynbuf_u8(&out, 0));
    assert_non_null(strstr((char *)out.ptr, "\nworkers = 7  ; --set\n"));
    assert_non_null(strstr((char *)out.ptr, "\namqp = 127.0.0.1:5672,[::1]:5672  ; default\n"));
    assert_non_null(strstr((char *)out.ptr, "\n[store.journal]\n"));
    write_file((char *)out.ptr);
    struct mqg_conf *again = conf_new();
    assert_int_equal(mqg_conf_file(again, path, &e), MQG_OK);
    assert_int_equal(mqg_conf_check(again, &e), MQG_OK);
    assert_int_equal(mqg_conf_int(again, "node", "workers"), 7);
    assert_string_equal(mqg_conf_str(again, "store.journal", "flush"), "os");
    mqg_dynbuf_fini(&out);
    mqg_conf_free(&again);
    mqg_conf_free(&c);
}

static void test_stores_get_their_types(void **state)
{
    (void)state;
    struct mqg_conf *c = conf_new();
    struct mqg_error e;
    assert_int_equal(mqg_conf_set(c, "store.memory.flush=os", &e), MQG_OK);
    assert_int_equal(mqg_conf_set(c, "store.fast.type=memory", &e), MQG_OK);
    mqg_conf_complete(c);
    assert_int_equal(mqg_conf_check(c, &e), MQG_OK);
    assert_string_equal(mqg_conf_section(c, "store.", 2), "store.journal");
    assert_string_equal(mqg_conf_str(c, "store.memory", "type"), "memory");
    assert_string_equal(mqg_conf_str(c, "store.fast", "type"), "memory");
    assert_string_equal(mqg_conf_str(c, "store.journal", "type"), "journal");
    assert_false(mqg_conf_given(c, "store.journal", "type"));
    assert_true(mqg_conf_given(c, "store.fast", "type"));
    mqg_conf_free(&c);
}

static void test_tls_listeners_are_off_without_a_certificate(void **state)
{
    (void)state;
    struct mqg_error e;
    for (int with = 0; with < 2; with++) {
        struct mqg_conf *c = conf_new();
        assert_int_equal(mqg_conf_set(c, "listeners.mqtts=127.0.0.1:1", &e), MQG_OK);
        assert_int_equal(mqg_conf_set(c, with ? "tls.cert=x" : "tls.cert=", &e), MQG_OK);
        mqg_conf_complete(c);
        assert_string_equal(mqg_conf_str(c, "listeners", "amqps"),
                            with ? "127.0.0.1:5671,[::1]:5671" : "off");
        assert_string_equal(mqg_conf_str(c, "listeners", "mqtts"), "127.0.0.1:1");
        assert_false(mqg_conf_given(c, "listeners", "amqps"));
        mqg_conf_free(&c);
    }
}

static void diff_note(void *arg, const char *section, const char *key)
{
    char *text = arg;
    size_t n = strlen(text);
    snprintf(text + n, 256 - n, "%s.%s ", section, key);
}

static void test_differences(void **state)
{
    (void)state;
    struct mqg_error e;
    char text[256] = "";
    struct mqg_conf *a = conf_new(), *b = conf_new();
    assert_int_equal(mqg_conf_set(a, "node.workers=0", &e), MQG_OK); /* as the default */
    assert_int_equal(mqg_conf_set(a, "log.level=warn", &e), MQG_OK);
    assert_int_equal(mqg_conf_set(a, "store.one.flush=os", &e), MQG_OK);
    assert_int_equal(mqg_conf_set(b, "store.two.segment_size=2MiB", &e), MQG_OK);
    mqg_conf_diff(a, b, diff_note, text);
    assert_string_equal(text, "log.level store.two.segment_size store.one.flush ");
    mqg_conf_free(&a);
    mqg_conf_free(&b);
}

static void test_addresses(void **state)
{
    (void)state;
    struct conf_addr list[CONF_ADDR_MAX];
    size_t n;
    assert_true(conf_addr_parse("127.0.0.1:5672,[::1]:0", list, &n));
    assert_int_equal(n, 2);
    assert_string_equal(list[1].host, "::1");
    assert_int_equal(list[1].port, 0);
    assert_true(conf_addr_parse("off", list, &n));
    assert_int_equal(n, 0);
    static const char *const bad[] = {"",
                                      ",",
                                      "a",
                                      "a:",
                                      ":1",
                                      "a:65536",
                                      "a:1,",
                                      "a:1,,b:1",
                                      "::1:5",
                                      "[]:5",
                                      "a b:1",
                                      "a:-1",
                                      "a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1"};
    for (size_t i = 0; i < MQG_COUNTOF(bad); i++)
        assert_false(conf_addr_parse(bad[i], list, &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_good),
        cmocka_unit_test(test_values_of_each_type),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_refusals_name_line_and_what_is_right),
        cmocka_unit_test(test_the_same_key_twice_is_a_conflict),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_assignments_that_are_none),
        cmocka_unit_test(test_print_goes_round),
        cmocka_unit_test(test_stores_get_their_types),
        cmocka_unit_test(test_tls_listeners_are_off_without_a_certificate),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, path_setup, path_teardown);
}

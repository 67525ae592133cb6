/* ctl_test.c - the client's parsers, options, and cells; the commands are tested against a gateway (tests/http). */
#include "ctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host, *port, *base;
        bool tls;
    } good[] = {
        {"http://127.0.0.1:15672", "127.0.0.1", "15672", "", false},
        {"http://h", "h", "15672", "", false},
        {"http://[::1]:1", "::1", "1", "", false},
        {"http://h:80/mq/", "h", "80", "/mq", false},
        {"http://[::1]/", "::1", "15672", "", false},
        {"https://h", "h", "15671", "", true},
        {"https://[::1]:443/mq", "::1", "443", "/mq", true},
    };
    const char *bad[] = {"",          "h:1",       "ftp://h",    "https://",    "https//h",       "http://",
                         "http://:1", "http://h:", "http://h:x", "http://[::1", "http://h:123456"};
    struct client_url u;
    for (size_t i = 0; i < MQG_COUNTOF(good); i++) {
        assert_true(client_url_parse(good[i].url, &u));
        assert_string_equal(u.host, good[i].host);
        assert_string_equal(u.port, good[i].port);
        assert_string_equal(u.base, good[i].base);
        assert_int_equal(u.tls, good[i].tls);
    }
    for (size_t i = 0; i < MQG_COUNTOF(bad); i++)
        assert_false(client_url_parse(bad[i], &u));
}

static void paths(void **state)
{
    (void)state;
    char *path = client_path("queues", "/", "a b/c\xc3\xa9%", NULL);
    assert_string_equal(path, "queues/%2F/a%20b%2Fc%C3%A9%25");
    free(path);
}

static int parse(const char *text, char *body, size_t size)
{
    struct mqg_dynbuf in;
    struct mqg_slice out;
    mqg_dynbuf_init(&in, 1 << 20);
    mqg_dynbuf_put(&in, text, strlen(text));
    int status = client_response_parse(&in, &out);
    snprintf(body, size, "%.*s", MQG_SLICE_FMT(out));
    mqg_dynbuf_fini(&in);
    return status;
}

static const char chunked[] =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";

static void responses(void **state)
{
    (void)state;
    char body[64];
    assert_int_equal(parse("HTTP/1.1 204 No Content\r\n\r\n", body, sizeof body), 204);
    assert_string_equal(body, "");
    assert_int_equal(parse("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}x", body, sizeof body), 200);
    assert_string_equal(body, "{}");
    assert_int_equal(parse("HTTP/1.1 404 x\r\n\r\nto the end", body, sizeof body), 404);
    assert_string_equal(body, "to the end");
    assert_int_equal(parse(chunked, body, sizeof body), 200);
    assert_string_equal(body, "abc0123456789");
}

static void broken_responses(void **state)
{
    (void)state;
    const char *bad[] = {
        "",
        "HTTP",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    };
    char body[64];
    for (size_t i = 0; i < MQG_COUNTOF(bad); i++)
        assert_int_equal(parse(bad[i], body, sizeof body), -1);
    for (size_t cut = 0; cut < sizeof chunked - 3; cut++) { /* every cut before the last chunk's end */
        char *part = strndup(chunked, cut);
        assert_int_equal(parse(part, body, sizeof body), -1);
        free(part);
    }
}

static void options(void **state)
{
    (void)state;
    const char *argv[] = {
        "mqgatectl", "--url", "http://x:1", "rabbitmqctl", "-n", "rabbit@h", "-q", "set_permissions",
        "-p",        "v",     "user",       "--timeout=5", "--", "-p",       ".*", NULL};
    struct ctl c = {0};
    assert_int_equal(options_parse(&c, MQG_COUNTOF(argv) - 1, (char **)(uintptr_t)argv), -1);
    assert_true(c.rabbit && c.quiet && !c.headless);
    assert_string_equal(c.url, "http://x:1");
    assert_string_equal(c.vhost, "v");
    assert_int_equal(c.timeout_s, 5);
    assert_int_equal(c.nargs, 4);
    assert_string_equal(c.args[0], "set_permissions");
    assert_string_equal(c.args[2], "-p");
    free(c.args);
}

static void options_refused(void **state)
{
    (void)state;
    const char *unknown[] = {"mqgatectl", "status", "--nonsense", NULL};
    const char *no_value[] = {"mqgatectl", "status", "-p", NULL};
    const char *rabbit_only[] = {"mqgatectl", "-n", "rabbit@h", "status", NULL};
    const char **all[] = {unknown, no_value};
    for (size_t i = 0; i < MQG_COUNTOF(all); i++) {
        struct ctl c = {0};
        assert_int_equal(options_parse(&c, 3, (char **)(uintptr_t)all[i]), CTL_USAGE);
        free(c.args);
    }
    struct ctl c = {0};
    assert_int_equal(options_parse(&c, 4, (char **)(uintptr_t)rabbit_only), CTL_USAGE);
    free(c.args);
}

static void cells(void **state)
{
    (void)state;
    static const struct {
        const char *json, *text;
    } rows[] = {
        {"\"a\"", "a"},
        {"\"a\\tb\\nc\"", "a\\tb\\nc"},
        {"12", "12"},
        {"true", "true"},
        {"null", ""},
        {"[\"administrator\",\"monitoring\"]", "[administrator, monitoring]"},
        {"{}", "[]"},
        {"{\"x-max-length\":10,\"x-overflow\":\"drop-head\",\"l\":[1,\"b\"]}",
         "[{\"x-max-length\",10},{\"x-overflow\",\"drop-head\"},{\"l\",[1,\"b\"]}]"},
        {"0.5", "0.5"},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_dynbuf out;
        json_t *v = json_loads(rows[i].json, JSON_DECODE_ANY, NULL);
        mqg_dynbuf_init(&out, 1000);
        print_value(&out, v);
        mqg_dynbuf_u8(&out, 0);
        assert_string_equal((const char *)out.ptr, rows[i].text);
        mqg_dynbuf_fini(&out);
        json_decref(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),      cmocka_unit_test(paths),
        cmocka_unit_test(responses), cmocka_unit_test(broken_responses),
        cmocka_unit_test(options),   cmocka_unit_test(options_refused),
        cmocka_unit_test(cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* obs_test.c - log lines, quoting, trace rules, counters. */
#include "self.h"

#include <mqgate/obs.h>

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char log_path[] = "/tmp/mqgate-obs-XXXXXX";

static int file_setup(void **state)
{
    (void)state;
    int fd = mkstemp(log_path);
    assert_true(fd >= 0);
    close(fd);
    return 0;
}

static int file_teardown(void **state)
{
    (void)state;
    unlink(log_path);
    return 0;
}

static size_t file_read(char *out, size_t room)
{
    FILE *f = fopen(log_path, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, room - 1, f);
    out[n] = '\0';
    fclose(f);
    return n;
}

static void test_line_has_head_and_one_newline(void **state)
{
    (void)state;
    struct mqg_error e;
    assert_int_equal(mqg_log_file(log_path, &e), MQG_OK);
    mqg_clock_set(&(struct mqg_time){1, 1700000000123456});
    mqg_log(MQG_LOG_INFO, MQG_EVENT_READY, "amqp=%s", "127.0.0.1:5672\nlevel=error");
    mqg_log(MQG_LOG_DEBUG, MQG_EVENT_READY, "hidden=1");
    mqg_clock_set(NULL);
    char text[512];
    file_read(text, sizeof text);
    assert_string_equal(text, "ts=2023-11-14T22:13:20.123456Z level=info event=ready amqp=127.0.0.1:5672 "
                              "level=error\n");
    assert_int_equal(mqg_log_file(NULL, &e), MQG_OK);
}

static void test_long_line_is_cut_and_ended(void **state)
{
    (void)state;
    struct mqg_error e;
    unlink(log_path);
    assert_int_equal(mqg_log_file(log_path, &e), MQG_OK);
    char *big = malloc(10000);
    memset(big, 'x', 9999);
    big[9999] = '\0';
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_STORE, "v=%s", big);
    free(big);
    char text[6000];
    size_t n = file_read(text, sizeof text);
    assert_int_equal(n, 4096);
    assert_int_equal(text[n - 1], '\n');
    assert_int_equal(mqg_log_file(NULL, &e), MQG_OK);
}

static void test_file_that_cannot_be_opened_says_which(void **state)
{
    (void)state;
    struct mqg_error e;
    assert_int_equal(mqg_log_file("/nonexistent/dir/log", &e), MQG_IO);
    assert_non_null(strstr(e.text, "/nonexistent/dir/log"));
}

static void test_quoting(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"plain", "plain"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"q\"q", "\"q\\\"q\""},
        {"back\\", "\"back\\\\\""},
        {"nl\n", "\"nl\\x0a\""},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"bad\xff", "\"bad\\xff\""},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++)
        assert_string_equal(mqg_logqs(rows[i].in), rows[i].out);
    assert_string_equal(mqg_logqs(NULL), "\"\"");
}

static void test_quoting_cuts_at_a_character(void **state)
{
    (void)state;
    char in[300];
    memset(in, 'a', sizeof in);
    memcpy(in + 255, "\xc3\xa9", 2);
    const char *out = mqg_logq(mqg_slice_of(in, sizeof in));
    assert_int_equal(strlen(out), 1 + 255 + 2 + 1);
    assert_string_equal(out + 256, "..\"");
    memset(in, 0xff, sizeof in);
    assert_true(strlen(mqg_logq(mqg_slice_of(in, sizeof in))) <= 256 * 4 + 4);
}

static void test_trace_rules(void **state)
{
    (void)state;
    assert_false(mqg_trace_on("amqp", 1));
    mqg_trace_set("amqp", 7, true);
    assert_int_equal(atomic_load(&mqg_trace_any), 1);
    assert_true(mqg_trace_on("amqp", 7));
    assert_false(mqg_trace_on("amqp", 8));
    assert_false(mqg_trace_on("queue", 7));
    mqg_trace_set("all", 0, true);
    assert_true(mqg_trace_on("queue", 9));
    mqg_trace_set("all", 0, false);
    mqg_trace_set("amqp", 7, true);
    mqg_trace_set("amqp", 7, false);
    assert_int_equal(atomic_load(&mqg_trace_any), 0);
    for (uint64_t i = 1; i <= 100; i++)
        mqg_trace_set("x", i, true);
    assert_true(mqg_trace_on("x", 32));
    assert_false(mqg_trace_on("x", 33));
    for (uint64_t i = 1; i <= 100; i++)
        mqg_trace_set("x", i, false);
}

static void test_counters_sum_rows(void **state)
{
    (void)state;
    struct mqg_worker w = {.index = 3};
    mqg_count(MQG_COUNT_ACKED, 2);
    mqg_self_set(&w);
    mqg_count(MQG_COUNT_ACKED, 5);
    mqg_self_set(NULL);
    assert_int_equal(mqg_count_sum(MQG_COUNT_ACKED), 7);
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 1 << 16);
    mqg_count_prometheus(&out);
    assert_true(mqg_dynbuf_u8(&out, 0));
    assert_non_null(strstr((char *)out.ptr, "# TYPE mqgate_messages_acked_total counter\n"
                                            "mqgate_messages_acked_total 7\n"));
    mqg_dynbuf_fini(&out);
}

static void test_level_words(void **state)
{
    (void)state;
    enum mqg_log_level level;
    assert_true(mqg_log_level_parse("warn", &level));
    assert_int_equal(level, MQG_LOG_WARN);
    assert_false(mqg_log_level_parse("verbose", &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_has_head_and_one_newline),
        cmocka_unit_test(test_long_line_is_cut_and_ended),
        cmocka_unit_test(test_file_that_cannot_be_opened_says_which),
        cmocka_unit_test(test_quoting),
        cmocka_unit_test(test_quoting_cuts_at_a_character),
        cmocka_unit_test(test_trace_rules),
        cmocka_unit_test(test_counters_sum_rows),
        cmocka_unit_test(test_level_words),
    };
    return cmocka_run_group_tests(tests, file_setup, file_teardown);
}

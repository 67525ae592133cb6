/* loader_test.c - the real loader on real shared objects: the samples, an old one, and all that must be refused.
 *
 * argv: the folder of the samples, the folder of the odd ones. */
#include "loader.h"
#include "core_rows.h"
#include "echo_peer.h"
#include "listen.h"

#include <mqgate/lanes.h>
#include <mqgate/obs.h>

#include <event2/event.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

const struct mqg_module *const host_static_modules[] = {NULL};

static const char *samples_path, *odd_path;

static int close_all(void **state)
{
    (void)state;
    loader_close();
    return 0;
}

/* ---- refusals ------------------------------------------------------------------------------------------------------------ */

static enum mqg_err odd_open(const char *name, struct mqg_error *e)
{
    char file[4096];
    snprintf(file, sizeof file, "%s/%s.so", odd_path, name);
    return loader_open_file(file, e);
}

static void test_refusals_say_what_and_what_is_needed(void **state)
{
    (void)state;
    static const struct {
        const char *file, *says;
    } rows[] = {
        {"odd_magic", "module odd_magic.so: magic 0x12345678, not 0x4d514741: no mqgate module"},
        {"odd_major", "module odd_major.so: interface 2.0, this mqgate has 1.0: a newer mqgate is needed"},
        {"odd_minor", "module odd_minor.so: interface 1.1, this mqgate has 1.0: a newer mqgate is needed"},
        {"odd_needed", "module odd_needed.so: its service table lacks stop, which is required"},
        {"odd_kind", "module odd_kind.so: kind 9, not protocol, storage or service"},
        {"odd_name", "module odd_name.so: its name is not made of a-z, 0-9 and _"},
        {"odd_table", "module odd_table.so: no service table"},
        {"odd_symbol", "module odd_symbol.so: it has no symbol mqg_module: no mqgate module"},
        {"not_there", "module not_there.so: "},
    };
    struct mqg_error e;
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        assert_int_not_equal(odd_open(rows[i].file, &e), MQG_OK);
        assert_memory_equal(e.text, rows[i].says, strlen(rows[i].says));
        assert_null(loader_at(0));
    }
    assert_int_not_equal(odd_open("odd_small", &e), MQG_OK);
    assert_non_null(strstr(e.text, "a descriptor of 16 bytes, at least "));
}

static void test_a_folder_with_a_bad_module_is_refused(void **state)
{
    (void)state;
    struct mqg_error e;
    assert_int_not_equal(loader_open(odd_path, &e), MQG_OK);
    assert_non_null(strstr(e.text, "module odd_"));
    assert_int_equal(loader_open("/nonexistent", &e), MQG_IO);
    assert_string_equal(e.text, "modules.path=/nonexistent cannot be read: No such file or directory");
}

static void test_an_old_module_is_taken_with_what_it_has(void **state)
{
    (void)state;
    struct mqg_error e;
    assert_int_equal(odd_open("odd_old", &e), MQG_OK);
    const struct loaded *l = loader_find("odd");
    assert_non_null(l);
    assert_non_null(l->ops.service.start);
    assert_null(l->ops.service.describe); /* beyond its table's end */
    assert_null(l->module.load);          /* beyond its descriptor's */
    struct mqg_conf *conf = mqg_conf_new();
    assert_int_equal(loader_load(conf, &e), MQG_OK);
    mqg_conf_free(&conf);
    assert_int_equal(odd_open("odd_old", &e), MQG_EXISTS);
    assert_non_null(strstr(e.text, "odd is loaded already from odd_old.so"));
}

static void test_a_module_that_refuses_to_load(void **state)
{
    (void)state;
    struct mqg_error e;
    assert_int_equal(odd_open("odd_unloaded", &e), MQG_OK);
    struct mqg_conf *conf = mqg_conf_new();
    assert_int_equal(loader_load(conf, &e), MQG_INVALID);
    assert_string_equal(e.text, "odd: not today");
    mqg_conf_free(&conf);
}

/* ---- the samples ------------------------------------------------------------------------------------------------------------ */

static struct mqg_conf *samples_conf(const char *const *sets)
{
    struct mqg_error e;
    assert_int_equal(loader_open(samples_path, &e), MQG_OK);
    struct mqg_conf *conf = mqg_conf_new();
    mqg_conf_schema(conf, mqg_core_rows);
    const struct loaded *l;
    for (size_t i = 0; (l = loader_at(i)) != NULL; i++)
        mqg_conf_schema(conf, l->module.conf);
    for (; *sets != NULL; sets++)
        assert_int_equal(mqg_conf_set(conf, *sets, &e), MQG_OK);
    assert_int_equal(mqg_conf_check(conf, &e), MQG_OK);
    return conf;
}

static void test_samples_load_in_the_order_of_their_names(void **state)
{
    (void)state;
    struct mqg_conf *conf = samples_conf((const char *const[]){NULL});
    struct mqg_error e;
    assert_string_equal(loader_at(0)->module.name, "line_echo");
    assert_string_equal(loader_at(1)->module.name, "scratch");
    assert_string_equal(loader_at(2)->module.name, "ticker");
    assert_null(loader_at(3));
    assert_int_equal(loader_load(conf, &e), MQG_OK);
    loader_reload(conf);
    mqg_conf_free(&conf);
}

static void test_a_sample_refuses_its_configuration_with_the_place(void **state)
{
    (void)state;
    struct mqg_conf *conf = samples_conf((const char *const[]){"line_echo.greeting=", NULL});
    struct mqg_error e;
    assert_int_equal(loader_load(conf, &e), MQG_INVALID);
    assert_string_equal(e.text, "--set: line_echo.greeting is empty; say something");
    mqg_conf_free(&conf);
}

static void test_the_echo_answers_over_its_listener(void **state)
{
    (void)state;
    struct mqg_error e;
    struct mqg_conf *conf = samples_conf((const char *const[]){
        "listeners.line_echo=127.0.0.1:0", "listeners.amqp=off", "line_echo.greeting=salve", NULL});
    struct event_base *base = event_base_new();
    assert_int_equal(loader_load(conf, &e), MQG_OK);
    assert_int_equal(mqg_workers_init(2, &e), MQG_OK);
    mqg_workers_start();
    assert_int_equal(listen_check(conf, &e), MQG_OK);
    assert_int_equal(listen_open(conf, base, &e), MQG_OK);
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, 4096);
    listen_describe(&text);
    assert_true(mqg_dynbuf_u8(&text, 0));
    assert_memory_equal(text.ptr, "line_echo=127.0.0.1:", 20);
    for (int i = 0; i < 4; i++)
        peer_talk(base, (uint16_t)strtoul(strrchr((char *)text.ptr, ':') + 1, NULL, 10), "one\ntwo\nquit\n",
                  "salve\none\ntwo\nbye\n");
    listen_close();
    mqg_workers_fini();
    event_base_free(base);
    mqg_dynbuf_fini(&text);
    mqg_conf_free(&conf);
}

static void test_a_listener_without_module_is_refused_when_asked_for(void **state)
{
    (void)state;
    struct mqg_error e;
    struct mqg_conf *conf = samples_conf((const char *const[]){"listeners.mqtt_ws=127.0.0.1:0", NULL});
    assert_int_equal(listen_check(conf, &e), MQG_NOT_FOUND);
    assert_non_null(
        strstr(e.text, "--set: listeners.mqtt_ws needs the module mqtt, which is not in modules.path="));
    mqg_conf_free(&conf);
    loader_close();
    conf = samples_conf((const char *const[]){"listeners.proxy_protocol=amqp,nobody", NULL});
    assert_int_equal(listen_check(conf, &e), MQG_INVALID);
    assert_string_equal(e.text, "--set: listeners.proxy_protocol: there is no listener nobody");
    mqg_conf_free(&conf);
}

static void test_the_ticker_ticks_and_stops(void **state)
{
    (void)state;
    struct mqg_error e;
    struct mqg_conf *conf = samples_conf((const char *const[]){"ticker.every=1ms", NULL});
    assert_int_equal(mqg_workers_init(2, &e), MQG_OK);
    mqg_workers_start();
    const struct mqg_service_ops *ops = &loader_find("ticker")->ops.service;
    assert_int_equal(ops->start(conf, &e), MQG_OK);
    uint64_t turns = mqg_count_sum(MQG_COUNT_TURNS), deadline = mqg_clock_now().mono_ms + 50000;
    while (mqg_count_sum(MQG_COUNT_TURNS) < turns + 10) /* its calls are turns */
        assert_true(mqg_clock_now().mono_ms < deadline);
    ops->stop();
    mqg_workers_fini();
    mqg_conf_free(&conf);
}

/* ---- the store's table, through the loader ------------------------------------------------------------------------------------- */

static uint64_t scratch_done_ticket;

static void scratch_done(void *host, uint32_t lane, uint64_t ticket)
{
    (void)host;
    assert_int_equal(lane, 1);
    scratch_done_ticket = ticket;
}

static char scratch_seen[64];

static void scratch_meta(void *arg, struct mqg_slice key, struct mqg_slice value)
{
    (void)arg;
    size_t n = strlen(scratch_seen);
    snprintf(scratch_seen + n, sizeof scratch_seen - n, "%.*s=%.*s;", MQG_SLICE_FMT(key),
             MQG_SLICE_FMT(value));
}

static struct mqg_store_op scratch_op(const char *key, const char *value)
{
    return (struct mqg_store_op){.kind = MQG_OP_META,
                                 .meta = {mqg_slice_str(key), mqg_slice_str(value), value[0] == '\0'}};
}

static void test_the_scratch_store_keeps_the_last_value(void **state)
{
    (void)state;
    struct mqg_error e;
    struct mqg_conf *conf = samples_conf((const char *const[]){NULL});
    const struct mqg_store_ops *ops = &loader_find("scratch")->ops.storage;
    const struct mqg_store_host host = {.done = scratch_done};
    struct mqg_store *s;
    assert_int_equal(ops->open(&s, &host, conf, "store.scratch", 2, &e), MQG_OK);
    assert_int_equal(ops->start(s, &e), MQG_OK);
    const struct mqg_store_op ops1[] = {scratch_op("a", "1"), scratch_op("b", "2"), scratch_op("a", "3")};
    const struct mqg_store_op ops2[] = {scratch_op("b", "")};
    assert_int_equal(ops->submit(s, 1, ops1, 3, 1, 0), MQG_OK);
    assert_int_equal(ops->submit(s, 1, ops2, 1, 2, 0), MQG_OK);
    assert_int_equal(scratch_done_ticket, 2);
    struct mqg_recover r = {.meta = scratch_meta};
    assert_int_equal(ops->recover(s, &r, &e), MQG_OK);
    assert_string_equal(scratch_seen, "a=3;");
    struct mqg_store_stats stats;
    ops->stats(s, &stats);
    assert_int_equal(stats.records, 4);
    assert_null(ops->stream_read);
    ops->close(s);
    ops->stop(s);
    ops->fini(&s);
    mqg_conf_free(&conf);
}

int main(int argc, char **argv)
{
    MQG_ASSERT(argc == 3);
    samples_path = argv[1];
    odd_path = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_refusals_say_what_and_what_is_needed, close_all),
        cmocka_unit_test_teardown(test_a_folder_with_a_bad_module_is_refused, close_all),
        cmocka_unit_test_teardown(test_an_old_module_is_taken_with_what_it_has, close_all),
        cmocka_unit_test_teardown(test_a_module_that_refuses_to_load, close_all),
        cmocka_unit_test_teardown(test_samples_load_in_the_order_of_their_names, close_all),
        cmocka_unit_test_teardown(test_a_sample_refuses_its_configuration_with_the_place, close_all),
        cmocka_unit_test_teardown(test_the_echo_answers_over_its_listener, close_all),
        cmocka_unit_test_teardown(test_a_listener_without_module_is_refused_when_asked_for, close_all),
        cmocka_unit_test_teardown(test_the_ticker_ticks_and_stops, close_all),
        cmocka_unit_test_teardown(test_the_scratch_store_keeps_the_last_value, close_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* legacy_down_test.c - batches become the message sets that Apache Kafka's own library makes of them (DownVectors.java), within
 * bounds, and what cannot be read is refused. */
#include "compression.h"
#include "legacy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ROOM = 1 << 16 };

struct golden {
    const char *name;
    uint8_t magic;
    uint64_t from;
    const char *batches, *set; /* hexadecimal */
};

static const struct golden goldens[] = {
#include "legacy_golden.inc"
};

static struct mqg_slice unhex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    assert_true(n <= ROOM);
    for (size_t i = 0; i < n; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return mqg_slice_of(out, n);
}

struct fixture {
    uint8_t in[ROOM], wanted[ROOM];
    struct mqg_dynbuf scratch, out;
};

static int setup(void **state)
{
    struct fixture *f = malloc(sizeof *f);
    mqg_dynbuf_init(&f->scratch, ROOM);
    mqg_dynbuf_init(&f->out, ROOM);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mqg_dynbuf_fini(&f->scratch);
    mqg_dynbuf_fini(&f->out);
    free(f);
    return 0;
}

static enum mqg_err down(struct fixture *f, struct mqg_slice in, uint8_t magic, uint64_t from,
                         size_t max_bytes)
{
    struct kafka_legacy_down want = {.magic = magic, .from = from, .max_bytes = max_bytes};
    mqg_dynbuf_reset(&f->out);
    return kafka_legacy_down(in, &want, &f->scratch, &f->out);
}

static const struct golden *golden_find(const char *name, uint8_t magic)
{
    for (size_t i = 0; i < MQG_COUNTOF(goldens); i++)
        if (strcmp(goldens[i].name, name) == 0 && goldens[i].magic == magic)
            return &goldens[i];
    fail_msg("no vector %s", name);
    return NULL;
}

static void test_as_kafka_converts(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < MQG_COUNTOF(goldens); i++) {
        const struct golden *g = &goldens[i];
        struct mqg_slice wanted = unhex(g->set, f->wanted);
        assert_int_equal(down(f, unhex(g->batches, f->in), g->magic, g->from, ROOM), MQG_OK);
        if (!mqg_slice_eq(mqg_dynbuf_view(&f->out), wanted))
            fail_msg("%s, magic %u: other bytes", g->name, g->magic);
    }
}

/* Entries of a set; each is whole. */
static size_t entries(struct mqg_slice set)
{
    struct mqg_cursor c = mqg_cursor_of(set);
    size_t n = 0;
    for (; mqg_cursor_left(&c) > 0; n++) {
        (void)mqg_cursor_be64(&c);
        (void)mqg_cursor_slice(&c, mqg_cursor_be32(&c));
        assert_false(c.failed);
    }
    return n;
}

static void test_a_set_ends_where_it_is_full(void **state)
{
    struct fixture *f = *state;
    const struct golden *g = golden_find("from the middle", 1);
    struct mqg_slice in = unhex(g->batches, f->in);
    size_t whole, before = 1;
    assert_int_equal(down(f, in, 1, 0, ROOM), MQG_OK);
    assert_int_equal(entries(mqg_dynbuf_view(&f->out)), 8);
    whole = f->out.len;
    for (size_t max = 0; max <= whole; max++) {
        assert_int_equal(down(f, in, 1, 0, max), MQG_OK);
        size_t n = entries(mqg_dynbuf_view(&f->out));
        assert_true(n == before || n == before + 1);
        assert_true(n == 1 || f->out.len <= max);
        before = n;
    }
    assert_int_equal(before, 8);
}

static void test_damage_is_refused_or_ends_the_set(void **state)
{
    struct fixture *f = *state;
    const struct golden *g = golden_find("created", 1);
    struct mqg_slice in = unhex(g->batches, f->in);
    f->in[MQG_BATCH_HEAD_BYTES] = 0x7f; /* the first record's length */
    assert_int_equal(down(f, in, 1, 0, ROOM), MQG_MALFORMED);
    f->in[16] = 3; /* magic */
    assert_int_equal(down(f, in, 1, 0, ROOM), MQG_UNSUPPORTED);
    in = unhex(golden_find("from the middle", 1)->batches, f->in);
    f->in[in.len - 1] = 0x7f; /* in the second batch */
    assert_int_equal(down(f, in, 1, 0, ROOM), MQG_OK);
    assert_int_equal(entries(mqg_dynbuf_view(&f->out)), 4);
    f->in[22] |= 5; /* a codec that is not there */
    assert_int_equal(down(f, in, 1, 0, ROOM), MQG_UNSUPPORTED);
}

static void test_what_is_too_large_is_refused(void **state)
{
    struct fixture *f = *state;
    struct kafka_legacy_down want = {.magic = 1, .max_bytes = ROOM};
    struct mqg_dynbuf little;
    struct mqg_slice in = unhex(golden_find("gzip", 1)->batches, f->in);
    mqg_dynbuf_init(&little, 16);
    assert_int_equal(kafka_legacy_down(in, &want, &little, &f->out), MQG_TOO_LARGE);
    mqg_dynbuf_reset(&f->out);
    assert_int_equal(kafka_legacy_down(in, &want, &f->scratch, &little), MQG_TOO_LARGE);
    assert_true(want.plain_bytes > 0);
    mqg_dynbuf_fini(&little);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_as_kafka_converts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_set_ends_where_it_is_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_refused_or_ends_the_set, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_too_large_is_refused, setup, teardown),
    };
    kafka_compression_register();
    return cmocka_run_group_tests_name("kafka_legacy_down", tests, NULL, NULL);
}

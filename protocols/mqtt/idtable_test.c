/* idtable_test.c - packet identifiers in use, against a plain array: in order, at random, around the end. */
#include "mqtt.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { IDS = 65536 };

static uint32_t seen_all(const struct mqtt_ids *t, const uint8_t *there)
{
    uint32_t n = 0;
    struct mqtt_id *x;
    for (uint32_t at = 0; (x = mqtt_ids_next(t, &at)) != NULL; n++) {
        assert_true(there[x->id]);
        assert_int_equal(x->qseq, x->id);
    }
    return n;
}

static void flip(struct mqtt_ids *t, uint8_t *there, uint16_t id)
{
    struct mqtt_id *x = mqtt_ids_get(t, id);
    assert_int_equal(x != NULL, there[id]);
    if (x) {
        mqtt_ids_drop(t, id);
    } else {
        x = mqtt_ids_add(t, id);
        x->state = MQTT_OUT_QOS1;
        x->qseq = id;
    }
    there[id] = !there[id];
    assert_int_equal(mqtt_ids_get(t, id) != NULL, there[id]);
}

static void test_at_random(void **state)
{
    (void)state;
    static uint8_t there[IDS];
    struct mqtt_ids t = {0};
    uint32_t seed = 7;
    static const uint32_t spans[] = {4, 64, 300, 65535}; /* ids apart by a power of two share their home */
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned step = 0; step < 20000; step++) {
            seed = seed * 1664525 + 1013904223;
            uint32_t i = (seed >> 8) % spans[round];
            flip(&t, there, (uint16_t)(1 + (round < 3 ? i * 256 % 65535 + (i & 7) : i)));
            if (step % 499 == 0)
                assert_int_equal(seen_all(&t, there), t.n);
        }
    }
    for (uint32_t id = 0; id < IDS; id++) {
        assert_int_equal(mqtt_ids_get(&t, (uint16_t)id) != NULL, there[id]);
        mqtt_ids_drop(&t, (uint16_t)id);
    }
    assert_int_equal(t.n, 0);
    mqtt_ids_fini(&t);
}

static void test_a_window_that_moves(void **state)
{
    (void)state;
    static uint8_t there[IDS];
    struct mqtt_ids t = {0};
    for (uint32_t i = 0; i < 200000; i++) {
        flip(&t, there, (uint16_t)(1 + i % 49151));
        if (i >= 1000)
            flip(&t, there, (uint16_t)(1 + (i - 1000) % 49151));
    }
    assert_int_equal(seen_all(&t, there), 1000);
    mqtt_ids_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_random),
        cmocka_unit_test(test_a_window_that_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

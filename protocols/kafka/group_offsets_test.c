/* group_offsets_test.c - a group's rows: numbers, transactions, retention, the store's form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "group_offsets.h"

static struct kafka_offset_row row(const char *topic, uint64_t partition_id, int64_t offset)
{
    return (struct kafka_offset_row){.topic = mqg_slice_str(topic),
                                     .partition_id = partition_id,
                                     .offset = offset,
                                     .leader_epoch = 3,
                                     .commit_ms = 1000,
                                     .metadata = MQG_SLICE_LIT("note")};
}

static int64_t offset_of(const struct group_offsets *o, uint64_t partition_id)
{
    const struct kafka_offset_row *r = group_offsets_get(o, partition_id);
    return r != NULL ? r->offset : -1;
}

static void test_numbers(void **state)
{
    (void)state;
    struct group_offsets o;
    group_offsets_init(&o);
    uint64_t first = group_offsets_number(&o), second = group_offsets_number(&o);
    struct kafka_offset_row r = row("t", 7, 10), later = row("t", 7, 20);
    group_offsets_set(&o, &later, second);
    group_offsets_set(&o, &r, first); /* came late */
    assert_int_equal(offset_of(&o, 7), 20);
    assert_true(mqg_slice_eq(group_offsets_get(&o, 7)->metadata, MQG_SLICE_LIT("note")));
    assert_true(group_offsets_forget(&o, 7) && !group_offsets_forget(&o, 7));
    assert_int_equal(group_offsets_count(&o), 0);
    group_offsets_fini(&o);
}

static void test_transactions(void **state)
{
    (void)state;
    struct group_offsets o;
    struct kafka_offset_row a = row("t", 1, 5), b = row("t", 1, 6), c = row("t", 2, 9);
    group_offsets_init(&o);
    group_offsets_set(&o, &a, 0);
    group_offsets_hold(&o, 77, &b);
    group_offsets_hold(&o, 77, &a);
    group_offsets_hold(&o, 77, &b);
    group_offsets_hold(&o, 78, &c);
    assert_int_equal(group_offsets_pending(&o, 77)->rows.n, 1);
    assert_true(group_offsets_unstable(&o, 1) && group_offsets_unstable(&o, 2) &&
                !group_offsets_unstable(&o, 3));
    assert_int_equal(offset_of(&o, 1), 5);
    group_offsets_release(&o, 78, false, 1);
    assert_true(offset_of(&o, 2) == -1 && !group_offsets_unstable(&o, 2));
    group_offsets_release(&o, 77, true, 1);
    assert_true(offset_of(&o, 1) == 6 && !group_offsets_unstable(&o, 1));
    group_offsets_release(&o, 77, true, 1);
    group_offsets_hold(&o, 79, &c);
    group_offsets_fini(&o);
}

static bool kept(void *arg, struct mqg_slice topic)
{
    return mqg_slice_eq(topic, mqg_slice_str(arg));
}

static void gone(void *arg, const struct kafka_offset_row *r)
{
    (void)arg;
    assert_false(r->partition_id == 3);
}

static void test_retention(void **state)
{
    (void)state;
    struct group_offsets o;
    struct kafka_offset_row plain = row("t", 1, 5), own = row("t", 2, 5), safe = row("kept", 3, 5),
                            held = row("t", 4, 5);
    own.expire_ms = 9000;
    group_offsets_init(&o);
    group_offsets_set(&o, &plain, 0);
    group_offsets_set(&o, &own, 0);
    group_offsets_set(&o, &safe, 0);
    group_offsets_set(&o, &held, 0);
    group_offsets_hold(&o, 7, &held);
    char *word = (char[]){"kept"};
    assert_int_equal(group_offsets_expire(&o, 5999, 5000, 0, kept, gone, word), 0);
    assert_int_equal(group_offsets_expire(&o, 6000, 5000, 2000, kept, gone, word), 0); /* empty since 2000 */
    assert_int_equal(group_offsets_expire(&o, 6000, 5000, 0, kept, gone, word), 1);
    assert_int_equal(offset_of(&o, 1), -1);
    assert_int_equal(group_offsets_expire(&o, 9000, 5000, 0, kept, gone, word), 1);
    assert_int_equal(group_offsets_count(&o), 2);
    group_offsets_fini(&o);
}

static void test_form(void **state)
{
    (void)state;
    uint8_t text[GROUP_POSITION_HEAD_BYTES + 16];
    struct kafka_offset_row r = row("t", 1, 5), back = row("t", 1, 5);
    r.expire_ms = 42;
    struct mqg_slice form = group_position_encode(&r, text);
    group_position_decode(form, 1, &back);
    assert_true(back.leader_epoch == 3 && back.commit_ms == 1000 && back.expire_ms == 42);
    assert_true(mqg_slice_eq(back.metadata, MQG_SLICE_LIT("note")));
    for (size_t cut = 0; cut < GROUP_POSITION_HEAD_BYTES; cut++) {
        group_position_decode(mqg_slice_of(text, cut), 77, &back);
        assert_true(back.leader_epoch == -1 && back.commit_ms == 77 && back.metadata.len == 0);
    }
    r.metadata = MQG_SLICE_NONE;
    r.leader_epoch = -1;
    group_position_decode(group_position_encode(&r, text), 1, &back);
    assert_true(back.metadata.ptr == NULL && back.leader_epoch == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_transactions),
        cmocka_unit_test(test_retention),
        cmocka_unit_test(test_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

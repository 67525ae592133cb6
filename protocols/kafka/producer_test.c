/* producer_test.c - sequences, epochs and transactions of one partition, as tables of what is appended and what must be answered. */
#include "producer.h"

#include <setjmp.h>

#include <cmocka.h>

enum { ID = 7 };

struct step {
    int16_t epoch;
    int32_t base, count;
    bool transactional;
    enum kafka_verdict verdict;
    uint64_t offset; /* of a duplicate */
};

/* Appends what may be appended, at offsets 0, 1, 2... by records. */
static uint64_t run(struct kafka_producers *ps, const struct step *steps, size_t n, uint64_t end)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t offset = 99999;
        struct kafka_sequence s = {
            ID,
            steps[i].epoch,
            steps[i].base,
            (int32_t)(((uint32_t)steps[i].base + (uint32_t)steps[i].count - 1) & INT32_MAX),
            steps[i].transactional,
            i,
            0};
        enum kafka_verdict verdict = kafka_producers_check(ps, &s, &offset);
        assert_int_equal(verdict, steps[i].verdict);
        if (verdict == KAFKA_VERDICT_DUPLICATE)
            assert_int_equal(offset, steps[i].offset);
        if (verdict != KAFKA_VERDICT_APPEND)
            continue;
        kafka_producers_note(ps, &s, end);
        end += (uint64_t)steps[i].count;
    }
    return end;
}

static void sequences_in_order_are_appended_and_known_again(void **state)
{
    (void)state;
    struct kafka_producers ps;
    kafka_producers_init(&ps);
    static const struct step steps[] = {
        {0, 0, 10, false, KAFKA_VERDICT_APPEND, 0},       {0, 10, 1, false, KAFKA_VERDICT_APPEND, 0},
        {0, 12, 1, false, KAFKA_VERDICT_OUT_OF_ORDER, 0}, {0, 11, 1, false, KAFKA_VERDICT_APPEND, 0},
        {0, 0, 10, false, KAFKA_VERDICT_DUPLICATE, 0},    {0, 11, 1, false, KAFKA_VERDICT_DUPLICATE, 11},
        {0, 12, 1, false, KAFKA_VERDICT_APPEND, 0},       {0, 13, 1, false, KAFKA_VERDICT_APPEND, 0},
        {0, 0, 10, false, KAFKA_VERDICT_DUPLICATE, 0},    {0, 14, 1, false, KAFKA_VERDICT_APPEND, 0},
        {0, 0, 10, false, KAFKA_VERDICT_OLD, 0},          {0, 10, 1, false, KAFKA_VERDICT_DUPLICATE, 10},
        {0, 10, 2, false, KAFKA_VERDICT_OLD, 0},          {0, 16, 1, false, KAFKA_VERDICT_OUT_OF_ORDER, 0},
        {0, 14, 2, false, KAFKA_VERDICT_OUT_OF_ORDER, 0},
    };
    assert_int_equal(run(&ps, steps, MQG_COUNTOF(steps), 0), 15);
    kafka_producers_fini(&ps);
}

static void sequences_wrap(void **state)
{
    (void)state;
    struct kafka_producers ps;
    kafka_producers_init(&ps);
    static const struct step steps[] = {
        {0, INT32_MAX - 1, 1, false, KAFKA_VERDICT_APPEND, 0}, /* nothing is known of it: on trust */
        {0, INT32_MAX, 3, false, KAFKA_VERDICT_APPEND, 0},     /* MAX, 0, 1 */
        {0, INT32_MAX, 3, false, KAFKA_VERDICT_DUPLICATE, 1},
        {0, 2, 1, false, KAFKA_VERDICT_APPEND, 0},
        {0, 5, 1, false, KAFKA_VERDICT_OUT_OF_ORDER, 0},
        {0, INT32_MAX - 2, 1, false, KAFKA_VERDICT_OUT_OF_ORDER,
         0}, /* below what was taken on trust nothing is known */
    };
    (void)run(&ps, steps, MQG_COUNTOF(steps), 0);
    kafka_producers_fini(&ps);
}

static void a_newer_epoch_fences_and_begins_at_zero(void **state)
{
    (void)state;
    struct kafka_producers ps;
    kafka_producers_init(&ps);
    static const struct step steps[] = {
        {3, 0, 2, false, KAFKA_VERDICT_APPEND, 0},       {2, 2, 1, false, KAFKA_VERDICT_FENCED, 0},
        {4, 2, 1, false, KAFKA_VERDICT_OUT_OF_ORDER, 0}, {4, 0, 2, false, KAFKA_VERDICT_APPEND, 0},
        {3, 0, 2, false, KAFKA_VERDICT_FENCED, 0},       {4, 0, 2, false, KAFKA_VERDICT_DUPLICATE, 2},
    };
    (void)run(&ps, steps, MQG_COUNTOF(steps), 0);
    kafka_producers_fini(&ps);
}

static void what_the_store_remembers_is_known_again(void **state)
{
    (void)state;
    struct kafka_producers ps;
    kafka_producers_init(&ps);
    static const struct mqg_producer_state found[] = {
        {ID, 1, 0, 4, 100}, {ID, 1, 5, 9, 105}, {8, 2, -1, -1, 300}, {9, 2, 70, 79, 200}};
    for (size_t i = 0; i < MQG_COUNTOF(found); i++)
        kafka_producers_found(&ps, &found[i], 0);
    static const struct step steps[] = {
        {1, 0, 5, false, KAFKA_VERDICT_DUPLICATE, 100},
        {1, 5, 5, false, KAFKA_VERDICT_DUPLICATE, 105},
        {1, 12, 1, false, KAFKA_VERDICT_OUT_OF_ORDER, 0},
        {1, 10, 1, false, KAFKA_VERDICT_APPEND, 0},
    };
    (void)run(&ps, steps, MQG_COUNTOF(steps), 110);
    uint64_t offset;
    struct kafka_sequence zombie = {8, 1, 4, 4, false, 0, 0}, later = {8, 2, 4, 4, false, 0, 0};
    assert_int_equal(kafka_producers_check(&ps, &zombie, &offset), KAFKA_VERDICT_FENCED);
    assert_int_equal(kafka_producers_check(&ps, &later, &offset), KAFKA_VERDICT_OUT_OF_ORDER);
    struct kafka_sequence old = {9, 2, 60, 69, false, 0, 0};
    assert_int_equal(kafka_producers_check(&ps, &old, &offset), KAFKA_VERDICT_OLD);
    kafka_producers_fini(&ps);
}

static void silent_producers_are_forgotten(void **state)
{
    (void)state;
    struct kafka_producers ps;
    kafka_producers_init(&ps);
    struct kafka_sequence one = {1, 0, 0, 0, false, 1000, 0}, two = {2, 0, 0, 0, false, 2000, 0};
    kafka_producers_note(&ps, &one, 0);
    kafka_producers_note(&ps, &two, 1);
    assert_true(kafka_producers_begin(&ps, 3, 0, 2, 500));
    assert_int_equal(kafka_producers_expire(&ps, 2000, NULL, NULL), 1);
    assert_null(kafka_producers_find(&ps, 1));
    assert_non_null(kafka_producers_find(&ps, 2));
    assert_non_null(kafka_producers_find(&ps, 3)); /* in a transaction */
    kafka_producers_fini(&ps);
}

/* ---- transactions --------------------------------------------------------------------------------------------------- */

static void only_what_joined_is_written_in_a_transaction(void **state)
{
    (void)state;
    struct kafka_producers ps;
    uint64_t first;
    kafka_producers_init(&ps);
    static const struct step before[] = {{0, 0, 1, true, KAFKA_VERDICT_NO_TXN, 0}};
    static const struct step during[] = {{0, 0, 1, true, KAFKA_VERDICT_APPEND, 0},
                                         {0, 1, 1, false, KAFKA_VERDICT_NO_TXN, 0},
                                         {0, 1, 1, true, KAFKA_VERDICT_APPEND, 0}};
    static const struct step after[] = {{0, 1, 1, true, KAFKA_VERDICT_DUPLICATE, 1},
                                        {0, 2, 1, true, KAFKA_VERDICT_NO_TXN, 0}};
    static const struct step again[] = {{0, 2, 1, true, KAFKA_VERDICT_APPEND, 0}};
    (void)run(&ps, before, MQG_COUNTOF(before), 0);
    assert_true(kafka_producers_begin(&ps, ID, 0, 0, 0));
    assert_int_equal(run(&ps, during, MQG_COUNTOF(during), 0), 2);
    assert_true(kafka_producers_end(&ps, ID, 0, 0, 2, true, &first));
    assert_int_equal(first, 0);
    (void)run(&ps, after, MQG_COUNTOF(after), 3);
    assert_true(kafka_producers_begin(&ps, ID, 0, 3, 0));
    (void)run(&ps, again, MQG_COUNTOF(again), 3); /* sequences go on over transactions of an epoch */
    kafka_producers_fini(&ps);
}

static void a_marker_with_a_newer_epoch_fences(void **state)
{
    (void)state;
    struct kafka_producers ps;
    uint64_t first;
    kafka_producers_init(&ps);
    assert_true(kafka_producers_begin(&ps, ID, 0, 0, 0));
    static const struct step one[] = {{0, 0, 1, true, KAFKA_VERDICT_APPEND, 0}};
    (void)run(&ps, one, 1, 0);
    assert_true(kafka_producers_end(&ps, ID, 1, 0, 1, false, &first));
    static const struct step zombie[] = {{0, 1, 1, true, KAFKA_VERDICT_FENCED, 0}};
    (void)run(&ps, zombie, 1, 2);
    assert_false(kafka_producers_begin(&ps, ID, 0, 2, 0));
    assert_true(kafka_producers_begin(&ps, ID, 2, 2, 0));
    static const struct step fresh[] = {{2, 1, 1, true, KAFKA_VERDICT_OUT_OF_ORDER, 0},
                                        {2, 0, 1, true, KAFKA_VERDICT_APPEND, 0}};
    (void)run(&ps, fresh, MQG_COUNTOF(fresh), 2);
    kafka_producers_fini(&ps);
}

static void append(struct kafka_producers *ps, int64_t id, int32_t sequence, uint64_t offset)
{
    uint64_t found;
    struct kafka_sequence s = {id, 0, sequence, sequence, true, 0, 0};
    assert_int_equal(kafka_producers_check(ps, &s, &found), KAFKA_VERDICT_APPEND);
    kafka_producers_note(ps, &s, offset);
}

static void the_last_stable_offset_waits_for_the_oldest_and_for_durable_markers(void **state)
{
    (void)state;
    struct kafka_producers ps;
    uint64_t first;
    kafka_producers_init(&ps);
    assert_int_equal(kafka_producers_lso(&ps, 10), 10);
    assert_true(kafka_producers_begin(&ps, 1, 0, 10, 0));
    assert_true(kafka_producers_begin(&ps, 2, 0, 10, 0));
    append(&ps, 1, 0, 12);
    append(&ps, 2, 0, 13);
    append(&ps, 1, 1, 14);
    assert_int_equal(kafka_producers_lso(&ps, 11), 11);
    assert_int_equal(kafka_producers_lso(&ps, 15), 12);
    assert_true(kafka_producers_end(&ps, 1, 0, 0, 15, true, &first));
    assert_int_equal(first, 12);
    assert_int_equal(kafka_producers_lso(&ps, 15), 12); /* the marker is not durable */
    assert_int_equal(kafka_producers_lso(&ps, 16), 13);
    assert_true(kafka_producers_end(&ps, 2, 0, 0, 16, false, &first));
    assert_int_equal(kafka_producers_lso(&ps, 17), 17);
    kafka_producers_fini(&ps);
}

static void rolled_back_transactions_are_told_by_their_range(void **state)
{
    (void)state;
    struct kafka_producers ps;
    uint64_t first;
    size_t n;
    kafka_producers_init(&ps);
    kafka_producers_aborted_found(&ps, &(struct kafka_aborted){5, 30, 40});
    kafka_producers_aborted_found(&ps, &(struct kafka_aborted){4, 10, 20}); /* in any order */
    assert_true(kafka_producers_begin(&ps, 1, 0, 50, 0));
    append(&ps, 1, 0, 55);
    assert_true(kafka_producers_end(&ps, 1, 0, 0, 60, false, &first));
    assert_true(kafka_producers_begin(&ps, 1, 0, 61, 0));
    append(&ps, 1, 1, 61);
    assert_true(kafka_producers_end(&ps, 1, 0, 0, 62, true, &first)); /* not a rollback */
    static const struct {
        uint64_t from;
        size_t n;
        uint64_t marker;
    } rows[] = {{0, 3, 20}, {20, 3, 20}, {21, 2, 40}, {40, 2, 40}, {41, 1, 60}, {60, 1, 60}, {61, 0, 0}};
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        const struct kafka_aborted *a = kafka_producers_aborted(&ps, rows[i].from, &n);
        assert_int_equal(n, rows[i].n);
        if (n > 0)
            assert_int_equal(a->marker, rows[i].marker);
    }
    assert_int_equal(kafka_producers_trim(&ps, 40, NULL, NULL), 1);
    const struct kafka_aborted *a = kafka_producers_aborted(&ps, 0, &n);
    assert_int_equal(n, 2);
    assert_int_equal(a[1].first, 55);
    kafka_producers_fini(&ps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_in_order_are_appended_and_known_again),
        cmocka_unit_test(sequences_wrap),
        cmocka_unit_test(a_newer_epoch_fences_and_begins_at_zero),
        cmocka_unit_test(what_the_store_remembers_is_known_again),
        cmocka_unit_test(silent_producers_are_forgotten),
        cmocka_unit_test(only_what_joined_is_written_in_a_transaction),
        cmocka_unit_test(a_marker_with_a_newer_epoch_fences),
        cmocka_unit_test(the_last_stable_offset_waits_for_the_oldest_and_for_durable_markers),
        cmocka_unit_test(rolled_back_transactions_are_told_by_their_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

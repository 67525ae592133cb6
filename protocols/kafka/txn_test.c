/* txn_test.c - the steps of a transactional id: each state with each request, epochs, and the record in the metadata. */
#include "txn.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static int64_t next_id = 100;
static int64_t fresh_id(void)
{
    return next_id++;
}

/* Producer 7 with epoch 3, in that state. */
static struct kafka_txn *in_state(enum kafka_txn_state state)
{
    struct kafka_txn *t = kafka_txn_new(MQG_SLICE_LIT("/"), MQG_SLICE_LIT("tx"));
    t->producer_id = 7;
    t->epoch = 3;
    t->timeout_ms = 60000;
    if (state == KAFKA_TXN_EMPTY)
        return t;
    kafka_txn_add_part(t, 11, 5, 1000);
    (void)kafka_txn_add_group(t, MQG_SLICE_LIT("g"), 2000);
    if (state == KAFKA_TXN_ONGOING)
        return t;
    kafka_txn_prepare(t, state == KAFKA_TXN_PREPARE_COMMIT || state == KAFKA_TXN_COMPLETE_COMMIT);
    if (state == KAFKA_TXN_COMPLETE_COMMIT || state == KAFKA_TXN_COMPLETE_ABORT)
        kafka_txn_complete(t);
    assert_int_equal(t->state, state);
    return t;
}

static void only_the_present_producer_may_act(void **state)
{
    (void)state;
    struct kafka_txn *t = in_state(KAFKA_TXN_ONGOING);
    static const struct {
        int64_t id;
        int16_t epoch;
        bool busy;
        enum kafka_error error;
    } rows[] = {
        {7, 3, false, KAFKA_NONE},
        {8, 3, false, KAFKA_INVALID_PRODUCER_ID_MAPPING},
        {7, 2, false, KAFKA_PRODUCER_FENCED},
        {7, 4, false, KAFKA_PRODUCER_FENCED},
        {7, 3, true, KAFKA_CONCURRENT_TRANSACTIONS},
        {7, 2, true, KAFKA_PRODUCER_FENCED},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        t->busy = rows[i].busy;
        assert_int_equal(kafka_txn_check(t, rows[i].id, rows[i].epoch), rows[i].error);
    }
    kafka_txn_free(&t);
}

static void ends_are_allowed_by_state(void **state)
{
    (void)state;
    static const struct {
        enum kafka_txn_state state;
        bool commit;
        enum kafka_error error;
        bool done;
    } rows[] = {
        {KAFKA_TXN_EMPTY, true, KAFKA_INVALID_TXN_STATE, false},
        {KAFKA_TXN_EMPTY, false, KAFKA_INVALID_TXN_STATE, false},
        {KAFKA_TXN_ONGOING, true, KAFKA_NONE, false},
        {KAFKA_TXN_ONGOING, false, KAFKA_NONE, false},
        {KAFKA_TXN_COMPLETE_COMMIT, true, KAFKA_NONE, true},
        {KAFKA_TXN_COMPLETE_COMMIT, false, KAFKA_INVALID_TXN_STATE, false},
        {KAFKA_TXN_COMPLETE_ABORT, false, KAFKA_NONE, true},
        {KAFKA_TXN_COMPLETE_ABORT, true, KAFKA_INVALID_TXN_STATE, false},
        {KAFKA_TXN_PREPARE_COMMIT, true, KAFKA_INVALID_TXN_STATE, false}, /* busy: asked before that */
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        bool done = !rows[i].done;
        struct kafka_txn *t = in_state(rows[i].state);
        assert_int_equal(kafka_txn_may_end(t, rows[i].commit, &done), rows[i].error);
        assert_int_equal(done, rows[i].done);
        kafka_txn_free(&t);
    }
}

/* KIP-890. Producer 7, epoch 3, before that 2. */
static void ends_that_raise_the_epoch(void **state)
{
    (void)state;
    static const struct {
        enum kafka_txn_state state;
        int64_t id;
        int16_t epoch;
        bool commit;
        enum kafka_txn_end step;
        enum kafka_error error;
    } rows[] = {
        {KAFKA_TXN_ONGOING, 7, 3, true, KAFKA_END_ALL, 0},
        {KAFKA_TXN_ONGOING, 7, 3, false, KAFKA_END_ALL, 0},
        {KAFKA_TXN_ONGOING, 7, 2, true, KAFKA_END_REFUSED, KAFKA_PRODUCER_FENCED},
        {KAFKA_TXN_ONGOING, 7, 4, true, KAFKA_END_REFUSED, KAFKA_PRODUCER_FENCED},
        {KAFKA_TXN_ONGOING, 8, 3, true, KAFKA_END_REFUSED, KAFKA_INVALID_PRODUCER_ID_MAPPING},
        {KAFKA_TXN_COMPLETE_COMMIT, 7, 2, true, KAFKA_END_ANSWER, 0}, /* asked again */
        {KAFKA_TXN_COMPLETE_ABORT, 7, 2, false, KAFKA_END_ANSWER, 0},
        {KAFKA_TXN_COMPLETE_ABORT, 7, 2, true, KAFKA_END_REFUSED, KAFKA_INVALID_TXN_STATE},
        {KAFKA_TXN_COMPLETE_COMMIT, 7, 1, true, KAFKA_END_REFUSED, KAFKA_PRODUCER_FENCED},
        {KAFKA_TXN_COMPLETE_COMMIT, 7, 3, true, KAFKA_END_REFUSED,
         KAFKA_INVALID_TXN_STATE}, /* the next one */
        {KAFKA_TXN_COMPLETE_COMMIT, 7, 3, false, KAFKA_END_NOTHING, 0},
        {KAFKA_TXN_EMPTY, 7, 3, false, KAFKA_END_NOTHING, 0},
        {KAFKA_TXN_EMPTY, 7, 3, true, KAFKA_END_REFUSED, KAFKA_INVALID_TXN_STATE},
        {KAFKA_TXN_COMPLETE_COMMIT, 7, KAFKA_NO_EPOCH, true, KAFKA_END_REFUSED, KAFKA_PRODUCER_FENCED},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        enum kafka_error error;
        struct kafka_txn *t = in_state(rows[i].state);
        t->last_epoch = 2;
        assert_int_equal(kafka_txn_end(t, rows[i].id, rows[i].epoch, rows[i].commit, &error), rows[i].step);
        assert_int_equal(error, rows[i].error);
        t->busy = 1;
        assert_int_equal(kafka_txn_end(t, rows[i].id, rows[i].epoch, rows[i].commit, &error),
                         KAFKA_END_REFUSED);
        kafka_txn_free(&t);
    }
}

static void an_end_with_the_last_epoch_gives_a_new_id(void **state)
{
    (void)state;
    enum kafka_error error;
    struct kafka_txn *t = in_state(KAFKA_TXN_ONGOING);
    t->epoch = KAFKA_EPOCH_MAX;
    kafka_txn_fence(t, true);
    kafka_txn_prepare(t, true);
    kafka_txn_complete(t);
    assert_true(kafka_txn_is_used_up(t));
    assert_int_equal(kafka_txn_check(t, 7, INT16_MAX), KAFKA_PRODUCER_FENCED); /* nobody has it */
    kafka_txn_rotate(t, fresh_id);
    assert_true(t->producer_id >= 100 && t->epoch == 0 && !kafka_txn_is_used_up(t));
    assert_int_equal(kafka_txn_end(t, 7, KAFKA_EPOCH_MAX, true, &error), KAFKA_END_ANSWER); /* asked again */
    assert_int_equal(kafka_txn_end(t, 7, KAFKA_EPOCH_MAX, false, &error), KAFKA_END_REFUSED);
    assert_int_equal(kafka_txn_end(t, 7, 5, true, &error), KAFKA_END_REFUSED);
    t->epoch = 1; /* and has ended another one since */
    assert_int_equal(kafka_txn_end(t, 7, KAFKA_EPOCH_MAX, true, &error), KAFKA_END_REFUSED);
    kafka_txn_free(&t);
}

static void init_by_state_and_by_who_asks(void **state)
{
    (void)state;
    static const struct {
        enum kafka_txn_state state;
        int64_t id;
        int16_t epoch, last;
        enum kafka_txn_init step;
        enum kafka_error error;
    } rows[] = {
        {KAFKA_TXN_EMPTY, -1, -1, -1, KAFKA_INIT_RAISE, 0},
        {KAFKA_TXN_COMPLETE_COMMIT, -1, -1, -1, KAFKA_INIT_RAISE, 0},
        {KAFKA_TXN_ONGOING, -1, -1, -1, KAFKA_INIT_ABORT, 0},
        {KAFKA_TXN_ONGOING, 7, 3, -1, KAFKA_INIT_ABORT, 0},
        {KAFKA_TXN_EMPTY, 7, 3, -1, KAFKA_INIT_RAISE, 0},
        {KAFKA_TXN_EMPTY, 7, 2, 2, KAFKA_INIT_ANSWER, 0}, /* asked again: the answer was lost */
        {KAFKA_TXN_EMPTY, 7, 2, -1, KAFKA_INIT_REFUSED, KAFKA_PRODUCER_FENCED},
        {KAFKA_TXN_COMPLETE_ABORT, 7, 1, 2, KAFKA_INIT_REFUSED, KAFKA_PRODUCER_FENCED},
        {KAFKA_TXN_EMPTY, 6, 3, -1, KAFKA_INIT_REFUSED, KAFKA_PRODUCER_FENCED},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        enum kafka_error error;
        struct kafka_txn *t = in_state(rows[i].state);
        t->last_epoch = rows[i].last;
        assert_int_equal(kafka_txn_init(t, rows[i].id, rows[i].epoch, &error), rows[i].step);
        assert_int_equal(error, rows[i].error);
        t->busy = true;
        assert_int_equal(kafka_txn_init(t, rows[i].id, rows[i].epoch, &error), KAFKA_INIT_REFUSED);
        assert_int_equal(error, KAFKA_CONCURRENT_TRANSACTIONS);
        kafka_txn_free(&t);
    }
}

static void epochs_rise_and_an_id_is_left_at_the_last(void **state)
{
    (void)state;
    enum kafka_error error;
    struct kafka_txn *t = kafka_txn_new(MQG_SLICE_LIT("/"), MQG_SLICE_LIT("tx"));
    next_id = 100;
    kafka_txn_raise(t, false, fresh_id);
    assert_true(t->producer_id == 100 && t->epoch == 0 && t->last_epoch == KAFKA_NO_EPOCH);
    kafka_txn_raise(t, false, fresh_id);
    assert_true(t->producer_id == 100 && t->epoch == 1 && t->last_epoch == KAFKA_NO_EPOCH);
    kafka_txn_raise(t, true, fresh_id);
    assert_true(t->epoch == 2 && t->last_epoch == 1);
    t->epoch = KAFKA_EPOCH_MAX;
    kafka_txn_fence(t, true); /* there is always one more for a fence */
    assert_int_equal(t->epoch, INT16_MAX);
    /* It is never given to anybody: a producer with it could not be fenced. */
    assert_int_equal(kafka_txn_init(t, 100, KAFKA_EPOCH_MAX, &error), KAFKA_INIT_RAISE);
    kafka_txn_raise(t, true, fresh_id);
    assert_true(t->producer_id == 101 && t->epoch == 0 && t->last_epoch == KAFKA_NO_EPOCH);
    kafka_txn_free(&t);
}

/* A producer that asked for its next epoch, and was given a new id, asks again: the answer was lost. */
static void a_new_id_is_told_again_to_who_had_the_old(void **state)
{
    (void)state;
    enum kafka_error error;
    for (int same = 0; same < 2; same++) {
        struct kafka_txn *t = in_state(KAFKA_TXN_EMPTY);
        t->epoch = KAFKA_EPOCH_MAX;
        kafka_txn_raise(t, same, fresh_id);
        assert_int_equal(kafka_txn_init(t, 7, KAFKA_EPOCH_MAX - 1, &error), KAFKA_INIT_REFUSED);
        assert_int_equal(kafka_txn_init(t, 8, KAFKA_EPOCH_MAX, &error), KAFKA_INIT_REFUSED);
        assert_int_equal(kafka_txn_init(t, 7, KAFKA_EPOCH_MAX, &error),
                         same ? KAFKA_INIT_ANSWER : KAFKA_INIT_REFUSED); /* another took over */
        assert_int_equal(error, same ? KAFKA_NONE : KAFKA_PRODUCER_FENCED);
        kafka_txn_raise(t, true, fresh_id);
        assert_int_equal(kafka_txn_init(t, 7, KAFKA_EPOCH_MAX, &error), KAFKA_INIT_REFUSED);
        kafka_txn_free(&t);
    }
}

static void a_fenced_producer_learns_the_new_epoch_only_if_it_may(void **state)
{
    (void)state;
    enum kafka_error error;
    struct kafka_txn *t = in_state(KAFKA_TXN_ONGOING);
    kafka_txn_fence(t, true); /* a timeout: nobody else took over */
    kafka_txn_prepare(t, false);
    kafka_txn_complete(t);
    assert_int_equal(kafka_txn_check(t, 7, 3), KAFKA_PRODUCER_FENCED);
    assert_int_equal(kafka_txn_init(t, 7, 3, &error), KAFKA_INIT_ANSWER);
    kafka_txn_free(&t);
    t = in_state(KAFKA_TXN_ONGOING);
    kafka_txn_fence(t, false); /* another producer */
    kafka_txn_prepare(t, false);
    kafka_txn_complete(t);
    assert_int_equal(kafka_txn_init(t, 7, 3, &error), KAFKA_INIT_REFUSED);
    assert_int_equal(error, KAFKA_PRODUCER_FENCED);
    kafka_txn_free(&t);
}

static void a_transaction_begins_with_what_joins_first(void **state)
{
    (void)state;
    struct kafka_txn *t = in_state(KAFKA_TXN_COMPLETE_COMMIT);
    assert_int_equal(t->nparts, 0);
    assert_int_equal(t->groups.n, 0);
    kafka_txn_add_part(t, 21, 9, 5000);
    kafka_txn_add_part(t, 22, 0, 6000);
    assert_true(t->state == KAFKA_TXN_ONGOING && t->start_ms == 5000 && t->nparts == 2);
    assert_true(kafka_txn_has_part(t, 22) && !kafka_txn_has_part(t, 11));
    kafka_txn_free(&t);
}

static struct kafka_offset_row row_of(uint64_t partition, int64_t offset, struct mqg_slice metadata)
{
    return (struct kafka_offset_row){.topic = MQG_SLICE_LIT("topic"),
                                     .index = 2,
                                     .partition_id = partition,
                                     .offset = offset,
                                     .leader_epoch = 4,
                                     .commit_ms = 77,
                                     .metadata = metadata};
}

static void a_later_position_replaces_the_earlier(void **state)
{
    (void)state;
    struct kafka_txn *t = in_state(KAFKA_TXN_ONGOING);
    struct kafka_txn_group *g = kafka_txn_group(t, MQG_SLICE_LIT("g"));
    struct kafka_offset_row one = row_of(11, 5, MQG_SLICE_LIT("")), two = row_of(11, 6, MQG_SLICE_LIT("m"));
    kafka_txn_add_row(g, &one);
    kafka_txn_add_row(g, &two);
    assert_int_equal(g->rows.n, 1);
    assert_int_equal(((struct kafka_txn_row *)g->rows.items[0])->row.offset, 6);
    assert_null(kafka_txn_group(t, MQG_SLICE_LIT("other")));
    kafka_txn_free(&t);
}

/* ---- the record ----------------------------------------------------------------------------------------------------------- */

static void record_put(struct kafka_txn *t, struct mqg_dynbuf *out)
{
    mqg_dynbuf_init(out, 1 << 20);
    kafka_txn_record(t, out);
    assert_false(out->failed);
}

static void the_record_says_all(void **state)
{
    (void)state;
    struct mqg_dynbuf out, key;
    struct kafka_txn *t = in_state(KAFKA_TXN_ONGOING);
    struct kafka_txn_group *g = kafka_txn_group(t, MQG_SLICE_LIT("g"));
    struct kafka_offset_row one = row_of(11, 5, MQG_SLICE_NONE), two = row_of(12, 6, MQG_SLICE_LIT("m"));
    kafka_txn_add_row(g, &one);
    kafka_txn_add_row(g, &two);
    t->last_epoch = 2;
    record_put(t, &out);
    struct kafka_txn *r = kafka_txn_read(mqg_dynbuf_view(&out));
    assert_non_null(r);
    assert_true(mqg_slice_eq(r->vhost, t->vhost) && mqg_slice_eq(r->id, t->id) &&
                mqg_slice_eq(r->key, t->key));
    assert_true(r->producer_id == 7 && r->epoch == 3 && r->last_epoch == 2 && r->timeout_ms == 60000);
    assert_true(r->state == KAFKA_TXN_ONGOING && r->start_ms == 1000 && r->nparts == 1 &&
                r->parts[0].first == 5);
    g = kafka_txn_group(r, MQG_SLICE_LIT("g"));
    assert_int_equal(g->rows.n, 2);
    const struct kafka_offset_row *row = &((struct kafka_txn_row *)g->rows.items[1])->row;
    assert_true(row->partition_id == 12 && row->offset == 6 && row->index == 2 && row->leader_epoch == 4);
    assert_true(mqg_slice_eq(row->metadata, MQG_SLICE_LIT("m")) &&
                mqg_slice_eq(row->topic, MQG_SLICE_LIT("topic")));
    assert_null(((struct kafka_txn_row *)g->rows.items[0])->row.metadata.ptr);
    mqg_dynbuf_init(&key, 1000);
    kafka_txn_record_key(t, &key);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&key), MQG_SLICE_LIT("kafka/txn/%2F/tx")));
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&out);
    kafka_txn_free(&r);
    kafka_txn_free(&t);
}

/* The decision is what the record says: with it everything of the transaction is durable. */
static void a_decision_is_recorded_as_done_with_its_markers(void **state)
{
    (void)state;
    struct mqg_dynbuf out;
    struct kafka_txn *t = in_state(KAFKA_TXN_PREPARE_COMMIT);
    t->parts[0].marker = 99;
    record_put(t, &out);
    struct kafka_txn *r = kafka_txn_read(mqg_dynbuf_view(&out));
    assert_int_equal(r->state, KAFKA_TXN_COMPLETE_COMMIT);
    assert_true(r->nparts == 1 && r->parts[0].marker == 99 && r->groups.n == 0);
    mqg_dynbuf_fini(&out);
    kafka_txn_free(&r);
    kafka_txn_free(&t);
}

/* Cut anywhere it is refused; with any byte changed it is refused or read, never more than is there. */
static void a_damaged_record_is_refused(void **state)
{
    (void)state;
    struct mqg_dynbuf out;
    struct kafka_txn *t = in_state(KAFKA_TXN_ONGOING), *r;
    struct kafka_offset_row one = row_of(11, 5, MQG_SLICE_LIT("meta"));
    kafka_txn_add_row(kafka_txn_group(t, MQG_SLICE_LIT("g")), &one);
    record_put(t, &out);
    for (size_t n = 0; n < out.len; n++) {
        uint8_t *cut = malloc(n > 0 ? n : 1);
        memcpy(cut, out.ptr, n);
        assert_null(kafka_txn_read(mqg_slice_of(cut, n)));
        free(cut);
    }
    for (size_t i = 0; i < out.len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            out.ptr[i] ^= (uint8_t)(1u << bit);
            r = kafka_txn_read(mqg_dynbuf_view(&out));
            kafka_txn_free(&r);
            out.ptr[i] ^= (uint8_t)(1u << bit);
        }
    mqg_dynbuf_fini(&out);
    kafka_txn_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_present_producer_may_act),
        cmocka_unit_test(ends_are_allowed_by_state),
        cmocka_unit_test(ends_that_raise_the_epoch),
        cmocka_unit_test(an_end_with_the_last_epoch_gives_a_new_id),
        cmocka_unit_test(init_by_state_and_by_who_asks),
        cmocka_unit_test(epochs_rise_and_an_id_is_left_at_the_last),
        cmocka_unit_test(a_new_id_is_told_again_to_who_had_the_old),
        cmocka_unit_test(a_fenced_producer_learns_the_new_epoch_only_if_it_may),
        cmocka_unit_test(a_transaction_begins_with_what_joins_first),
        cmocka_unit_test(a_later_position_replaces_the_earlier),
        cmocka_unit_test(the_record_says_all),
        cmocka_unit_test(a_decision_is_recorded_as_done_with_its_markers),
        cmocka_unit_test(a_damaged_record_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

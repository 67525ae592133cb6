/* txn_end_test.c - EndTxn as a table: each state, each decision, each epoch that may be asked with, each form of the request; now, and
 * after a restart.
 *
 * The table is what Apache Kafka's coordinator answers. A request that was not answered because the node died comes again after the
 * restart: the row of COMPLETE_* is its answer, since a decision that is durable is done. What never became durable is
 * unknown then, so an end of it meets the state before: a rollback by an old client may be told INVALID_TXN_STATE. It cannot be
 * told yes, as it can be a rollback of what was committed. Only the raised epoch of version 5 tells the two apart. */
#include "txn.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { EPOCH_OLDER = 1, EPOCH_LAST, EPOCH_PRESENT, EPOCH_NEWER, ID = 7 };

/* E: it is ended. N: nothing is open, the epoch is raised. A: it was ended so; the answer again. Refused: S INVALID_TXN_STATE,
 * F PRODUCER_FENCED, C CONCURRENT_TRANSACTIONS, M INVALID_PRODUCER_ID_MAPPING.
 * In pairs, commit and rollback, by epoch: older, the last, the present, newer; then the present with another id. */
struct end_row {
    enum kafka_txn_state state;
    const char *plain, *raising; /* up to version 4, from 5 on */
};

static const struct end_row end_rows[] = {
    {KAFKA_TXN_EMPTY, "FF FF SS FF MM", "FF FF SN FF MM"},
    {KAFKA_TXN_ONGOING, "FF FF EE FF MM", "FF FF EE FF MM"},
    {KAFKA_TXN_PREPARE_COMMIT, "FF FF CC FF MM", "FF CC CC FF MM"},
    {KAFKA_TXN_PREPARE_ABORT, "FF FF CC FF MM", "FF CC CC FF MM"},
    {KAFKA_TXN_COMPLETE_COMMIT, "FF FF AS FF MM", "FF AS SN FF MM"},
    {KAFKA_TXN_COMPLETE_ABORT, "FF FF SA FF MM", "FF SA SN FF MM"},
};

/* The restart's: what was on its way is durable, or it is what was before. */
static const struct end_row restarted_rows[] = {
    {KAFKA_TXN_EMPTY, "FF FF SS FF MM", "FF FF SN FF MM"},
    {KAFKA_TXN_ONGOING, "FF FF EE FF MM", "FF FF EE FF MM"},
    {KAFKA_TXN_PREPARE_COMMIT, "FF FF AS FF MM", "FF AS SN FF MM"},
    {KAFKA_TXN_PREPARE_ABORT, "FF FF SA FF MM", "FF SA SN FF MM"},
    {KAFKA_TXN_COMPLETE_COMMIT, "FF FF AS FF MM", "FF AS SN FF MM"},
    {KAFKA_TXN_COMPLETE_ABORT, "FF FF SA FF MM", "FF SA SN FF MM"},
};

static int64_t fresh_id(void)
{
    return 100;
}

static struct kafka_txn *in_state(enum kafka_txn_state state)
{
    struct kafka_txn *t = kafka_txn_new(MQG_SLICE_LIT("/"), MQG_SLICE_LIT("tx"));
    bool commit = state == KAFKA_TXN_PREPARE_COMMIT || state == KAFKA_TXN_COMPLETE_COMMIT;
    t->producer_id = ID;
    t->epoch = EPOCH_PRESENT;
    t->last_epoch = EPOCH_LAST;
    if (state != KAFKA_TXN_EMPTY)
        kafka_txn_add_part(t, 11, 5, 1000);
    if (state > KAFKA_TXN_ONGOING) {
        kafka_txn_prepare(t, commit);
        t->busy = 1;
    }
    if (state > KAFKA_TXN_PREPARE_ABORT) {
        kafka_txn_complete(t);
        t->busy = 0;
    }
    assert_int_equal(t->state, state);
    return t;
}

/* As it is read back from its record. */
static struct kafka_txn *restarted(struct kafka_txn *t)
{
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 1 << 16);
    kafka_txn_record(t, &out);
    kafka_txn_free(&t);
    t = kafka_txn_read(mqg_dynbuf_view(&out));
    assert_non_null(t);
    mqg_dynbuf_fini(&out);
    return t;
}

static char refusal(enum kafka_error error)
{
    switch (error) {
    case KAFKA_INVALID_TXN_STATE: return 'S';
    case KAFKA_PRODUCER_FENCED: return 'F';
    case KAFKA_CONCURRENT_TRANSACTIONS: return 'C';
    case KAFKA_INVALID_PRODUCER_ID_MAPPING: return 'M';
    default: return '?';
    }
}

static char plain_end(const struct kafka_txn *t, int64_t id, int16_t epoch, bool commit)
{
    bool done = false;
    enum kafka_error error = kafka_txn_check(t, id, epoch);
    if (error == KAFKA_NONE)
        error = kafka_txn_may_end(t, commit, &done);
    return error != KAFKA_NONE ? refusal(error) : done ? 'A' : 'E';
}

static char raising_end(const struct kafka_txn *t, int64_t id, int16_t epoch, bool commit)
{
    enum kafka_error error;
    enum kafka_txn_end step = kafka_txn_end(t, id, epoch, commit, &error);
    return step == KAFKA_END_REFUSED  ? refusal(error)
           : step == KAFKA_END_ANSWER ? 'A'
           : step == KAFKA_END_ALL    ? 'E'
                                      : 'N';
}

static void cells_hold(const struct kafka_txn *t, const char *row,
                       char (*end)(const struct kafka_txn *, int64_t, int16_t, bool))
{
    char got[16] = "";
    for (int i = 0; i < 5; i++) {
        int16_t epoch = i < 4 ? (int16_t)(EPOCH_OLDER + i) : EPOCH_PRESENT;
        int64_t id = i < 4 ? ID : ID + 1;
        got[i * 3] = end(t, id, epoch, true);
        got[i * 3 + 1] = end(t, id, epoch, false);
        got[i * 3 + 2] = i < 4 ? ' ' : '\0';
    }
    assert_string_equal(got, row);
}

static void rows_hold(const struct end_row *rows, bool restart)
{
    for (size_t i = 0; i < KAFKA_TXN_STATES; i++) {
        struct kafka_txn *t = in_state(rows[i].state);
        if (restart)
            t = restarted(t);
        cells_hold(t, rows[i].plain, plain_end);
        cells_hold(t, rows[i].raising, raising_end);
        kafka_txn_free(&t);
    }
}

static void every_end_is_answered_by_the_table(void **state)
{
    (void)state;
    rows_hold(end_rows, false);
}

static void and_after_a_restart(void **state)
{
    (void)state;
    rows_hold(restarted_rows, true);
}

/* The answer of an end was lost; asked again after the restart it is the same, with the raised epoch. */
static void an_end_that_was_not_heard_is_told_again(void **state)
{
    (void)state;
    for (int commit = 0; commit < 2; commit++) {
        struct kafka_txn *t = in_state(KAFKA_TXN_ONGOING);
        kafka_txn_fence(t, true);
        kafka_txn_prepare(t, commit);
        t = restarted(t);
        assert_int_equal(raising_end(t, ID, EPOCH_PRESENT, commit), 'A');
        assert_int_equal(t->epoch, EPOCH_PRESENT + 1);
        assert_int_equal(raising_end(t, ID, EPOCH_PRESENT, !commit), 'S');
        kafka_txn_add_part(t, 12, 0, 2000); /* and the next one is open */
        assert_int_equal(raising_end(t, ID, EPOCH_PRESENT, commit), 'F');
        kafka_txn_free(&t);
    }
}

/* The epoch was asked for since, not given by an end: who has the last one is a stranger to it. */
static void an_end_before_a_new_epoch_is_fenced(void **state)
{
    (void)state;
    struct kafka_txn *t = in_state(KAFKA_TXN_COMPLETE_COMMIT);
    kafka_txn_raise(t, true, fresh_id);
    assert_int_equal(raising_end(t, ID, EPOCH_PRESENT, true), 'F');
    assert_int_equal(raising_end(t, ID, EPOCH_PRESENT, false), 'F');
    kafka_txn_free(&t);
}

/* With the last epoch of an id its owner gets another id. Wherever the node died, it learns of it. */
static void a_new_id_is_told_again_after_a_restart(void **state)
{
    (void)state;
    for (int rotated = 0; rotated < 2; rotated++) {
        struct kafka_txn *t = in_state(KAFKA_TXN_ONGOING);
        t->epoch = KAFKA_EPOCH_MAX;
        kafka_txn_fence(t, true);
        kafka_txn_prepare(t, true);
        kafka_txn_complete(t);
        if (rotated)
            kafka_txn_rotate(t, fresh_id);
        t = restarted(t);
        assert_int_equal(kafka_txn_is_used_up(t), !rotated); /* the answer rotates it */
        assert_int_equal(raising_end(t, ID, KAFKA_EPOCH_MAX, true), 'A');
        assert_int_equal(raising_end(t, ID, KAFKA_EPOCH_MAX, false), 'S');
        kafka_txn_free(&t);
    }
}

/* A record as it was before the id before the present one was kept. */
static void an_older_record_is_read(void **state)
{
    (void)state;
    enum { AT_ROTATED = 2 + 8 + 2 + 2 + 4 + 8 + 8 };
    struct mqg_dynbuf out;
    struct kafka_txn *t = in_state(KAFKA_TXN_ONGOING);
    t->rotated_id = 55;
    mqg_dynbuf_init(&out, 1 << 16);
    kafka_txn_record(t, &out);
    out.ptr[0] = 1;
    memmove(out.ptr + AT_ROTATED, out.ptr + AT_ROTATED + 8, out.len - AT_ROTATED - 8);
    struct kafka_txn *r = kafka_txn_read(mqg_slice_of(out.ptr, out.len - 8));
    assert_non_null(r);
    assert_true(r->rotated_id == -1 && r->producer_id == ID && r->nparts == 1 && r->parts[0].partition == 11);
    out.ptr[0] = 3;
    assert_null(kafka_txn_read(mqg_slice_of(out.ptr, out.len - 8)));
    mqg_dynbuf_fini(&out);
    kafka_txn_free(&r);
    kafka_txn_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_end_is_answered_by_the_table),
        cmocka_unit_test(and_after_a_restart),
        cmocka_unit_test(an_end_that_was_not_heard_is_told_again),
        cmocka_unit_test(an_end_before_a_new_epoch_is_fenced),
        cmocka_unit_test(a_new_id_is_told_again_after_a_restart),
        cmocka_unit_test(an_older_record_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* txn_api.c - InitProducerId, AddOffsetsToTxn, EndTxn, and the words in which refusals are told. */
#include "txn_api.h"

enum { END_RAISES_FROM = 5 };
enum { KEY_ADD_PARTITIONS = 24, KEY_ADD_OFFSETS = 25, KEY_END = 26, KEY_INIT = 22, KEY_COMMIT_OFFSETS = 28 };

/* First versions that know PRODUCER_FENCED: KIP-588. */
static bool knows_fenced(const struct kafka_call *c)
{
    switch (c->head.key) {
    case KEY_INIT: return c->head.version >= 4;
    case KEY_ADD_PARTITIONS:
    case KEY_ADD_OFFSETS:
    case KEY_END: return c->head.version >= 2;
    default: return false;
    }
}

int16_t kafka_txn_code(const struct kafka_call *c, enum kafka_error error)
{
    if (error == KAFKA_PRODUCER_FENCED && !knows_fenced(c))
        return KAFKA_INVALID_PRODUCER_EPOCH;
    if (error == KAFKA_CONCURRENT_TRANSACTIONS &&
        (c->head.key == KEY_END || c->head.key == KEY_COMMIT_OFFSETS))
        return KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
    return (int16_t)error;
}

bool kafka_txn_id_allowed(struct kafka_call *c, struct mqg_slice id)
{
    return kafka_allowed(c->conn, MQG_WRITE, "transactional_id", id);
}

static uint64_t now_ms(void)
{
    return mqg_clock_now().wall_us / 1000;
}

/* ---- InitProducerId -------------------------------------------------------------------------------------------------- */

static void init_refuse(struct kafka_call *c, enum kafka_error error)
{
    struct kafka_init_producer_id_response *out = c->response;
    out->error_code = kafka_txn_code(c, error);
    out->producer_id = -1;
    out->producer_epoch = -1;
    kafka_call_answer(c);
}

static void init_idempotent(struct kafka_call *c)
{
    struct kafka_init_producer_id_response *out = c->response;
    out->producer_id = kafka_producer_id_new();
    out->producer_epoch = 0;
    kafka_call_answer(c);
}

static enum kafka_error init_check(struct kafka_call *c, const struct kafka_init_producer_id_request *r)
{
    if (r->transactional_id.len == 0 || r->transactional_id.len > KAFKA_TXN_ID_MAX ||
        (r->producer_id < 0) != (r->producer_epoch < 0))
        return KAFKA_INVALID_REQUEST;
    if (!kafka_txn_id_allowed(c, r->transactional_id))
        return KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    if (r->transaction_timeout_ms <= 0 ||
        (uint64_t)r->transaction_timeout_ms > kafka_txn_settings.timeout_max_ms)
        return KAFKA_INVALID_TRANSACTION_TIMEOUT;
    return KAFKA_NONE;
}

/* Answers true when the answer is there and nothing is on its way to the disk. Under the lock. */
static bool init_step(struct kafka_call *c, struct kafka_txn *t, enum kafka_error *error)
{
    const struct kafka_init_producer_id_request *r = c->request;
    struct kafka_init_producer_id_response *out = c->response;
    enum kafka_txn_init step = kafka_txn_init(t, r->producer_id, r->producer_epoch, error);
    bool same = r->producer_id >= 0;
    if (step == KAFKA_INIT_REFUSED)
        return !(t->busy && kafka_txns_park(t, c, kafka_init_producer_id));
    if (step == KAFKA_INIT_ABORT) { /* and then from the beginning */
        kafka_txn_fence(t, same);
        kafka_txns_end(t, false);
        kafka_txns_wait(&t, 1, c, kafka_init_producer_id);
        return false;
    }
    if (step == KAFKA_INIT_RAISE)
        kafka_txn_raise(t, same, kafka_producer_id_new);
    out->producer_id = t->producer_id;
    out->producer_epoch = t->epoch;
    if (step == KAFKA_INIT_ANSWER)
        return true;
    t->timeout_ms = (uint32_t)r->transaction_timeout_ms;
    kafka_txns_write(t);
    kafka_txns_wait(&t, 1, c, kafka_call_answer);
    return false;
}

void kafka_init_producer_id(struct kafka_call *c)
{
    const struct kafka_init_producer_id_request *r = c->request;
    if (r->transactional_id.ptr == NULL) {
        init_idempotent(c);
        return;
    }
    enum kafka_error error = init_check(c, r);
    if (error != KAFKA_NONE) {
        init_refuse(c, error);
        return;
    }
    kafka_txns_lock();
    bool now = init_step(c, kafka_txns_take(kafka_vhost(c->conn), r->transactional_id), &error);
    kafka_txns_unlock();
    if (now && error != KAFKA_NONE)
        init_refuse(c, error);
    else if (now)
        kafka_call_answer(c);
}

/* ---- AddOffsetsToTxn --------------------------------------------------------------------------------------------------- */

static bool add_offsets_step(struct kafka_call *c, const struct kafka_add_offsets_to_txn_request *r,
                             enum kafka_error *error)
{
    struct kafka_txn *t = kafka_txns_find(kafka_vhost(c->conn), r->transactional_id);
    *error = t != NULL ? kafka_txn_check(t, r->producer_id, r->producer_epoch)
                       : KAFKA_INVALID_PRODUCER_ID_MAPPING;
    if (*error == KAFKA_CONCURRENT_TRANSACTIONS && kafka_txns_park(t, c, kafka_add_offsets))
        return false;
    if (*error != KAFKA_NONE || (t->state == KAFKA_TXN_ONGOING && kafka_txn_group(t, r->group_id) != NULL))
        return true;
    (void)kafka_txn_add_group(t, r->group_id, now_ms());
    kafka_txns_write(t);
    kafka_txns_wait(&t, 1, c, kafka_call_answer);
    return false;
}

void kafka_add_offsets(struct kafka_call *c)
{
    const struct kafka_add_offsets_to_txn_request *r = c->request;
    struct kafka_add_offsets_to_txn_response *out = c->response;
    enum kafka_error error = KAFKA_NONE;
    bool now = true;
    if (!kafka_txn_id_allowed(c, r->transactional_id)) {
        error = KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    } else if (!kafka_allowed(c->conn, MQG_READ, "group", r->group_id)) {
        error = KAFKA_GROUP_AUTHORIZATION_FAILED;
    } else {
        kafka_txns_lock();
        now = add_offsets_step(c, r, &error);
        kafka_txns_unlock();
    }
    if (!now)
        return;
    out->error_code = kafka_txn_code(c, error);
    kafka_call_answer(c);
}

/* ---- EndTxn from version 5 on: the answer has the next epoch ------------------------------------------------------------ */

static void end_tell(struct kafka_call *c, const struct kafka_txn *t)
{
    struct kafka_end_txn_response *out = c->response;
    out->producer_id = t->producer_id;
    out->producer_epoch = t->epoch;
}

/* A producer whose last epoch was used gets a new id. */
static bool end_rotate(struct kafka_call *c, struct kafka_txn *t)
{
    if (!kafka_txn_is_used_up(t) || t->busy > 0)
        return false;
    kafka_txn_rotate(t, kafka_producer_id_new);
    end_tell(c, t);
    kafka_txns_write(t);
    kafka_txns_wait(&t, 1, c, kafka_call_answer);
    return true;
}

static void end_over(struct kafka_call *c)
{
    const struct kafka_end_txn_request *r = c->request;
    kafka_txns_lock();
    struct kafka_txn *t = kafka_txns_find(kafka_vhost(c->conn), r->transactional_id);
    bool later = t != NULL && end_rotate(c, t);
    kafka_txns_unlock();
    if (!later)
        kafka_call_answer(c);
}

static bool end_raising(struct kafka_call *c, struct kafka_txn *t, const struct kafka_end_txn_request *r,
                        enum kafka_error *error)
{
    enum kafka_txn_end step = kafka_txn_end(t, r->producer_id, r->producer_epoch, r->committed, error);
    if (*error == KAFKA_CONCURRENT_TRANSACTIONS && kafka_txns_park(t, c, kafka_end_txn))
        return false;
    if (step == KAFKA_END_REFUSED)
        return true;
    if (step != KAFKA_END_ANSWER)
        kafka_txn_fence(t, true);
    end_tell(c, t);
    if (step == KAFKA_END_ANSWER)
        return !end_rotate(c, t);
    if (step == KAFKA_END_ALL) {
        kafka_txns_end(t, r->committed);
    } else {
        kafka_txn_nothing(t);
        kafka_txns_write(t);
    }
    kafka_txns_wait(&t, 1, c, end_over);
    return false;
}

/* ---- EndTxn -------------------------------------------------------------------------------------------------------------- */

static bool end_step(struct kafka_call *c, const struct kafka_end_txn_request *r, enum kafka_error *error)
{
    struct kafka_txn *t = kafka_txns_find(kafka_vhost(c->conn), r->transactional_id);
    bool done = false;
    if (t != NULL && c->head.version >= END_RAISES_FROM)
        return end_raising(c, t, r, error);
    *error = t != NULL ? kafka_txn_check(t, r->producer_id, r->producer_epoch)
                       : KAFKA_INVALID_PRODUCER_ID_MAPPING;
    if (*error == KAFKA_CONCURRENT_TRANSACTIONS && kafka_txns_park(t, c, kafka_end_txn))
        return false;
    if (*error == KAFKA_NONE)
        *error = kafka_txn_may_end(t, r->committed, &done);
    if (*error != KAFKA_NONE || done)
        return true;
    kafka_txns_end(t, r->committed);
    kafka_txns_wait(&t, 1, c, kafka_call_answer);
    return false;
}

void kafka_end_txn(struct kafka_call *c)
{
    const struct kafka_end_txn_request *r = c->request;
    struct kafka_end_txn_response *out = c->response;
    enum kafka_error error = KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    bool now = true;
    if (kafka_txn_id_allowed(c, r->transactional_id)) {
        kafka_txns_lock();
        now = end_step(c, r, &error);
        kafka_txns_unlock();
    }
    if (!now)
        return;
    out->error_code = kafka_txn_code(c, error);
    kafka_call_answer(c);
}

/* producer.h - what a partition knows of its idempotent and transactional producers. A pure engine: no lock, no clock, no store.
 *
 * Of each producer: its epoch, and the sequences of its last five batches (a client has at most five unanswered requests, KIP-98),
 * so that a batch sent again is known and answered with the offset that it has. Of each open transaction: where in this log it may
 * begin. What lies before the lowest such offset is decided: the last stable offset. Of each transaction that was rolled back:
 * where it began and where its marker stands, for readers that want committed records only.
 *
 * A transaction's beginning is a lower bound, taken when the partition joined it: that is what the coordinator writes down,
 * and what survives a restart. It is exact as soon as a batch has come. A bound that is too low only makes readers wait.
 *
 * A marker may be appended and not be durable yet. Till it is, the transaction counts as open for readers: a crash could take the
 * marker back (`endings`).
 *
 * Who calls holds a lock of his own around check, append and note (producer_part.h). */
#ifndef KAFKA_PRODUCER_H
#define KAFKA_PRODUCER_H

#include <mqgate/map.h>
#include <mqgate/stream.h>
#include <mqgate/vec.h>

#define KAFKA_PRODUCER_BATCHES 5u

struct kafka_seen_batch {
    int32_t base_sequence, last_sequence;
    uint64_t base_offset;
};

struct kafka_producer {
    int64_t id;
    int16_t epoch;
    uint8_t nbatch;
    struct kafka_seen_batch batch[KAFKA_PRODUCER_BATCHES]; /* oldest first */
    bool from_zero; /* its epoch is new here: the first sequence of it is 0 */
    int32_t floor;  /* the first batch was taken on trust at this sequence: nothing is known below; -1 */
    bool in_txn, txn_exact;
    uint64_t txn_first;        /* with in_txn: nothing of the transaction lies before it */
    uint64_t used_ms;          /* monotonic: when it was last heard of */
    int64_t last_time_ms;      /* of its records; -1: none since the start */
    int32_t coordinator_epoch; /* of its last marker; -1: none */
};

/* A transaction that was rolled back, as Fetch tells of it. */
struct kafka_aborted {
    int64_t producer_id;
    uint64_t first, marker;
};

/* An ended transaction whose marker may not be durable. */
struct kafka_ending {
    uint64_t first, marker;
};

struct kafka_producers {
    struct mqg_map by_id;        /* id (8 bytes) -> struct kafka_producer */
    struct mqg_vec open;         /* those in a transaction */
    struct kafka_ending *ending; /* by marker */
    size_t nending, cap_ending;
    struct kafka_aborted *aborted; /* by marker */
    size_t naborted, cap_aborted;
};

/* A batch as its head has it. */
struct kafka_sequence {
    int64_t producer_id;
    int16_t epoch;
    int32_t base_sequence, last_sequence;
    bool transactional;
    uint64_t now_ms; /* monotonic */
    int64_t time_ms; /* the latest of its records */
};

/* Above 0: the protocol's error code (the protocol guide, "Error Codes"). */
enum kafka_verdict {
    KAFKA_VERDICT_APPEND = 0,
    KAFKA_VERDICT_DUPLICATE = -1,    /* was appended before; its offset is known */
    KAFKA_VERDICT_OUT_OF_ORDER = 45, /* OUT_OF_ORDER_SEQUENCE_NUMBER */
    KAFKA_VERDICT_OLD = 46,    /* DUPLICATE_SEQUENCE_NUMBER: was appended, longer ago than is remembered */
    KAFKA_VERDICT_FENCED = 47, /* INVALID_PRODUCER_EPOCH */
    KAFKA_VERDICT_NO_TXN =
        48, /* INVALID_TXN_STATE: the partition is not in a transaction of this producer, or it is */
};

void kafka_producers_init(struct kafka_producers *ps);
void kafka_producers_fini(struct kafka_producers *ps);
/* NULL: never heard of. */
struct kafka_producer *kafka_producers_find(const struct kafka_producers *ps, int64_t id);

/* May the batch be appended? DUPLICATE fills *base_offset. */
enum kafka_verdict kafka_producers_check(const struct kafka_producers *ps, const struct kafka_sequence *s,
                                         uint64_t *base_offset) MQG_MUST_CHECK;
/* It was, at base_offset. After APPEND only. */
void kafka_producers_note(struct kafka_producers *ps, const struct kafka_sequence *s, uint64_t base_offset);
/* What the store remembers (recovery), in the order of offsets per producer. */
void kafka_producers_found(struct kafka_producers *ps, const struct mqg_producer_state *state,
                           uint64_t now_ms);

/* The partition joins the producer's transaction; nothing of it lies before `first`. Again: nothing changes. False: a newer
 * epoch of the producer is known. */
bool kafka_producers_begin(struct kafka_producers *ps, int64_t id, int16_t epoch, uint64_t first,
                           uint64_t now_ms) MQG_MUST_CHECK;
/* Its end: the marker stands at `marker`. False: no transaction of it was open here (the marker is then only a word on the
 * epoch). *first: where the transaction began. */
bool kafka_producers_end(struct kafka_producers *ps, int64_t id, int16_t epoch, int32_t coordinator_epoch,
                         uint64_t marker, bool commit, uint64_t *first);
/* A transaction that was rolled back earlier (recovery); any order. */
void kafka_producers_aborted_found(struct kafka_producers *ps, const struct kafka_aborted *a);

/* Everything before it is decided; high_watermark when nothing is open. Forgets endings that became durable. */
uint64_t kafka_producers_lso(struct kafka_producers *ps, uint64_t high_watermark);
/* The aborted transactions with records in [from, to): borrowed until the next change, *n of them at the returned pointer,
 * which may hold some that begin at or beyond `to`: those are to be left out. */
const struct kafka_aborted *kafka_producers_aborted(const struct kafka_producers *ps, uint64_t from,
                                                    size_t *n);
/* Records before log_start are gone: forgets rolled back transactions whose markers are. Answers how many it forgot, the lowest
 * markers; `gone` (may be NULL) sees each. */
size_t kafka_producers_trim(struct kafka_producers *ps, uint64_t log_start,
                            void (*gone)(void *arg, const struct kafka_aborted *a), void *arg);
/* Forgets producers not heard of since `before_ms` that are in no transaction; `gone` (may be NULL) sees each id. */
size_t kafka_producers_expire(struct kafka_producers *ps, uint64_t before_ms,
                              void (*gone)(void *arg, int64_t id), void *arg);

#endif

/* txn.h - a transactional id: who its producer is, what its transaction has touched, and which steps are allowed. A pure engine:
 * no lock, no clock, no store; txn_table.h keeps them and writes them down.
 *
 *                      InitProducerId
 *   (new) ------> EMPTY <-----------------------------+
 *                   |  Add*ToTxn                      |
 *                   v                                 |
 *                ONGOING --EndTxn(commit)--> PREPARE_COMMIT --durable--> COMPLETE_COMMIT
 *                   |  \--EndTxn(abort), timeout, a new producer--> PREPARE_ABORT --> COMPLETE_ABORT
 *                   ^                                                                   |
 *                   +-------------------------------- Add*ToTxn ------------------------+
 *
 * PREPARE_* exist in memory only: decision, markers and positions are one group of the store, and so the record says COMPLETE_*.
 * Its list of markers is there for the one thing that can go missing: a marker behind a gap that a crash left in a partition.
 * Who recovers looks whether the marker is there, and writes it again (txn_recover.c).
 *
 * While a change is on its way to the disk the transaction is `busy`: other requests of its producer wait for that (or are
 * told CONCURRENT_TRANSACTIONS). So its records are written in the order of the changes, whichever worker brings them. */
#ifndef KAFKA_TXN_H
#define KAFKA_TXN_H

#include "error.h"
#include "group_offsets.h"

#include <mqgate/vec.h>

#define KAFKA_TXN_ID_MAX 4096u
#define KAFKA_NO_EPOCH   (-1)
#define KAFKA_EPOCH_MAX  (INT16_MAX - 1) /* one more is left for a fence */

enum kafka_txn_state {
    KAFKA_TXN_EMPTY,
    KAFKA_TXN_ONGOING,
    KAFKA_TXN_PREPARE_COMMIT,
    KAFKA_TXN_PREPARE_ABORT,
    KAFKA_TXN_COMPLETE_COMMIT,
    KAFKA_TXN_COMPLETE_ABORT,
    KAFKA_TXN_STATES
};
/* As the protocol has it: "CompleteCommit". */
const char *kafka_txn_state_name(enum kafka_txn_state state);

struct kafka_txn_part {
    uint64_t partition;
    uint64_t first;  /* nothing of the transaction lies before it */
    uint64_t marker; /* COMPLETE_*: its offset; MQG_OFFSET_NONE: the partition was gone */
};

/* A position that waits for the transaction's end; row's slices point behind it. */
struct kafka_txn_row {
    struct kafka_offset_row row;
    uint8_t bytes[];
};

struct kafka_txn_group {
    struct mqg_slice name; /* behind it */
    struct mqg_vec rows;   /* of struct kafka_txn_row */
    uint8_t bytes[];
};

struct kafka_txn {
    struct mqg_slice vhost, id; /* behind it */
    struct mqg_slice key;       /* of both: the table's; behind it */
    int64_t producer_id;
    int16_t epoch,
        last_epoch; /* the one before, if its owner may still ask for the present one; KAFKA_NO_EPOCH */
    enum kafka_txn_state state;
    uint32_t busy;      /* changes that are on their way to the disk */
    const void *writer; /* the table's: the worker that brings them */
    int64_t rotated_id; /* which it had before the present one; -1 */
    void *parked;       /* the table's: requests that wait until it is not busy */
    uint32_t timeout_ms;
    uint64_t start_ms, update_ms; /* wall clock */
    struct kafka_txn_part *parts;
    size_t nparts, cap_parts;
    struct mqg_vec groups; /* of struct kafka_txn_group */
    uint8_t bytes[];
};

struct kafka_txn *kafka_txn_new(struct mqg_slice vhost, struct mqg_slice id);
void kafka_txn_free(struct kafka_txn **t);

/* Is the producer the one that owns it now, and may something change? 0, or INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED,
 * CONCURRENT_TRANSACTIONS. */
enum kafka_error kafka_txn_check(const struct kafka_txn *t, int64_t producer_id, int16_t epoch);

enum kafka_txn_init {
    KAFKA_INIT_REFUSED, /* *error says why */
    KAFKA_INIT_ANSWER,  /* the present id and epoch are the answer (asked again, KIP-360) */
    KAFKA_INIT_RAISE,   /* kafka_txn_raise, write */
    KAFKA_INIT_ABORT,   /* a transaction is open: kafka_txn_fence, end it; then ask again */
};
/* InitProducerId. producer_id -1: a new producer; else the one that was, which wants a new epoch after an error (KIP-360). */
enum kafka_txn_init kafka_txn_init(const struct kafka_txn *t, int64_t producer_id, int16_t epoch,
                                   enum kafka_error *error);
/* The next epoch, or, when there is none, epoch 0 of fresh_id(). same: asked by the producer that had the last one. */
void kafka_txn_raise(struct kafka_txn *t, bool same, int64_t (*fresh_id)(void));
/* The next epoch, to end a transaction over its producer's head. same: it may ask for the new one. */
void kafka_txn_fence(struct kafka_txn *t, bool same);

enum kafka_txn_end {
    KAFKA_END_REFUSED, /* *error says why */
    KAFKA_END_ANSWER,  /* it was ended that way: the present id and epoch are the answer (asked again) */
    KAFKA_END_ALL,     /* kafka_txn_fence, end it */
    KAFKA_END_NOTHING, /* a rollback of nothing: kafka_txn_fence, kafka_txn_nothing, write */
};
/* EndTxn from version 5 on (KIP-890): each end raises the epoch, so that what comes late is refused everywhere. */
enum kafka_txn_end kafka_txn_end(const struct kafka_txn *t, int64_t producer_id, int16_t epoch, bool commit,
                                 enum kafka_error *error);
void kafka_txn_nothing(struct kafka_txn *t);
/* Is its last epoch used up? Then kafka_txn_rotate gives it a new id, when it is not busy. */
bool kafka_txn_is_used_up(const struct kafka_txn *t);
void kafka_txn_rotate(struct kafka_txn *t, int64_t (*fresh_id)(void));

/* EndTxn of older versions: 0, INVALID_TXN_STATE; *done: it was ended that way before. After kafka_txn_check. */
enum kafka_error kafka_txn_may_end(const struct kafka_txn *t, bool commit, bool *done);
void kafka_txn_prepare(struct kafka_txn *t, bool commit);
/* Forgets parts and groups. */
void kafka_txn_forget(struct kafka_txn *t);
/* Durable: COMPLETE_*, and forgets. */
void kafka_txn_complete(struct kafka_txn *t);

/* Something joins: the transaction is ONGOING from here. False: it was there. */
bool kafka_txn_has_part(const struct kafka_txn *t, uint64_t partition);
void kafka_txn_add_part(struct kafka_txn *t, uint64_t partition, uint64_t first, uint64_t now_ms);
struct kafka_txn_group *kafka_txn_group(const struct kafka_txn *t, struct mqg_slice name);
struct kafka_txn_group *kafka_txn_add_group(struct kafka_txn *t, struct mqg_slice name, uint64_t now_ms);
/* A later row of the same partition replaces the earlier one. */
void kafka_txn_add_row(struct kafka_txn_group *g, const struct kafka_offset_row *row);

/* ---- its record in the metadata (txn_record.c) ------------------------------------------------------------------------------ */

#define KAFKA_TXN_PREFIX "kafka/txn/"
void kafka_txn_record_key(const struct kafka_txn *t, struct mqg_dynbuf *out);
/* Says COMPLETE_* for PREPARE_*, then without rows. */
void kafka_txn_record(const struct kafka_txn *t, struct mqg_dynbuf *out);
/* NULL: damaged, or of a later version. */
struct kafka_txn *kafka_txn_read(struct mqg_slice value);

#endif

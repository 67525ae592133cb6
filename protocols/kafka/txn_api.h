/* txn_api.h - what the handlers of the transactions' requests share. */
#ifndef KAFKA_TXN_API_H
#define KAFKA_TXN_API_H

#include "txn_table.h"

/* Some codes came with later versions: a client that does not know PRODUCER_FENCED is told INVALID_PRODUCER_EPOCH, one that
 * would give up at CONCURRENT_TRANSACTIONS is told COORDINATOR_LOAD_IN_PROGRESS. */
int16_t kafka_txn_code(const struct kafka_call *c, enum kafka_error error);
/* May the client use that transactional id? (Write, by its name.) */
bool kafka_txn_id_allowed(struct kafka_call *c, struct mqg_slice id);

/* Produce from version 12 on (KIP-890): a transactional batch was refused as its partition is in no transaction. All partitions of
 * the request join that of its producer, in the group of this turn, before what is appended now. 0, or what to answer.
 * (worker) */
enum kafka_error kafka_txn_join_produce(struct kafka_call *c, int64_t producer_id, int16_t epoch);

void kafka_init_producer_id(struct kafka_call *c);
void kafka_add_partitions(struct kafka_call *c);
void kafka_add_offsets(struct kafka_call *c);
void kafka_txn_commit_offsets(struct kafka_call *c);
void kafka_end_txn(struct kafka_call *c);
void kafka_write_markers(struct kafka_call *c);
void kafka_describe_producers(struct kafka_call *c);
void kafka_describe_transactions(struct kafka_call *c);
void kafka_list_transactions(struct kafka_call *c);

extern const struct kafka_part kafka_txn_part;

#endif

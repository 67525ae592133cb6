/* producer_part.h - the producers and transactions of the node's partitions: producer.h's engine, one per partition, each under
 * its own mutex, found by the partition's id.
 *
 * For Produce: kafka_producer_append does what mqg_partition_append does for a batch with a producer id, and checks before.
 * For Fetch with read_committed: kafka_txn_lso and kafka_txn_aborted. Any worker. A partition that never saw a transaction costs
 * one look into a map. */
#ifndef KAFKA_PRODUCER_PART_H
#define KAFKA_PRODUCER_PART_H

#include "producer.h"

struct kafka_produced {
    uint64_t base_offset;
    uint64_t end; /* the answer may go when the high watermark is here, whether it is a duplicate or not */
    bool duplicate;
};

/* Checks the sequence of a batch (b: its head, with a producer id) and appends it. `a` as for mqg_partition_append; the producer's
 * fields are filled here, offset and ticket are set when it was appended. Answers 0, or the protocol's error code: nothing was
 * appended then. The batch is no control batch (the caller refuses those). (worker) */
int16_t kafka_producer_append(struct mqg_partition *p, const struct mqg_batch *b, struct mqg_append *a,
                              bool urgent, struct kafka_produced *out) MQG_MUST_CHECK;

/* The last stable offset: everything before it is durable, and decided. (worker) */
uint64_t kafka_txn_lso(struct mqg_partition *p);
/* The transactions that were rolled back and have records in [from, to), by the offset of their marker, in the arena. *n = 0 and NULL:
 * none. Fewer than there are, and *failed, when the arena is full. (worker) */
const struct kafka_aborted *kafka_txn_aborted(struct mqg_partition *p, uint64_t from, uint64_t to,
                                              struct mqg_arena *a, size_t *n, bool *failed);

/* ---- for the coordinator of transactions ------------------------------------------------------------------------------ */

/* The partition joins a transaction; *first: nothing of it lies before. False: fenced by a newer epoch. (worker) */
bool kafka_part_begin(struct mqg_partition *p, int64_t id, int16_t epoch, uint64_t *first) MQG_MUST_CHECK;
/* The same at recovery, with what was written down. (main) */
void kafka_part_begin_found(struct mqg_partition *p, int64_t id, int16_t epoch, uint64_t first);

struct kafka_marker {
    int64_t producer_id;
    int16_t epoch;
    int32_t coordinator_epoch;
    bool commit;
    /* out */
    uint64_t offset;
};
/* Appends the marker that ends the producer's transaction here, and of a rollback the record for Fetch, to this turn's batch: both
 * are durable with whatever else the worker collects until its next submit. GONE. (worker; main at recovery) */
enum mqg_err kafka_part_end(struct mqg_partition *p, struct kafka_marker *m) MQG_MUST_CHECK;

/* May the partition take part in transactions? Only those of the default store, where a turn is atomic. */
bool kafka_part_can(const struct mqg_partition *p);

/* Visits the producers of a partition (a copy of each), as DescribeProducers shows them. */
void kafka_part_each(struct mqg_partition *p, void (*visit)(void *arg, const struct kafka_producer *producer),
                     void *arg);

/* ---- life ---------------------------------------------------------------------------------------------------------------- */

#define KAFKA_ABORT_PREFIX "kafka/abort/"
/* A record of KAFKA_ABORT_PREFIX, at recovery; kept until kafka_parts_recovered makes partitions of them. (main) */
void kafka_parts_abort_record(struct mqg_slice key, struct mqg_slice value);
void kafka_parts_recovered(void);
/* Now and then, on one worker: forgets what belongs to deleted partitions, to records that are gone, to producers that were
 * silent for expire_ms. */
void kafka_parts_sweep(uint64_t expire_ms);
void kafka_parts_fini(void);

#endif

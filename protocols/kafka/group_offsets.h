/* group_offsets.h - the positions of one group: what it committed per partition, and what open transactions hold back.
 *
 * All positions are in memory; the store keeps each as the last word per group and partition, tells them at recovery, and is
 * not asked while the node runs. A row is keyed by the partition's id, which is never used again: a topic deleted and made
 * anew begins without positions, whoever looks first. What the store keeps as a position's metadata:
 *
 *   | version 1 = 1 | flags 1 (1: null metadata) | leader epoch 4 | commit time, ms 8 | expires at, ms 8 (0: by retention) | text |
 *
 * A row becomes visible when it is durable. Each commit takes a number when it is handed to the store, and a row never goes
 * back to a lower one: answers of several workers' lanes may come in another order than the commits.
 *
 * The first part is a plain data structure: no lock, no clock. The second part (kafka_offsets_*) is for the transaction
 * coordinator: any worker, takes the group's mutex inside. */
#ifndef KAFKA_GROUP_OFFSETS_H
#define KAFKA_GROUP_OFFSETS_H

#include <mqgate/broker.h>
#include <mqgate/map.h>
#include <mqgate/vec.h>

/* What is committed; slices are borrowed. */
struct kafka_offset_row {
    struct mqg_slice topic;
    int32_t index; /* of the partition */
    uint64_t partition_id;
    int64_t offset;
    int32_t leader_epoch; /* -1: not given */
    uint64_t commit_ms, expire_ms;
    struct mqg_slice metadata; /* ptr NULL: null */
};

/* As it is kept: row's slices point behind it. */
struct group_offset {
    struct kafka_offset_row row;
    uint64_t number;
    uint8_t bytes[];
};

/* The rows that a transaction holds back. */
struct group_pending {
    int64_t producer_id;
    struct mqg_vec rows; /* of struct group_offset */
};

struct group_offsets {
    struct mqg_map rows; /* partition id -> struct group_offset; the key lies in it */
    struct mqg_vec pending;
    uint64_t number; /* last given */
};

void group_offsets_init(struct group_offsets *o);
void group_offsets_fini(struct group_offsets *o);
/* The number of a commit that goes to the store now. */
uint64_t group_offsets_number(struct group_offsets *o);
/* The commit of that number is durable. */
void group_offsets_set(struct group_offsets *o, const struct kafka_offset_row *row, uint64_t number);
const struct kafka_offset_row *group_offsets_get(const struct group_offsets *o, uint64_t partition_id);
bool group_offsets_forget(struct group_offsets *o, uint64_t partition_id);
size_t group_offsets_count(const struct group_offsets *o);

/* Transactions. A later row of the same transaction and partition replaces the earlier one. */
void group_offsets_hold(struct group_offsets *o, int64_t producer_id, const struct kafka_offset_row *row);
/* Has an open transaction a row for it? (OffsetFetch with require_stable: UNSTABLE_OFFSET_COMMIT) */
bool group_offsets_unstable(const struct group_offsets *o, uint64_t partition_id);
struct group_pending *group_offsets_pending(const struct group_offsets *o, int64_t producer_id);
/* Sets the rows (committed) or drops them. */
void group_offsets_release(struct group_offsets *o, int64_t producer_id, bool committed, uint64_t number);

/* Calls gone() for each row that is due at now_ms and forgets it. A row is due at its expire_ms, or, where it has none,
 * retention_ms after the later of its commit and since_ms. kept(arg, topic): rows of this topic stay. Rows that a transaction holds
 * stay. Answers how many went. */
size_t group_offsets_expire(struct group_offsets *o, uint64_t now_ms, uint64_t retention_ms,
                            uint64_t since_ms, bool (*kept)(void *arg, struct mqg_slice topic),
                            void (*gone)(void *arg, const struct kafka_offset_row *row), void *arg);

#define GROUP_POSITION_HEAD_BYTES   22u
#define GROUP_POSITION_METADATA_MAX 4096u
/* The position's metadata for the store; out has GROUP_POSITION_HEAD_BYTES and the text's length. */
struct mqg_slice group_position_encode(const struct kafka_offset_row *row, uint8_t *out);
/* Fills leader_epoch, times and metadata; what has another form counts as committed at now_ms without metadata. */
void group_position_decode(struct mqg_slice in, uint64_t now_ms, struct kafka_offset_row *row);

/* ---- for the transaction coordinator (worker) ---------------------------------------------------------------------------- */

/* May a member commit now? TxnOffsetCommit's checks: generation -1 and an empty member id ask nothing. An enum kafka_error. */
int16_t kafka_offsets_check(struct mqg_vhost *v, struct mqg_slice group, int32_t generation,
                            struct mqg_slice member_id, struct mqg_slice instance_id);
/* Keeps rows for the transaction of that producer; commit_ms is filled in. Not durable: who recovers a transaction holds its
 * rows again. */
void kafka_offsets_hold(struct mqg_vhost *v, struct mqg_slice group, int64_t producer_id,
                        const struct kafka_offset_row *rows, size_t n);
/* Adds the positions of the transaction in that group to this worker's lanes; then, once durable, kafka_offsets_end. In the same
 * turn as the decision, so that both are one journal group. Partitions deleted meanwhile are left out. */
void kafka_offsets_write(struct mqg_vhost *v, struct mqg_slice group, int64_t producer_id);
/* The decision is durable: the rows become visible, or are dropped. */
void kafka_offsets_end(struct mqg_vhost *v, struct mqg_slice group, int64_t producer_id, bool committed);

#endif

/* batch_check.h - may this batch be stored? Structure and sum of what a producer sent, before anybody appends it. */
#ifndef KAFKA_BATCH_CHECK_H
#define KAFKA_BATCH_CHECK_H

#include <mqgate/records.h>

#include "error.h"

/* `records` as Produce has them: one batch v2 and nothing else (KIP-98: from version 3 on a request has exactly one batch per
 * partition). Fills *out. Records that are not compressed are walked: their number and offsets must be what the head says. */
enum kafka_error kafka_batch_check(struct mqg_slice records, uint32_t max_bytes, struct mqg_batch *out);

/* The head of a batch whose records are dated by the node (LogAppendTime): attributes, times and sum anew in `head`, which
 * replaces the first MQG_BATCH_HEAD_BYTES of the batch. */
void kafka_batch_restamp(struct mqg_slice batch, int64_t now_ms, uint8_t head[MQG_BATCH_HEAD_BYTES]);

#endif

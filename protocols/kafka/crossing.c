/* crossing.c - which records of a topic other protocols may see: what transactions say of them (mqgate/stream.h). */
#include "kafka_int.h"
#include "producer_part.h"

enum { CROSSING_ARENA_BYTES = 4 << 20 };

/* A batch is of one transaction. Without memory to look it up it counts as given up: a record that was rolled back must not be
 * seen. */
static bool crossing_aborted(struct mqg_partition *p, int64_t producer_id, uint64_t base_offset)
{
    struct mqg_arena a;
    size_t n = 0;
    bool failed = false;
    mqg_arena_init(&a, CROSSING_ARENA_BYTES);
    const struct kafka_aborted *list = kafka_txn_aborted(p, base_offset, base_offset + 1, &a, &n, &failed);
    bool aborted = failed;
    for (size_t i = 0; i < n && !aborted; i++)
        aborted = list[i].producer_id == producer_id && list[i].first <= base_offset &&
                  base_offset < list[i].marker;
    mqg_arena_fini(&a);
    return aborted;
}

const struct mqg_stream_txns kafka_txns = {.stable = kafka_txn_lso, .aborted = crossing_aborted};

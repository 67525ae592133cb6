/* produce_wait.h - what must be safe before a Produce request is answered. */
#ifndef KAFKA_PRODUCE_WAIT_H
#define KAFKA_PRODUCE_WAIT_H

#include "kafka.h"

typedef struct kafka_produce_response_responses_partition_responses produce_row;

struct produce_wait;

/* All of it on the connection's worker. */

/* In the call's arena, with room for so many batches; NULL: its bound is reached. */
struct produce_wait *produce_wait_new(struct kafka_call *c, size_t nbatch);
/* A batch was appended that ends before offset `end`, by that ticket of the lane. A reference to its stream is held until the end.
 * What goes wrong with it is said in its row. */
void produce_wait_note(struct produce_wait *w, struct mqg_partition *part, produce_row *row, uint64_t end,
                       uint64_t ticket);
/* Answers the call when all that was noted is safe, at once if it is; drops it if the store fails. */
void produce_wait_begin(struct produce_wait *w);
/* In place of produce_wait_begin: what was noted is not waited for. */
void produce_wait_drop(struct produce_wait *w);

#endif

/* routing/queue_args.h - which arguments of a queue are compared when it is declared again. Internal to
 * routing/. Reading them is queue_opts_parse (queue.h). */
#ifndef MQG_ROUTING_QUEUE_ARGS_H
#define MQG_ROUTING_QUEUE_ARGS_H

#include "queue.h"

/* The i-th argument that a queue of this type compares, in RabbitMQ's order; NULL beyond the last. Static
 * storage. */
const char *queue_args_compared(const struct queue_opts *opts, size_t i);
/* "5m", "2D": a number greater than 0 and one of Y M D h m s, in ms. */
bool queue_args_age(struct mqg_slice text, uint64_t *ms);

#endif

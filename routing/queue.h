/* routing/queue.h - a queue: its entries, its consumers, its clockwork. Internal to routing/.
 *
 * The public face (subscribe, settle, get) is in mqgate/broker.h. Lock order: the topology mutex may be held when a queue's
 * mutex is taken, never the other way round; two queue mutexes are never held together. */
#ifndef MQG_ROUTING_QUEUE_H
#define MQG_ROUTING_QUEUE_H

#include <mqgate/broker.h>

enum queue_overflow { QUEUE_DROP_HEAD, QUEUE_REJECT_PUBLISH, QUEUE_REJECT_PUBLISH_DLX };
enum queue_type { QUEUE_CLASSIC, QUEUE_QUORUM, QUEUE_STREAM };

/* What the arguments say, parsed once at declare (routing/queue_args.c). Absent: UINT64_MAX for limits and times. */
struct queue_opts {
    enum queue_type type;
    uint64_t ttl_ms;     /* x-message-ttl */
    uint64_t expires_ms; /* x-expires */
    uint64_t max_length, max_bytes;
    enum queue_overflow overflow;
    bool has_dlx;
    struct mqg_slice dlx, dlk; /* into the queue's own copy of its arguments */
    bool has_dlk;
    uint8_t max_priority; /* 0: no priorities */
    bool single_active;
    uint32_t delivery_limit;       /* failed attempts allowed; UINT32_MAX: no limit. Quorum default 20 */
    struct mqg_stream_conf stream; /* streams */
    uint32_t partitions;           /* streams: 1 unless said otherwise; 0 for queues */
};

/* Reads and checks the arguments; slices borrow from t. Refusals are RabbitMQ's: PRECONDITION_FAILED texts such as
 * "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}". durable/exclusive matter for quorum. */
enum mqg_err queue_opts_parse(const struct mqg_queue_def *d, struct mqg_slice vhost, struct queue_opts *out,
                              struct mqg_error *e) MQG_MUST_CHECK;

/* A new, empty queue with one reference. Copies what d points to. The id is never used again. storage: where durable
 * messages go (NULL: everything transient). */
struct mqg_queue *queue_new(struct mqg_vhost *v, uint64_t id, const struct mqg_queue_def *d,
                            const struct queue_opts *opts, struct mqg_storage *storage);

/* Ends the queue: fails with IN_USE / NOT_EMPTY by its conditions ("queue 'q' in vhost '/' in use"), else marks it deleted
 * (puts answer GONE), cancels its consumers, lets its messages go in slices. Called under the topology mutex, before the
 * queue is taken from the snapshot. *messages: ready messages it had. A second call answers GONE. */
enum mqg_err queue_end(struct mqg_queue *q, bool if_unused, bool if_empty, uint64_t *messages,
                       struct mqg_error *e) MQG_MUST_CHECK;

/* queue.c asks the definitions to remove a queue whose time has come (x-expires, auto-delete). Called on a worker without
 * any lock; implemented in definitions.c; does nothing when it is gone already. */
void definitions_queue_over(struct mqg_queue *q, const char *why);

/* At the start: what queues may keep in memory ([limits]). */
void queue_limits(const struct mqg_conf *conf);

/* At the end of the process, after the workers have stopped: an armed timer lets go of the queue. */
void queue_timer_drop(struct mqg_queue *q);

/* A stream's partitions in its store: made (with the definition's record, before the queue is visible) or removed. Adds to the
 * lane; nothing for other types. stream.c */
void queue_stream_store(struct mqg_queue *q, bool remove);
/* After recovery: what the store did not tell of is made anew. */
void queue_stream_recovered(struct mqg_queue *q);
/* Once all are recovered, and after a declaration of it, or of the exchange that fronts it: the router's cursors. q may be NULL. */
void queue_stream_routed(struct mqg_queue *q);
void queue_stream_declared(struct mqg_queue *q);
void queue_streams_fini(void);
/* Is it a stream that takes what amq.topic gets under its name; what the exchange that fronts it gets? (any) */
bool queue_takes_bridge(const struct mqg_queue *q);
bool queue_takes_front(const struct mqg_queue *q);

/* Read-only facts. */
const struct mqg_table *queue_args(const struct mqg_queue *q);
const struct queue_opts *queue_opts(const struct mqg_queue *q);
struct mqg_vhost *queue_vhost(const struct mqg_queue *q);
bool queue_durable(const struct mqg_queue *q);
bool queue_exclusive(const struct mqg_queue *q);
bool queue_auto_delete(const struct mqg_queue *q);
uint64_t queue_owner(const struct mqg_queue *q);
void queue_counts(struct mqg_queue *q, uint64_t *ready, uint64_t *consumers);
void queue_touch(struct mqg_queue *q);                            /* a declare or get renews x-expires */
uint64_t queue_purge(struct mqg_queue *q);                        /* ready messages removed */
void queue_info(struct mqg_queue *q, struct mqg_queue_info *out); /* fills numbers under the lock */
bool queue_consumers(struct mqg_queue *q, bool (*visit)(void *arg, const struct mqg_consumer_info *c),
                     void *arg);

/* Recovery, main thread, in qseq order; then once queue_recovered. */
void queue_recover(struct mqg_queue *q, uint64_t qseq, struct mqg_extent *extent, uint32_t off, uint32_t len,
                   const struct mqg_stored *head, uint32_t delivery_count, bool redelivered);
/* Instead of them: entries that the store keeps to itself (mqg_recover.span), if it may. */
bool queue_recover_spans(const struct mqg_queue *q);
void queue_recover_span(struct mqg_queue *q, uint64_t first, uint64_t last, uint64_t count, uint64_t bytes);
/* All of its messages are there; after an unclean stop they count as redelivered. */
void queue_recovered(struct mqg_queue *q, bool unclean);
size_t queue_live_ranges(struct mqg_queue *q, struct mqg_range *ranges, size_t max, uint64_t *upto);

#endif

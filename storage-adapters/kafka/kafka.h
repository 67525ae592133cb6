/* kafka.h - the kafka store's inside: four threads before an engine that may be away.
 *
 *   lanes -- batches --> writer: decodes, produces, counts delivery reports, tells done() in ticket order
 *                  \---> clerk:  what asks and waits: topics made and deleted, positions committed
 *   lanes -- reads ----> reader: fetches from the offset asked for, encodes what came
 *
 *   questions ---------> asker:  an offset by time, a group's position
 *
 * No worker ever waits for librdkafka.
 *
 * `lock` guards partitions and the lists between the threads; it is never held around a call of librdkafka or the host. */
#ifndef KFK_KAFKA_H
#define KFK_KAFKA_H

#include <mqgate/conf.h>
#include <mqgate/map.h>
#include <mqgate/obs.h>
#include <mqgate/store.h>
#include <mqgate/vec.h>
#include <mqgate/wait.h>

#include <librdkafka/rdkafka.h>
#include <pthread.h>

#define KFK_MAGIC 0x6b666b61u

struct kfk_part;
struct kfk_batch;

/* One operation of a batch, its bytes copied. */
struct kfk_op {
    struct kfk_op *next; /* in the clerk's list, or a partition's held appends */
    struct kfk_batch *batch;
    enum mqg_store_op_kind kind;
    uint64_t partition;
    uint64_t offset; /* base offset, or a position */
    uint32_t count;  /* records; delivered so far in `delivered` */
    uint32_t delivered;
    int32_t index;
    struct kfk_part *part;
    char *name, *metadata; /* topic or group; a position's note */
    struct mqg_buf *buf;   /* APPEND: the record batches */
};

/* One submission, in its lane's list until it is done. */
struct kfk_batch {
    struct kfk_batch *next;
    uint32_t lane;
    uint64_t ticket;
    int64_t bytes;
    _Atomic uint32_t pending; /* operations not yet done */
    uint32_t nops;
    struct kfk_op ops[];
};

/* A partition of a topic. Never freed before the store: lists and reads may still name one that was deleted. */
struct kfk_part {
    uint64_t id;
    char *topic;
    int32_t index;
    bool ready, gone; /* under lock, as all to the blank line */
    uint64_t start, high;
    uint64_t *waits;
    size_t nwait, cap_wait;

    rd_kafka_topic_t *out; /* writer: the producer's handle */
    struct kfk_op *held;   /* writer: appends whose turn has not come, by offset */
    uint64_t next_out;     /* writer, set by the clerk before `ready`: offset that the next record will get */

    rd_kafka_topic_t *in; /* reader: the consumer's handle */
    bool fetching;
    uint64_t at;              /* reader: offset the fetch stands at */
    rd_kafka_message_t *kept; /* reader: fetched, and not yet given out */
    uint64_t used;            /* reader: when it was last read, by its counter */
};

struct mqg_store {
    uint32_t magic;
    struct mqg_store_host host;
    uint32_t nlanes;
    char *brokers, *prefix, *name;
    int linger_ms, timeout_ms;
    bool create_topics;

    rd_kafka_t *producer, *consumer;
    rd_kafka_queue_t *events; /* the producer's main queue */
    int wake_fd;
    pthread_t writer, clerk, reader, asker;
    bool running;
    _Atomic bool stopping, failed, blocked;
    _Atomic bool
        parts_changed; /* one has become ready, or is gone: the writer looks for what it holds back */
    _Atomic int64_t queued_bytes;
    _Atomic uint64_t stat_batches, stat_records;

    pthread_mutex_t lock;
    pthread_cond_t clerk_has, reader_has, asker_has, all_done;
    struct mqg_map parts; /* id (8 bytes) -> struct kfk_part, those not deleted */
    struct mqg_vec all;   /* every struct kfk_part ever made */
    struct kfk_batch *inbox, **inbox_last;
    struct kfk_op *clerk_ops, **clerk_last;
    struct mqg_stream_read *reads, **reads_last;
    struct mqg_time_req *times, **times_last;
    struct mqg_position_req *positions, **positions_last;
    uint64_t open_batches; /* submitted, not yet done */

    struct kfk_lane {
        struct kfk_batch *first, **last; /* writer: in ticket order */
    } * lanes;
};

/* ---- kafka.c -------------------------------------------------------------------------------------------------------- */

/* The store cannot go on. Any thread. */
void kfk_fail(struct mqg_store *s, enum mqg_err err, const char *fmt, ...) MQG_PRINTF(3, 4);
static inline bool kfk_over(const struct mqg_store *s)
{
    return atomic_load_explicit(&s->stopping, memory_order_acquire) ||
           atomic_load_explicit(&s->failed, memory_order_acquire);
}

/* ---- batch.c: from the host's operations to ours, and back to done() ------------------------------------------------ */

enum mqg_err kfk_submit(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops, size_t n,
                        uint64_t ticket, unsigned flags);
void kfk_batch_free(struct kfk_batch **b);
/* One operation is done; the last one of a batch wakes the writer. Any thread. */
void kfk_op_done(struct mqg_store *s, struct kfk_op *op);
void kfk_wake(struct mqg_store *s);

/* ---- writer.c ------------------------------------------------------------------------------------------------------- */

void *kfk_writer_run(void *store);
void kfk_delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *store); /* librdkafka's callback */

/* ---- part.c --------------------------------------------------------------------------------------------------------- */

struct kfk_part *kfk_part_find(struct mqg_store *s, uint64_t id); /* under lock */
/* Makes the partition known (not ready); NULL when it is already. Takes name. */
struct kfk_part *kfk_part_new(struct mqg_store *s, uint64_t id, char *topic, int32_t index);
void kfk_part_free(struct kfk_part **p);
/* The high watermark moves; tells those who waited. Any thread, without the lock. */
void kfk_part_advance(struct mqg_store *s, struct kfk_part *p, uint64_t high);
enum mqg_err kfk_stream_bounds(struct mqg_store *s, uint64_t partition, struct mqg_stream_bounds *out);
void kfk_stream_wait(struct mqg_store *s, uint64_t partition, uint64_t offset);
/* Waits for the engine, at most `timeout`. Asker's thread. */
enum mqg_err kfk_time_ask(struct mqg_store *s, uint64_t partition, uint64_t time_ms, uint64_t *offset);

/* ---- clerk.c -------------------------------------------------------------------------------------------------------- */

void *kfk_clerk_run(void *store);
/* As kfk_time_ask. */
enum mqg_err kfk_position_ask(struct mqg_store *s, struct mqg_slice group, uint64_t partition,
                              uint64_t *offset);

/* ---- asker.c -------------------------------------------------------------------------------------------------------- */

void *kfk_asker_run(void *store);
void kfk_offset_for_time(struct mqg_store *s, struct mqg_time_req *req);
void kfk_position_get(struct mqg_store *s, struct mqg_position_req *req);

/* ---- reader.c ------------------------------------------------------------------------------------------------------- */

void *kfk_reader_run(void *store);
void kfk_stream_read(struct mqg_store *s, struct mqg_stream_read *r);
void kfk_reader_forget(struct kfk_part *p); /* after the thread's end: gives back what it fetched */

#endif

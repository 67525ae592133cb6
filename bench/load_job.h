/* What to do, as the options said it. Filled once by amqpload.c, then read by every role. */
#ifndef MQGATE_BENCH_LOAD_JOB_H
#define MQGATE_BENCH_LOAD_JOB_H

#include "load_conn.h"

enum { LOAD_ARGS_MAX = 16, LOAD_STAMP_BYTES = 24 };

/* Body: sequence u64, publisher in its top 16 bits; time u64; checksum u32 of the rest; 4 zero bytes;
 * pattern. */
enum { LOAD_BODY_SEQUENCE = 0, LOAD_BODY_TIME = 8, LOAD_BODY_CHECK = 16, LOAD_SEQUENCE_BITS = 48 };
#define LOAD_SEQUENCE_MASK ((1ULL << LOAD_SEQUENCE_BITS) - 1)

struct load_job {
    struct load_target target;
    bool publishes;
    bool consumes;
    unsigned idle;     /* connections to open and hold, instead of the above */
    unsigned parallel; /* of them at a time in the handshake */

    const char *queue;
    const char *exchange; /* NULL: default exchange with one queue, else QUEUE.fanout */
    unsigned queues;
    bool durable;
    bool declares;
    bool deletes;
    const char *args[LOAD_ARGS_MAX];
    size_t arg_count;

    size_t body_bytes;
    bool persistent;
    unsigned publishers;
    unsigned window; /* unconfirmed messages per publisher; 0: no confirms */
    uint64_t count;  /* per publisher; 0: by time */
    double seconds;
    double warmup_seconds;
    double rate;  /* messages per second of all publishers; 0: as fast as possible */
    uint64_t lag; /* published but not yet delivered, at most; 0: no limit */

    unsigned consumers; /* connections that the queues are spread over */
    unsigned prefetch;
    unsigned ack_every; /* 0: no acks (no-ack consumers) */
    unsigned sample_every;

    unsigned stall_s; /* give up when nothing happened for so long */
    bool takes_latency;
    bool waits; /* for a line on stdin before the timed part and before the end */
    int cpu;    /* core to stay on; -1: any */
};

/* The name of queue `index` in `name`. */
void load_job_queue_name(const struct load_job *job, unsigned index, char name[256]);

/* Declares queues, the fan-out exchange and its bindings over `conn`; empties the queues if this job also
 * publishes. */
void load_job_declare(const struct load_job *job, struct load_conn *conn);
void load_job_delete(const struct load_job *job, struct load_conn *conn);

#endif

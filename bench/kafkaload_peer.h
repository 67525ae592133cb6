/* What is to be done, who does it, and how far it is. */
#ifndef MQGATE_BENCH_KAFKALOAD_PEER_H
#define MQGATE_BENCH_KAFKALOAD_PEER_H

#include "kafkaload_batch.h"
#include "kafkaload_wire.h"

enum { STALL_S = 30, SETUP_S = 120, SETUP_BYTES = 1 << 20 };
enum role { RELAY, ROLE_PRODUCE, ROLE_CONSUME, ROLE_POLLS };

struct job {
    unsigned port, size, batch, partitions, producers, inflight, per_request, lag_bytes, fill_mib, wait_ms,
        consumers;
    unsigned fetch_bytes, partition_bytes;
    unsigned sample, stall_s;
    int acks;
    enum role role;
    bool waits, deletes;
    double seconds, warmup;
    int cpu;
    char topic[64], config[128];
};

/* A request of a producer: per_request batches, one partition each. */
struct slot {
    uint8_t *bytes, *tail; /* tail: its first partition */
    size_t len, done;
};

struct peer {
    int fd;
    uint8_t *in;
    size_t in_len, in_cap;
    /* a producer */
    struct slot *slots;
    uint64_t put, sent, answered; /* requests */
    uint32_t first, count, next;  /* its partitions; whose turn it is */
    /* a consumer */
    uint8_t *out;
    size_t out_len, out_at, list_at;
    int32_t session, epoch;
    uint32_t poll_first, poll_count;
};

struct part {
    uint64_t sent, acked, got; /* batches */
};

struct run {
    const struct job *job;
    struct model model;
    struct part *parts;
    struct peer *producers, *consumers;
    int epoll;
    uint64_t sent, acked, got, polls; /* batches; fetches without records */
    uint64_t misordered, corrupt, sampled;
    bool fetching;
};

/* ---- kafkaload_peer.c: connections, the topic ---- */

void peer_connect(struct peer *p, const struct job *j, size_t in_cap);
void peer_watch(struct run *r, struct peer *p);
/* Takes what has come; false: nothing. */
bool peer_recv(struct peer *p);
/* The answer at *at, without its length and number; false: not all there. */
bool peer_next(struct peer *p, size_t *at, struct view *v);
/* What lies before `at` was read. */
void peer_shift(struct peer *p, size_t at);
/* One request and its answer, waited for; the view holds until the next one. */
struct view peer_ask(struct peer *p, const uint8_t *bytes, size_t n);
void topic_open(struct run *r, struct peer *p);
void topic_delete(struct run *r, struct peer *p);

/* ---- kafkaload_put.c: producers ---- */

void producer_open(struct run *r, struct peer *p, uint32_t first, uint32_t count);
void producer_flush(struct run *r, struct peer *p);
/* As many requests as may be on their way. */
void producer_fill(struct run *r, struct peer *p);
void producer_read(struct run *r, struct peer *p);

/* ---- kafkaload_get.c: consumers ---- */

void consumer_open(struct run *r, struct peer *p, uint32_t first, uint32_t count);
/* Its first fetch, of all its partitions. */
void consumer_start(struct run *r, struct peer *p);
void consumer_flush(struct peer *p);
void consumer_read(struct run *r, struct peer *p);

#endif

/* The consumer: reads deliveries by their lengths, counts them, checks their order and samples their
 * bodies. */
#ifndef MQGATE_BENCH_LOAD_CON_H
#define MQGATE_BENCH_LOAD_CON_H

#include "load_job.h"
#include "load_util.h"

struct load_con {
    struct load_conn conn;
    const struct load_job *job;
    uint64_t *expected; /* next sequence, by queue and publisher */

    uint64_t delivered;
    uint64_t redelivered;
    uint64_t misordered; /* not the sequence that was expected: lost, doubled or out of order */
    uint64_t sampled;
    uint64_t corrupt;
    uint64_t last_ns; /* when the last read that brought a delivery returned */

    uint64_t tag; /* of the last whole delivery */
    uint64_t acked;
    unsigned queue; /* of the delivery being read */
    uint64_t body_left;
    bool body_begun;
    bool sampling;
    uint32_t hash;
    uint32_t check;
    struct load_hist *deliver_ns;
};

/* Connects and consumes every queue q with q % job->consumers == index. */
void load_con_open(struct load_con *con, const struct load_job *job, unsigned index,
                   struct load_hist *deliver_ns);

/* One read, all its frames, the acks that are due. True if something came. */
bool load_con_receive(struct load_con *con);

/* Acks what is not acked yet, whatever the batch size. */
void load_con_ack_rest(struct load_con *con);

void load_con_close(struct load_con *con);

#endif

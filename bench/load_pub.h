/* The publisher: a ring of prebuilt messages that are stamped and written in large pieces. */
#ifndef MQGATE_BENCH_LOAD_PUB_H
#define MQGATE_BENCH_LOAD_PUB_H

#include "load_job.h"
#include "load_util.h"

struct load_pub {
    struct load_conn conn;
    const struct load_job *job;
    unsigned index;

    uint8_t *batch; /* `slots` messages of `stride` bytes each */
    size_t stride;
    size_t body_at; /* of the first body byte in a message */
    unsigned slots;
    size_t from; /* bytes [from, upto) of the batch are stamped and not yet written */
    size_t upto;
    bool stuck; /* the socket takes no more for now */

    uint64_t sent;         /* stamped */
    uint64_t settled_upto; /* every message up to this tag is confirmed or refused */
    uint8_t *settled;      /* ring by sequence: those beyond it that are */
    uint64_t confirmed;
    uint64_t nacked;
    uint64_t returned;
    uint64_t *sent_ns; /* ring by sequence, when latency is taken */
    uint64_t ring_mask;
    struct load_hist *confirm_ns;
};

/* Connects, and declares if `index` is 0. `confirm_ns` is shared between publishers. */
void load_pub_open(struct load_pub *pub, const struct load_job *job, unsigned index,
                   struct load_hist *confirm_ns);

/* Stamps and writes at most `allowed` messages, fewer if window or socket say so. The number stamped.
 * `due_ns` is when the first of them should have left, `step_ns` the distance to the next. */
uint64_t load_pub_send(struct load_pub *pub, uint64_t allowed, uint64_t due_ns, uint64_t step_ns);

/* Reads confirms and whatever else came. True if something came. */
bool load_pub_receive(struct load_pub *pub);

/* Bytes stamped but not written? */
bool load_pub_is_writing(const struct load_pub *pub);

void load_pub_close(struct load_pub *pub);

#endif

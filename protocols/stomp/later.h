/* later.h - messages that are to come later: when, and where they wait. */
#ifndef MQGATE_STOMP_LATER_H
#define MQGATE_STOMP_LATER_H

#include <mqgate/broker.h>

#define STOMP_LATER_PREFIX "amq.stomp.later."
#define STOMP_LATER_MAX_MS UINT64_C(315360000000) /* ten years */

/* What the overlay of a waiting message says. */
struct stomp_later {
    uint64_t due_us; /* wall clock */
    uint64_t period_ms;
    uint32_t left; /* times more, behind the next one */
    bool make;     /* its queue is made when it is not there */
    bool has_ttl;  /* which begins when the message leaves */
    uint64_t ttl_ms;
};

enum stomp_span { STOMP_MINUTE, STOMP_HOUR, STOMP_DAY, STOMP_SPANS };

/* A stretch of time: the number'th minute, hour or day since 1970. */
struct stomp_slot_id {
    enum stomp_span span;
    uint64_t number;
};

/* ---- later.c: pure functions -------------------------------------------------------------------------------------------- */

void stomp_later_encode(struct mqg_dynbuf *out, struct mqg_arena *a, const struct stomp_later *l);
/* False: the message says nothing of the kind. */
bool stomp_later_decode(const struct mqg_msg *m, struct mqg_arena *a, struct stomp_later *l);
/* Where a message that is due then waits, seen from now: the farther, the longer the span, `longest` at most. */
struct stomp_slot_id stomp_slot_for(uint64_t now_us, uint64_t due_us, enum stomp_span longest);
uint64_t stomp_slot_begin_us(struct stomp_slot_id id);
uint64_t stomp_slot_end_us(struct stomp_slot_id id);
/* The name of its queue; `room` is 64 bytes. */
struct mqg_slice stomp_slot_name(struct stomp_slot_id id, char room[64]);
bool stomp_slot_parse(struct mqg_slice name, struct stomp_slot_id *id);

/* ---- later_slot.c ------------------------------------------------------------------------------------------------------- */

/* (worker) Takes m, whose overlay says when it is due, into the queue where it waits. *ticket: of what had to be defined. */
enum mqg_err stomp_later_put(struct mqg_vhost *v, struct mqg_msg *m, uint64_t due_us, enum stomp_span longest,
                             uint64_t *ticket, struct mqg_error *e) MQG_MUST_CHECK;
void stomp_later_worker_start(struct mqg_worker *w);
void stomp_later_worker_stop(struct mqg_worker *w);
void stomp_later_fini(void);

#endif

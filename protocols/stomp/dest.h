/* dest.h - destinations: the text in a header, and what it means to the router. */
#ifndef MQGATE_STOMP_DEST_H
#define MQGATE_STOMP_DEST_H

#include <mqgate/base.h>

enum stomp_dest_kind {
    STOMP_DEST_EXCHANGE,
    STOMP_DEST_QUEUE,
    STOMP_DEST_AMQ_QUEUE,
    STOMP_DEST_TOPIC,
    STOMP_DEST_TEMP_QUEUE,
    STOMP_DEST_REPLY_QUEUE
};

struct stomp_dest {
    enum stomp_dest_kind kind;
    struct mqg_slice exchange; /* "" for queues */
    struct mqg_slice key;      /* routing key, or the queue's name */
};

/* Reads a destination (already unescaped); slices point into `in` or the arena. INVALID with a text for people; e->code is 1
 * when no such kind of destination exists. */
enum mqg_err stomp_dest_read(struct mqg_slice in, struct mqg_arena *a, struct stomp_dest *out,
                             struct mqg_error *e) MQG_MUST_CHECK;
/* Appends the destination at which a message of this exchange and key can be subscribed to. The key's levels are parted by sep. */
void stomp_dest_write(struct mqg_dynbuf *out, struct mqg_slice exchange, struct mqg_slice key, char sep);
const char *stomp_dest_word(enum stomp_dest_kind kind);

#endif

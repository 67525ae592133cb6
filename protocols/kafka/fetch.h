/* fetch.h - what one Fetch looks at: a set of partitions with their offsets, for one request, or for a session (KIP-227).
 *
 * A set has a list of all its partitions and a list of those that are **ready**: they may have something to tell, and are looked
 * at by the next fetch. Who was looked at and had nothing waits for its high watermark to move and is off the list; the wait
 * stays over the end of a request when the set is a session's. So an incremental fetch costs what changed, not what it covers,
 * and a poll that expires costs its request and its answer.
 *
 *   fetch.c         the request: sessions, what is asked for; parking
 *   fetch_set.c     sets, partitions, sessions
 *   fetch_read.c    looking at what is ready
 *   fetch_aborted.c what of it was rolled back
 *   fetch_down.c    message sets for versions 0 to 3
 *   fetch_answer.c  the bytes of the answer; batches are not copied */
#ifndef KAFKA_FETCH_H
#define KAFKA_FETCH_H

#include <mqgate/map.h>

#include "kafka_int.h"

struct kafka_aborted; /* producer.h */

#define FETCH_SESSION_PARTS_MAX 65536u

struct fetch_part {
    struct fetch_set *set;
    struct fetch_part *next, **prev;             /* all of the set, in the order in which they came */
    struct fetch_part *ready_next, **ready_prev; /* ready_prev NULL: not ready */
    int64_t offset;
    int32_t index, max_bytes, epoch;
    uint8_t passed; /* reads of this look that had nothing which an old client could be shown */
    bool reading;   /* `read` is with the store */
    bool dead;      /* to be freed when it comes back */

    /* what the present fetch found */
    enum kafka_error code;
    int64_t high, stable, start, limit;
    struct mqg_buf *data; /* one reference */
    struct mqg_slice records;
    const struct kafka_aborted *aborted; /* in the call's arena */
    size_t naborted;
    int64_t told_high, told_start; /* what the session's client knows; -1: nothing */

    struct mqg_partition_wait wait;
    struct mqg_partition_read read;
    uint16_t key_len;
    uint8_t key[]; /* index 4, then the topic's id or name */
};

struct fetch_set {
    struct kafka_conn *conn;
    struct kafka_call *call; /* under way; NULL: none */
    struct fetch_part *first, **last, *ready, **ready_last;
    uint32_t nparts, reading;
    bool dead;

    /* a session's */
    bool session, by_id;
    int32_t id, epoch; /* the next one expected */
    struct mqg_map by_key;

    /* the present fetch */
    bool full; /* everything is told, changed or not */
    bool committed, expired, again;
    bool errors, more; /* more: the store has more at once than it gave in one piece */
    int32_t min_bytes, max_bytes;
    int64_t bytes;      /* that were found */
    int64_t asked;      /* that reads under way may bring */
    uint8_t magic;      /* 0 and 1: batches are made messages (versions 0 to 3); 2 */
    size_t plain_bytes; /* decompressed for that */
};

/* ---- fetch_set.c ------------------------------------------------------------------------------------------------------------- */

struct fetch_set *fetch_set_new(struct kafka_conn *kc, bool by_id);
/* What is with the store is freed when it comes back. */
void fetch_set_free(struct fetch_set **set);
/* A dead set's last read came back. */
void fetch_set_bury(struct fetch_set *set);
/* A partition of the set, at the end of both lists. id: NULL where topics go by name. */
struct fetch_part *fetch_part_add(struct fetch_set *set, const struct kafka_uuid *id, struct mqg_slice name,
                                  int32_t index);
struct fetch_part *fetch_part_find(struct fetch_set *set, const struct kafka_uuid *id, struct mqg_slice name,
                                   int32_t index);
void fetch_part_remove(struct fetch_part *p);
void fetch_part_free(struct fetch_part *p); /* unlinked already */
/* At the end of the ready list; again: moves it there. */
void fetch_part_ready(struct fetch_part *p);
void fetch_part_unready(struct fetch_part *p);
void fetch_part_release(struct fetch_part *p); /* what was found */
/* The topic as a name or an id, from the key. */
struct mqg_slice fetch_part_topic(const struct fetch_part *p);
/* Makes the set the connection's session; false: too many. */
bool fetch_session_open(struct fetch_set *set);

/* ---- fetch_read.c -------------------------------------------------------------------------------------------------------------- */

/* Looks at all that is ready, then judges (fetch_judge), at once or when the store has answered. */
void fetch_run(struct fetch_set *set);
/* Waits for news of a partition that has none. */
void fetch_part_wait(struct fetch_part *p);

/* ---- fetch_aborted.c ------------------------------------------------------------------------------------------------------------ */

/* Those of the n rolled back transactions, in any order, that p->records has batches of become p->aborted. False: no memory. */
bool fetch_part_aborted(struct fetch_part *p, const struct kafka_aborted *aborted, size_t n);

/* ---- fetch_down.c --------------------------------------------------------------------------------------------------------------- */

#define FETCH_PASSED_MAX   64u
#define FETCH_PASSED_BYTES (1u << 20) /* what is read at once behind such a read */

enum fetch_down {
    FETCH_DOWN_DATA,
    FETCH_DOWN_NOTHING, /* nothing that such a client is shown: reading goes on behind it */
    FETCH_DOWN_LATER,   /* enough was done for this answer */
    FETCH_DOWN_FAILED,  /* *code says why */
};
/* Replaces what was read by what a client of set->magic reads; anything but DATA releases it. */
enum fetch_down fetch_part_down(struct fetch_part *p, enum kafka_error *code);
void fetch_down_stop(void);

/* ---- fetch.c -------------------------------------------------------------------------------------------------------------------- */

/* Everything was looked at: answers, or parks. */
void fetch_judge(struct fetch_set *set);
/* Something is ready that was not. */
void fetch_news(struct fetch_set *set);

/* ---- fetch_answer.c --------------------------------------------------------------------------------------------------------------- */

/* struct kafka_call's write: the answer of c->owner, a set. */
void fetch_write(struct kafka_call *c);
/* Is the partition told of in this answer? */
bool fetch_part_is_told(const struct fetch_part *p);

#endif

/* routing/queue_int.h - the inside of a queue, shared by the queue_*.c files only. */
#ifndef MQG_ROUTING_QUEUE_INT_H
#define MQG_ROUTING_QUEUE_INT_H

#include <pthread.h>
#include <sys/queue.h>

#include "definitions_int.h"
#include "fifo.h"
#include "publish.h"
#include "queue.h"

#define QUEUE_MAGIC      0x51554555u
#define SUB_MAGIC        0x53554253u
#define SUB_WINDOW       512u /* deliveries between a queue and a consumer's socket */
#define SUB_WINDOW_BYTES (1u << 20)
#define QUEUE_LOAD_MAX   128u /* bodies asked for in one read-ahead */

struct mqg_sub {
    uint32_t magic;
    struct mqg_queue *queue;      /* one reference */
    struct stream_reader *reader; /* of a stream: stream_sub.c */
    struct mqg_worker *worker;
    const struct mqg_sub_ops *ops;
    void *owner;
    struct mqg_sub_def def; /* tag: `tag`; args: *args */
    struct mqg_table *args; /* own copy, one block */
    char *tag;
    TAILQ_ENTRY(mqg_sub) all;   /* queue->subs, in order of arrival */
    TAILQ_ENTRY(mqg_sub) avail; /* its group's list, while it can take */
    struct sub_group *group;
    /* under the queue's lock */
    bool paused, over; /* of a stream's: its worker's */
    uint32_t unacked;
    struct mqg_delivery *inbox;
    uint32_t inbox_n, inbox_cap;
    uint64_t inbox_bytes;
    bool on_avail; /* not beside the two above, which are read together */
    /* the worker's */
    struct mqg_delivery *out;
    uint32_t out_at, out_n, out_cap;
    bool cancel_told, freed, busy;
    /* any thread */
    _Atomic bool scheduled;
    _Atomic bool cancelled;
    struct mqg_sub *ready_next;
};

TAILQ_HEAD(sub_list, mqg_sub);

/* Consumers of one priority; groups are sorted, highest first. */
struct sub_group {
    int32_t priority;
    uint32_t subs;
    struct sub_list avail;
    TAILQ_ENTRY(sub_group) link;
};

TAILQ_HEAD(sub_groups, sub_group);

/* What only a queue needs that was long, or kept messages while memory was short. Under the queue's lock. */
struct queue_far {
    uint64_t page_scan;          /* bodies before it were looked at for paging out */
    uint64_t span_cursor;        /* entries before it were looked at for a span */
    struct span_read *span_read; /* of the first span, under way */
    struct fifo_span span_left;  /* of a span that was purged meanwhile */
    struct doomed *doomed;
    uint64_t aside_scan, aside_again_ms;
    bool aside_busy; /* a request is under way */
};

/* The timer of a queue that ever had to do something in time. */
struct queue_clock {
    struct mqg_queue *queue;
    struct mqg_timer timer;
    struct mqg_task task;
    _Atomic bool posted;
};

struct mqg_queue {
    uint32_t magic;
    _Atomic uint32_t refs;
    uint64_t id;
    struct mqg_vhost *vhost;
    struct mqg_queue_def def; /* name: `name`; args: *args */
    const struct queue_opts
        *opts; /* own, or those of all queues without arguments; its slices point into def.args */
    struct mqg_table
        *_Atomic args;           /* own copy, one block; a stream's may be replaced (def.args is the first) */
    struct mqg_storage *storage; /* NULL: nothing is stored */
    struct mqg_stream *stream;   /* NULL: a queue */
    struct queue_entry model;    /* under the topology mutex */
    uint64_t born_ms;
    uint32_t home; /* the worker that runs its timers */

    pthread_mutex_t lock;
    /* under the lock */
    bool ended;
    uint64_t next_qseq;
    struct fifo *fifos; /* 1, or max_priority + 1; nobody's before the first message */
    uint32_t nfifos;
    uint64_t ready, unacked, ready_bytes, unacked_bytes, in_memory;
    uint64_t published, delivered, acked;
    struct sub_list subs;
    struct sub_groups groups;
    struct mqg_sub *single, *exclusive;
    uint32_t nsubs;
    uint32_t loads;                    /* read-aheads under way */
    struct mqg_get *gets, **gets_tail; /* waiting for a body */
    struct queue_far *far;             /* NULL: it never was long */
    uint64_t last_used_ms;
    uint64_t kept_upto;         /* numbers up to it do not expire: mqg_queue_keep */
    uint64_t armed_ms;          /* what the home worker's timer stands at; 0: not armed */
    struct queue_clock *clock;  /* NULL: it never was armed */
    struct queue_slot *slots[]; /* one per worker, made by it when it first needs it */
};

struct queue_slot *queue_slot_make(struct mqg_queue *q, uint32_t worker);

/* The calling worker's. */
static inline struct queue_slot *queue_slot(struct mqg_queue *q, const struct mqg_worker *w)
{
    struct queue_slot *slot = q->slots[w->index];
    return MQG_LIKELY(slot != NULL) ? slot : queue_slot_make(q, w->index);
}

/* Collected under the lock, done after it. */
struct queue_work {
    struct mqg_queue *queue;
    struct publisher *pub;
    struct mqg_sub *wake[16]; /* subscriptions to schedule; more are scheduled under the lock */
    uint32_t nwake;
    struct dead *dead, **dead_tail;
    struct load *load;           /* a read-ahead to ask for */
    struct mqg_index_req *spans; /* likewise, entries */
    struct mqg_scratch_req *aside;
    bool over; /* last consumer of an auto-delete queue is gone */
    const char *over_why;
};

/* An entry that left by expiry, overflow, reject or delivery limit, on its way to the dead letter exchange. */
struct dead {
    struct dead *next;
    struct mqg_msg *msg;
    const char *reason; /* "expired", "maxlen", "rejected", "delivery_limit" */
    /* paged: loaded first */
    struct mqg_extent *extent;
    uint32_t off, len;
    uint64_t qseq;
    bool stored;
};

/* Entries that are counted off and have still to be settled. */
struct doomed {
    struct doomed *next;
    struct fifo_span span;
};

/* Takes the lock and prepares w; queue_unlock does what was collected. */
void queue_lock(struct mqg_queue *q, struct queue_work *w);
void queue_unlock(struct queue_work *w);
/* The subscription's worker looks at it in its next DELIVER phase (any thread). */
void sub_ready(struct mqg_sub *s);

static inline uint64_t queue_handle(uint32_t prio, uint64_t pos)
{
    return (pos + 1) << 8 | prio;
}
static inline uint32_t queue_handle_prio(uint64_t handle)
{
    return (uint32_t)(handle & 0xff);
}
static inline uint64_t queue_handle_pos(uint64_t handle)
{
    return (handle >> 8) - 1;
}

/* queue.c, all under the lock */
struct fifo *queue_fifo(struct mqg_queue *q, uint32_t prio); /* for the first message too */
struct queue_far *queue_far(struct mqg_queue *q);            /* made when it is first asked for */
struct entry *queue_entry(struct mqg_queue *q, uint64_t handle);
/* Takes an entry out for good: accounting, settle record, message reference. */
void queue_drop(struct queue_work *w, uint32_t prio, uint64_t pos, struct entry *e);
/* Like drop, but hands it to the dead letter exchange if the queue has one. */
void queue_die(struct queue_work *w, uint32_t prio, uint64_t pos, struct entry *e, const char *reason);
/* Adds a message at the tail; false: rejected by overflow policy. */
bool queue_append(struct queue_work *w, struct mqg_msg *m, struct mqg_dest *dest, bool stored);

/* queue_dispatch.c, under the lock */
void queue_dispatch(struct queue_work *w);
void queue_schedule(struct queue_work *w, struct mqg_sub *s);
bool sub_ready_drain(struct publisher *p); /* DELIVER phase */
void sub_make_available(struct mqg_queue *q, struct mqg_sub *s);
void sub_make_unavailable(struct mqg_sub *s);

/* queue_expire.c */
void queue_expire(struct queue_work *w);   /* under the lock: heads whose time is over */
void queue_overflow(struct queue_work *w); /* under the lock: drop-head */
void queue_arm(struct mqg_queue *q);       /* under the lock: sees to it that the timer fires in time */
void queue_disarm(struct mqg_queue *q);    /* under the lock, once it has ended */

/* queue_page.c, under the lock */
bool queue_load_ahead(struct queue_work *w, uint32_t prio, uint64_t pos);
void queue_load_submit(struct queue_work *w);            /* after the lock was given back */
void queue_page_out(struct mqg_queue *q, uint64_t came); /* came: messages since the last call */
void queue_serve_gets(struct queue_work *w);

/* queue_span.c, under the lock */
uint32_t queue_span_kept(void); /* what it is now */
bool queue_span_able(const struct mqg_queue *q);
/* The lowest ready entry. NULL: there is none, or (*waits) it is being read; then what needs it is done when it has come. */
struct entry *queue_head(struct queue_work *w, uint32_t prio, uint64_t *pos, bool *waits);
struct entry *queue_head_good(struct queue_work *w, uint32_t prio, uint64_t *pos,
                              bool *waits); /* none that is broken */
void queue_span_forget(struct mqg_queue *q,
                       uint64_t came); /* hands the middle of a long index to the store */
void queue_span_doom_all(struct queue_work *w);
void queue_span_submit(struct queue_work *w); /* after the lock was given back */

/* queue_aside.c */
bool queue_memory_low(void);                                       /* message memory is worth saving */
bool queue_memory_short(void);                                     /* publishers will be blocked soon */
struct mqg_storage *queue_load_storage(const struct mqg_queue *q); /* where its paged bodies are */
void queue_put_aside(struct queue_work *w);    /* under the lock: transient messages far from the head */
void queue_aside_submit(struct queue_work *w); /* after the lock was given back */
void queue_memory_limit(const struct mqg_conf *conf);
void queue_memory_watch(void); /* on one worker, at its start */

/* queue_recover.c: due time of an entry of which only the store's record is known. */
uint32_t queue_due_again(const struct mqg_queue *q, uint8_t flags, uint64_t ttl_ms, uint64_t append_us);

/* queue_settle.c */
void queue_gets_fail(struct mqg_queue *q); /* the queue is over: waiting gets find it empty */
/* Back to READY at its place (under the lock). */
void queue_put_back(struct mqg_queue *q, uint32_t prio, uint64_t pos, struct entry *e);

/* deadletter.c: after the lock was given back; takes d. */
void deadletter_publish(struct publisher *p, struct mqg_queue *q, struct dead *d);

#endif

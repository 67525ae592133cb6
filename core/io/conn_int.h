/* conn_int.h - connections as core/io sees them: what is shared by conn.c, conn_in.c, conn_out.c and pressure.c. */
#ifndef MQG_IO_CONN_INT_H
#define MQG_IO_CONN_INT_H

#include "filter.h"
#include "worker_int.h"

#include <mqgate/protocol.h>

#include <event2/event_struct.h>
#include <sys/socket.h>

#define CONN_MAGIC       0x636f6e6eu
#define CONN_READ_BYTES  131072u /* one read, at most */
#define CONN_INPUT_MAX   16384u  /* unread input before login */
#define CONN_CHUNK_BYTES 16384u  /* of output */
#define CONN_RESERVE_MAX 65536u
#define CONN_OUT_HIGH    (256u << 10) /* deliveries stop */
#define CONN_OUT_LOW     (64u << 10)  /* and go on */
#define CONN_OUT_PAUSE   (8u << 20)   /* answers alone piled up: read no more requests */
#define CONN_OUT_HARD    (64u << 20)  /* copied bytes; then the connection is aborted */
#define CONN_OUT_SHARE \
    (64u << 20) /* copied bytes of a worker\'s connections together; above it the marks fall */
#define CONN_REF_MIN       8192u /* bodies from here on are sent without a copy */
#define CONN_LINGER_MS     2000u
#define CONN_CLOSE_MS      10000u /* for a peer that does not take our goodbye */
#define CONN_TRICKLE_BYTES 16384u
#define CONN_TRICKLE_MS    10u

/* A life: PREFACE (PROXY header, TLS handshake) -> OPEN -> CLOSING (what is written leaves) -> LINGER (the peer's own
 * end is awaited, so that a reset does not eat our goodbye) -> DEAD. Only OPEN has a handler. */
enum conn_state { CONN_PREFACE, CONN_OPEN, CONN_CLOSING, CONN_LINGER, CONN_DEAD };

enum { CONN_NOTES = 64 };

/* What happened last, for a crash's sake. */
struct conn_note {
    const char *what;
    uint32_t arg, mono_ms; /* of the turn, cut to 32 bits */
};

struct conn_node; /* conn_out.c: a chunk of output */

struct conn_source; /* what a listener says of its connections; conn.h */

struct conn_link {
    struct conn_link *next, *prev;
};

struct mqg_conn {
    uint32_t magic;
    enum conn_state state;
    int fd;
    const struct mqg_protocol_ops *ops;
    struct io_worker *w;
    struct io_filter *filter;
    struct conn_link link; /* in the worker's list of all */
    struct mqg_conn *ready_next, *dirty_next, *end_next;
    bool ready_queued, dirty_queued, end_queued;
    bool handler_up; /* conn_init succeeded, conn_fini is due */
    bool read_armed, out_wait;
    bool refeed;      /* was held: the rest is shown to the handler again */
    bool eof;         /* the peer sends no more */
    bool wants_proxy; /* a PROXY header comes first */
    bool counted;     /* in the number of the node's connections */
    struct event read_event, write_event;

    uint8_t *rest; /* unread input */
    size_t rest_len, rest_cap, input_max;
    uint8_t *proxy; /* the part of a PROXY header that has come */
    size_t proxy_len;
    uint16_t pauses[MQG_PAUSE_COUNT];
    bool publishes, unsettled;
    uint32_t trickle; /* bytes that may be read in this tick, under pressure */

    struct conn_node *out_head, *out_tail;
    size_t out_pending, out_copied;
    bool out_full, out_paused, out_scratch;

    struct mqg_timer timer; /* login, idle, close, linger */
    uint64_t login_due_ms;  /* 0 once the handler raised it */
    uint64_t idle_ms;
    uint64_t last_read_ms, last_write_ms;
    uint64_t bytes_in, bytes_out;
    struct mqg_session *session;
    struct mqg_task task; /* from the acceptor to the worker */
    struct mqg_conn_info info;
    uint32_t notes_n; /* ever written */
    struct conn_note notes[CONN_NOTES];
    _Alignas(16) uint8_t handler[];
};

/* The connections of one worker. */
struct conn_worker {
    struct conn_link all;
    uint32_t count;
    struct mqg_conn *ready, **ready_end;
    struct mqg_conn *dirty, **dirty_end;
    struct mqg_conn *end, **end_end; /* closing or dead, looked at when the turn ends */
    uint8_t *input;                  /* shared by all: an idle connection owns no buffer */
    size_t input_cap;
    uint8_t *scratch; /* where output goes that nobody will send */
    size_t out_bytes; /* copied and not yet sent, of all connections */
    struct conn_node *chunks;
    uint32_t nchunks;
    uint32_t pressure_seen;
    bool blocked;
    struct mqg_timer trickle_timer;
};

static inline struct conn_worker *conn_worker_of(const struct io_worker *w)
{
    return w->pub.io;
}

/* conn.c: life */
void conn_worker_init(struct io_worker *w);
void conn_worker_free(struct io_worker *w);
void conn_turn_begin(struct io_worker *w); /* input */
void conn_turn_end(struct io_worker *w);   /* the ends of connections */
void conn_close_all(struct io_worker *w);
void conn_end_later(struct mqg_conn *c);
void conn_fail(struct mqg_conn *c, const struct mqg_error *e); /* logs, flushes, closes */
void conn_ready_later(struct mqg_conn *c);

/* conn_in.c */
void conn_input(struct mqg_conn *c);
void conn_read_update(struct mqg_conn *c); /* after a change of what pauses it */
void conn_preface(struct mqg_conn *c);
void conn_input_fini(struct mqg_conn *c);
void conn_open(struct mqg_conn *c);

/* conn_out.c */
bool conn_write_phase(struct mqg_worker *w);
void conn_dirty_later(struct mqg_conn *c);
void conn_output_fini(struct mqg_conn *c);
void conn_output_worker_free(struct conn_worker *cw);

/* conn_dump.c: what a crash says of this worker's connections */
void conn_dump(int fd, void *arg);

/* pressure.c */
void pressure_turn(struct io_worker *w);
void pressure_worker_init(struct conn_worker *cw);
bool conn_is_held(const struct mqg_conn *c);                  /* not read at all, for now */
size_t conn_read_room(const struct mqg_conn *c, size_t room); /* less under pressure */

#endif

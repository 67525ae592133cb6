/* kafka_int.h - what conn.c, call.c, request.c and module.c share; other parts need kafka.h only. */
#ifndef KAFKA_KAFKA_INT_H
#define KAFKA_KAFKA_INT_H

#include "kafka.h"

/* conn.c */
enum mqg_err kafka_conn_init(struct mqg_conn *c);
void kafka_conn_fini(struct mqg_conn *c);
size_t kafka_conn_input(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e);
void kafka_conn_event(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text);
/* Stops the reading or lets it go on, by what waits, what the client does not take and what quotas say; within the input only the
 * end of its loop says it to the host. After each change of these. */
void kafka_conn_hold_update(struct kafka_conn *kc);
void kafka_conns_worker_stop(struct mqg_worker *w);

/* call.c; all but kafka_frames_load on the connection's worker */
void kafka_frames_load(int64_t budget_bytes); /* kafka.request_memory; before any connection */
/* Room for a request that outlives the input, from the node's budget; NULL: none now, try again later. */
uint8_t *kafka_frame_new(size_t bytes);
void kafka_frame_free(uint8_t *owned, size_t bytes); /* NULL: nothing */
/* A request that waits for its answer, the last of the connection's. owned: of kafka_frame_new; the call's now. */
struct kafka_call *kafka_call_begin(struct kafka_conn *kc, uint8_t *owned, uint32_t bytes);
/* Bytes of a frame that lies in the input become the call's own. */
struct mqg_slice kafka_call_keep(struct kafka_call *c, struct mqg_slice frame);
/* Everything at the head that is ready leaves; an ending connection that waits for nothing any more is closed. */
void kafka_calls_advance(struct kafka_conn *kc);
/* The connection is gone: nobody is answered any more. */
void kafka_calls_drop(struct kafka_conn *kc);
void kafka_calls_worker_stop(void);

/* produce.c: the partition that a request names, by name or by id; by the right to write. */
struct mqg_partition *kafka_produce_partition(struct kafka_call *c,
                                              const struct kafka_produce_request_topic_data *topic,
                                              int32_t index, enum kafka_error *code);

/* produce.c: gives back what legacy producers needed. */
void kafka_produce_worker_stop(void);
/* fetch_set.c: the session of a connection that ends. */
void fetch_session_close(struct kafka_conn *kc);
/* fetch_answer.c: the same. */
void kafka_fetch_worker_stop(void);

/* epochs.c */
void kafka_epochs_call(struct kafka_call *c);

/* crossing.c */
extern const struct mqg_stream_txns kafka_txns;

/* request.c */
extern const struct kafka_api kafka_core_apis[]; /* ApiVersions */
enum mqg_err kafka_apis_load(struct mqg_error *e);

/* listener.c: what holds by the listener on which a client came. */
struct kafka_listener {
    const char *name;      /* "kafkas", "kafka.internal" */
    struct mqg_slice host; /* that is told; port 0: where the client came in */
    int32_t port;
    struct mqg_slice vhost;
    enum kafka_anonymous anonymous; /* from where clients may come that do not log in, */
    const char *user;               /* and who they are */
};
enum mqg_err kafka_listeners_load(const struct mqg_conf *conf, struct mqg_error *e);
const struct kafka_listener *kafka_listener(const struct kafka_conn *kc);

extern const struct kafka_api kafka_metadata_apis[], kafka_produce_apis[], kafka_fetch_apis[],
    kafka_offsets_apis[];

#endif

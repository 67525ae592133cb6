/* routing/definitions_int.h - the writer's side of the topology, shared by definitions*.c, listing.c and
 * vhost_*.c. Internal.
 *
 * Beside the snapshot, which answers "where does this message go", stands a mutable model, which answers
 * "what is there and what hangs on it": entries of exchanges, queues and bindings in hash maps, and each
 * binding in a list of its source and of its destination, so that a deletion finds what it takes along
 * without a search. All of it under one mutex. */
#ifndef MQG_ROUTING_DEFINITIONS_INT_H
#define MQG_ROUTING_DEFINITIONS_INT_H

#include "meta_codec.h"
#include "topology_int.h"
#include "vhost.h"

#include <sys/queue.h>

struct binding;
LIST_HEAD(binding_list, binding);

struct exchange_entry {
    struct exchange_cell cell;
    struct mqg_table *args; /* owned */
    struct binding_list from, to;
    struct exchange_entry *next_doomed;
    bool doomed; /* to be deleted by the edit at hand */
    bool gone;   /* out of the snapshot; its bindings follow (definitions_drop.c) */
};

struct queue_owner;

/* Part of its queue; the model has one reference of the queue. */
struct queue_entry {
    struct mqg_queue *queue;
    struct dest dest;
    struct binding_list to;
    struct queue_entry *next_id; /* queue_ids.c */
    struct queue_owner *owner;   /* exclusive */
    LIST_ENTRY(queue_entry) owned;
};

/* What a headers exchange or arguments add to a binding; most have neither. */
struct binding_more {
    struct mqg_table *args; /* NULL: none */
    struct headers_match match;
    uint64_t id;
    size_t canonical_len; /* the arguments as what tells bindings apart */
    uint8_t canonical[];
};

/* There may be a million of them: names are its ends' own, and the key is kept here once. */
struct binding {
    LIST_ENTRY(binding) from, to;
    struct exchange_entry *source;
    union {
        struct exchange_entry *exchange; /* as to_exchange says */
        struct queue_entry *queue;
    } dest;
    struct binding_more *more; /* NULL: a plain one */
    uint32_t hash;
    uint16_t key_len;
    bool durable, to_exchange;
    uint8_t key[];
};

/* What b says; slices and arguments borrow from it and its ends. */
struct mqg_binding_def binding_def(const struct binding *b);

/* One command: the snapshot's edit, the metadata written so far, exchanges that lost their last binding. */
struct definitions_edit {
    struct topology_edit topology;
    struct mqg_vhost *vhost;
    uint64_t ticket;  /* of the last record submitted; 0: none */
    uint32_t records; /* handed to the lane, not yet submitted */
    bool recovering;  /* nothing is written */
    bool dissolving;  /* the whole vhost goes: the snapshot is dropped in one piece */
    struct exchange_entry *doomed;
};

/* begin takes the topology mutex; what was looked up before it may be gone. end publishes, lets go of it, and gives the ticket. Between them no call may come back into
 * the definitions. */
void definitions_begin(struct definitions_edit *d, struct mqg_vhost *v);
uint64_t definitions_end(struct definitions_edit *d);
/* Likewise, but the snapshot may show it at the end of the turn only, or when this worker looks at it. */
uint64_t definitions_end_later(struct definitions_edit *d, const struct mqg_session *s);
/* (worker) What a declaration finds: in the snapshot, or in the draft when this worker has one open, since publishing at each look
 * would make every declaration an edit of its own. Valid until the worker's quiescent point. */
struct mqg_queue *definitions_look_queue(const struct mqg_vhost *v, struct mqg_slice name);
const struct exchange_cell *definitions_look_exchange(const struct mqg_vhost *v, struct mqg_slice name);
void definitions_lock(void);
/* And there is no draft: the next edit_init does not let go of the mutex, whichever vhost it is for. */
void definitions_lock_settled(void);
void definitions_unlock(void);
/* A second edit on another vhost while the mutex is held (recovery). */
void definitions_edit_init(struct definitions_edit *d, struct mqg_vhost *v);
void definitions_publish(struct definitions_edit *d);
/* Empty buffers, kept from command to command; under the mutex. */
enum definitions_scratch { SCRATCH_KEY, SCRATCH_VALUE, SCRATCH_IDENTITY, SCRATCH_COUNT };
struct mqg_dynbuf *definitions_scratch(enum definitions_scratch which);
/* The record leaves with the next 256, at the end of the turn, or before the publication. */
void definitions_record(struct definitions_edit *d, const struct meta_record *r, bool remove);
/* The log line event=define (level debug), for durable and transient ones alike; not for what recovery builds. to: a binding's
 * destination, else empty. */
void definitions_log(const struct definitions_edit *d, const char *kind, struct mqg_slice name,
                     struct mqg_slice to, bool remove);

/* Ids of queues and of destinations; under the mutex. */
uint64_t definitions_queue_id(struct definitions_edit *d);
void definitions_queue_id_used(uint64_t id);                 /* recovery: not below this one again */
void definitions_queue_id_start(struct definitions_edit *d); /* after recovery: reserves the first block */
uint64_t definitions_dest_id(void);
void definitions_reset(void); /* at the end: as if the process had just begun */

/* Refusals. Each returns what it sets. */
enum mqg_err definitions_no(struct mqg_error *e, const char *kind, struct mqg_slice name,
                            const struct mqg_vhost *v);
enum mqg_err definitions_locked(struct mqg_error *e, struct mqg_slice name, const struct mqg_vhost *v);
enum mqg_err definitions_default_exchange(struct mqg_error *e);
enum mqg_err definitions_need(struct mqg_session *s, enum mqg_perm perm, const char *kind,
                              struct mqg_slice name, struct mqg_error *e) MQG_MUST_CHECK;
enum mqg_err definitions_vhost_gone(struct mqg_error *e, const struct mqg_vhost *v);
/* Name and arguments within bounds. */
enum mqg_err definitions_bounds(const char *kind, struct mqg_slice name, const struct mqg_table *args,
                                struct mqg_error *e) MQG_MUST_CHECK;

/* A deep copy in one block, freed by free(); NULL for an empty table is never returned. */
struct mqg_table *args_new(const struct mqg_table *t);

/* Redeclaration: the texts of "inequivalent arg". what: "queue 'q' in vhost '/'". */
struct args_equal {
    const char *kind;
    struct mqg_slice name, vhost;
};
enum mqg_err args_equal_bool(const struct args_equal *w, const char *arg, bool received, bool current,
                             struct mqg_error *e);
enum mqg_err args_equal_word(const struct args_equal *w, const char *arg, struct mqg_slice received,
                             struct mqg_slice current, struct mqg_error *e);
enum mqg_err args_equal_arg(const struct args_equal *w, const char *arg, const struct mqg_table *received,
                            const struct mqg_table *current, struct mqg_error *e);

/* ---- exchanges */
bool exchange_type_parse(struct mqg_slice word, enum mqg_exchange_type *out);
struct mqg_slice exchange_type_word(enum mqg_exchange_type type);
/* name is not there yet; type is valid. */
struct exchange_entry *exchange_create(struct definitions_edit *d, const struct mqg_exchange_def *def,
                                       enum mqg_exchange_type type);
void exchange_create_predeclared(struct definitions_edit *d);
/* With all its bindings; exchanges that thereby lose their last one follow at the edit's end if they are
 * auto-delete. */
void exchange_drop(struct definitions_edit *d, struct exchange_entry *x);

void exchange_entry_retire(struct exchange_entry *x);
/* Those that lead from x, which is gone: a slice now, the rest with the turns to come. Takes x. */
void exchange_drop_bindings(struct definitions_edit *d, struct exchange_entry *x);
/* Now: what is left of a deleted exchange of that name, or of all in the edit's vhost. */
void definitions_drop_finish(struct definitions_edit *d, struct mqg_slice name, bool all);
/* Takes the mutex; true: call again. */
bool definitions_drop_slice(void);
/* Sees to it that slices are dropped in the turns to come; false: there are none on this thread. (publish.c) */
bool definitions_drop_later(void);

/* ---- queues */
/* By name, in the edit's draft; NULL when there is none. */
struct queue_entry *queue_find(const struct definitions_edit *d, struct mqg_slice name);
struct queue_entry *queue_model(struct mqg_queue *q); /* its entry (queue.c) */
/* id 0: a new one. */
struct queue_entry *queue_create(struct definitions_edit *d, const struct mqg_queue_def *def,
                                 const struct queue_opts *opts, uint64_t id);
/* Its arguments have changed: the record says the new ones. */
void queue_record_again(struct definitions_edit *d, const struct mqg_queue *q);
/* Conditions, then queue_end, then queue_entry_remove. GONE when it was ended before. */
enum mqg_err queue_entry_drop(struct definitions_edit *d, struct queue_entry *q, bool if_unused,
                              bool if_empty, uint64_t *messages, struct mqg_error *e) MQG_MUST_CHECK;
/* Out of the model, the records and the snapshot, with its bindings. */
void queue_entry_remove(struct definitions_edit *d, struct queue_entry *q);
enum mqg_err queue_check_owner(const struct mqg_queue *q, uint64_t conn, struct mqg_error *e) MQG_MUST_CHECK;
void queue_owners_fini(void);
/* By id: topology_queue_by_id. */
void queue_ids_add(struct queue_entry *q);
void queue_ids_remove(struct queue_entry *q);
void queue_ids_fini(void); /* empty by then */

/* ---- bindings */
/* OK when it is there already. Both ends were looked up. */
enum mqg_err binding_create(struct definitions_edit *d, const struct mqg_binding_def *def,
                            struct exchange_entry *source, struct exchange_entry *to_exchange,
                            struct queue_entry *to_queue, struct mqg_error *e);
/* Out of the model and the records; unbind: out of the snapshot too (else the caller drops the source). */
void binding_drop(struct definitions_edit *d, struct binding *b, bool unbind);

/* ---- vhosts */
/* Everything in it, and itself; connections are the caller's. */
void vhost_dissolve(struct definitions_edit *d);
/* At the end of the process, without workers: the same, but queues are not ended and nothing is recorded. */
void vhost_forget(struct definitions_edit *d);

#endif

/* mqgate/lanes.h - the host's side of the storage table: configured stores, and what each worker hands them per turn.
 *
 * A worker collects ops during a turn; the STORE phase submits them as one batch per store. The **ticket** of that batch is
 * known from the first op on, so whoever waits for durability notes it before the submit. One submission is one frame of
 * the journal, hence all that a turn collects is atomic on a store with ATOMIC_GROUPS. */
#ifndef MQGATE_LANES_H
#define MQGATE_LANES_H

#include <mqgate/conf.h>
#include <mqgate/store.h>
#include <mqgate/worker.h>

#define MQG_STORES_MAX 8

/* A configured store, [store.NAME]. Lives from open to fini. */
struct mqg_storage {
    uint32_t index;
    const char *name; /* "journal" */
    const struct mqg_store_ops *ops;
    struct mqg_store *store;
    uint32_t caps;
    _Atomic bool blocked;    /* pressure */
    _Atomic uint32_t behind; /* lanes whose last submit was answered AGAIN */
    _Atomic bool failed;
};

/* (main) Opens every [store.NAME] section by the registered module types. */
MQG_API enum mqg_err mqg_stores_open(const struct mqg_conf *conf, uint32_t nlanes, struct mqg_error *e);
MQG_API void mqg_stores_register(const struct mqg_store_ops *ops); /* by the loader, before open */
MQG_API enum mqg_err mqg_stores_recover(struct mqg_recover *r, struct mqg_error *e);
/* (main, in a call of recovery) The name of the store that is being read; "" for none. */
MQG_API const char *mqg_stores_recovering(void);
MQG_API enum mqg_err mqg_stores_start(struct mqg_error *e);
MQG_API void mqg_stores_close(void); /* after the workers' last submit: flush, seal */
MQG_API void mqg_stores_fini(void);
MQG_API struct mqg_storage *mqg_storage_by_name(struct mqg_slice name);
MQG_API struct mqg_storage *mqg_storage_default(void);      /* store.default */
MQG_API struct mqg_storage *mqg_storage_at(uint32_t index); /* NULL beyond the last */
/* Why the process must end, once a store has failed; NULL otherwise. */
MQG_API const char *mqg_stores_failure(void);
MQG_API void mqg_stores_on_failure(void (*fn)(const char *text)); /* called once, any thread */

/* Publishers are to stand still (true) or may go on: a store reached a watermark, or is behind with what a lane gave it. Any
 * thread, one call at a time. Set before open. */
MQG_API void mqg_stores_on_pressure(void (*fn)(bool blocked, const char *why));
/* Who answers struct mqg_store_host.queue_live (routing). Set before open. */
MQG_API void mqg_stores_queue_live(size_t (*fn)(uint64_t queue_id, struct mqg_range *ranges, size_t max,
                                                uint64_t *upto));

/* Who answers struct mqg_store_host.stream_ready (routing). Set before open. */
MQG_API void mqg_stores_stream_ready(void (*fn)(uint64_t partition));

/* ---- this worker's lane of a store. All (worker). Ops point to memory that must live until the STORE phase has run. ---- */

/* The ticket the ops collected now will get. */
MQG_API uint64_t mqg_lane_ticket(struct mqg_storage *s);
MQG_API uint64_t mqg_lane_done(struct mqg_storage *s); /* highest durable ticket */
MQG_API struct mqg_extent *mqg_lane_extent(struct mqg_storage *s);
/* Adds one op. `urgent`: somebody waits for it. What the op points to is copied; a MSG op takes over one reference on its
 * message, given back after the submit. */
MQG_API void mqg_lane_add(struct mqg_storage *s, const struct mqg_store_op *op, bool urgent);
/* Submits what is collected now (definitions: before their snapshot is visible) and returns its ticket; 0 if nothing. */
MQG_API uint64_t mqg_lane_submit(struct mqg_storage *s);

/* Has anything been collected since the last submit? */
MQG_API bool mqg_lane_collected(struct mqg_storage *s);
/* The STORE phase: submits every lane of this worker that has something, then fires waiters whose tickets are durable. True
 * when a waiter fired. */
MQG_API bool mqg_lanes_turn(void);

/* Intrusive; fires on the same worker once `ticket` is durable (err OK) or the store failed. Order of tickets. */
struct mqg_waiter {
    struct mqg_waiter *next;
    uint64_t ticket;
    void (*fire)(struct mqg_waiter *w, enum mqg_err err);
};
MQG_API void mqg_lane_wait(struct mqg_storage *s, struct mqg_waiter *w);
MQG_API void mqg_lane_unwait(struct mqg_storage *s, struct mqg_waiter *w); /* when its owner dies first */

/* ---- metadata: keyed records on the default store ------------------------------------------------------------------------ */

/* (worker, or main before workers start) Adds a META op and submits at once; the ticket to wait for. Keys: "vhost/…",
 * "user/…", "perm/…", "x/…" (exchange), "q/…", "b/…" (binding), "param/…"; parts percent-encoded. */
MQG_API uint64_t mqg_meta_put(struct mqg_slice key, struct mqg_slice value);
MQG_API uint64_t mqg_meta_remove(struct mqg_slice key);

/* Records of a module's own, by the beginning of their keys ("mqtt/"). In load(), before recovery. `fn` gets each record as
 * recovery tells it, in no order, before any definition is built; `end`, when all is there: vhosts, queues, accounts. Both on
 * the main thread, before workers run. */
MQG_API void mqg_meta_on_recover(const char *prefix, void (*fn)(struct mqg_slice key, struct mqg_slice value),
                                 void (*end)(void));
/* host: true when a module took the record; the end of recovery. */
MQG_API bool mqg_meta_recover(struct mqg_slice key, struct mqg_slice value);
MQG_API void mqg_meta_recovered(void);

#endif

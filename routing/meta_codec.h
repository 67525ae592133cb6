/* routing/meta_codec.h - definitions as metadata: keys and values. Internal to routing/.
 *
 * A value holds the whole definition, its names included; the key is made from the value, so recovery can
 * check that the two belong together. Layouts are drawn in meta_codec.c. */
#ifndef MQG_ROUTING_META_CODEC_H
#define MQG_ROUTING_META_CODEC_H

#include <mqgate/broker.h>

enum meta_kind {
    META_VHOST,
    META_EXCHANGE,
    META_QUEUE,
    META_BINDING,
    META_QUEUE_ID,
    META_EPOCH,
    META_KIND_COUNT
};

/* What one record says; which fields mean something depends on kind. Decoded: strings borrow from the value. */
struct meta_record {
    enum meta_kind kind;
    struct mqg_slice vhost;
    uint64_t number; /* QUEUE: its id; QUEUE_ID: all below it may have been used; EPOCH: starts so far */
    struct mqg_exchange_def exchange;
    struct mqg_queue_def queue;
    struct mqg_binding_def binding;
};

/* By the key's first part; META_KIND_COUNT when it is none of ours. */
enum meta_kind meta_kind_of(struct mqg_slice key);
/* Appends; out->failed says that a part was too large. */
void meta_key(struct mqg_dynbuf *out, const struct meta_record *r);
void meta_encode(struct mqg_dynbuf *out, const struct meta_record *r);
/* MALFORMED, UNSUPPORTED (a later version), TOO_LARGE, NO_MEMORY (arena). Every byte is checked, none may be
 * left. */
enum mqg_err meta_decode(enum meta_kind kind, struct mqg_slice value, struct mqg_arena *a,
                         struct meta_record *out) MQG_MUST_CHECK;
/* Arguments in one canonical form (fields sorted by name, stable), encoded: what tells bindings apart. */
void meta_args_canonical(struct mqg_dynbuf *out, const struct mqg_table *args);

#endif

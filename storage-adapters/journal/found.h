/* found.h - what recovery collects while it reads the digests in log order (found.c), and gives out in the host's order
 * (tell.c). One thread. */
#ifndef JRN_FOUND_H
#define JRN_FOUND_H

#include "index.h"

/* A message of a queue, known one by one. */
struct found_item {
    struct jrn_entry e;
    struct jrn_seg *seg;
    struct jrn_row *row; /* it stands in a row of a file, and may be told as part of a span; else NULL */
};

/* A row whose page is in a file. */
struct found_row {
    struct jrn_seg *seg;
    struct jrn_row *row;
};

struct found_count {
    uint64_t qseq;
    uint32_t delivery_count, acquired_count;
};

struct found_queue {
    uint64_t id;
    struct found_item *items;
    struct found_row *rows;
    struct mqg_range *gone;
    struct found_count *counts;
    uint32_t nitem, cap_item, nrow, cap_row, ngone, cap_gone, ncount, cap_count;
};

struct found_meta;

struct jrn_found {
    struct mqg_store *s;
    struct jrn_map queue_of, meta_of;
    struct found_queue *queues;
    struct found_meta *metas;
    uint32_t nqueue, cap_queue, nmeta, cap_meta;
    uint64_t told, spans; /* messages, in spans or not; spans */
};

#define FOUND_PUSH(owner, list, count, cap)                                                                  \
    ((owner)->count == (owner)->cap                                                                          \
         ? (void)((owner)->cap = (owner)->cap ? (owner)->cap * 2 : 4,                                        \
                  (owner)->list = mqg_xrealloc((owner)->list, (size_t)(owner)->cap * sizeof *(owner)->list)) \
         : (void)0,                                                                                          \
     &(owner)->list[(owner)->count++])

struct jrn_found *jrn_found_new(struct mqg_store *s);
void jrn_found_free(struct jrn_found **f);
void jrn_found_queue_fini(struct found_queue *q);
/* Applies a digest. filed: its pages are in the segment's file, and its rows become the segment's index; else they are in
 * d->pages. false: it is not what a digest should be. */
bool jrn_found_digest(struct jrn_found *f, struct jrn_seg *seg, struct jrn_digest *d, bool filed);

/* Tells metadata, then queues in qseq order; streams are told by the caller. */
void jrn_found_tell_meta(const struct jrn_found *f, struct mqg_recover *r);
enum mqg_err jrn_found_tell(struct jrn_found *f, struct mqg_recover *r, struct mqg_error *e) MQG_MUST_CHECK;

#endif

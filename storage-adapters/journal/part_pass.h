/* part_pass.h - the parts of a compaction pass: walking files, the table of keys, the transactions. Cleaner's thread alone. */
#ifndef JRN_PART_PASS_H
#define JRN_PART_PASS_H

#include "part.h"

/* ---- part_walk.c --------------------------------------------------------------------------------------- */

struct part_walk {
    struct mqg_store *s;
    struct part_file *f;
    int fd;
    uint64_t pos, bytes;
    uint64_t next, end; /* offsets: of the batch at pos, of the file */
    uint8_t *buf;
    uint64_t at; /* of buf's first byte */
    size_t have, cap;
};

/* The first `bytes` of the file, whose offsets end at `end`. 0 or -errno; leave it in any case. */
int jrn_part_walk_enter(struct part_walk *w, struct mqg_store *s, struct part_file *f, uint64_t bytes,
                        uint64_t end);
void jrn_part_walk_leave(struct part_walk *w);
/* The next batch, whole and checked, borrowed until the next call; 0: at the end, 1: one, or -errno (-EBADMSG: damage, told). */
int jrn_part_walk_next(struct part_walk *w, struct part_batch *b, struct mqg_slice *whole);

/* ---- part_keys.c --------------------------------------------------------------------------------------- */

struct part_key;
struct part_keys {
    struct part_key *at;
    uint32_t n, cap;
};

void jrn_part_keys_init(struct part_keys *t);
void jrn_part_keys_fini(struct part_keys *t);
/* The key has a record there; offsets rise. false: no room for another key. */
bool jrn_part_keys_note(struct part_keys *t, struct mqg_slice key, uint64_t offset);
/* Is a higher offset known of the key? */
bool jrn_part_keys_over(const struct part_keys *t, struct mqg_slice key, uint64_t offset);

/* ---- part_txns.c --------------------------------------------------------------------------------------- */

/* What a batch is to a pass. */
enum part_fate {
    PART_FATE_PLAIN,     /* of no transaction */
    PART_FATE_COMMITTED, /* as good as plain */
    PART_FATE_ABORTED,   /* nobody wants its records */
    PART_FATE_OPEN,      /* nothing is known yet */
    PART_FATE_MARKER,    /* ends a transaction */
    PART_FATE_CONTROL,   /* for somebody else */
};

struct part_producer; /* has batches of transactions */
struct part_aborted;
struct part_txns {
    struct part_producer *producers;
    uint32_t nproducer, cap_producer;
    struct part_aborted *aborted; /* by producer and marker, once ready */
    uint32_t naborted, cap_aborted;
    uint64_t first;       /* base of the first batch of a transaction; UINT64_MAX: there is none */
    uint64_t open;        /* base of the first whose transaction nothing is known of; UINT64_MAX */
    uint64_t until;       /* what begins here or later was not noted: no room; UINT64_MAX */
    uint32_t file, round; /* of the second half */
};

void jrn_part_txns_init(struct part_txns *t);
void jrn_part_txns_fini(struct part_txns *t);
/* First half: every batch, in order. False: no room; it and what follows counts as open. */
bool jrn_part_txns_note(struct part_txns *t, const struct part_batch *b, struct mqg_slice whole);
/* All was noted: from now on fates may be asked. */
void jrn_part_txns_ready(struct part_txns *t);
enum part_fate jrn_part_txns_fate(const struct part_txns *t, const struct part_batch *b,
                                  struct mqg_slice whole);
/* Second half: file i is walked now, perhaps not for the first time. */
void jrn_part_txns_walk(struct part_txns *t, uint32_t i);
/* A batch of a transaction stays. */
void jrn_part_txns_stays(struct part_txns *t, const struct part_batch *b);
/* A marker: is its transaction without batches now? */
bool jrn_part_txns_bare(struct part_txns *t, const struct part_batch *b);

/* ---- part_thin.c --------------------------------------------------------------------------------------- */

struct part_thin {
    struct part_keys keys;
    struct part_txns txns;
    uint64_t upto;            /* batches from here on are left alone; the caller sets these three */
    uint64_t now_ms, keep_ms; /* keep_ms: of tombstones and markers */
    bool unseen;              /* a batch was passed that nobody looked into, or that had to stay whole */
    uint64_t dropped;         /* records */
    struct mqg_dynbuf plain;  /* records of a compressed batch */
    struct mqg_dynbuf packed; /* what stays of them */
};

/* What stays of a batch. */
struct part_stay {
    struct part_batch b;   /* before: the batch; then as it is now */
    struct mqg_dynbuf out; /* all of it */
    bool changed;          /* something went */
    bool ours;             /* it may be changed further */
};

void jrn_part_thin_init(struct part_thin *t); /* keys, transactions, buffers */
void jrn_part_thin_fini(struct part_thin *t);
void jrn_part_stay_init(struct part_stay *st);
void jrn_part_stay_fini(struct part_stay *st);
/* The records of the batch, plain; false: they are not to be looked into. Good until the next call. */
bool jrn_part_thin_records(struct part_thin *t, const struct part_batch *b, struct mqg_slice whole,
                           struct mqg_slice *in);
/* The batch st->b, in `whole`; false: nothing of it stays. */
bool jrn_part_thin_batch(struct part_thin *t, struct mqg_slice whole, struct part_stay *st);

#endif

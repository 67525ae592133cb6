/* ledger.h - what was asked of the store and what it confirmed, and the rules by which a recovery is judged.
 *
 * Each operation stands in the ledger before it is submitted, with its lane and ticket. A cut says how far each lane had
 * been submitted and confirmed; from both follows for each fact whether it never happened, may have happened, or must
 * have. After a recovery the ledger can be settled: what came back is a fact from then on, what did not is gone for ever,
 * and the next life of the store is judged from there. */
#ifndef CI_LEDGER_H
#define CI_LEDGER_H

#include "told.h"

enum { LED_QUEUES = 10, LED_KEYS = 24, LED_PARTS = 40, LED_GROUPS = 3, LED_FACT = 255 };

enum led_status { LED_NEVER, LED_MAYBE, LED_SURE };

struct led_when {
    uint32_t lane, ticket; /* ticket 0: never; lane LED_FACT: it happened */
};

/* How far the lanes were when the power went. */
struct led_cut {
    uint32_t began[CI_MARKS], done[CI_MARKS];
};

struct led_count {
    struct led_when when;
    uint32_t count;
};

/* One message in one queue; its place in the queue is its index + 1. */
struct led_dest {
    uint64_t hash;  /* of key and body */
    uint64_t epoch; /* of its qseq */
    struct led_when put, settle;
    struct led_count counts[3];
    uint32_t ncount;
    bool gone;      /* a recovery came without it */
    bool forgotten; /* its entry is the store's to remember */
    struct mqg_extent *extent;
    const struct told_msg *seen; /* by the recovery that is judged */
};

struct led_queue {
    struct led_dest *at;
    size_t n, cap;
};

/* The states of something whose last word counts: value 0 is "not there". */
struct led_word {
    struct led_when when;
    uint64_t value;
};
struct led_words {
    struct led_word *at; /* the first is a fact */
    size_t n, cap;
};

struct led_batch {
    struct led_when when;
    uint64_t base, hash;
    uint32_t count, len;
    bool old; /* its time is long over */
};
enum led_fate { LED_OPEN, LED_COMMITTED, LED_ABORTED };
enum { LED_PRODUCERS = 2 };
/* A record of a partition that is compacted. */
struct led_record {
    uint64_t offset, key, digest;
    bool has_key, has_value;
    bool marker, commit;
    uint8_t producer; /* of its transaction; 0: of none */
    /* of the recovery that is judged */
    bool seen;
    enum led_fate fate;
};
/* How a partition is kept, beside what is asked for by TRIM. */
enum led_keep {
    LED_KEEP_ALL,
    LED_KEEP_BYTES, /* the last LED_RETENTION bytes, and more */
    LED_KEEP_YOUNG, /* what is not old */
    LED_KEEP_LAST,  /* of each key the last record */
    LED_KEEPS
};
enum { LED_RETENTION = 12000 };
struct led_part {
    uint64_t id; /* 0: not used yet */
    enum led_keep keep;
    struct led_record *recs; /* KEEP_LAST */
    size_t nrec, cap_rec;
    struct led_when made, gone;
    struct led_batch *at;
    size_t n, cap;
    uint64_t start, end; /* facts: log start; where the next batch goes */
    struct led_words trims;
    struct led_words positions[LED_GROUPS];
};

/* What may be wrong. */
enum led_mode {
    LED_POWER_CUT, /* nothing */
    LED_FLIPPED,   /* a bit of the disk flipped: errors may be told, nothing may be missing in silence */
    LED_GO_ON,     /* and the order was to go on: what cannot be read is missing, what is there is right */
};

struct ledger {
    struct led_queue queues[LED_QUEUES];
    struct led_words keys[LED_KEYS];
    struct led_part parts[LED_PARTS];
    size_t npart;
    enum led_mode mode;
    uint64_t errors;  /* told by the store in place of wrong bytes; counted by ledger_check */
    uint64_t epoch;   /* of qseq */
    uint64_t next_id; /* values, marks: never twice */
    uint32_t tickets[CI_MARKS];
};

void ledger_init(struct ledger *l);
void ledger_copy(struct ledger *to, const struct ledger *from);
void ledger_fini(struct ledger *l);

/* Adding: the caller has set `when` to what it is about to submit. */
struct led_dest *ledger_dest(struct ledger *l, uint32_t queue, uint64_t *qseq);
void ledger_word(struct led_words *w, struct led_when when, uint64_t value);
void ledger_batch(struct led_part *p, struct led_batch b);

/* The records of a batch of a partition that is compacted. */
void ledger_records(struct led_part *p, struct mqg_slice batch);
/* How the transactions of such a partition ended, by what stands below `end`; where the first that is open begins, of what is left
 * of it from `start` on: files know of no more. */
uint64_t ledger_fates(struct led_part *p, uint64_t start, uint64_t end);

enum led_status ledger_status(struct led_when when, const struct led_cut *cut);
uint32_t ledger_index(uint64_t qseq); /* its place in the queue's list + 1 */
const char *ledger_key(uint32_t key, char out[16]);
/* The value that a definition has: its number and so many bytes. */
struct mqg_slice ledger_value(uint64_t value, char out[4096]);

/* Judges a recovery. Violations are written to out, one line each; their number. */
size_t ledger_check(struct ledger *l, const struct led_cut *cut, struct told *t, struct mqg_dynbuf *out);
/* What was told is what there is. */
void ledger_settle(struct ledger *l, struct told *t);

#endif

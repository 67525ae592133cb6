/* told.h - a store on a disk in memory, the host it talks to, and what its recovery told. */
#ifndef CI_TOLD_H
#define CI_TOLD_H

#include "disk.h"
#include "journal.h"

enum {
    CI_LANES = 4,
    CI_SEEN = CI_LANES,
    CI_MARKS
}; /* CI_SEEN: what was seen, a lane of its own in the marks */

#define CI_PATH  "/store/journal"
#define CI_BEGAN (1ull << 63) /* marks in the log: this lane and ticket is about to be submitted */
#define CI_TOLD  (1ull << 62) /* recovery has returned */

struct told_msg {
    uint64_t queue_id, qseq, hash;
    struct mqg_extent *extent;
    uint32_t off, len, delivery_count;
    enum mqg_err err; /* of loading it */
};

struct told_meta {
    char key[16];
    uint64_t value; /* its number; UINT64_MAX: not one that was ever written */
};

struct told_part {
    uint64_t id;
    struct mqg_stream_bounds b;
};

struct told_span {
    uint64_t queue_id, first, last, count;
};

struct told {
    struct disk *disk;
    struct mqg_store *s;
    struct mqg_error error;
    bool faulty;          /* set before told_open: reading may fail */
    uint32_t span_errors; /* more than three: some spans were not read */
    bool go_on;           /* set before told_open: on_corruption=continue */
    _Atomic uint32_t done[CI_LANES];
    _Atomic bool failed;
    struct told_msg *msgs;
    size_t nmsg, cap_msg;
    struct told_span *spans;
    size_t nspan, cap_span;
    struct told_meta *metas;
    size_t nmeta, cap_meta;
    struct told_part *parts;
    size_t npart, cap_part;
};

/* Opens, recovers and starts a store on the disk; everything is undone when that fails (but for error). t is zero but
 * for go_on. */
enum mqg_err told_open(struct told *t, struct disk *disk, uint64_t segment_bytes);
/* Reads every message that was told, those of spans too. */
void told_load(struct told *t);
/* Stops as a crash does, or (clean) as an operator does. Frees what was told, too. */
void told_end(struct told *t, bool clean);
/* Reads a partition from offset on, as far as one read goes; the caller unrefs data. */
enum mqg_err told_read(struct told *t, uint64_t partition, uint64_t offset, struct mqg_stream_read *out);
/* Asks and waits: forgotten entries; messages brought back; transient ones put aside. */
void told_index(struct told *t, struct mqg_index_req *req);
void told_loads(struct told *t, struct mqg_load_req *req);
void told_scratch(struct told *t, struct mqg_scratch_req *req);
/* The position of a group plus one; 0: none. */
uint64_t told_position(struct told *t, uint32_t group, uint64_t partition);
uint64_t told_hash(struct mqg_slice key, struct mqg_slice body);
bool told_wait(struct told *t, uint32_t lane, uint32_t ticket);

#endif

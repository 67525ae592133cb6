/* scan.h - recovery's view of the files (scan.c), shared with what is made of it (recover.c). One thread. */
#ifndef JRN_SCAN_H
#define JRN_SCAN_H

#include "found.h"

struct scan {
    struct mqg_store *s;
    struct mqg_recover *r;
    struct mqg_error *e;
    struct jrn_seg **all; /* every file; those that count move to `live` */
    size_t nall, cap_all;
    struct jrn_seg **live;
    size_t nlive;
    struct jrn_seg *tail;
    uint8_t *buf; /* a window of one file */
    size_t cap, have;
    uint64_t from;
    const struct jrn_seg *in;
    struct mqg_dynbuf manifest, adopted, freed;
    uint64_t term, all_bytes, done_bytes, told_us, damages;
    bool clean, sealed, torn;
    bool glance; /* only the beginnings of files are looked at: small reads */
    bool lost;   /* the manifest is damaged, and the order is to go on */
    struct jrn_found *found;
    char **indexes; /* names of digest files in the folder */
    size_t nindex, cap_index;
    size_t made; /* digests that had to be made */
};

/* What is left of ours in [off, end): the first head at all, and the first that says something after `number`
 * was durable; 0: none. */
struct scan_rest {
    uint64_t any, witness;
};

/* Fills the error for a failed call; always MQG_IO. */
enum mqg_err jrn_scan_io(struct scan *sc, const char *call, const char *name, int r);
/* n bytes at off, or fewer at the end of the file; out borrows the window until the next call. */
enum mqg_err jrn_scan_bytes(struct scan *sc, const struct jrn_seg *seg, uint64_t off, size_t n,
                            struct mqg_slice *out);
/* The frame at off, checked whole; CORRUPT when there is none. bytes borrows as above. */
enum mqg_err jrn_scan_frame(struct scan *sc, const struct jrn_seg *seg, uint64_t off, struct jrn_frame *f,
                            struct mqg_slice *bytes);
/* Looks at every block in [off, end) for heads of ours. */
enum mqg_err jrn_scan_rest(struct scan *sc, const struct jrn_seg *seg, uint64_t off, uint64_t end,
                           uint64_t number, struct scan_rest *rest);
/* Logs damage, copies the file aside; CORRUPT, or OK when the order is to go on. seg NULL: a missing one. */
enum mqg_err jrn_scan_damage(struct scan *sc, const struct jrn_seg *seg, uint64_t off, const char *what);
/* Opens every segment file and reads its header into sc->all; removes files that were never finished. */
enum mqg_err jrn_scan_files(struct scan *sc);
/* Gives each used segment its sequence (blank ones keep 0) and finds the tail. */
enum mqg_err jrn_scan_sequences(struct scan *sc);

/* ---- apply.c ------------------------------------------------------------------------------------------- */

/* Applies all segments that count, the tail last. */
enum mqg_err jrn_scan_apply(struct scan *sc);
void jrn_scan_progress(struct scan *sc, uint64_t bytes, bool force);

/* ---- adopt.c ------------------------------------------------------------------------------------------- */

/* The segments that count become the journal's; each is kept alive until release. */
void jrn_scan_adopt_live(struct scan *sc);
/* Files that do not count get a fresh use, or go. */
enum mqg_err jrn_scan_adopt_blank(struct scan *sc);
void jrn_scan_release(struct scan *sc);

#endif

/* piece.h - entries of queues, cut into what becomes the rows and small groups of a digest. */
#ifndef JRN_PIECE_H
#define JRN_PIECE_H

#include "digest.h"

/* Entries that were cut: a page in `raw`. */
struct jrn_cut {
    uint64_t queue_id, first, last;
    size_t at;
    uint32_t len, count, eights;
};

struct jrn_pieces {
    struct jrn_cut *at;
    uint32_t n, cap;
    struct mqg_dynbuf raw; /* their pages */
    bool full;             /* it had no room */
};

/* Cuts the entries of one queue, ascending, into pieces. */
void jrn_pieces_cut(struct jrn_pieces *ps, const struct jrn_entry *e, uint32_t n);
/* Sorts by queue and number. tidy: pieces of a queue that overlap, or are small and stand side by side, are taken apart and cut
 * anew. */
void jrn_pieces_order(struct jrn_pieces *ps, bool tidy, uint32_t row_min);

#endif

/* set.h - a set of qseqs as ranges: what of one queue is settled.
 *
 * A queue that is consumed in order is one range for ever; what is settled out of order costs 16 bytes a gap. Pages of at
 * most 128 ranges, each with the number of its members, so that adding is cheap wherever it falls, and counting a long
 * span does not walk it. Not thread-safe. */
#ifndef JRN_SET_H
#define JRN_SET_H

#include <mqgate/store.h>

struct jrn_set_page {
    uint64_t members;
    uint32_t n, cap;
    struct mqg_range at[];
};

struct jrn_set {
    struct jrn_set_page **pages; /* ascending, none empty */
    uint32_t npage, cap;
};

void jrn_set_fini(struct jrn_set *set);
/* Adds [first, last]; what is there already stays. */
void jrn_set_add(struct jrn_set *set, uint64_t first, uint64_t last);
bool jrn_set_has(const struct jrn_set *set, uint64_t qseq);
/* How many of [first, last] are in it. */
uint64_t jrn_set_count(const struct jrn_set *set, uint64_t first, uint64_t last);

#endif

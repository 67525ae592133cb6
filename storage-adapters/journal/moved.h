/* moved.h - where the messages of an evacuated segment stand now.
 *
 * The host is not told of moves: its entries go on naming an extent and an offset in it, and an extent its segment. So a
 * segment whose file was given away stays as a descriptor, with a table from old places to new ones, for as long as one of
 * its extents lives; that descriptor is one live thing of each cold segment it points to. A cold segment that is evacuated
 * in turn becomes such a descriptor too, and a look-up goes through both.
 *
 * Who reads: pins the segment, then looks whether it moved; who moves: publishes the table, then waits until nobody has it
 * pinned, then gives the file away. Both orders are sequentially consistent, so one of them sees the other. */
#ifndef JRN_MOVED_H
#define JRN_MOVED_H

#include "journal.h"

struct jrn_moved_row {
    uint32_t off, new_off; /* of the record's main in its file */
    uint32_t cold;
};

struct jrn_moved {
    struct jrn_seg *colds[JRN_PARTS_MAX]; /* each holds one live thing of ours */
    uint32_t ncold, n, cap;
    struct jrn_moved_row *rows; /* by off, once sorted */
};

struct jrn_moved *jrn_moved_new(void);
void jrn_moved_free(struct jrn_moved **m);
void jrn_moved_add(struct jrn_moved *m, struct jrn_seg *cold, uint64_t off, uint64_t new_off);
void jrn_moved_sort(struct jrn_moved *m);

/* The segment where what stood at *off of seg stands now, pinned, and its place there; NULL: it was not moved, which is
 * corruption for a message that is live. The caller keeps seg alive by an extent. Any thread. */
struct jrn_seg *jrn_moved_pin(struct jrn_seg *seg, uint64_t *off);

#endif

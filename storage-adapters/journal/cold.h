/* cold.h - cold segments: what survived the evacuation of others, written by the keeper and not by the committer.
 *
 *   main log   ... | 17 | 18 | 19 (tail)        a message is written once here, beside everything else of its time,
 *   cold       1 | 2 | 3 (being filled)         and once more there when most of its neighbours are gone
 *
 * A cold segment is a segment file with the usual frames, nonce and salts; its sequence has the highest bit set and its frame
 * numbers are its own. It holds MSG and DESTS only, sorted by queue and qseq per frame, with those destinations that were
 * live. It is filled over many evacuations. What of it counts says the main log: an ADOPT record (sequence, nonce, last
 * frame, end), in one chunk with the FREE of the segment that was evacuated, so that at any moment exactly one copy counts;
 * later manifests repeat it. Bytes behind the end that counts are nobody's and are written over; a cold segment that no
 * manifest and no ADOPT names is a blank file. durable_at_write is 0 in its frames: they are no witness for the main log. */
#ifndef JRN_COLD_H
#define JRN_COLD_H

#include "journal.h"

/* The one being filled. Keeper's. */
struct jrn_cold {
    struct jrn_seg *seg;
    uint64_t number, end;           /* written */
    uint64_t sure_number, sure_end; /* handed in to be adopted */
};

/* Takes over the least filled of the cold segments that recovery found. */
void jrn_cold_reopen(struct mqg_store *s, struct jrn_cold *cold);
/* Writes and syncs the chunk as one frame, in a new segment when it does not fit; c->seg and c->place say where it stands.
 * Sets the part of that segment in parts. 0 or -errno; -E2BIG: more segments than parts. */
int jrn_cold_append(struct mqg_store *s, struct jrn_cold *cold, struct jrn_chunk *c, struct jrn_part *parts,
                    uint32_t *nparts);
/* The chunk that adopts the parts is handed in: what they hold stays. */
void jrn_cold_promise(struct jrn_cold *cold, const struct jrn_part *parts, uint32_t nparts);
/* What was written since the last promise is not to count: it will be written over. */
void jrn_cold_undo(struct mqg_store *s, struct jrn_cold *cold, const struct jrn_part *parts, uint32_t nparts);
/* The parts count: those that are full are closed. */
void jrn_cold_keep(struct jrn_cold *cold, const struct jrn_part *parts, uint32_t nparts);
/* Committer: the chunk with the ADOPT record is written. */
void jrn_cold_adopted(struct mqg_store *s, const struct jrn_chunk *c);

#endif

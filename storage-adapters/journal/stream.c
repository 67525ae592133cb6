/* stream.c - partitions in the journal. */
#include "journal.h"
struct jrn_streams *jrn_streams_new(struct mqg_store *s) { (void)s; return NULL; }
void jrn_streams_free(struct jrn_streams **st) { (void)st; }
void jrn_streams_apply(struct mqg_store *s, const struct jrn_chunk *c) { (void)s; (void)c; }
void jrn_streams_found_batch(struct mqg_store *s, struct jrn_seg *seg, uint64_t off, const struct jrn_batch *b, uint64_t term)
{ (void)s; (void)seg; (void)off; (void)b; (void)term; }
void jrn_streams_found_def(struct mqg_store *s, const struct jrn_stream_def *d) { (void)s; (void)d; }
void jrn_streams_found_trim(struct mqg_store *s, uint64_t partition, uint64_t start) { (void)s; (void)partition; (void)start; }
void jrn_streams_found_cut(struct mqg_store *s, uint64_t partition, uint64_t term, uint64_t end)
{ (void)s; (void)partition; (void)term; (void)end; }
void jrn_streams_found_position(struct mqg_store *s, const struct jrn_position *p) { (void)s; (void)p; }
void jrn_streams_found_end(struct mqg_store *s, struct mqg_recover *r, uint64_t term) { (void)s; (void)r; (void)term; }

/* index.h - what the store knows of a closed segment's messages: its digest's rows in memory, its pages in the file.
 *
 * seg->index is set once, when the digest file is written or was found at the start, and freed when the segment's use ends.
 * Whoever reads it keeps the segment from leaving: by a pin, or by a live count in it. */
#ifndef JRN_INDEX_H
#define JRN_INDEX_H

#include "digest.h"
#include "journal.h"

struct jrn_index {
    struct jrn_row *rows; /* by queue and first */
    uint32_t nrow;
    uint64_t pages_at, bytes; /* of the first page in the file; of the file */
    uint64_t end;             /* of the segment when it was made: a cold one may have grown since */
};

/* ---- index.c ------------------------------------------------------------------------------------------- */

/* NAME-NONCE.idx. */
void jrn_index_name(const struct jrn_seg *seg, char out[64]);
/* Reads the segment and makes its digest; with its file written d->pages is empty and *written true. Any thread that keeps
 * the segment. CORRUPT and others: *e. */
enum mqg_err jrn_index_make(struct mqg_store *s, struct jrn_seg *seg, struct jrn_digest *d, bool *written,
                            struct mqg_error *e) MQG_MUST_CHECK;
/* Reads head, table, said and small of the segment's file. NOT_FOUND, CORRUPT, UNSUPPORTED, IO: it is to be made again. */
enum mqg_err jrn_index_load(struct mqg_store *s, const struct jrn_seg *seg,
                            struct jrn_digest *d) MQG_MUST_CHECK;
/* Takes the rows of a digest whose file is written: from now on the segment's entries can be forgotten. */
void jrn_index_attach(struct mqg_store *s, struct jrn_seg *seg, struct jrn_digest *d);
/* Takes it off the list of those that can be asked; false when somebody is reading it just now. */
bool jrn_index_hide(struct mqg_store *s, struct jrn_seg *seg);
void jrn_index_free(struct mqg_store *s, struct jrn_seg *seg); /* at the end of the store; the file stays */
/* Ends the segment's use: removes the file, frees the index. Nobody keeps the segment any more. */
void jrn_index_drop(struct mqg_store *s, struct jrn_seg *seg);
/* Reads a row's page and checks its sum; *buf grows. Makes the file again when it does not check. */
enum mqg_err jrn_index_page(struct mqg_store *s, struct jrn_seg *seg, const struct jrn_row *row,
                            uint8_t **buf, size_t *cap) MQG_MUST_CHECK;
/* A file that is nobody's: recovery calls it with what lies in the folder. */
bool jrn_index_is_name(const char *name);

/* ---- forget.c ------------------------------------------------------------------------------------------ */

size_t jrn_index_forget(struct mqg_store *s, uint64_t queue_id, const struct mqg_index_entry *entries,
                        size_t n);
void jrn_index_read(struct mqg_store *s, struct mqg_index_req *req);
/* Counts n entries more in the segment's own extent; the caller keeps the segment alive. */
void jrn_index_take(struct jrn_seg *seg, int64_t n);
/* The first row that ends at or behind qseq, among those of the queue; NULL: none. */
struct jrn_row *jrn_index_row(const struct jrn_index *x, uint64_t queue_id, uint64_t qseq);
/* Sets the bit of a number within the row; false when it was set. */
bool jrn_row_set(struct jrn_row *row, uint64_t qseq);
void jrn_row_set_all(struct jrn_row *row);
bool jrn_row_is_set(const struct jrn_row *row, uint64_t qseq);
/* Clears it; false when it was not set. */
bool jrn_row_clear(struct jrn_row *row, uint64_t qseq);

/* ---- digester.c ---------------------------------------------------------------------------------------- */

struct jrn_digester *jrn_digester_new(struct mqg_store *s);
int jrn_digester_start(struct jrn_digester *d);
void jrn_digester_stop(struct jrn_digester *d);
void jrn_digester_free(struct jrn_digester **d);

#endif

/* model.h - what a partition should hold, kept beside the store.
 *
 * A model keeps every batch that was appended. What a read brings is taken apart, checked, and held against it: byte by byte
 * where the adapter says so, else record by record (a remote engine encodes anew). */
#ifndef SUITE_MODEL_H
#define SUITE_MODEL_H

#include "batch.h"
#include "fix.h"

enum { MODEL_RECORDS_MAX = 20000, MODEL_T0 = 1700000000 };

#define MODEL_TIME(n) ((uint64_t)MODEL_T0 * 1000 + (uint64_t)(n))

/* What a partition should hold. */
struct model {
    struct fix *f;
    uint64_t partition, end;
    struct mqg_vec batches; /* struct mqg_buf: one batch each, in order */
    struct batch_record records[MODEL_RECORDS_MAX];
    const char *wrong;
};

/* A model of a new partition. */
struct model *model_new(struct fix *f);
void model_free(struct model *m);
/* Builds the batch and notes it; the slice lives as long as the model. */
struct batch_view model_batch(struct model *m, const struct batch_spec *spec);
struct mqg_store_op model_append_op(const struct model *m, const struct batch_view *b,
                                    const struct mqg_slice *rope, uint32_t nrope);
/* Appends one batch at the end, done; record n has MODEL_TIME(n). */
void model_append(struct model *m, uint32_t lane, uint32_t count, uint32_t value_bytes, bool rich);
/* Checks what a read brought (m->wrong says what is); how many batches it was. */
size_t model_check_read(struct model *m, const struct mqg_stream_read *r);
/* Reads from the offset to the high watermark and checks all of it. */
void model_check_from(struct model *m, uint64_t offset, uint32_t max_bytes);
/* Waits for the high watermark, then holds the bounds against these. */
void model_expect_bounds(struct model *m, uint64_t start, uint64_t high);

#endif

/* record.h - record batches v2: taken apart before they are produced, and built from what was fetched. */
#ifndef KFK_RECORD_H
#define KFK_RECORD_H

#include <mqgate/base.h>

#define KFK_HEADERS_MAX 4096

struct kfk_header {
    struct mqg_slice name, value;
    bool null_value;
};

struct kfk_record {
    uint64_t offset;
    int64_t time_ms;
    bool append_time; /* stamped by the engine, not the producer */
    bool null_key, null_value;
    struct mqg_slice key, value;
    struct kfk_header *headers; /* the decoder's, until its next record */
    uint32_t nheader;
};

/* Walks the records of one or several batches; every byte is checked before it is believed. Offsets must follow one
 * another from `base` on without a gap: an engine that gives offsets itself cannot leave one. */
struct kfk_decoder {
    struct mqg_cursor all, batch;
    uint64_t next;
    int64_t time_ms;
    uint32_t count, left; /* records of the present batch; not yet given */
    bool append_time;
    struct kfk_header headers[64];
    struct kfk_header *many; /* malloc'ed when 64 are not enough */
    const char *why;         /* what was wrong */
};
void kfk_decoder_init(struct kfk_decoder *d, struct mqg_slice batches, uint64_t base);
void kfk_decoder_fini(struct kfk_decoder *d);
/* 1: a record; 0: the end; -1: bytes that do not check, or cannot be produced (why says which). */
int kfk_decoder_next(struct kfk_decoder *d, struct kfk_record *r);

/* Builds one batch out of records with rising offsets. */
struct kfk_encoder {
    struct mqg_dynbuf out;
    uint64_t base, last;
    int64_t base_ms, max_ms;
    uint32_t count;
    bool append_time;
};
void kfk_encoder_init(struct kfk_encoder *e, size_t max_bytes);
void kfk_encoder_fini(struct kfk_encoder *e);
bool kfk_encoder_add(struct kfk_encoder *e,
                     const struct kfk_record *r); /* false over max_bytes: use none of it */
/* The finished batch (head, sum); NULL when empty or without memory. */
struct mqg_buf *kfk_encoder_end(struct kfk_encoder *e);

#endif

/* test_kit.h - a store on a folder of its own, and a host that remembers what it was told. */
#ifndef JRN_TEST_KIT_H
#define JRN_TEST_KIT_H

#include "../conformance/held.h"
#include "fs_test.h"
#include "journal.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { KIT_LANES = 3, KIT_PATIENCE_S = 60 };

/* A message that recovery told. */
struct kit_msg {
    uint64_t queue_id, qseq;
    struct mqg_extent *extent;
    uint32_t off, len, delivery_count;
};

/* A span that recovery told. */
struct kit_span {
    uint64_t queue_id, first, last, count, bytes;
};

struct kit {
    char path[256];
    char extra[8][96]; /* further settings: "flush=os" */
    int nextra;
    uint64_t drop_queue; /* message() and span() answer false for it */
    bool spans;          /* spans are wanted */
    struct mqg_store *s;
    struct mqg_conf *conf;
    struct mqg_error error;
    struct jrn_fs_record *record; /* done is marked here, when set: lane << 32 | ticket */
    uint64_t ticket[KIT_LANES];
    struct held *held[KIT_LANES]; /* until the end */
    _Atomic uint64_t done[KIT_LANES];
    _Atomic int failed, blocked, ready;
    /* recovery */
    bool unclean;
    struct kit_msg *msgs;
    size_t nmsg, cap_msg;
    struct kit_span *span;
    size_t nspan, cap_span;
    struct {
        char key[64], value[64];
    } metas[256];
    size_t nmeta;
    struct {
        uint64_t partition;
        struct mqg_stream_bounds b;
    } streams[64];
    size_t nstream;
    struct {
        uint64_t partition, producer_id, offset;
        int32_t base_seq, last_seq;
    } producers[16];
    size_t nproducer;
};

void kit_init(struct kit *k, const char *name, const char *segment_size); /* an empty folder */
void kit_set(struct kit *k, const char *setting);
void kit_fini(struct kit *k);        /* and removes the folder */
enum mqg_err kit_try(struct kit *k); /* open, recover, start; on an error everything is undone */
void kit_open(struct kit *k);        /* asserts that it works */
void kit_close(struct kit *k);       /* clean */
void kit_crash(struct kit *k);       /* stop without close: what was not durable is gone */

struct mqg_msg *kit_msg_new(struct mqg_slice key, size_t body_bytes, uint64_t mark);
/* One message to one queue on the lane, urgent; its extent is counted. Returns the ticket. */
uint64_t kit_put(struct kit *k, uint32_t lane, uint64_t queue_id, uint64_t qseq, size_t body_bytes);
uint64_t kit_settle(struct kit *k, uint32_t lane, uint64_t queue_id, uint64_t first, uint64_t last);
uint64_t kit_meta(struct kit *k, const char *key, const char *value); /* value NULL = remove */
uint64_t kit_submit(struct kit *k, uint32_t lane, const struct mqg_store_op *ops, size_t n, unsigned flags);
bool kit_wait(struct kit *k, uint32_t lane, uint64_t ticket); /* false when the store failed, or too late */
bool kit_wait_for(bool (*is)(struct kit *k, uint64_t arg), struct kit *k, uint64_t arg);
void kit_answered(_Atomic int *answered); /* waits until it is set, and asserts that it is */

const struct kit_msg *kit_find(const struct kit *k, uint64_t queue_id, uint64_t qseq);
size_t kit_count(const struct kit *k, uint64_t queue_id);
const char *kit_meta_value(const struct kit *k, const char *key); /* NULL when none */
/* Loads a recovered message and checks that its body is what kit_put wrote. */
void kit_check_body(struct kit *k, const struct kit_msg *m);
struct mqg_store_stats kit_stats(struct kit *k);
/* Asks for forgotten entries and waits; the number that came. */
uint32_t kit_index_read(struct kit *k, uint64_t queue_id, uint64_t first, uint64_t last,
                        struct mqg_index_entry *entries, uint32_t max, enum mqg_err *err);
/* Reads all told spans back: they become messages of the kit. */
void kit_read_spans(struct kit *k);
bool kit_indexed(struct kit *k, uint64_t arg); /* for kit_wait_for: every closed segment has its digest */
/* Ask and wait for the answer. */
enum mqg_err kit_time(struct kit *k, uint64_t partition, uint64_t time_ms, uint64_t *offset);
enum mqg_err kit_position(struct kit *k, struct mqg_slice group, uint64_t partition, uint64_t *offset);

/* The folder's files: how many end so; the one with the index-th name. */
size_t kit_files(const struct kit *k, const char *end);
void kit_file(const struct kit *k, const char *end, size_t index, char out[512]);
uint8_t *kit_read(const char *path, size_t *len);
void kit_write(const char *path, const void *data, size_t len);
/* The frames of a segment's bytes, by walking heads: offset of frame i, or 0. */
size_t kit_frame(const uint8_t *seg, size_t len, size_t index, struct jrn_frame *f);
/* The first frame with this text in it: offset, or 0. An idle journal seals, so who counts frames counts on luck. */
size_t kit_frame_of(const uint8_t *seg, size_t len, const char *text, struct jrn_frame *f);

#endif

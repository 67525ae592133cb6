/* tool.h - mqgatectl store: what its files share. One thread; nothing is written (fs_look.h). */
#ifndef JRN_TOOL_H
#define JRN_TOOL_H

#include "fs_look.h"
#include "stream.h"

#include <mqgate/tool.h>

struct tool_queue {
    uint64_t id, messages, bytes;
};
struct tool_part {
    uint64_t id;
    struct mqg_stream_bounds bounds;
    uint64_t producers, positions; /* last words that recovery told */
    uint64_t beyond;               /* producers: of them, whose last offset is not in the log any more */
};
/* Of one live segment, by its place in the list. */
struct tool_seg {
    uint64_t messages, live_bytes;     /* told by recovery */
    uint64_t frames, records, damaged; /* seen by the walk; damaged: runs of bytes that do not check */
};

struct tool {
    const struct mqg_tool *o;
    struct jrn_fs_look *look;
    struct mqg_conf *conf;
    struct mqg_store *s;
    struct mqg_error error;
    bool damaged; /* a start would be refused, or something does not check */
    bool stale;   /* something derived does not check: it is made again, and nothing is lost by it */
    bool unclean;
    struct jrn_map queue_of, seg_of, part_of; /* id, sequence -> index */
    struct tool_queue *queues;
    uint32_t nqueue, cap_queue;
    struct tool_part *parts;
    uint32_t npart, cap_part;
    struct tool_seg *segs;
    uint32_t nseg, cap_seg;
    uint64_t messages, bytes, definitions;
    struct mqg_dynbuf row; /* tool_print.c */
    bool row_first;
};

/* A walk over the records of the live segments, oldest first. Callbacks answer false to end it. */
struct tool_walk {
    void *arg;
    bool (*record)(void *arg, const struct jrn_seg *seg, const struct jrn_frame *f,
                   const struct jrn_rec *rec);
    bool (*frame)(void *arg, const struct jrn_seg *seg, const struct jrn_frame *f);
    void (*damage)(void *arg, const struct jrn_seg *seg, uint64_t off, uint64_t end);
};
void tool_walk(struct tool *t, const struct tool_walk *w);
struct tool_seg *tool_seg(struct tool *t, uint64_t seq);
const struct tool_queue *tool_queue(const struct tool *t, uint64_t id); /* NULL: it has no message */
/* "vhost/name", or its number. */
const char *tool_queue_name(const struct tool *t, uint64_t id, char out[24]);

/* "vhost/name" of a partition's stream, or its number. */
uint64_t tool_stream_queue(uint64_t partition); /* the queue that the router made it for */
const char *tool_stream_name(const struct tool *t, uint64_t partition, char out[24]);

/* ---- tool_part.c: partitions' files ----------------------------------------------------------------------- */

/* A batch of a partition's file; batch NULL: nothing in [from, to) checks. false ends the walk. */
typedef bool (*tool_batch_fn)(void *arg, const struct part_file *f, const struct part_batch *b, uint64_t from,
                              uint64_t to);
/* Reads the file whole and calls fn for each batch and each run of damage. IO, or MQG_OK. */
enum mqg_err tool_part_walk(struct tool *t, const struct part_file *f, tool_batch_fn fn, void *arg);
/* Rows of all partitions; whole: reads them, with their indexes. */
void tool_parts(struct tool *t, bool whole);
void tool_part_name(const struct part_file *f,
                    char out[PART_NAME]); /* of the log, below the store's folder */

/* ---- tool_files.c: everything else in the folder ---------------------------------------------------------- */

struct tool_disk {
    uint64_t segments, indexes, partitions, others; /* bytes */
};
/* Adds up the folder; rows for what is no live file; whole: reads digests and scratch files. */
void tool_files(struct tool *t, bool whole, struct tool_disk *sum);

int tool_check(struct tool *t);
int tool_dump(struct tool *t);
int tool_stats(struct tool *t);

/* ---- tool_print.c: one line on stdout, in logfmt or as JSON -------------------------------------------- */

void tool_row(struct tool *t, const char *what);
void tool_number(struct tool *t, const char *name, uint64_t value);
void tool_hex(struct tool *t, const char *name, uint64_t value);
void tool_text(struct tool *t, const char *name, struct mqg_slice value);
void tool_word(struct tool *t, const char *name, const char *value);
void tool_row_end(struct tool *t);

#endif

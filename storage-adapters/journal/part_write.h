/* part_write.h - between the parts of the stream writer: part_write.c (which partitions, files, the thread), part_put.c (from the
 * journal into a file), part_sync.c (until it is durable). */
#ifndef JRN_PART_WRITE_H
#define JRN_PART_WRITE_H

#include "stream.h"

enum { WRITE_HANDS = 6 };

struct part_list {
    struct stream_part **at;
    uint32_t n, cap;
};

/* What one thread of a turn works with; kept from turn to turn. */
struct part_hand {
    struct part_writer *w;
    uint8_t *buf; /* what was read from the journal */
    size_t cap;
    uint8_t *even; /* the same in whole pages, for writes past the page cache */
    size_t even_cap;
};

struct part_writer {
    struct mqg_store *s;
    pthread_t thread;
    bool running, stop, flush;
    pthread_cond_t some;  /* with the streams' lock */
    struct part_list due; /* under it, and so are: */
    uint64_t due_bytes;   /* to be filed of them */
    uint64_t due_us;      /* since when the first one waits */
    bool urgent;          /* one of them waits for more than a tick */
    struct part_list dirty;
    struct part_list work; /* the turn's: each is worked on by one thread */
    _Atomic uint32_t next;
    struct part_hand hands[WRITE_HANDS];
    _Atomic bool pause, pausing; /* the disk is full; and that was said */
    _Atomic bool no_direct;      /* the file system has no writes past the page cache */
};

/* ---- part_write.c -------------------------------------------------------------------------------------- */

/* Answers r; a full disk is waited for, anything else is the end of the store. */
int jrn_write_failed(struct part_writer *w, const char *call, const char *name, int r);
int jrn_write_file_failed(struct part_writer *w, const char *call, const struct part_file *f, int r);
void jrn_write_is_dirty(struct part_writer *w, struct stream_part *p); /* under the streams' lock */
/* Begins a file with the offset `base`; the one before it is made durable first: only the last may be torn. 0 or -errno, which was
 * told to jrn_write_failed. */
int jrn_write_roll(struct part_writer *w, struct stream_part *p, uint64_t base);

/* ---- part_put.c ---------------------------------------------------------------------------------------- */

/* Files some rows of the partition; true when there may be more. The thread that works on the partition in this turn. */
bool jrn_part_put(struct part_hand *hand, struct stream_part *p);
void jrn_part_hand_fini(struct part_hand *hand);

/* ---- part_sync.c --------------------------------------------------------------------------------------- */

int jrn_part_sync_dir(struct mqg_store *s, const char *name); /* a folder below the store's. 0 or -errno */

struct part_sync {
    struct stream_part *p;
    int r; /* 0 or -errno of `call` */
    const char *call;
    struct part_file *f; /* a reference, the caller's afterwards; NULL: the partition has none */
    int fd;
    uint64_t end, bytes;
};
/* Runs run(args[0]) here and the others, up to 16 in all, in threads of their own, as far as those can be had; ends when all have. The runs
 * share out what there is to do among themselves. */
void jrn_side_by_side(void *(*run)(void *), void *const *args, uint32_t n);
/* Everything of these partitions that stands in files becomes durable; then their rows go. Blocks. Whoever works on them. */
void jrn_part_sync(struct mqg_store *s, struct part_sync *at, uint32_t n);

#endif

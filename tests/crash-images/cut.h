/* cut.h - the power cut: from a log of what was done to a disk, the disks that a cut at one moment may leave. */
#ifndef CI_CUT_H
#define CI_CUT_H

#include "disk.h"

struct cut_pending {
    size_t *at; /* events that no sync covers yet, in order */
    size_t n, cap;
};

/* A walk through a log. `durable` is what no cut can take away any more. */
struct cut {
    const struct disk_log *log;
    struct disk *durable;
    size_t at; /* the next event */
    struct cut_pending pending;
};

void cut_init(struct cut *c, const struct disk *start, const struct disk_log *log);
void cut_fini(struct cut *c);
void cut_to(struct cut *c, size_t event); /* forward only */
/* A disk as it may be found after a cut right now. What is left of unsynced writes and names follows from rng. */
struct disk *cut_image(const struct cut *c, uint64_t *rng);

#endif

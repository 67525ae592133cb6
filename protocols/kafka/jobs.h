/* jobs.h - what a request has asked the store, in several questions at once, and what is left to wait for.
 *
 * A question must stay where it is until it is answered, also when the client went away meanwhile; so jobs are allocated one by
 * one and live as long as their question. */
#ifndef KAFKA_JOBS_H
#define KAFKA_JOBS_H

#include "kafka.h"

/* Of one request; the owner of its call. */
struct kafka_jobs {
    struct kafka_call *call; /* NULL: gone */
    uint32_t pending;        /* jobs under way, and one while they are begun */
};

/* One partition that is being looked at. Begins the struct of the part that asks; allocated by it. */
struct kafka_job {
    struct kafka_jobs *jobs;
    struct mqg_stream *stream; /* one reference */
    struct mqg_partition *partition;
    struct mqg_partition_read read;
    /* A read was answered. */
    void (*came)(struct kafka_job *job);
};

struct kafka_jobs *kafka_jobs_new(struct kafka_call *c);
/* All are begun: answers the call when nothing is left. */
void kafka_jobs_begun(struct kafka_jobs *js);
/* `job` has bytes of memory behind it, as malloc gives them. */
void kafka_job_begin(struct kafka_jobs *js, struct kafka_job *job, struct mqg_partition *p);
/* Frees the job; the last one answers the call. */
void kafka_job_end(struct kafka_job *job);
/* Reads the batch that holds the offset (or what is there); job->came follows, from inside or later. */
void kafka_job_read(struct kafka_job *job, uint64_t offset, void (*came)(struct kafka_job *job));
/* The client went away: only kafka_job_end is due. */
static inline bool kafka_job_is_orphan(const struct kafka_job *job)
{
    return job->jobs->call == NULL;
}

#endif

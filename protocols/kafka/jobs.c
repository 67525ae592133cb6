/* jobs.c - questions to the store on behalf of a request. */
#include "jobs.h"

#include <stdlib.h>

static void jobs_gone(struct kafka_call *c)
{
    struct kafka_jobs *js = c->owner;
    js->call = NULL;
}

struct kafka_jobs *kafka_jobs_new(struct kafka_call *c)
{
    struct kafka_jobs *js = mqg_xcalloc(1, sizeof *js);
    js->call = c;
    js->pending = 1;
    c->owner = js;
    c->gone = jobs_gone;
    return js;
}

void kafka_jobs_begun(struct kafka_jobs *js)
{
    if (--js->pending > 0)
        return;
    struct kafka_call *c = js->call;
    free(js);
    if (c != NULL)
        kafka_call_answer(c);
}

void kafka_job_begin(struct kafka_jobs *js, struct kafka_job *job, struct mqg_partition *p)
{
    js->pending++;
    job->jobs = js;
    job->partition = p;
    job->stream = mqg_stream_ref(mqg_partition_stream(p));
}

void kafka_job_end(struct kafka_job *job)
{
    struct kafka_jobs *js = job->jobs;
    mqg_buf_unref(&job->read.data);
    mqg_stream_unref(&job->stream);
    free(job);
    kafka_jobs_begun(js);
}

static void job_came(struct mqg_partition_read *r)
{
    struct kafka_job *job = MQG_CONTAINER_OF(r, struct kafka_job, read);
    if (kafka_job_is_orphan(job))
        kafka_job_end(job);
    else
        job->came(job);
}

void kafka_job_read(struct kafka_job *job, uint64_t offset, void (*came)(struct kafka_job *job))
{
    mqg_buf_unref(&job->read.data);
    job->came = came;
    job->read = (struct mqg_partition_read){.offset = offset, .max_bytes = 1, .done = job_came};
    if (mqg_partition_read(job->partition, &job->read))
        came(job);
}

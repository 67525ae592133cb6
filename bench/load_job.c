/* Queues and exchanges of a job. Everything is declared by the load itself, so that a run starts from
 * nothing and leaves nothing, whatever server it met. */
#include "load_job.h"

#include <stdio.h>

void load_job_queue_name(const struct load_job *job, unsigned index, char name[256])
{
    if (job->queues == 1)
        snprintf(name, 256, "%s", job->queue);
    else
        snprintf(name, 256, "%s.%u", job->queue, index);
}

static void job_delete_queue(struct load_conn *conn, const char *name)
{
    const size_t start = load_method_begin(&conn->out, 1, LOAD_QUEUE_DELETE);
    load_put_u16(&conn->out, 0);
    load_put_short(&conn->out, name);
    load_put_u8(&conn->out, 0);
    load_frame_end(&conn->out, start);
    load_conn_call(conn, LOAD_QUEUE_DELETE_OK);
}

static void job_declare_queue(const struct load_job *job, struct load_conn *conn, const char *name)
{
    enum { DURABLE_BIT = 2 };
    const size_t start = load_method_begin(&conn->out, 1, LOAD_QUEUE_DECLARE);
    load_put_u16(&conn->out, 0);
    load_put_short(&conn->out, name);
    load_put_u8(&conn->out, job->durable ? DURABLE_BIT : 0);
    load_put_table(&conn->out, job->args, job->arg_count);
    load_frame_end(&conn->out, start);
    load_conn_call(conn, LOAD_QUEUE_DECLARE_OK);
}

static void job_declare_exchange(const struct load_job *job, struct load_conn *conn)
{
    enum { DURABLE_BIT = 2 };
    const size_t start = load_method_begin(&conn->out, 1, LOAD_EXCHANGE_DECLARE);
    load_put_u16(&conn->out, 0);
    load_put_short(&conn->out, job->exchange);
    load_put_short(&conn->out, "fanout");
    load_put_u8(&conn->out, job->durable ? DURABLE_BIT : 0);
    load_put_u32(&conn->out, 0);
    load_frame_end(&conn->out, start);
    load_conn_call(conn, LOAD_EXCHANGE_DECLARE_OK);
}

static void job_bind(const struct load_job *job, struct load_conn *conn, const char *name)
{
    const size_t start = load_method_begin(&conn->out, 1, LOAD_QUEUE_BIND);
    load_put_u16(&conn->out, 0);
    load_put_short(&conn->out, name);
    load_put_short(&conn->out, job->exchange);
    load_put_short(&conn->out, "");
    load_put_u8(&conn->out, 0);
    load_put_u32(&conn->out, 0);
    load_frame_end(&conn->out, start);
    load_conn_call(conn, LOAD_QUEUE_BIND_OK);
}

void load_job_declare(const struct load_job *job, struct load_conn *conn)
{
    char name[256];
    if (!job->declares)
        return;
    if (job->exchange != NULL)
        job_declare_exchange(job, conn);
    for (unsigned i = 0; i < job->queues; i++) {
        load_job_queue_name(job, i, name);
        if (job->publishes)
            job_delete_queue(conn, name);
        job_declare_queue(job, conn, name);
        if (job->exchange != NULL)
            job_bind(job, conn, name);
    }
}

void load_job_delete(const struct load_job *job, struct load_conn *conn)
{
    char name[256];
    if (!job->deletes)
        return;
    for (unsigned i = 0; i < job->queues; i++) {
        load_job_queue_name(job, i, name);
        job_delete_queue(conn, name);
    }
    if (job->exchange == NULL)
        return;
    const size_t start = load_method_begin(&conn->out, 1, LOAD_EXCHANGE_DELETE);
    load_put_u16(&conn->out, 0);
    load_put_short(&conn->out, job->exchange);
    load_put_u8(&conn->out, 0);
    load_frame_end(&conn->out, start);
    load_conn_call(conn, LOAD_EXCHANGE_DELETE_OK);
}

/* vhost_kill.c - closing the connections of a vhost that was deleted: each worker closes its own. */
#include "vhost.h"

#include <mqgate/protocol.h>
#include <mqgate/worker.h>

#include <stdlib.h>

struct vhost_kill {
    struct mqg_task task;
    struct mqg_vhost *vhost;
};

static bool vhost_kill_one(struct mqg_conn *c, void *arg)
{
    const struct mqg_session *s = mqg_conn_get_session(c);
    if (s != NULL && s->vhost == arg)
        mqg_conn_kill(mqg_conn_worker(c), mqg_conn_info(c)->id, MQG_SLICE_LIT("vhost is deleted"));
    return true;
}

static void vhost_kill_run(struct mqg_task *task)
{
    struct vhost_kill *kill = MQG_CONTAINER_OF(task, struct vhost_kill, task);
    mqg_conn_each(mqg_worker_self(), vhost_kill_one, kill->vhost);
    free(kill);
}

void vhost_kill_connections(struct mqg_vhost *v)
{
    for (uint32_t i = 0; i < mqg_worker_count(); i++) {
        struct vhost_kill *kill = mqg_xcalloc(1, sizeof *kill);
        kill->task.run = vhost_kill_run;
        kill->vhost = v;
        mqg_worker_post(mqg_worker_at(i), &kill->task);
    }
}

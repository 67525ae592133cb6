/* asker.c - the thread for questions: an offset by time, a group's position.
 *
 * Apart from the clerk, who may stand before an engine that is away for as long as that lasts: a question gives up after
 * `timeout`, and says IO. */
#include "kafka.h"

void kfk_offset_for_time(struct mqg_store *s, struct mqg_time_req *req)
{
    pthread_mutex_lock(&s->lock);
    req->next = NULL;
    *s->times_last = req;
    s->times_last = &req->next;
    pthread_cond_signal(&s->asker_has);
    pthread_mutex_unlock(&s->lock);
}

void kfk_position_get(struct mqg_store *s, struct mqg_position_req *req)
{
    pthread_mutex_lock(&s->lock);
    req->next = NULL;
    *s->positions_last = req;
    s->positions_last = &req->next;
    pthread_cond_signal(&s->asker_has);
    pthread_mutex_unlock(&s->lock);
}

/* Takes one of each kind, when there is one; false at the store's end, with nothing left. */
static bool asker_next(struct mqg_store *s, struct mqg_time_req **time, struct mqg_position_req **position)
{
    pthread_mutex_lock(&s->lock);
    while (!s->times && !s->positions && !atomic_load(&s->stopping))
        pthread_cond_wait(&s->asker_has, &s->lock);
    *time = s->times;
    if (*time && !(s->times = (*time)->next))
        s->times_last = &s->times;
    *position = s->positions;
    if (*position && !(s->positions = (*position)->next))
        s->positions_last = &s->positions;
    pthread_mutex_unlock(&s->lock);
    return *time || *position;
}

void *kfk_asker_run(void *store)
{
    struct mqg_store *s = store;
    struct mqg_time_req *time;
    struct mqg_position_req *position;
    while (asker_next(s, &time, &position)) {
        bool over = atomic_load(&s->stopping);
        if (time) {
            time->err = over ? MQG_CLOSED : kfk_time_ask(s, time->partition, time->time_ms, &time->offset);
            time->done(time);
        }
        if (position) {
            position->err = over ? MQG_CLOSED
                                 : kfk_position_ask(s, position->group, position->partition,
                                                    &position->offset);
            position->done(position);
        }
    }
    return NULL;
}

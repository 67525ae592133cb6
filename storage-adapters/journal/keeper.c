/* keeper.c - spares. */
#include "journal.h"
void jrn_keeper_wake(struct mqg_store *s) { (void)s; }
struct jrn_seg *jrn_spare_take(struct mqg_store *s)
{
    pthread_mutex_lock(&s->seg_lock);
    struct jrn_seg *seg = s->spares;
    if (seg) {
        s->spares = seg->next;
        s->nspare--;
    }
    pthread_mutex_unlock(&s->seg_lock);
    return seg;
}
void jrn_spare_give(struct mqg_store *s, struct jrn_seg *seg)
{
    pthread_mutex_lock(&s->seg_lock);
    seg->next = s->spares;
    s->spares = seg;
    s->nspare++;
    pthread_mutex_unlock(&s->seg_lock);
}
struct jrn_keeper *jrn_keeper_new(struct mqg_store *s) { (void)s; return NULL; }
int jrn_keeper_start(struct jrn_keeper *k) { (void)k; return 0; }
void jrn_keeper_stop(struct jrn_keeper *k) { (void)k; }
void jrn_keeper_free(struct jrn_keeper **k) { (void)k; }

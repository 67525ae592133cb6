/* definitions_drop.c - the bindings of a deleted exchange, let go in slices.
 *
 * An exchange may have a hundred thousand bindings, and each has a record to remove and two lists to leave: a third of a
 * second, in which its worker serves nobody. So the command takes the exchange out of the snapshot and out of the model's
 * names, and a slice of its bindings; the rest follows a slice per turn. Until then they are still in the model's map
 * under what tells them apart, which only a new exchange of the same name could notice: whoever makes one lets go of the
 * rest first, and so does who dissolves the vhost. After a crash in between, recovery finds bindings without a source and
 * removes their records. */
#include "definitions_int.h"

enum { DROP_SLICE = 1000 };

/* Under the topology mutex; linked by next_doomed. */
static struct exchange_entry *drop_first;

/* True when nothing is left. */
static bool drop_some(struct definitions_edit *d, struct exchange_entry *x, size_t max)
{
    for (size_t n = 0; n < max && !LIST_EMPTY(&x->from); n++)
        binding_drop(d, LIST_FIRST(&x->from), false);
    return LIST_EMPTY(&x->from);
}

void exchange_drop_bindings(struct definitions_edit *d, struct exchange_entry *x)
{
    bool later = !d->dissolving && !d->recovering && definitions_drop_later();
    if (drop_some(d, x, later ? DROP_SLICE : SIZE_MAX)) {
        exchange_entry_retire(x);
        return;
    }
    x->next_doomed = drop_first;
    drop_first = x;
}

bool definitions_drop_slice(void)
{
    definitions_lock_settled();
    struct exchange_entry *x = drop_first;
    if (x != NULL) {
        struct definitions_edit d;
        definitions_edit_init(&d, x->cell.vhost);
        if (drop_some(&d, x, DROP_SLICE)) {
            drop_first = x->next_doomed;
            exchange_entry_retire(x);
        }
        definitions_publish(&d);
    }
    bool more = drop_first != NULL;
    definitions_unlock();
    mqg_epoch_reclaim();
    return more;
}

void definitions_drop_finish(struct definitions_edit *d, struct mqg_slice name, bool all)
{
    for (struct exchange_entry **at = &drop_first; *at != NULL;) {
        struct exchange_entry *x = *at;
        if (x->cell.vhost != d->vhost || (!all && !mqg_slice_eq(x->cell.name, name))) {
            at = &x->next_doomed;
            continue;
        }
        *at = x->next_doomed;
        drop_some(d, x, SIZE_MAX);
        exchange_entry_retire(x);
    }
}

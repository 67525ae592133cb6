/* topology.c - the snapshot as publishers read it: look-ups and routing, without a lock.
 *
 * Routing is one pass over exchanges: a work list that is also the set of those visited, so that cycles of
 * exchange-to- exchange bindings end and no exchange is asked twice. All of it happens in one root, loaded
 * once, so that it sees either all or nothing of a change. An exchange whose bindings matched nothing hands
 * over to its alternate exchange; a binding to an exchange counts as a match whatever comes of it, as in
 * RabbitMQ. */
#include "topology_route.h"

#include "vhost.h"

#include <stdlib.h>

enum { ROUTE_VISITED_MIN = 8 };

/* ---- look-ups ------------------------------------------------------------------------------------------ */

const struct mqg_exchange *topology_exchange(const struct mqg_vhost *v, struct mqg_slice name)
{
    topology_see();
    return mqg_pmap_get(vhost_root(v)->exchanges, name);
}

bool topology_exchange_internal(const struct mqg_exchange *x)
{
    return x->cell->internal;
}

uint64_t topology_generation(const struct mqg_vhost *v)
{
    topology_see();
    return vhost_root(v)->generation;
}

uint64_t mqg_vhost_generation(const struct mqg_vhost *v)
{
    return topology_generation(v);
}

/* Only the words of a message can change what an exchange answers, so nothing may be remembered where a
 * headers exchange with bindings might be reached; with no way to another exchange the answer is at hand,
 * else any such exchange in the vhost is one too many. */
bool topology_cacheable(const struct mqg_exchange *x)
{
    if (x->cell->type == MQG_X_HEADERS && x->bindings > 0)
        return false;
    if (x->to_exchanges == 0 && !x->cell->has_alternate)
        return true;
    return vhost_root(x->cell->vhost)->headers_bound == 0;
}

struct mqg_queue *topology_queue(const struct mqg_vhost *v, struct mqg_slice name)
{
    topology_see();
    return mqg_pmap_get(vhost_root(v)->queues, name);
}

/* ---- routing ------------------------------------------------------------------------------------------- */

static void route_visit(struct route_job *job, const struct mqg_exchange *x)
{
    for (size_t i = 0; i < job->nvisited; i++)
        if (job->visited[i]->cell == x->cell)
            return;
    struct route_scratch *s = route_scratch(job->out);
    if (job->nvisited == s->visited_cap) {
        s->visited_cap = s->visited_cap > 0 ? s->visited_cap * 2 : ROUTE_VISITED_MIN;
        s->visited = mqg_xrealloc(s->visited, s->visited_cap * sizeof *s->visited);
        job->visited = s->visited;
    }
    job->visited[job->nvisited++] = x;
}

/* From a binding, or as an alternate. The name may lead nowhere: exchanges are deleted with their bindings in
 * one edit, but alternates are names only. */
void route_add_exchange(struct route_job *job, struct mqg_slice name)
{
    job->matched = true;
    const struct mqg_exchange *x = mqg_pmap_get(job->root->exchanges, name);
    if (x != NULL)
        route_visit(job, x);
}

/* The headers of the message, decoded when first asked for. One whose bytes do not decode has none. */
const struct mqg_table *route_headers(struct route_job *job)
{
    static const struct mqg_table none;
    if (job->headers_known)
        return job->headers;
    job->headers_known = true;
    job->headers = &none;
    struct route_scratch *s = route_scratch(job->out);
    mqg_arena_reset(&s->arena);
    struct mqg_view *view = mqg_arena_alloc(&s->arena, sizeof *view);
    if (job->msg != NULL && view != NULL && mqg_msg_view(job->msg, &s->arena, view) == MQG_OK)
        job->headers = &view->headers;
    return job->headers;
}

static void route_default(struct route_job *job, struct mqg_slice key)
{
    struct mqg_queue *q = mqg_pmap_get(job->root->queues, key);
    if (q == NULL)
        return;
    job->matched = true;
    route_add_queue(job->out, q);
}

static void route_by_headers(struct route_job *job, const struct mqg_exchange *x)
{
    if (x->headers == NULL)
        return;
    const struct mqg_table *headers = route_headers(job);
    struct mqg_pmap_cursor c;
    for (mqg_pmap_cursor_init(&c, x->headers); mqg_pmap_cursor_next(&c);) {
        const struct headers_match *m = c.value;
        if (!headers_match(m, headers))
            continue;
        job->matched = true;
        if (m->dest->queue != NULL)
            route_add_queue(job->out, m->dest->queue);
        else
            route_add_exchange(job, m->dest->exchange);
    }
}

static void route_by_key(struct route_job *job, const struct mqg_exchange *x, struct mqg_slice key)
{
    if (x->cell->type == MQG_X_TOPIC)
        topic_match(x->topic, key, &route_scratch(job->out)->topic, job);
    else if (x->cell->name.len == 0)
        route_default(job, key);
    else
        route_add_dests(job, mqg_pmap_get(x->keys, key));
}

/* The stream of the exchange's name, and, of amq.topic, the stream of the key's: the first key's only, not those of CC and BCC. */
static void route_streams(struct route_job *job, const struct mqg_exchange *x)
{
    struct mqg_queue *q = x->cell->fronts ? mqg_pmap_get(job->root->queues, x->cell->name) : NULL;
    if (q != NULL && queue_takes_front(q)) {
        job->matched = true;
        route_add_queue(job->out, q);
    }
    q = x->cell->bridges && job->nkeys > 0 ? mqg_pmap_get(job->root->queues, job->keys[0]) : NULL;
    if (q == NULL || !queue_takes_bridge(q))
        return;
    size_t before = job->out->n;
    job->matched = true;
    route_add_queue(job->out, q);
    if (job->out->n > before)
        job->out->bridged = q;
}

static void route_one(struct route_job *job, const struct mqg_exchange *x)
{
    job->matched = false;
    if (x->cell->type == MQG_X_FANOUT)
        route_add_dests(job, x->all);
    else if (x->cell->type == MQG_X_HEADERS)
        route_by_headers(job, x);
    else
        for (size_t i = 0; i < job->nkeys; i++)
            route_by_key(job, x, job->keys[i]);
    if (x->cell->fronts || x->cell->bridges)
        route_streams(job, x);
    if (!job->matched && x->cell->has_alternate)
        route_add_exchange(job, x->cell->alternate);
}

/* Keys of a protocol whose levels are separated by '/' are read with the separators swapped, as bindings are
 * kept. */
static void route_swap_keys(struct route_job *job)
{
    struct route_scratch *s = route_scratch(job->out);
    mqg_dynbuf_reset(&s->swapped);
    size_t bytes = 0;
    for (size_t i = 0; i < job->nkeys; i++)
        bytes += job->keys[i].len;
    uint8_t *out = mqg_dynbuf_reserve(&s->swapped, bytes + 1);
    if (out == NULL)
        return; /* keys beyond all protocols' bounds: they match as they are */
    s->keys = mqg_xrealloc(s->keys, (job->nkeys + 1) * sizeof *s->keys);
    for (size_t i = 0; i < job->nkeys; i++) {
        const struct mqg_slice *key = &job->keys[i];
        for (size_t at = 0; at < key->len; at++)
            out[at] = key->ptr[at] == '/' ? '.' : key->ptr[at] == '.' ? '/' : key->ptr[at];
        s->keys[i] = mqg_slice_of(out, key->len);
        out += key->len;
    }
    job->keys = s->keys;
}

void topology_route(const struct mqg_vhost *v, const struct mqg_exchange *x, const struct mqg_msg *m,
                    const struct mqg_slice *keys, size_t nkeys, struct route_set *r)
{
    r->n = 0;
    r->bridged = NULL;
    struct route_scratch *s = route_scratch(r);
    s->tabled = false;
    struct route_job job = {
        .root = vhost_root(v), .msg = m, .keys = keys, .nkeys = nkeys, .out = r, .visited = s->visited};
    if (m != NULL && m->st.key_sep == '/')
        route_swap_keys(&job);
    if (x->to_exchanges == 0 && !x->cell->has_alternate) {
        route_one(&job, x); /* nowhere else to go */
        return;
    }
    route_visit(&job, x);
    for (size_t i = 0; i < job.nvisited; i++)
        route_one(&job, job.visited[i]);
}

/* group_protocol.c - what a group's members can speak, and on which of it they agree.
 *
 * A member joins with a list of names in its order of preference, each with bytes that only clients understand (a consumer's
 * subscription). The coordinator compares names and never reads the bytes, with one exception: who deletes offsets must
 * know whether a consumer still subscribes to the topic, so that head of ConsumerProtocolSubscription is walked here.
 *
 * The group's protocol is a name that all speak; of several, the one for which most members vote (each for the first of its own list
 * that is left). Nobody is admitted who would leave the group without any. */
#include "group.h"

#include <stdlib.h>

/* ---- agreement ---------------------------------------------------------------------------------------------------------- */

static bool member_speaks(const struct group_member *m, struct mqg_slice name)
{
    for (uint32_t i = 0; i < m->nprotocols; i++)
        if (mqg_slice_eq(group_view(m->protocols[i].name), name))
            return true;
    return false;
}

static bool name_for_all(const struct group *g, struct mqg_slice name, const struct group_member *but)
{
    for (size_t i = 0; i < g->members.n; i++)
        if (g->members.items[i] != but && !member_speaks(g->members.items[i], name))
            return false;
    return true;
}

bool group_all_speak(const struct group *g, const struct group_join *in, const struct group_member *but)
{
    if (in->protocol_type.len == 0 || in->nprotocols == 0)
        return false;
    if (g->members.n == 0)
        return true;
    if (!mqg_slice_eq(group_view(g->protocol_type), in->protocol_type))
        return false;
    for (uint32_t i = 0; i < in->nprotocols; i++)
        if (name_for_all(g, in->protocols[i].name, but))
            return true;
    return false;
}

/* A name that all speak, and how many prefer it to the others. */
struct candidate {
    struct mqg_buf *name;
    size_t votes;
};

/* The member's vote goes to the first of its names that is a candidate. */
static void member_vote(const struct group_member *m, struct candidate *candidates, uint32_t n)
{
    for (uint32_t i = 0; i < m->nprotocols; i++)
        for (uint32_t k = 0; k < n; k++)
            if (mqg_slice_eq(group_view(m->protocols[i].name), group_view(candidates[k].name))) {
                candidates[k].votes++;
                return;
            }
}

/* Candidates are among the names of any one member, so its list is looked at alone. */
struct mqg_buf *group_choose(const struct group *g)
{
    if (g->members.n == 0)
        return NULL;
    const struct group_member *first = g->members.items[0];
    struct candidate *candidates = mqg_xcalloc(first->nprotocols, sizeof *candidates);
    struct candidate best = {NULL, 0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < first->nprotocols; i++)
        if (name_for_all(g, group_view(first->protocols[i].name), first))
            candidates[n++].name = first->protocols[i].name;
    for (size_t i = 0; i < g->members.n; i++)
        member_vote(g->members.items[i], candidates, n);
    for (uint32_t k = 0; k < n; k++)
        best = candidates[k].votes > best.votes ? candidates[k] : best;
    free(candidates);
    return best.name;
}

/* ---- what a member said ------------------------------------------------------------------------------------------------- */

bool group_member_says_same(const struct group_member *m, const struct group_join *in)
{
    bool same = m->nprotocols == in->nprotocols;
    for (uint32_t i = 0; same && i < in->nprotocols; i++)
        same = mqg_slice_eq(group_view(m->protocols[i].name), in->protocols[i].name) &&
               mqg_slice_eq(group_view(m->protocols[i].metadata), in->protocols[i].metadata);
    return same;
}

void group_member_take(struct group_member *m, const struct group_join *in)
{
    for (uint32_t i = 0; i < m->nprotocols; i++) {
        mqg_buf_unref(&m->protocols[i].name);
        mqg_buf_unref(&m->protocols[i].metadata);
    }
    free(m->protocols);
    m->protocols = mqg_xcalloc(in->nprotocols, sizeof *m->protocols);
    m->nprotocols = in->nprotocols;
    for (uint32_t i = 0; i < in->nprotocols; i++) {
        m->protocols[i].name = group_text(group_not_null(in->protocols[i].name));
        m->protocols[i].metadata = group_text(group_not_null(in->protocols[i].metadata));
    }
    m->session_ms = in->session_ms;
    m->rebalance_ms = in->rebalance_ms;
    group_replace_text(&m->client_id, group_not_null(in->client_id));
    group_replace_text(&m->client_host, group_not_null(in->client_host));
}

struct mqg_slice group_metadata(const struct group *g, const struct group_member *m)
{
    for (uint32_t i = 0; i < m->nprotocols; i++)
        if (mqg_slice_eq(group_view(m->protocols[i].name), group_view(g->protocol)))
            return group_view(m->protocols[i].metadata);
    return MQG_SLICE_LIT("");
}

/* ConsumerProtocolSubscription: | version 2 | topics: count 4, strings of length 2 | ... */
static bool subscription_names(struct mqg_slice metadata, struct mqg_slice topic)
{
    struct mqg_cursor c = mqg_cursor_of(metadata);
    (void)mqg_cursor_be16(&c);
    uint32_t n = mqg_cursor_be32(&c);
    for (uint32_t i = 0; i < n && !c.failed; i++)
        if (mqg_slice_eq(mqg_cursor_slice(&c, mqg_cursor_be16(&c)), topic))
            return !c.failed;
    return false;
}

bool group_subscribes(const struct group *g, struct mqg_slice topic)
{
    if (!mqg_slice_eq(group_view(g->protocol_type), MQG_SLICE_LIT("consumer")))
        return false;
    for (size_t i = 0; i < g->members.n; i++)
        if (subscription_names(group_metadata(g, g->members.items[i]), topic))
            return true;
    return false;
}

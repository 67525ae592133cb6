/* topic.c - the trie of a topic exchange: patterns in, destinations of a key out.
 *
 * A node is a prefix of patterns; its children are the next level: a persistent map for words, one child for
 * '*', one for '#'. An edit copies the nodes on its path and nothing else. Most patterns of a large trie end in
 * a leaf with one destination: that is kept in its parent as a marked pointer, without a node.
 *
 * Matching walks all prefixes that fit at once, level by level, as a set of nodes: no backtracking, so a
 * pattern full of '#' costs as many nodes as it has levels, not their powers. Why the set needs little
 * checking for duplicates: a node is entered from its one parent only, so it enters a step once, except below
 * '#'. A '#' node that was entered once stays for all later steps (it eats every level): it is kept apart, in
 * the sticky table, which is also what ends cycles of entering it again. */
#include "topic.h"

#include <stdlib.h>

enum { TOPIC_CAP_MIN = 32 };

/* ---- levels -------------------------------------------------------------------------------------------- */

struct topic_levels {
    const uint8_t *pos, *end;
    bool more;
};

static struct topic_levels topic_levels(struct mqg_slice key)
{
    const uint8_t *ptr = key.ptr != NULL ? key.ptr : (const uint8_t *)"";
    return (struct topic_levels){ptr, ptr + key.len, key.len > 0};
}

static bool topic_level(struct topic_levels *l, struct mqg_slice *out)
{
    if (!l->more)
        return false;
    const uint8_t *dot = l->pos < l->end ? memchr(l->pos, '.', (size_t)(l->end - l->pos)) : NULL;
    const uint8_t *end = dot != NULL ? dot : l->end;
    *out = mqg_slice_of(l->pos, (size_t)(end - l->pos));
    l->more = dot != NULL;
    l->pos = dot != NULL ? dot + 1 : l->end;
    return true;
}

static bool topic_is(struct mqg_slice level, char c)
{
    return level.len == 1 && level.ptr[0] == (uint8_t)c;
}

/* ---- edits --------------------------------------------------------------------------------------------- */

static struct topic_node *topic_own(const struct topology_edit *t, struct topic_node *node)
{
    bool leaf = dest_marked(node) != NULL;
    if (node != NULL && !leaf && node->edit == t->pmap.id)
        return node;
    struct topic_node *own = mqg_xcalloc(1, sizeof *own);
    if (leaf) {
        own->dests = (struct dest_set *)node; /* marked alike */
    } else if (node != NULL) {
        *own = *node;
        topology_retire_plain(node);
    }
    own->edit = t->pmap.id;
    return own;
}

static struct topic_node *topic_child(const struct topic_node *node, struct mqg_slice level)
{
    if (topic_is(level, '*'))
        return node->star;
    if (topic_is(level, '#'))
        return node->hash;
    return mqg_pmap_get(node->children, level);
}

static void topic_child_set(const struct topology_edit *t, struct topic_node *node, struct mqg_slice level,
                            struct topic_node *child)
{
    if (topic_is(level, '*'))
        node->star = child;
    else if (topic_is(level, '#'))
        node->hash = child;
    else if (child != NULL)
        node->children = mqg_pmap_set(&t->pmap, node->children, level, child);
    else
        node->children = mqg_pmap_del(&t->pmap, node->children, level);
}

struct topic_node *topic_add(const struct topology_edit *t, struct topic_node *root, struct mqg_slice pattern,
                             const struct dest *d)
{
    struct topic_levels levels = topic_levels(pattern);
    root = topic_own(t, root);
    struct topic_node *node = root;
    for (struct mqg_slice level; topic_level(&levels, &level);) {
        struct topic_node *old = topic_child(node, level);
        if (old == NULL && !levels.more && !topic_is(level, '#')) {
            topic_child_set(t, node, level, dest_mark(d));
            return root;
        }
        struct topic_node *child = topic_own(t, old);
        if (child != old)
            topic_child_set(t, node, level, child);
        node = child;
    }
    node->dests = dests_add(t, node->dests, d);
    return root;
}

static bool topic_empty(const struct topic_node *node)
{
    return node->children == NULL && node->star == NULL && node->hash == NULL && node->dests == NULL;
}

/* One step of a removal: the node copied, and where it hangs. */
struct topic_step {
    struct topic_node *node;
    struct mqg_slice level;
};

/* Takes what became empty off the path, from its end. */
static struct topic_node *topic_prune(const struct topology_edit *t, struct topic_step *path, size_t n)
{
    while (n > 0 && topic_empty(path[n - 1].node)) {
        n--;
        if (n > 0)
            topic_child_set(t, path[n - 1].node, path[n].level, NULL);
        free(path[n].node); /* this edit's own copy */
    }
    return n > 0 ? path[0].node : NULL;
}

struct topic_node *topic_remove(const struct topology_edit *t, struct topic_node *root,
                                struct mqg_slice pattern, const struct dest *d)
{
    MQG_ASSERT(root != NULL);
    struct topic_step *path = mqg_xmalloc((pattern.len + 2) *
                                          sizeof *path); /* no more levels than bytes + 1 */
    struct topic_levels levels = topic_levels(pattern);
    size_t n = 0;
    bool leaf = false;
    path[n++] = (struct topic_step){topic_own(t, root), MQG_SLICE_NONE};
    for (struct mqg_slice level; topic_level(&levels, &level);) {
        struct topic_node *parent = path[n - 1].node;
        struct topic_node *old = topic_child(parent, level);
        MQG_ASSERT(old != NULL);
        if (dest_marked(old) != NULL) {
            MQG_ASSERT(dest_marked(old) == d && !levels.more);
            topic_child_set(t, parent, level, NULL);
            leaf = true;
            break;
        }
        struct topic_node *child = topic_own(t, old);
        if (child != old)
            topic_child_set(t, parent, level, child);
        path[n++] = (struct topic_step){child, level};
    }
    if (!leaf)
        path[n - 1].node->dests = dests_remove(t, path[n - 1].node->dests, d);
    root = topic_prune(t, path, n);
    free(path);
    return root;
}

/* Depth is bounded by the levels of a key, which fits 16 bits. */
void topic_free(struct topic_node *root)
{
    if (root == NULL || dest_marked(root) != NULL)
        return;
    topic_free(root->star);
    topic_free(root->hash);
    struct mqg_pmap_cursor c;
    for (mqg_pmap_cursor_init(&c, root->children); mqg_pmap_cursor_next(&c);)
        topic_free(c.value);
    mqg_pmap_free(root->children, NULL);
    dests_free(root->dests);
    free(root);
}

/* ---- matching ------------------------------------------------------------------------------------------ */

static void topic_push(const struct topic_node ***list, size_t *cap, size_t *n, const struct topic_node *node)
{
    if (*n == *cap) {
        *cap = *cap > 0 ? *cap * 2 : TOPIC_CAP_MIN;
        *list = mqg_xrealloc(*list, *cap * sizeof **list);
    }
    (*list)[(*n)++] = node;
}

static size_t topic_slot(const struct topic_scratch *s, const struct topic_node *node)
{
    uint64_t h = ((uint64_t)(uintptr_t)node >> 4) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(h >> 32) & (s->sticky_cap - 1);
}

static bool topic_sticky_put(struct topic_scratch *s, const struct topic_node *node)
{
    size_t at = topic_slot(s, node);
    for (; s->sticky[at] != NULL; at = (at + 1) & (s->sticky_cap - 1))
        if (s->sticky[at] == node)
            return false;
    s->sticky[at] = node;
    s->nsticky++;
    return true;
}

static void topic_sticky_grow(struct topic_scratch *s)
{
    const struct topic_node **old = s->sticky;
    size_t old_cap = s->sticky_cap;
    s->sticky_cap = old_cap > 0 ? old_cap * 2 : TOPIC_CAP_MIN;
    s->sticky = mqg_xcalloc(s->sticky_cap, sizeof *s->sticky);
    s->nsticky = 0;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i] != NULL)
            topic_sticky_put(s, old[i]);
    free(old);
}

/* True when the '#' node was not entered before by this key. */
static bool topic_enter_hash(struct topic_scratch *s, const struct topic_node *node)
{
    if (s->nsticky * 2 >= s->sticky_cap)
        topic_sticky_grow(s);
    return topic_sticky_put(s, node);
}

/* Adds the node to the set, and the '#' nodes below it, which fit without a level. */
static void topic_enter(struct topic_scratch *s, size_t *n, const struct topic_node *node)
{
    topic_push(&s->next, &s->next_cap, n, node);
    while (dest_marked(node) == NULL && node->hash != NULL && topic_enter_hash(s, node->hash)) {
        node = node->hash;
        topic_push(&s->next, &s->next_cap, n, node);
    }
}

static void topic_swap(struct topic_scratch *s)
{
    const struct topic_node **list = s->now;
    size_t cap = s->now_cap;
    s->now = s->next;
    s->now_cap = s->next_cap;
    s->next = list;
    s->next_cap = cap;
}

static bool topic_is_sticky(const struct topic_scratch *s, const struct topic_node *node)
{
    if (s->nsticky == 0)
        return false;
    size_t at = topic_slot(s, node);
    for (; s->sticky[at] != NULL; at = (at + 1) & (s->sticky_cap - 1))
        if (s->sticky[at] == node)
            return true;
    return false;
}

/* From one level to the next; the number of nodes after it. */
static size_t topic_step(struct topic_scratch *s, size_t n, struct mqg_slice level)
{
    uint64_t hash = mqg_hash(level);
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        const struct topic_node *node = s->now[i];
        if (dest_marked(node) != NULL)
            continue; /* nothing below */
        if (topic_is_sticky(s, node))
            topic_push(&s->next, &s->next_cap, &out, node);
        if (node->star != NULL)
            topic_enter(s, &out, node->star);
        const struct topic_node *child = mqg_pmap_get_hashed(node->children, hash, level);
        if (child != NULL)
            topic_enter(s, &out, child);
    }
    return out;
}

void topic_match(const struct topic_node *root, struct mqg_slice key, struct topic_scratch *s,
                 struct route_job *job)
{
    if (root == NULL)
        return;
    if (s->nsticky > 0)
        memset(s->sticky, 0, s->sticky_cap * sizeof *s->sticky);
    s->nsticky = 0;
    size_t n = 0;
    topic_enter(s, &n, root);
    topic_swap(s);
    struct topic_levels levels = topic_levels(key);
    for (struct mqg_slice level; n > 0 && topic_level(&levels, &level);) {
        n = topic_step(s, n, level);
        topic_swap(s);
    }
    for (size_t i = 0; i < n; i++)
        route_add_dests(job, dest_marked(s->now[i]) != NULL ? (const struct dest_set *)s->now[i]
                                                            : s->now[i]->dests);
}

void topic_scratch_fini(struct topic_scratch *s)
{
    free(s->now);
    free(s->next);
    free(s->sticky);
    *s = (struct topic_scratch){.now = NULL};
}

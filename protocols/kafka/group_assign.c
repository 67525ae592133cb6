/* group_assign.c - sets of partitions, and who gets which; group_assign.h says what the assignors promise.
 *
 * uniform keeps what members had, gives what is left to whoever has least, and then moves partitions from a member to one that
 * has at least two fewer, as long as there is such a pair: every move makes the sum of squares smaller, so it ends, and where all
 * subscribe to the same it ends with loads that differ by one at most. */
#include "group_assign.h"

#include <stdlib.h>

/* ---- sets --------------------------------------------------------------------------------------------------------------- */

void group_parts_fini(struct group_parts *p)
{
    free(p->items);
    *p = (struct group_parts){NULL, 0, 0};
}

void group_parts_add(struct group_parts *p, struct kafka_uuid topic, int32_t partition)
{
    if (p->n == p->cap) {
        p->cap = p->cap > 0 ? p->cap * 2 : 8;
        p->items = mqg_xrealloc(p->items, p->cap * sizeof *p->items);
    }
    p->items[p->n++] = (struct group_part){topic, partition};
}

static int part_order(const void *a, const void *b)
{
    const struct group_part *x = a, *y = b;
    int by_topic = memcmp(x->topic.bytes, y->topic.bytes, sizeof x->topic.bytes);
    return by_topic != 0 ? by_topic : x->partition < y->partition ? -1 : x->partition > y->partition;
}

void group_parts_sort(struct group_parts *p)
{
    uint32_t n = 0;
    if (p->n == 0)
        return;
    qsort(p->items, p->n, sizeof *p->items, part_order);
    for (uint32_t i = 0; i < p->n; i++)
        if (n == 0 || part_order(&p->items[n - 1], &p->items[i]) != 0)
            p->items[n++] = p->items[i];
    p->n = n;
}

bool group_parts_has(const struct group_parts *p, const struct group_part *part)
{
    return p->n > 0 && bsearch(part, p->items, p->n, sizeof *p->items, part_order) != NULL;
}

bool group_parts_equal(const struct group_parts *a, const struct group_parts *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->items, b->items, a->n * sizeof *a->items) == 0);
}

bool group_parts_within(const struct group_parts *a, const struct group_parts *b)
{
    for (uint32_t i = 0; i < a->n; i++)
        if (!group_parts_has(b, &a->items[i]))
            return false;
    return true;
}

bool group_parts_meet(const struct group_parts *a, const struct group_parts *b)
{
    for (uint32_t i = 0; i < a->n; i++)
        if (group_parts_has(b, &a->items[i]))
            return true;
    return false;
}

void group_parts_filter(const struct group_parts *a, const struct group_parts *b, bool keep,
                        struct group_parts *out)
{
    out->n = 0;
    for (uint32_t i = 0; i < a->n; i++)
        if (group_parts_has(b, &a->items[i]) == keep)
            group_parts_add(out, a->items[i].topic, a->items[i].partition);
}

void group_parts_copy(struct group_parts *to, const struct group_parts *from)
{
    to->n = 0;
    for (uint32_t i = 0; i < from->n; i++)
        group_parts_add(to, from->items[i].topic, from->items[i].partition);
}

void group_parts_move(struct group_parts *to, struct group_parts *from)
{
    group_parts_fini(to);
    *to = *from;
    *from = (struct group_parts){NULL, 0, 0};
}

/* ---- range -------------------------------------------------------------------------------------------------------------- */

static bool member_wants(const struct assign_member *m, uint32_t topic)
{
    uint32_t low = 0, high = m->ntopics;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (m->topics[mid] < topic)
            low = mid + 1;
        else
            high = mid;
    }
    return low < m->ntopics && m->topics[low] == topic;
}

static void range_topic(const struct assign_topic *t, uint32_t topic, struct assign_member *members,
                        uint32_t nmembers, int32_t wanting)
{
    int32_t each = t->partitions / wanting, more = t->partitions % wanting, next = 0;
    for (uint32_t i = 0; i < nmembers; i++) {
        if (!member_wants(&members[i], topic))
            continue;
        int32_t end = next + each + (more > 0 ? 1 : 0);
        more -= more > 0 ? 1 : 0;
        for (; next < end; next++)
            group_parts_add(members[i].target, t->id, next);
    }
}

void group_assign_range(const struct assign_topic *topics, uint32_t ntopics, struct assign_member *members,
                        uint32_t nmembers)
{
    for (uint32_t i = 0; i < nmembers; i++)
        members[i].target->n = 0;
    for (uint32_t t = 0; t < ntopics; t++) {
        int32_t wanting = 0;
        for (uint32_t i = 0; i < nmembers; i++)
            wanting += member_wants(&members[i], t);
        if (wanting > 0)
            range_topic(&topics[t], t, members, nmembers, wanting);
    }
    for (uint32_t i = 0; i < nmembers; i++)
        group_parts_sort(members[i].target);
}

/* ---- uniform ------------------------------------------------------------------------------------------------------------ */

struct uniform {
    const struct assign_topic *topics;
    uint32_t ntopics;
    struct assign_member *members;
    uint32_t nmembers;
    uint32_t *first; /* of a topic's partitions in owner; ntopics + 1 of them */
    int32_t *owner;  /* of a partition: an index of members, -1: nobody */
    uint32_t *load;  /* of a member */
};

static uint32_t uniform_topic(const struct uniform *u, const struct kafka_uuid *id)
{
    for (uint32_t t = 0; t < u->ntopics; t++)
        if (memcmp(u->topics[t].id.bytes, id->bytes, sizeof id->bytes) == 0)
            return t;
    return UINT32_MAX;
}

/* What a member had and may have again. Its set is sorted by topic, so a topic is looked up once. */
static void uniform_keep(struct uniform *u, uint32_t m)
{
    const struct group_parts *had = u->members[m].target;
    uint32_t topic = UINT32_MAX;
    for (uint32_t i = 0; i < had->n; i++) {
        const struct group_part *p = &had->items[i];
        if (i == 0 || memcmp(p->topic.bytes, had->items[i - 1].topic.bytes, sizeof p->topic.bytes) != 0)
            topic = uniform_topic(u, &p->topic);
        if (topic == UINT32_MAX || p->partition < 0 || p->partition >= u->topics[topic].partitions ||
            !member_wants(&u->members[m], topic))
            continue;
        int32_t *owner = &u->owner[u->first[topic] + (uint32_t)p->partition];
        if (*owner >= 0)
            continue;
        *owner = (int32_t)m;
        u->load[m]++;
    }
}

/* Who wants the topic and has least; -1: nobody wants it. */
static int32_t uniform_least(const struct uniform *u, uint32_t topic)
{
    int32_t least = -1;
    for (uint32_t m = 0; m < u->nmembers; m++)
        if ((least < 0 || u->load[m] < u->load[least]) && member_wants(&u->members[m], topic))
            least = (int32_t)m;
    return least;
}

static void uniform_give(struct uniform *u, uint32_t topic)
{
    for (uint32_t i = u->first[topic]; i < u->first[topic + 1]; i++) {
        if (u->owner[i] >= 0)
            continue;
        int32_t m = uniform_least(u, topic);
        if (m < 0)
            return;
        u->owner[i] = m;
        u->load[m]++;
    }
}

/* One pass over a topic, taking only from who has `level` or more: so nobody gives who is to get some back. */
static bool uniform_even(struct uniform *u, uint32_t topic, uint32_t level)
{
    bool moved = false;
    for (uint32_t i = u->first[topic + 1]; i-- > u->first[topic];) {
        bool rich = u->owner[i] >= 0 && u->load[u->owner[i]] >= level;
        int32_t least = rich ? uniform_least(u, topic) : -1;
        if (least < 0 || u->load[least] + 1 >= u->load[u->owner[i]])
            continue;
        u->load[u->owner[i]]--;
        u->load[least]++;
        u->owner[i] = least;
        moved = true;
    }
    return moved;
}

static bool uniform_level(struct uniform *u, uint32_t level)
{
    bool moved = false;
    for (uint32_t t = 0; t < u->ntopics; t++)
        moved = uniform_even(u, t, level) || moved;
    return moved;
}

/* First all at once down to the mean, then level by level from what is left above it. */
static bool uniform_levels(struct uniform *u)
{
    uint32_t most = 0, all = 0;
    for (uint32_t m = 0; m < u->nmembers; m++)
        all += u->load[m];
    bool moved = u->nmembers > 0 && uniform_level(u, (all + u->nmembers - 1) / u->nmembers + 1);
    for (uint32_t m = 0; m < u->nmembers; m++)
        most = u->load[m] > most ? u->load[m] : most;
    for (uint32_t level = most; level > 1; level--)
        moved = uniform_level(u, level) || moved;
    return moved;
}

static void uniform_run(struct uniform *u)
{
    for (uint32_t m = 0; m < u->nmembers; m++)
        uniform_keep(u, m);
    for (uint32_t t = 0; t < u->ntopics; t++)
        uniform_give(u, t);
    while (uniform_levels(u))
        continue;
}

void group_assign_uniform(const struct assign_topic *topics, uint32_t ntopics, struct assign_member *members,
                          uint32_t nmembers)
{
    struct uniform u = {.topics = topics, .ntopics = ntopics, .members = members, .nmembers = nmembers};
    u.first = mqg_xcalloc(ntopics + 1, sizeof *u.first);
    for (uint32_t t = 0; t < ntopics; t++)
        u.first[t + 1] = u.first[t] + (uint32_t)topics[t].partitions;
    u.owner = mqg_xcalloc(u.first[ntopics] + 1, sizeof *u.owner);
    memset(u.owner, 0xff, (u.first[ntopics] + 1) * sizeof *u.owner);
    u.load = mqg_xcalloc(nmembers + 1, sizeof *u.load);
    uniform_run(&u);
    for (uint32_t m = 0; m < nmembers; m++)
        members[m].target->n = 0;
    for (uint32_t t = 0; t < ntopics; t++)
        for (uint32_t i = u.first[t]; i < u.first[t + 1]; i++)
            if (u.owner[i] >= 0)
                group_parts_add(members[u.owner[i]].target, topics[t].id, (int32_t)(i - u.first[t]));
    for (uint32_t m = 0; m < nmembers; m++)
        group_parts_sort(members[m].target);
    free(u.first);
    free(u.owner);
    free(u.load);
}

group_assignor group_assignor_find(struct mqg_slice name)
{
    if (name.len == 0 || mqg_slice_eq(name, MQG_SLICE_LIT("uniform")))
        return group_assign_uniform;
    return mqg_slice_eq(name, MQG_SLICE_LIT("range")) ? group_assign_range : NULL;
}

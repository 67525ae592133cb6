/* group_assign.h - who gets which partitions: sets of partitions, and the two assignors of the coordinator (KIP-848).
 *
 *   range    each topic's partitions in runs, in the order of members: the same index of several topics lands at one member
 *   uniform  as even as subscriptions allow, and as few moves as that takes
 *
 * Pure. A set is sorted by topic and partition, so that its operations are merges. */
#ifndef KAFKA_GROUP_ASSIGN_H
#define KAFKA_GROUP_ASSIGN_H

#include "wire.h"

struct group_part {
    struct kafka_uuid topic;
    int32_t partition;
};

struct group_parts {
    struct group_part *items;
    uint32_t n, cap;
};

void group_parts_fini(struct group_parts *p);
/* Behind the last; the caller sorts afterwards where the order is not the set's. */
void group_parts_add(struct group_parts *p, struct kafka_uuid topic, int32_t partition);
void group_parts_sort(struct group_parts *p); /* and drops repeats */
bool group_parts_has(const struct group_parts *p, const struct group_part *part);
bool group_parts_equal(const struct group_parts *a, const struct group_parts *b);
bool group_parts_within(const struct group_parts *a, const struct group_parts *b); /* a is a subset of b */
bool group_parts_meet(const struct group_parts *a, const struct group_parts *b);   /* one in common */
/* *out becomes what of a is (keep) or is not (!keep) in b. out is neither. */
void group_parts_filter(const struct group_parts *a, const struct group_parts *b, bool keep,
                        struct group_parts *out);
void group_parts_copy(struct group_parts *to, const struct group_parts *from);
/* *to takes the items over. */
void group_parts_move(struct group_parts *to, struct group_parts *from);

struct assign_topic {
    struct kafka_uuid id;
    int32_t partitions;
};

struct assign_member {
    const uint32_t *topics; /* it subscribes to: indexes into the topics, ascending */
    uint32_t ntopics;
    struct group_parts *target; /* in: what it had been given; out: what it is given */
};

typedef void (*group_assignor)(const struct assign_topic *topics, uint32_t ntopics,
                               struct assign_member *members, uint32_t nmembers);
void group_assign_range(const struct assign_topic *topics, uint32_t ntopics, struct assign_member *members,
                        uint32_t nmembers);
void group_assign_uniform(const struct assign_topic *topics, uint32_t ntopics, struct assign_member *members,
                          uint32_t nmembers);
/* By name; NULL: no such. An empty name is the default, uniform. */
group_assignor group_assignor_find(struct mqg_slice name);

#endif

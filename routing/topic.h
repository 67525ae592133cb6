/* routing/topic.h - the trie of a topic exchange. Internal to routing/.
 *
 * Patterns are levels separated by '.'; '*' stands for one level, '#' for any number of levels, none
 * included. An empty pattern or key is no level at all; every other empty level ("a..b", ".a") is a level
 * like any other (as RabbitMQ). */
#ifndef MQG_ROUTING_TOPIC_H
#define MQG_ROUTING_TOPIC_H

#include "topology_int.h"

/* The new root; NULL is the empty trie. */
struct topic_node *topic_add(const struct topology_edit *t, struct topic_node *root, struct mqg_slice pattern,
                             const struct dest *d) MQG_MUST_CHECK;
/* d must be bound with this pattern. */
struct topic_node *topic_remove(const struct topology_edit *t, struct topic_node *root,
                                struct mqg_slice pattern, const struct dest *d) MQG_MUST_CHECK;
void topic_free(struct topic_node *root); /* all of it, no readers */

/* Memory of a matcher, kept from call to call. Zeroed is empty. */
struct topic_scratch {
    const struct topic_node **now, **next, **sticky;
    size_t now_cap, next_cap, sticky_cap; /* sticky: an open hash table, a power of two */
    size_t nsticky;
};

/* Adds the destinations of every pattern that the key matches. */
void topic_match(const struct topic_node *root, struct mqg_slice key, struct topic_scratch *s,
                 struct route_job *job);
void topic_scratch_fini(struct topic_scratch *s);

#endif

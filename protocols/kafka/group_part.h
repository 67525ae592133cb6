/* group_part.h - the group coordinator as the module lists it: its part, its settings' rows. */
#ifndef KAFKA_GROUP_PART_H
#define KAFKA_GROUP_PART_H

#include "kafka.h"

extern const struct kafka_part kafka_group_part;

/* clang-format off */
#define KAFKA_GROUP_ROWS \
    {"kafka", "group_initial_rebalance_delay", MQG_CONF_DURATION, "3s", 0, 600000, NULL, \
     "how long the first members of an empty group wait for others"}, \
    {"kafka", "group_max_size", MQG_CONF_INT, "2147483647", 1, INT32_MAX, NULL, "members of a group"}, \
    {"kafka", "group_min_session_timeout", MQG_CONF_DURATION, "6s", 0, INT32_MAX, NULL, \
     "shortest session that a member of a classic group may ask for"}, \
    {"kafka", "group_max_session_timeout", MQG_CONF_DURATION, "30m", 1, INT32_MAX, NULL, \
     "longest session that a member of a classic group may ask for"}, \
    {"kafka", "consumer_group_session_timeout", MQG_CONF_DURATION, "45s", 1000, INT32_MAX, NULL, \
     "a member of a consumer group (KIP-848) that is silent for so long is gone"}, \
    {"kafka", "consumer_group_heartbeat_interval", MQG_CONF_DURATION, "5s", 100, INT32_MAX, NULL, \
     "how often a member of a consumer group (KIP-848) is to call"}, \
    {"kafka", "offsets_retention", MQG_CONF_DURATION, "7d", 1, INT64_MAX, NULL, \
     "how long a group without members keeps its positions"}, \
    {"kafka", "offsets_retention_check_interval", MQG_CONF_DURATION, "10m", 100, INT64_MAX, NULL, \
     "how often groups and positions are looked at whose time is over"}
/* clang-format on */

#endif

/* node.c - the node as clients know it: one broker of one cluster.
 *
 * The cluster's id is drawn once and kept with the metadata, so that clients that compare it (KIP-78) see the same cluster after
 * a restart. Where it is found differs by listener (listener.c). */
#include "kafka_int.h"

#define NODE_KEY "kafka-node/cluster"

static char node_cluster[23];

static void node_found(struct mqg_slice key, struct mqg_slice value)
{
    (void)key;
    if (value.len == sizeof node_cluster - 1)
        memcpy(node_cluster, value.ptr, value.len);
}

/* 132 random bits are drawn, 128 are in a uuid: the last character stands for two bits. */
static void node_draw(void)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t raw[22];
    mqg_random_bytes(raw, sizeof raw);
    for (size_t i = 0; i < sizeof raw; i++)
        node_cluster[i] = digits[i + 1 < sizeof raw ? raw[i] & 63 : raw[i] & 48];
    node_cluster[0] = node_cluster[0] == '-'
                          ? 'M'
                          : node_cluster[0]; /* an id that begins like an option is a nuisance */
}

static void node_recovered(void)
{
    if (node_cluster[0] != '\0')
        return;
    node_draw();
    mqg_meta_put(MQG_SLICE_LIT(NODE_KEY), kafka_cluster_id());
}

struct mqg_slice kafka_cluster_id(void)
{
    return mqg_slice_str(node_cluster);
}

void kafka_node_load(void)
{
    mqg_meta_on_recover("kafka-node/", node_found, node_recovered);
}

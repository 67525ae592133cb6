/* node.c - the node as clients know it: one broker of one cluster, and the address under which it is found.
 *
 * The cluster's id is drawn once and kept with the metadata, so that clients that compare it (KIP-78) see the same cluster after
 * a restart. Addresses: a client is told what was configured for the listener on which it came (kafka.advertised), else the
 * address to which it connected, which is right for everybody who is not behind an address translation. */
#include "kafka_int.h"

#include <stdio.h>
#include <stdlib.h>

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

/* ---- lists by listener ----------------------------------------------------------------------------------------------------- */

/* "word,name=word,...": the word of that name; one without a name is for all that are not named. */
bool kafka_by_listener(const char *list, const char *listener, struct mqg_slice *out)
{
    bool found = false;
    while (*list != '\0') {
        list += strspn(list, " ,");
        size_t len = strcspn(list, " ,"), n = strlen(listener);
        const char *equals = memchr(list, '=', len);
        if (len > 0 && equals == NULL && !found) {
            *out = mqg_slice_of(list, len);
            found = true;
        } else if (equals != NULL && (size_t)(equals - list) == n && memcmp(list, listener, n) == 0) {
            *out = mqg_slice_of(equals + 1, len - n - 1);
            return true;
        }
        list += len;
    }
    return found;
}

/* "host:port", "[::1]:9092"; false when it is neither. */
static bool node_address(struct mqg_slice text, struct mqg_slice *host, int32_t *port)
{
    size_t colon = text.len;
    while (colon > 0 && text.ptr[colon - 1] != ':')
        colon--;
    if (colon < 2)
        return false;
    *port = 0;
    for (size_t i = colon; i < text.len && *port <= 65535; i++)
        *port = *port * 10 + (text.ptr[i] - '0');
    *host = mqg_slice_of(text.ptr, colon - 1);
    if (host->ptr[0] == '[' && host->len > 2)
        *host = mqg_slice_of(host->ptr + 1, host->len - 2);
    return *port > 0 && *port <= 65535;
}

void kafka_endpoint(const struct kafka_conn *kc, struct mqg_slice *host, int32_t *port)
{
    const struct mqg_conn_info *i = mqg_conn_info(kc->conn);
    struct mqg_slice told;
    if (kafka_by_listener(kafka_settings.advertised, i->listener, &told) && node_address(told, host, port))
        return;
    *host = mqg_slice_str(i->host);
    *port = i->port;
}

static enum mqg_err node_check_one(struct mqg_slice word, struct mqg_error *e)
{
    struct mqg_slice host;
    int32_t port;
    const uint8_t *equals = memchr(word.ptr, '=', word.len);
    if (equals != NULL)
        word = mqg_slice_of(equals + 1, (size_t)(word.ptr + word.len - equals - 1));
    if (node_address(word, &host, &port))
        return MQG_OK;
    return mqg_error_set(e, MQG_INVALID, 0, "kafka.advertised: '%.*s' is not [LISTENER=]HOST:PORT",
                         MQG_SLICE_FMT(word));
}

enum mqg_err kafka_advertised_check(const char *list, struct mqg_error *e)
{
    while (*list != '\0') {
        list += strspn(list, " ,");
        size_t len = strcspn(list, " ,");
        if (len > 0 && node_check_one(mqg_slice_of(list, len), e) != MQG_OK)
            return MQG_INVALID;
        list += len;
    }
    return MQG_OK;
}

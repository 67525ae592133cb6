/* group_find.c - the part's table of APIs, and FindCoordinator: one node coordinates all. */
#include "group_table.h"

enum { COORDINATOR_GROUP, COORDINATOR_TRANSACTION };

static int16_t coordinator_refusal(struct kafka_call *c, int8_t type, struct mqg_slice key)
{
    if (type == COORDINATOR_GROUP)
        return kafka_allowed(c->conn, KAFKA_DESCRIBE, "group", key) ? KAFKA_NONE
                                                                    : KAFKA_GROUP_AUTHORIZATION_FAILED;
    if (type == COORDINATOR_TRANSACTION)
        return kafka_allowed(c->conn, MQG_READ, "transactional_id", key)
                   ? KAFKA_NONE
                   : KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    return KAFKA_INVALID_REQUEST;
}

static void coordinator_one(struct kafka_call *c)
{
    const struct kafka_find_coordinator_request *in = c->request;
    struct kafka_find_coordinator_response *out = c->response;
    out->error_code = coordinator_refusal(c, in->key_type, in->key);
    out->node_id = -1;
    out->host = MQG_SLICE_LIT("");
    out->port = -1;
    if (out->error_code != KAFKA_NONE)
        return;
    out->node_id = kafka_settings.broker_id;
    kafka_endpoint(c->conn, &out->host, &out->port);
}

static void coordinator_many(struct kafka_call *c)
{
    const struct kafka_find_coordinator_request *in = c->request;
    struct kafka_find_coordinator_response *out = c->response;
    int32_t n = in->coordinator_keys_n > 0 ? in->coordinator_keys_n : 0;
    out->coordinators = kafka_call_alloc(c, (size_t)n, sizeof *out->coordinators);
    out->coordinators_n = out->coordinators != NULL ? n : 0;
    for (int32_t i = 0; i < out->coordinators_n; i++) {
        struct kafka_find_coordinator_response_coordinators *row = &out->coordinators[i];
        row->key = in->coordinator_keys[i];
        row->error_code = coordinator_refusal(c, in->key_type, row->key);
        row->node_id = row->port = -1;
        row->host = MQG_SLICE_LIT("");
        if (row->error_code != KAFKA_NONE)
            continue;
        row->node_id = kafka_settings.broker_id;
        kafka_endpoint(c->conn, &row->host, &row->port);
    }
}

void kafka_find_coordinator(struct kafka_call *c)
{
    if (c->head.version >= 4)
        coordinator_many(c);
    else
        coordinator_one(c);
    kafka_call_answer(c);
}

const struct kafka_api kafka_group_apis[] = {
    {8, 0, 9, 0, kafka_offset_commit},
    {9, 0, 9, 0, kafka_offset_fetch},
    {10, 0, 6, 0, kafka_find_coordinator},
    {11, 0, 9, 0, kafka_join_group},
    {12, 0, 4, 0, kafka_heartbeat},
    {13, 0, 5, 0, kafka_leave_group},
    {14, 0, 5, 0, kafka_sync_group},
    {15, 0, 6, 0, kafka_describe_groups},
    {16, 0, 5, 0, kafka_list_groups},
    {42, 0, 2, 0, kafka_delete_groups},
    {47, 0, 0, 0, kafka_offset_delete},
    {68, 0, 1, 0, kafka_consumer_group_heartbeat},
    {69, 0, 1, 0, kafka_consumer_group_describe},
    {-1, 0, 0, 0, NULL},
};

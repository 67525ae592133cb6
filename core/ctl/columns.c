/* columns.c - what can be listed of each kind of object.
 *
 * The words are rabbitmqctl's, and ours behind them (disk_bytes, live_bytes...); each names the place of its value in the API's
 * JSON, its own name when nothing else is said. */
#include "ctl.h"

const struct column columns_queue[] = {
    {.word = "name"},
    {.word = "vhost"},
    {.word = "durable"},
    {.word = "auto_delete"},
    {.word = "arguments"},
    {.word = "policy"},
    {.word = "pid"},
    {.word = "owner_pid"},
    {.word = "exclusive"},
    {.word = "exclusive_consumer_pid"},
    {.word = "exclusive_consumer_tag"},
    {.word = "messages_ready"},
    {.word = "messages_unacknowledged"},
    {.word = "messages"},
    {.word = "messages_ready_ram"},
    {.word = "messages_unacknowledged_ram"},
    {.word = "messages_ram"},
    {.word = "messages_persistent"},
    {.word = "message_bytes"},
    {.word = "message_bytes_ready"},
    {.word = "message_bytes_unacknowledged"},
    {.word = "message_bytes_ram"},
    {.word = "message_bytes_persistent"},
    {.word = "head_message_timestamp"},
    {.word = "disk_reads"},
    {.word = "disk_writes"},
    {.word = "consumers"},
    {.word = "consumer_utilisation"},
    {.word = "consumer_capacity"},
    {.word = "memory"},
    {.word = "slave_pids"},
    {.word = "synchronised_slave_pids"},
    {.word = "state"},
    {.word = "type"},
    {.word = "node"},
    {.word = "leader", .path = "node"},
    {.word = "members"},
    {.word = "online"},
    {.word = "disk_bytes"},
    {.word = "disk_messages"},
    {.word = "disk_segments"},
    {.word = "operator_policy"},
    {.word = "effective_policy_definition"},
    {.word = "single_active_consumer_tag"},
    {.word = "id"},
    {.word = NULL},
};
const struct column columns_exchange[] = {
    {.word = "name"},      {.word = "vhost"},       {.word = "type"},
    {.word = "durable"},   {.word = "auto_delete"}, {.word = "internal"},
    {.word = "arguments"}, {.word = "policy"},      {.word = NULL},
};
const struct column columns_binding[] = {
    {.word = "source_name", .path = "source"},
    {.word = "source_kind", .constant = "exchange"},
    {.word = "destination_name", .path = "destination"},
    {.word = "destination_kind", .path = "destination_type"},
    {.word = "routing_key"},
    {.word = "arguments"},
    {.word = "vhost"},
    {.word = NULL},
};
const struct column columns_connection[] = {
    {.word = "pid"},
    {.word = "id"},
    {.word = "name"},
    {.word = "port"},
    {.word = "host"},
    {.word = "peer_port"},
    {.word = "peer_host"},
    {.word = "ssl"},
    {.word = "ssl_protocol"},
    {.word = "ssl_key_exchange"},
    {.word = "ssl_cipher"},
    {.word = "ssl_hash"},
    {.word = "peer_cert_subject"},
    {.word = "peer_cert_issuer"},
    {.word = "peer_cert_validity"},
    {.word = "state"},
    {.word = "channels"},
    {.word = "protocol"},
    {.word = "auth_mechanism"},
    {.word = "user"},
    {.word = "vhost"},
    {.word = "timeout"},
    {.word = "frame_max"},
    {.word = "channel_max"},
    {.word = "client_properties"},
    {.word = "user_provided_name"},
    {.word = "connected_at"},
    {.word = "recv_oct"},
    {.word = "recv_cnt"},
    {.word = "send_oct"},
    {.word = "send_cnt"},
    {.word = "send_pend"},
    {.word = "node"},
    {.word = "listener"},
    {.word = NULL},
};
const struct column columns_channel[] = {
    {.word = "pid"},
    {.word = "connection", .path = "connection_details.name"},
    {.word = "name"},
    {.word = "number"},
    {.word = "user"},
    {.word = "vhost"},
    {.word = "transactional"},
    {.word = "confirm"},
    {.word = "consumer_count"},
    {.word = "messages_unacknowledged"},
    {.word = "messages_uncommitted"},
    {.word = "acks_uncommitted"},
    {.word = "messages_unconfirmed"},
    {.word = "prefetch_count"},
    {.word = "global_prefetch_count"},
    {.word = "state"},
    {.word = "node"},
    {.word = NULL},
};
const struct column columns_consumer[] = {
    {.word = "queue_name", .path = "queue.name"},
    {.word = "vhost", .path = "queue.vhost"},
    {.word = "channel_pid", .path = "channel_details.pid"},
    {.word = "consumer_tag"},
    {.word = "ack_required"},
    {.word = "prefetch_count"},
    {.word = "active"},
    {.word = "activity_status"},
    {.word = "exclusive"},
    {.word = "priority"},
    {.word = "arguments"},
    {.word = NULL},
};
const struct column columns_user[] = {{.word = "user", .path = "name"}, {.word = "tags"}, {.word = NULL}};
const struct column columns_vhost[] = {
    {.word = "name"},
    {.word = "tracing"},
    {.word = "description"},
    {.word = "tags"},
    {.word = "default_queue_type"},
    {.word = "messages"},
    {.word = NULL},
};
const struct column columns_store[] = {
    {.word = "name"},          {.word = "type"},           {.word = "default"},     {.word = "durable"},
    {.word = "state"},         {.word = "blocked"},        {.word = "disk_bytes"},  {.word = "live_bytes"},
    {.word = "segments"},      {.word = "moved_messages"}, {.word = "moved_bytes"}, {.word = "commits"},
    {.word = "written_bytes"}, {.word = "last_sync_us"},   {.word = NULL},
};
const struct column columns_segment[] = {
    {.word = "kind"},          {.word = "sequence"},   {.word = "state"},
    {.word = "disk_bytes"},    {.word = "used_bytes"}, {.word = "live_bytes"},
    {.word = "live_messages"}, {.word = "queues"},     {.word = NULL},
};
const struct column columns_permission[] = {
    {.word = "user"},  {.word = "vhost"}, {.word = "configure"},
    {.word = "write"}, {.word = "read"},  {.word = NULL},
};

const struct column *list_columns(int (*run)(struct ctl *c))
{
    static const struct {
        int (*run)(struct ctl *c);
        const struct column *columns;
    } all[] = {
        {list_queues, columns_queue},
        {list_disk, columns_queue},
        {list_exchanges, columns_exchange},
        {list_bindings, columns_binding},
        {list_connections, columns_connection},
        {list_channels, columns_channel},
        {list_consumers, columns_consumer},
        {list_stores, columns_store},
        {list_users, columns_user},
        {list_vhosts, columns_vhost},
        {list_permissions, columns_permission},
    };
    for (size_t i = 0; i < MQG_COUNTOF(all); i++)
        if (all[i].run == run)
            return all[i].columns;
    return NULL;
}

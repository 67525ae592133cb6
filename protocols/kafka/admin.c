/* admin.c - the administrative part: its table of APIs, its settings. */
#include "admin.h"
#include "topic_conf.h"

#include <stdlib.h>

static char *admin_supers; /* "alice,bob" */

bool kafka_admin_is_super(struct mqg_slice user)
{
    struct mqg_slice left = mqg_slice_str(admin_supers != NULL ? admin_supers : "");
    while (left.len > 0) {
        const uint8_t *comma = memchr(left.ptr, ',', left.len);
        size_t n = comma != NULL ? (size_t)(comma - left.ptr) : left.len;
        if (n == user.len && n > 0 && memcmp(left.ptr, user.ptr, n) == 0)
            return true;
        left = comma != NULL ? mqg_slice_of(comma + 1, left.len - n - 1) : MQG_SLICE_NONE;
    }
    return false;
}

static enum mqg_err admin_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)e;
    admin_supers = mqg_slice_dup(mqg_slice_str(mqg_conf_str(conf, "kafka", "super_users")));
    kafka_topic_conf_load();
    return MQG_OK;
}

static void admin_unload(void)
{
    kafka_topic_conf_unload();
    free(admin_supers);
    admin_supers = NULL;
}

static const struct kafka_api admin_apis[] = {
    {KAFKA_API_CREATE_TOPICS, 0, 7, 0, kafka_create_topics},
    {KAFKA_API_DELETE_TOPICS, 0, 6, 0, kafka_delete_topics},
    {KAFKA_API_CREATE_PARTITIONS, 0, 3, 0, kafka_create_partitions},
    {KAFKA_API_DELETE_RECORDS, 0, 2, 0, kafka_delete_records},
    {KAFKA_API_DESCRIBE_CONFIGS, 0, 4, 0, kafka_describe_configs},
    {KAFKA_API_ALTER_CONFIGS, 0, 2, 0, kafka_alter_configs},
    {KAFKA_API_INCREMENTAL_ALTER_CONFIGS, 0, 1, 0, kafka_incremental_alter_configs},
    {KAFKA_API_DESCRIBE_LOG_DIRS, 0, 4, 0, kafka_describe_log_dirs},
    {KAFKA_API_DESCRIBE_USER_SCRAM_CREDENTIALS, 0, 0, 0, kafka_describe_user_scram_credentials},
    {KAFKA_API_ALTER_USER_SCRAM_CREDENTIALS, 0, 0, 0, kafka_alter_user_scram_credentials},
    {.key = -1},
};

const struct kafka_part kafka_admin_part = {
    .name = "admin", .apis = admin_apis, .load = admin_load, .unload = admin_unload};

/* kafka_main.c - the suite's stream part over the kafka store: against the mock cluster that librdkafka carries, or with
 * --brokers host:port against a real one.
 *
 * The mock keeps records and committed offsets as a cluster does, but knows neither topic administration nor look-ups by
 * time; those tests need the real one. */
#include "suite.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <stdio.h>
#include <string.h>

#ifdef MQG_MODULE_STATIC
#define KAFKA_MODULE mqg_module_kafka_store
#else
#define KAFKA_MODULE mqg_module
#endif
extern const struct mqg_module KAFKA_MODULE;

#define ONE_BY_ONE "appends reach an engine in offset order only, so nothing can lie behind a gap"

static const struct suite_without without_mock[] = {
    {"stream_gap_is_cut", ONE_BY_ONE},
    {"stream_new_incarnation", "the mock cluster cannot delete topics"},
    {"stream_offset_for_time", "the mock cluster does not look up times"},
    {NULL, NULL},
};
static const struct suite_without without_real[] = {
    {"stream_gap_is_cut", ONE_BY_ONE},
    {NULL, NULL},
};

static int kafka_suite(const char *brokers, const char *create, const struct suite_without *without, int argc,
                       char **argv)
{
    static char setting[512];
    snprintf(setting, sizeof(setting), "brokers=%s", brokers);
    const char *const settings[] = {setting, "topic_prefix=mqgate.", "linger=1ms", create, NULL};
    struct suite_adapter a = {.module = &KAFKA_MODULE, .settings = settings, .without = without};
    return suite_main(&a, argc, argv);
}

static int kafka_mock(int argc, char **argv)
{
    char text[256];
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), text, sizeof(text));
    if (!rk) {
        fprintf(stderr, "%s\n", text);
        return 1;
    }
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(rk, 1);
    int code = kafka_suite(rd_kafka_mock_cluster_bootstraps(cluster), "create_topics=off", without_mock, argc,
                           argv);
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(rk);
    return code;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--brokers") == 0)
        return kafka_suite(argv[2], NULL, without_real, argc - 2, argv + 2);
    return kafka_mock(argc, argv);
}

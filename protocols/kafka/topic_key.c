/* topic_key.c - the keys of a topic's configuration as one table: types, bounds, defaults, and where each goes.
 *
 * The names, types and bounds are Kafka's (its documentation, "Topic Configs"), so that tools that set them find them. The
 * defaults are what happens here: nothing is deleted unless somebody says so. Keys of things that one node does not have
 * (replicas, tiers) or that the store decides itself (index sizes, flushes) are taken and told again, and do nothing;
 * kafka.md lists them. */
#include "topic_conf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LONG_MAX_TEXT "9223372036854775807"
#define NO_EFFECT     "Accepted, without effect here. "

/* In the order in which they are told. */
enum {
    KEY_CLEANUP,
    KEY_GZIP_LEVEL,
    KEY_LZ4_LEVEL,
    KEY_COMPRESSION,
    KEY_ZSTD_LEVEL,
    KEY_DELETE_RETENTION,
    KEY_FILE_DELETE_DELAY,
    KEY_FLUSH_MESSAGES,
    KEY_FLUSH_MS,
    KEY_FOLLOWER_THROTTLED,
    KEY_INDEX_INTERVAL,
    KEY_LEADER_THROTTLED,
    KEY_LOCAL_RETENTION_BYTES,
    KEY_LOCAL_RETENTION_MS,
    KEY_MAX_COMPACTION_LAG,
    KEY_MAX_MESSAGE_BYTES,
    KEY_DOWNCONVERSION,
    KEY_FORMAT_VERSION,
    KEY_TIMESTAMP_AFTER,
    KEY_TIMESTAMP_BEFORE,
    KEY_TIMESTAMP_DIFFERENCE,
    KEY_TIMESTAMP_TYPE,
    KEY_DIRTY_RATIO,
    KEY_MIN_COMPACTION_LAG,
    KEY_MIN_INSYNC,
    KEY_PREALLOCATE,
    KEY_REMOTE_STORAGE,
    KEY_RETENTION_BYTES,
    KEY_RETENTION_MS,
    KEY_SEGMENT_BYTES,
    KEY_SEGMENT_INDEX_BYTES,
    KEY_SEGMENT_JITTER,
    KEY_SEGMENT_MS,
    KEY_UNCLEAN_ELECTION,
};

const struct kafka_topic_key kafka_topic_keys[KAFKA_KEYS] = {
    [KEY_CLEANUP] =
        {"cleanup.policy", KAFKA_KEY_LIST, "delete", 0, 0, "delete|compact", "log.cleanup.policy",
         "delete: what is over a bound of time or bytes goes; compact: of each key the last record stays."},
    [KEY_GZIP_LEVEL] = {"compression.gzip.level", KAFKA_KEY_INT, "-1", -1, 9, NULL, "compression.gzip.level",
                        NO_EFFECT "Batches are stored as producers compressed them."},
    [KEY_LZ4_LEVEL] = {"compression.lz4.level", KAFKA_KEY_INT, "9", 1, 17, NULL, "compression.lz4.level",
                       NO_EFFECT "Batches are stored as producers compressed them."},
    [KEY_COMPRESSION] = {"compression.type", KAFKA_KEY_STRING, "producer", 0, 0,
                         "uncompressed|zstd|lz4|snappy|gzip|producer", "compression.type",
                         NO_EFFECT "Batches are stored as producers compressed them."},
    [KEY_ZSTD_LEVEL] = {"compression.zstd.level", KAFKA_KEY_INT, "3", -131072, 22, NULL,
                        "compression.zstd.level",
                        NO_EFFECT "Batches are stored as producers compressed them."},
    [KEY_DELETE_RETENTION] = {"delete.retention.ms", KAFKA_KEY_LONG, "86400000", 0, INT64_MAX, NULL,
                              "log.cleaner.delete.retention.ms",
                              "How long a record without a value stays in a compacted topic."},
    [KEY_FILE_DELETE_DELAY] = {"file.delete.delay.ms", KAFKA_KEY_LONG, "60000", 0, INT64_MAX, NULL,
                               "log.segment.delete.delay.ms", NO_EFFECT},
    [KEY_FLUSH_MESSAGES] = {"flush.messages", KAFKA_KEY_LONG, LONG_MAX_TEXT, 1, INT64_MAX, NULL,
                            "log.flush.interval.messages", NO_EFFECT "The store's setting flush decides."},
    [KEY_FLUSH_MS] = {"flush.ms", KAFKA_KEY_LONG, LONG_MAX_TEXT, 0, INT64_MAX, NULL, "log.flush.interval.ms",
                      NO_EFFECT "The store's setting flush decides."},
    [KEY_FOLLOWER_THROTTLED] = {"follower.replication.throttled.replicas", KAFKA_KEY_LIST, "", 0, 0, NULL,
                                NULL, NO_EFFECT "There is one replica."},
    [KEY_INDEX_INTERVAL] = {"index.interval.bytes", KAFKA_KEY_INT, "4096", 0, INT32_MAX, NULL,
                            "log.index.interval.bytes", NO_EFFECT},
    [KEY_LEADER_THROTTLED] = {"leader.replication.throttled.replicas", KAFKA_KEY_LIST, "", 0, 0, NULL, NULL,
                              NO_EFFECT "There is one replica."},
    [KEY_LOCAL_RETENTION_BYTES] = {"local.retention.bytes", KAFKA_KEY_LONG, "-2", -2, INT64_MAX, NULL,
                                   "log.local.retention.bytes", NO_EFFECT "There is one tier."},
    [KEY_LOCAL_RETENTION_MS] = {"local.retention.ms", KAFKA_KEY_LONG, "-2", -2, INT64_MAX, NULL,
                                "log.local.retention.ms", NO_EFFECT "There is one tier."},
    [KEY_MAX_COMPACTION_LAG] = {"max.compaction.lag.ms", KAFKA_KEY_LONG, LONG_MAX_TEXT, 1, INT64_MAX, NULL,
                                "log.cleaner.max.compaction.lag.ms",
                                "No record waits longer for compaction than this."},
    [KEY_MAX_MESSAGE_BYTES] = {"max.message.bytes", KAFKA_KEY_INT, NULL, 0, INT32_MAX, NULL,
                               "message.max.bytes", "The largest record batch that is taken."},
    [KEY_DOWNCONVERSION] = {"message.downconversion.enable", KAFKA_KEY_BOOLEAN, "true", 0, 0, NULL,
                            "log.message.downconversion.enable", NO_EFFECT},
    [KEY_FORMAT_VERSION] = {"message.format.version", KAFKA_KEY_STRING, "3.0-IV1", 0, 0, NULL,
                            "log.message.format.version", NO_EFFECT "Batches of magic 2 are what is stored."},
    [KEY_TIMESTAMP_AFTER] = {"message.timestamp.after.max.ms", KAFKA_KEY_LONG, LONG_MAX_TEXT, 0, INT64_MAX,
                             NULL, "log.message.timestamp.after.max.ms",
                             "How far a record's time may lie in the future."},
    [KEY_TIMESTAMP_BEFORE] = {"message.timestamp.before.max.ms", KAFKA_KEY_LONG, LONG_MAX_TEXT, 0, INT64_MAX,
                              NULL, "log.message.timestamp.before.max.ms",
                              "How far a record's time may lie in the past."},
    [KEY_TIMESTAMP_DIFFERENCE] =
        {"message.timestamp.difference.max.ms", KAFKA_KEY_LONG, LONG_MAX_TEXT, 0, INT64_MAX, NULL,
         "log.message.timestamp.difference.max.ms",
         "Both of message.timestamp.before.max.ms and after.max.ms, where they are not set."},
    [KEY_TIMESTAMP_TYPE] = {"message.timestamp.type", KAFKA_KEY_STRING, "CreateTime", 0, 0,
                            "CreateTime|LogAppendTime", "log.message.timestamp.type",
                            "Whose time a record has: the producer's, or that of its arrival."},
    [KEY_DIRTY_RATIO] = {"min.cleanable.dirty.ratio", KAFKA_KEY_DOUBLE, "0.5", 0, 100, NULL,
                         "log.cleaner.min.cleanable.ratio", NO_EFFECT "Half is what the store uses."},
    [KEY_MIN_COMPACTION_LAG] = {"min.compaction.lag.ms", KAFKA_KEY_LONG, "0", 0, INT64_MAX, NULL,
                                "log.cleaner.min.compaction.lag.ms",
                                "Records younger than this are not compacted."},
    [KEY_MIN_INSYNC] = {"min.insync.replicas", KAFKA_KEY_INT, "1", 1, INT32_MAX, NULL, "min.insync.replicas",
                        NO_EFFECT "There is one replica, and it is durable."},
    [KEY_PREALLOCATE] = {"preallocate", KAFKA_KEY_BOOLEAN, "false", 0, 0, NULL, "log.preallocate", NO_EFFECT},
    [KEY_REMOTE_STORAGE] = {"remote.storage.enable", KAFKA_KEY_BOOLEAN, "false", 0, 0, NULL, NULL,
                            NO_EFFECT "There is one tier."},
    [KEY_RETENTION_BYTES] = {"retention.bytes", KAFKA_KEY_LONG, "-1", -1, INT64_MAX, NULL,
                             "log.retention.bytes",
                             "Bytes of a partition beyond which its oldest files go; -1: no bound."},
    [KEY_RETENTION_MS] = {"retention.ms", KAFKA_KEY_LONG, "-1", -1, INT64_MAX, NULL, "log.retention.ms",
                          "Age at which a partition's files go; -1: none."},
    [KEY_SEGMENT_BYTES] = {"segment.bytes", KAFKA_KEY_INT, "67108864", 14, INT32_MAX, NULL,
                           "log.segment.bytes", "Size at which a file of a partition ends."},
    [KEY_SEGMENT_INDEX_BYTES] = {"segment.index.bytes", KAFKA_KEY_INT, "10485760", 4, INT32_MAX, NULL,
                                 "log.index.size.max.bytes", NO_EFFECT},
    [KEY_SEGMENT_JITTER] = {"segment.jitter.ms", KAFKA_KEY_LONG, "0", 0, INT64_MAX, NULL,
                            "log.roll.jitter.ms", NO_EFFECT},
    [KEY_SEGMENT_MS] =
        {"segment.ms", KAFKA_KEY_LONG, LONG_MAX_TEXT, 1, INT64_MAX, NULL, "log.roll.ms",
         "Age at which a file of a partition ends, so that retention or compaction may take it."},
    [KEY_UNCLEAN_ELECTION] = {"unclean.leader.election.enable", KAFKA_KEY_BOOLEAN, "false", 0, 0, NULL,
                              "unclean.leader.election.enable", NO_EFFECT "There is one replica."},
};

int kafka_key_find(struct mqg_slice name)
{
    for (int i = 0; i < KAFKA_KEYS; i++)
        if (mqg_slice_eq(name, mqg_slice_str(kafka_topic_keys[i].name)))
            return i;
    return -1;
}

/* ---- values ------------------------------------------------------------------------------------------------------------- */

static struct mqg_slice key_trim(struct mqg_slice s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = mqg_slice_of(s.ptr + 1, s.len - 1);
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

static bool key_number(struct mqg_slice value, int64_t *out)
{
    char text[24], *end;
    struct mqg_slice s = key_trim(value);
    if (s.len == 0 || s.len >= sizeof text)
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' &&
           (text[0] == '-' || text[0] == '+' || (text[0] >= '0' && text[0] <= '9'));
}

static bool key_double(struct mqg_slice value, double *out)
{
    char text[32], *end;
    struct mqg_slice s = key_trim(value);
    if (s.len == 0 || s.len >= sizeof text)
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    *out = strtod(text, &end);
    return *end == '\0' && *out == *out;
}

/* The next of the parts that `mark` separates; false behind the last. */
static bool key_part(struct mqg_slice *left, char mark, struct mqg_slice *part)
{
    if (left->ptr == NULL)
        return false;
    const uint8_t *at = left->len > 0 ? memchr(left->ptr, mark, left->len) : NULL;
    size_t n = at != NULL ? (size_t)(at - left->ptr) : left->len;
    *part = key_trim(mqg_slice_of(left->ptr, n));
    *left = at != NULL ? mqg_slice_of(at + 1, left->len - n - 1) : MQG_SLICE_NONE;
    return true;
}

bool kafka_key_word(struct mqg_slice *left, struct mqg_slice *word)
{
    return key_part(left, ',', word);
}

bool kafka_key_contains(struct mqg_slice list, struct mqg_slice word)
{
    struct mqg_slice part;
    while (key_part(&list, ',', &part))
        if (mqg_slice_eq(part, word))
            return true;
    return false;
}

static bool key_word(const char *words, struct mqg_slice value)
{
    struct mqg_slice left = mqg_slice_str(words), part;
    while (key_part(&left, '|', &part))
        if (mqg_slice_eq(part, value))
            return true;
    return false;
}

static bool key_invalid(const struct kafka_topic_key *k, struct mqg_slice value, const char *why,
                        struct mqg_error *e)
{
    mqg_error_set(e, MQG_INVALID, 0, "Invalid value %.*s for configuration %s: %s", MQG_SLICE_FMT(value),
                  k->name, why);
    return false;
}

static bool key_check_number(const struct kafka_topic_key *k, struct mqg_slice value, struct mqg_error *e)
{
    int64_t n;
    char why[96];
    if (!key_number(value, &n) || (k->type == KAFKA_KEY_INT && (n > INT32_MAX || n < INT32_MIN)))
        return key_invalid(
            k, value, k->type == KAFKA_KEY_INT ? "Not a number of type INT" : "Not a number of type LONG", e);
    if (n >= k->min && n <= k->max)
        return true;
    snprintf(why, sizeof why, "Value must be at %s %" PRId64, n < k->min ? "least" : "most",
             n < k->min ? k->min : k->max);
    return key_invalid(k, value, why, e);
}

static bool key_check_words(const struct kafka_topic_key *k, struct mqg_slice value, struct mqg_error *e)
{
    struct mqg_slice left = value, part;
    char why[96];
    if (k->words == NULL)
        return true;
    snprintf(why, sizeof why, "must be one of: %s", k->words);
    while (key_part(&left, ',', &part))
        if (!key_word(k->words, part))
            return key_invalid(k, value, why, e);
    return true;
}

bool kafka_key_check(int key, struct mqg_slice value, struct mqg_error *e)
{
    const struct kafka_topic_key *k = &kafka_topic_keys[key];
    double fraction;
    value = value.ptr == NULL ? MQG_SLICE_LIT("") : value;
    switch (k->type) {
    case KAFKA_KEY_INT:
    case KAFKA_KEY_LONG: return key_check_number(k, value, e);
    case KAFKA_KEY_DOUBLE:
        return (key_double(value, &fraction) && fraction >= 0 && fraction <= 1) ||
               key_invalid(k, value, "Value must be between 0 and 1", e);
    case KAFKA_KEY_BOOLEAN:
        return key_word("true|false", key_trim(value)) ||
               key_invalid(k, value, "Expected value to be either true or false", e);
    case KAFKA_KEY_STRING:
        return k->words == NULL || key_word(k->words, key_trim(value)) || key_check_words(k, value, e);
    case KAFKA_KEY_LIST: return key_check_words(k, value, e);
    }
    return false;
}

/* ---- what they are here ----------------------------------------------------------------------------------------------------- */

/* The number that is set, or `otherwise`. */
static int64_t key_value(const struct kafka_key_set *set, int key, int64_t otherwise)
{
    int64_t n;
    return set->value[key].ptr != NULL && key_number(set->value[key], &n) ? n : otherwise;
}

/* A bound of the stream's: 0 is none there, so a bound of 0 is the least one. */
static uint64_t key_bound(const struct kafka_key_set *set, int key, int64_t none)
{
    int64_t n = key_value(set, key, none);
    return n == none || n < 0 ? 0 : n == 0 ? 1 : (uint64_t)n;
}

static uint32_t key_cleanup(const struct kafka_key_set *set)
{
    struct mqg_slice left = set->value[KEY_CLEANUP], part;
    uint32_t bits = 0;
    while (key_part(&left, ',', &part))
        bits |= mqg_slice_eq(part, MQG_SLICE_LIT("compact")) ? MQG_CLEANUP_COMPACT : MQG_CLEANUP_DELETE;
    return bits;
}

void kafka_key_stream(const struct kafka_key_set *set, struct mqg_stream_conf *out)
{
    *out = (struct mqg_stream_conf){
        .cleanup = key_cleanup(set),
        .retention_ms = key_bound(set, KEY_RETENTION_MS, -1),
        .retention_bytes = key_bound(set, KEY_RETENTION_BYTES, -1),
        .segment_bytes = key_bound(set, KEY_SEGMENT_BYTES, 0),
        .segment_ms = key_bound(set, KEY_SEGMENT_MS, INT64_MAX),
        .compact_lag_min_ms = (uint64_t)key_value(set, KEY_MIN_COMPACTION_LAG, 0),
        .compact_lag_max_ms = key_bound(set, KEY_MAX_COMPACTION_LAG, INT64_MAX),
        .tombstone_ms = set->value[KEY_DELETE_RETENTION].ptr != NULL
                            ? key_bound(set, KEY_DELETE_RETENTION, -1)
                            : 0,
    };
}

static int8_t key_codec(struct mqg_slice value)
{
    static const char *const names[] = {"uncompressed", "gzip", "snappy", "lz4", "zstd"};
    for (size_t i = 0; i < MQG_COUNTOF(names); i++)
        if (value.ptr != NULL && mqg_slice_eq(key_trim(value), mqg_slice_str(names[i])))
            return (int8_t)i;
    return -1;
}

void kafka_key_topic(const struct kafka_key_set *set, struct kafka_topic_conf *out)
{
    int64_t difference = key_value(set, KEY_TIMESTAMP_DIFFERENCE, INT64_MAX);
    struct mqg_slice type = set->value[KEY_TIMESTAMP_TYPE];
    out->max_message_bytes = (uint32_t)key_value(set, KEY_MAX_MESSAGE_BYTES, out->max_message_bytes);
    out->append_time = type.ptr != NULL && mqg_slice_eq(key_trim(type), MQG_SLICE_LIT("LogAppendTime"));
    out->codec = key_codec(set->value[KEY_COMPRESSION]);
    out->before_max_ms = key_value(set, KEY_TIMESTAMP_BEFORE, difference);
    out->after_max_ms = key_value(set, KEY_TIMESTAMP_AFTER, difference);
}

/* ---- and back ------------------------------------------------------------------------------------------------------------------ */

static void key_set_number(struct kafka_key_set *set, int key, uint64_t value, uint64_t said,
                           struct mqg_arena *a)
{
    char text[24];
    if (value == said)
        return;
    if (value == 0) {
        set->value[key] = MQG_SLICE_NONE;
        return;
    }
    int n = snprintf(text, sizeof text, "%" PRIu64, value > INT64_MAX ? (uint64_t)INT64_MAX : value);
    set->value[key] = mqg_arena_dup(a, mqg_slice_of((const uint8_t *)text, (size_t)n));
}

void kafka_key_from_stream(struct kafka_key_set *set, const struct mqg_stream_conf *conf, struct mqg_arena *a)
{
    static const char *const policies[] = {NULL, "delete", "compact", "delete,compact"};
    struct mqg_stream_conf said;
    kafka_key_stream(set, &said);
    if (conf->cleanup != said.cleanup)
        set->value[KEY_CLEANUP] = conf->cleanup == 0 || conf->cleanup > 3
                                      ? MQG_SLICE_NONE
                                      : mqg_slice_str(policies[conf->cleanup]);
    key_set_number(set, KEY_RETENTION_MS, conf->retention_ms, said.retention_ms, a);
    key_set_number(set, KEY_RETENTION_BYTES, conf->retention_bytes, said.retention_bytes, a);
    key_set_number(set, KEY_SEGMENT_BYTES, conf->segment_bytes, said.segment_bytes, a);
    key_set_number(set, KEY_SEGMENT_MS, conf->segment_ms, said.segment_ms, a);
    key_set_number(set, KEY_MIN_COMPACTION_LAG, conf->compact_lag_min_ms, said.compact_lag_min_ms, a);
    key_set_number(set, KEY_MAX_COMPACTION_LAG, conf->compact_lag_max_ms, said.compact_lag_max_ms, a);
    key_set_number(set, KEY_DELETE_RETENTION, conf->tombstone_ms, said.tombstone_ms, a);
}

bool kafka_key_only_compact(const struct mqg_stream_conf *conf)
{
    return (conf->cleanup & (MQG_CLEANUP_COMPACT | MQG_CLEANUP_DELETE)) == MQG_CLEANUP_COMPACT;
}

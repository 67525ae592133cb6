/* topic_conf.h - the configuration of topics: Kafka's keys, what they are here, and what Produce needs of them.
 *
 * What the store does (retention, segments, compaction) stands in the stream's own configuration (mqg_stream_conf), where other
 * protocols may have put it, too; what only Kafka's handlers look at stands beside it, in a record of the stream's, together
 * with the words in which everything was set. docs: kafka.md, "Configuration of topics". */
#ifndef KAFKA_TOPIC_CONF_H
#define KAFKA_TOPIC_CONF_H

#include <mqgate/stream.h>

/* What Produce and Fetch ask of a topic. */
struct kafka_topic_conf {
    uint32_t max_message_bytes; /* a batch, as it is sent */
    bool append_time;           /* message.timestamp.type=LogAppendTime */
    int8_t codec;               /* compression.type: -1 producer's own, else enum mqg_batch_attr's codec */
    /* message.timestamp.before.max.ms, .after.max.ms: how far a record's time may lie before or after now; INT64_MAX: as it
     * likes. INVALID_TIMESTAMP otherwise. Not asked with append_time. */
    int64_t before_max_ms, after_max_ms;
};
/* Without a lock: a look-up by the stream's id, nothing where no topic has a configuration. Valid until the turn ends. (worker) */
const struct kafka_topic_conf *kafka_topic_conf(const struct mqg_stream *s);

/* ---- keys (topic_key.c) ------------------------------------------------------------------------------------------------ */

#define KAFKA_KEYS 34

/* As DescribeConfigs tells them. */
enum kafka_key_type {
    KAFKA_KEY_BOOLEAN = 1,
    KAFKA_KEY_STRING = 2,
    KAFKA_KEY_INT = 3,
    KAFKA_KEY_LONG = 5,
    KAFKA_KEY_DOUBLE = 6,
    KAFKA_KEY_LIST = 7,
};

struct kafka_topic_key {
    const char *name;
    enum kafka_key_type type;
    const char *initial; /* here, where nothing is set */
    int64_t min, max;    /* INT, LONG; DOUBLE in percent */
    const char *words;   /* STRING, LIST: "a|b"; NULL: anything */
    const char *synonym; /* the broker's key of the same meaning, or NULL */
    const char *doc;
};
extern const struct kafka_topic_key kafka_topic_keys[KAFKA_KEYS];

/* What was set, by key; ptr NULL: not set. */
struct kafka_key_set {
    struct mqg_slice value[KAFKA_KEYS];
};

int kafka_key_find(struct mqg_slice name); /* -1: no such key */
/* Is it a value of that key? If not, *e says why in Kafka's words. */
bool kafka_key_check(int key, struct mqg_slice value, struct mqg_error *e);
/* The next word of a LIST, without blanks; false behind the last. */
bool kafka_key_word(struct mqg_slice *left, struct mqg_slice *word);
bool kafka_key_contains(struct mqg_slice list, struct mqg_slice word);
/* Both from checked values; what is not set is the default. */
void kafka_key_stream(const struct kafka_key_set *set, struct mqg_stream_conf *out);
void kafka_key_topic(const struct kafka_key_set *set, struct kafka_topic_conf *out);
/* Sets, in *set, the keys of the stream's configuration that say something else than *set does, as text in the arena. */
void kafka_key_from_stream(struct kafka_key_set *set, const struct mqg_stream_conf *conf,
                           struct mqg_arena *a);
/* Compacted, and never deleted from. */
bool kafka_key_only_compact(const struct mqg_stream_conf *conf);

/* ---- what was set (topic_conf.c) ------------------------------------------------------------------------------------------ */

/* Everything that is set for a stream, whoever set it; values lie in the arena. (worker) */
void kafka_topic_set(const struct mqg_stream *s, struct mqg_arena *a, struct kafka_key_set *set);
/* Sets exactly this: changes the stream where that has to do it, keeps the rest. Checked values. INVALID: a combination that
 * the store refuses. The ticket is of the default store. (worker) */
enum mqg_err kafka_topic_put(struct mqg_session *session, struct mqg_stream *s,
                             const struct kafka_key_set *set, uint64_t *ticket,
                             struct mqg_error *e) MQG_MUST_CHECK;
/* Only the record, for a stream just declared with kafka_key_stream's configuration. The ticket, 0: nothing to keep. */
uint64_t kafka_topic_keep(const struct mqg_stream *s, const struct kafka_key_set *set);
/* The stream was deleted. */
uint64_t kafka_topic_forget(uint64_t queue_id);
/* Around reading a set, changing it and putting it back. */
void kafka_topic_conf_lock(void);
void kafka_topic_conf_unlock(void);

void kafka_topic_conf_load(void); /* before recovery */
void kafka_topic_conf_unload(void);

#endif

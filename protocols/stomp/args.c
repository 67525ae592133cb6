/* args.c - x-* headers of SUBSCRIBE as arguments of its queue or its consumer.
 *
 * Headers are text, arguments are typed: what looks like a number or a flag is one, unless the argument is text by its meaning
 * (a dead letter exchange may be called 5). */
#include "stomp.h"

/* Arguments that stay text, whatever they look like. */
static bool args_is_text(struct mqg_slice name)
{
    static const char *const names[] = {"x-dead-letter-exchange", "x-dead-letter-routing-key",
                                        "x-queue-type",           "x-overflow",
                                        "x-queue-mode",           "x-max-age",
                                        "x-dead-letter-strategy"};
    for (size_t i = 0; i < MQG_COUNTOF(names); i++)
        if (mqg_slice_eq(name, mqg_slice_str(names[i])))
            return true;
    return false;
}

/* RabbitMQ's forms: first, last, next, offset=N, timestamp=N (seconds); a number alone is an offset. */
static struct mqg_value args_stream_offset(struct mqg_slice text)
{
    struct mqg_slice offset = MQG_SLICE_LIT("offset="), timestamp = MQG_SLICE_LIT("timestamp=");
    bool is_time = mqg_slice_starts(text, timestamp);
    size_t skip = is_time ? timestamp.len : mqg_slice_starts(text, offset) ? offset.len : 0;
    uint64_t n;
    if (!stomp_number(mqg_slice_of(text.ptr + skip, text.len - skip), INT64_MAX / 1000000, &n))
        return (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = text};
    if (is_time)
        return (struct mqg_value){.type = MQG_VALUE_TIMESTAMP, .i = (int64_t)n * 1000000};
    return (struct mqg_value){.type = MQG_VALUE_INT64, .i = (int64_t)n};
}

static struct mqg_value args_value(struct mqg_slice name, struct mqg_slice text)
{
    uint64_t n;
    if (!args_is_text(name)) {
        if (stomp_number(text, INT64_MAX, &n))
            return (struct mqg_value){.type = MQG_VALUE_INT64, .i = (int64_t)n};
        if (mqg_slice_eq(text, MQG_SLICE_LIT("true")) || mqg_slice_eq(text, MQG_SLICE_LIT("false")))
            return (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = text.len == 4};
    }
    return (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = text};
}

static bool args_is_consumers(const struct stomp_line *line)
{
    return line->id == STOMP_H_X_PRIORITY || line->id == STOMP_H_X_STREAM_OFFSET ||
           mqg_slice_starts(line->name, MQG_SLICE_LIT("x-stream-filter")) ||
           mqg_slice_starts(line->name, MQG_SLICE_LIT("x-stream-match"));
}

bool stomp_args(struct stomp_conn *sc, const struct stomp_head *h, bool consumers, struct mqg_table *out)
{
    for (uint32_t i = 0; i < h->n; i++) {
        const struct stomp_line *line = &h->lines[i];
        struct mqg_slice text;
        if (!mqg_slice_starts(line->name, MQG_SLICE_LIT("x-")) || line->id == STOMP_H_X_QUEUE_NAME ||
            args_is_consumers(line) != consumers || mqg_table_get(out, line->name) != NULL)
            continue;
        struct mqg_field *f = mqg_table_add(stomp_arena(sc), out, line->name);
        if (f == NULL || stomp_unescape(line->value, sc->version, stomp_arena(sc), &text) != MQG_OK) {
            stomp_fail(sc, "Invalid header", "the header %.*s cannot be read", MQG_SLICE_FMT(line->name));
            return false;
        }
        f->value = line->id == STOMP_H_X_STREAM_OFFSET ? args_stream_offset(text)
                                                       : args_value(line->name, text);
    }
    return true;
}

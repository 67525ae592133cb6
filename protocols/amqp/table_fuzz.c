/* table_fuzz.c - a field table's content.
 *
 * What holds: check and decode agree; iterating over any bytes ends; and what decodes, encodes to a table that
 * decodes to the same meaning (a timestamp too large for microseconds is the one value that changes, once), in as
 * many bytes. */
#include "table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_iterate(struct mqg_slice raw)
{
    struct amqp_value value;
    struct amqp_table_iter table = amqp_table_iter_of(raw);
    struct amqp_table_iter array = amqp_array_iter_of(raw);
    size_t before = raw.len;
    while (amqp_table_next(&table)) {
        MQG_ASSERT(mqg_cursor_left(&table.cursor) < before);
        before = mqg_cursor_left(&table.cursor);
        MQG_ASSERT(amqp_table_find(raw, table.name, &value));
    }
    while (amqp_table_next(&array)) {
        int64_t number;
        bool flag;
        struct mqg_slice bytes;
        const bool is_number = amqp_value_int(&array.value, &number);
        MQG_ASSERT(!(is_number && amqp_value_bool(&array.value, &flag)));
        MQG_ASSERT(!(is_number && amqp_value_bytes(&array.value, &bytes)));
    }
}

static void fuzz_way_back(struct mqg_arena *arena, const struct mqg_table *t, size_t size)
{
    struct mqg_dynbuf once;
    struct mqg_dynbuf twice;
    struct mqg_table back;
    uint32_t dropped = 0;
    mqg_dynbuf_init(&once, size + 1);
    mqg_dynbuf_init(&twice, size + 1);
    MQG_ASSERT(amqp_table_encode(&once, t, &dropped) == MQG_OK && dropped == 0 && once.len == size);
    MQG_ASSERT(amqp_table_decode(mqg_dynbuf_view(&once), arena, &back) == MQG_OK);
    MQG_ASSERT(amqp_table_encode(&twice, &back, &dropped) == MQG_OK);
    MQG_ASSERT(mqg_slice_eq(mqg_dynbuf_view(&once), mqg_dynbuf_view(&twice)));
    mqg_dynbuf_fini(&once);
    mqg_dynbuf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct mqg_slice raw = mqg_slice_of(data, size);
    struct mqg_arena arena;
    struct mqg_table t;
    if (size <= 1024)
        fuzz_iterate(raw);
    mqg_arena_init(&arena, 1 << 20);
    const enum mqg_err err = amqp_table_decode(raw, &arena, &t);
    MQG_ASSERT(err == amqp_table_check(raw) || err == MQG_NO_MEMORY);
    if (err == MQG_OK)
        fuzz_way_back(&arena, &t, size);
    mqg_arena_fini(&arena);
    return 0;
}

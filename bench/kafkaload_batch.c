/* A record batch (format 2). Its number stands in the first record; what another number changes in the CRC-32C is looked up, as the
 * sum is linear: a batch of a megabyte is not summed again for eight bytes of it. */
#include "kafkaload_batch.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kafkaload_wire.h"

static uint32_t crc_table[256];

static void crc_prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        crc_table[i] = c;
    }
}

static uint32_t crc_raw(uint32_t c, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        c = crc_table[(c ^ p[i]) & 0xff] ^ c >> 8;
    return c;
}

static size_t varint_put(uint8_t *p, int64_t v)
{
    uint64_t u = (uint64_t)(v << 1) ^ (uint64_t)(v >> 63);
    size_t n = 0;
    for (; u >= 0x80; u >>= 7)
        p[n++] = (uint8_t)(u | 0x80);
    p[n++] = (uint8_t)u;
    return n;
}

/* attributes, time, offset, no key, value, no headers */
static size_t record_put(uint8_t *to, uint32_t index, uint32_t size, size_t *value_at)
{
    uint8_t head[32];
    size_t n = 0;
    head[n++] = 0;
    n += varint_put(head + n, 0);
    n += varint_put(head + n, index);
    n += varint_put(head + n, -1);
    n += varint_put(head + n, size);
    size_t at = varint_put(to, (int64_t)(n + size + 1));
    memcpy(to + at, head, n);
    *value_at = at + n;
    uint8_t *value = to + at + n;
    for (uint32_t i = 0; i < size; i++)
        value[i] = (uint8_t)(index * 7 + i);
    memset(value, 0, STAMP);
    put32(value + 4, index); /* the number's place in the first record, whose index is 0 */
    value[size] = 0;
    return at + n + size + 1;
}

static void model_changes(struct model *m)
{
    size_t n = m->len - AT_SUMMED;
    uint8_t *zero = room(n);
    for (size_t i = 0; i < STAMP; i++)
        for (int bit = 0; bit < 8; bit++) {
            uint8_t *p = zero + (m->stamp_at - AT_SUMMED) + i;
            *p = (uint8_t)(1 << bit);
            uint32_t c = crc_raw(0, p, n - (size_t)(p - zero));
            *p = 0;
            for (unsigned v = 0; v < 256; v++)
                if (v >> bit & 1)
                    m->change[i][v] ^= c;
        }
    free(zero);
}

void model_build(struct model *m, uint32_t size, uint32_t bytes)
{
    m->bytes = room((size_t)bytes + size + 256);
    m->len = BATCH_HEAD;
    for (size_t value_at; m->count == 0 || m->len + size + 16 <= bytes; m->count++) {
        size_t at = m->len;
        m->len += record_put(m->bytes + at, m->count, size, &value_at);
        if (m->count == 0)
            m->stamp_at = at + value_at;
    }
    uint8_t *b = m->bytes;
    crc_prepare();
    int64_t ms = (int64_t)time(NULL) * 1000;
    put32(b + 8, (uint32_t)(m->len - 12));
    put32(b + 12, UINT32_MAX); /* leader epoch */
    b[16] = 2;
    put32(b + 23, m->count - 1);
    put64(b + 27, (uint64_t)ms);
    put64(b + 35, (uint64_t)ms);
    memset(b + 43, 0xff, 14); /* no producer id, epoch, sequence */
    put32(b + 57, m->count);
    m->sum = ~crc_raw(UINT32_MAX, b + AT_SUMMED, m->len - AT_SUMMED);
    put32(b + AT_CRC, m->sum);
    model_changes(m);
}

uint32_t model_sum(const struct model *m, const uint8_t stamp[STAMP])
{
    uint32_t sum = m->sum;
    for (int i = 0; i < STAMP; i++)
        sum ^= m->change[i][stamp[i]];
    return sum;
}

void model_stamp(const struct model *m, uint8_t *batch, uint64_t number)
{
    uint8_t *stamp = batch + m->stamp_at;
    put64(stamp, number);
    put32(batch + AT_CRC, model_sum(m, stamp));
}

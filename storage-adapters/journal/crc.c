/* crc.c - CRC-32C for short runs.
 *
 * Nearly every record is 30 to 300 bytes, and there the folding code of mqg_crc32c pays its fixed cost
 * (measured: 63 ns at 200 bytes, 25 at 12) for nothing: the processor's own instruction, 8 bytes at a time,
 * takes 25 and 6 ns. From 256 bytes on folding wins. Both give the same sum; the tests compare them with the
 * table. */
#include "format.h"

#if defined(__x86_64__)
#include <nmmintrin.h>

enum { CRC_SHORT = 256 };

__attribute__((target("sse4.2"))) static uint32_t crc_short(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t c = ~crc;
    for (; n >= 8; p += 8, n -= 8)
        c = _mm_crc32_u64(c, mqg_le64(p));
    uint32_t c32 = (uint32_t)c;
    for (; n > 0; p++, n--)
        c32 = _mm_crc32_u8(c32, *p);
    return ~c32;
}

uint32_t jrn_crc32c(uint32_t crc, const void *ptr, size_t n)
{
    if (n < CRC_SHORT && __builtin_cpu_supports("sse4.2"))
        return crc_short(crc, ptr, n);
    return mqg_crc32c(crc, ptr, n);
}
#else
uint32_t jrn_crc32c(uint32_t crc, const void *ptr, size_t n)
{
    return mqg_crc32c(crc, ptr, n);
}
#endif

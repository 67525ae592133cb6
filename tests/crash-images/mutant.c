/* mutant.c - the journal with one of its protections taken out, so that the suite can show that it would notice.
 *
 * The linker puts these in the place of two calls of the journal (--wrap): the sum of everything, which then is always
 * the same, and the random number that names each use of a segment (and begins the salts), likewise. The third
 * protection, fdatasync, is taken out in the disk. */
#include "mutant.h"

enum { MUTANT_SUM = 0x600d };

bool mutant_no_crc, mutant_no_nonce;

uint32_t __real_jrn_crc32c(uint32_t crc, const void *ptr, size_t n);
uint32_t __wrap_jrn_crc32c(uint32_t crc, const void *ptr, size_t n);
uint64_t __real_mqg_random_u64(void);
uint64_t __wrap_mqg_random_u64(void);

uint32_t __wrap_jrn_crc32c(uint32_t crc, const void *ptr, size_t n)
{
    return mutant_no_crc ? MUTANT_SUM : __real_jrn_crc32c(crc, ptr, n);
}

uint64_t __wrap_mqg_random_u64(void)
{
    return mutant_no_nonce ? 1 : __real_mqg_random_u64();
}

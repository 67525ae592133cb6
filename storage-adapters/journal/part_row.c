/* part_row.c - the bytes of an index file: its header, its rows (drawn in part_index.c). Pure. */
#include "part.h"

#define INDEX_MAGIC "MQGSIDX1"

void jrn_part_idx_head(uint8_t out[PART_IDX_HEAD], const struct part_file *f)
{
    memset(out, 0, PART_IDX_HEAD);
    memcpy(out, INDEX_MAGIC, 8);
    mqg_put_le32(out + 8, 1);
    mqg_put_le64(out + 16, f->partition);
    mqg_put_le64(out + 24, f->base);
    mqg_put_le32(out + 32, f->gen);
    mqg_put_le32(out + 60, jrn_crc32c(0, out, 60));
}

bool jrn_part_idx_head_is(struct mqg_slice in, const struct part_file *f)
{
    uint8_t want[PART_IDX_HEAD];
    jrn_part_idx_head(want, f);
    return in.len >= PART_IDX_HEAD && memcmp(in.ptr, want, PART_IDX_HEAD) == 0;
}

void jrn_part_idx_row(uint8_t out[PART_IDX_ROW], const struct part_entry *e, uint32_t seed)
{
    mqg_put_le64(out, e->offset);
    mqg_put_le64(out + 8, e->pos);
    mqg_put_le64(out + 16, e->time_ms);
    mqg_put_le32(out + 24, 0);
    mqg_put_le32(out + 28, jrn_crc32c(seed, out, 28));
}

bool jrn_part_idx_row_is(const uint8_t in[PART_IDX_ROW], struct part_entry *e, uint32_t seed)
{
    *e = (struct part_entry){mqg_le64(in), mqg_le64(in + 8), mqg_le64(in + 16)};
    return mqg_le32(in + 28) == jrn_crc32c(seed, in, 28);
}

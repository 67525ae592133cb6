/* digest_fuzz.c - the decoders of a digest, fed with anything.
 *
 * The first byte says what the rest is taken for: a whole file (head, sums and all), the table without its sum, what was said,
 * small groups, or a page whose count and first number come first. */
#include "digest.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_page(struct jrn_page *page)
{
    struct jrn_entry e;
    uint64_t last = page->last.qseq;
    bool first = true;
    for (; jrn_page_next(page, &e); first = false, last = e.qseq)
        MQG_ASSERT((first || e.qseq > last) && e.body_len <= e.len && e.off % 8 == 0);
    (void)jrn_page_whole(page);
}

static void fuzz_small(struct mqg_slice in)
{
    struct jrn_small small = {mqg_cursor_of(in)};
    struct jrn_page page;
    while (jrn_small_next(&small, &page))
        fuzz_page(&page);
}

static void fuzz_said(struct mqg_slice in)
{
    struct jrn_said said = {mqg_cursor_of(in)};
    struct jrn_rec rec;
    uint32_t off;
    uint64_t term;
    while (jrn_said_next(&said, &rec, &off, &term))
        MQG_ASSERT(rec.main.len <= in.len);
}

/* Rows that were taken are in order, and their pages lie in the file. */
static void fuzz_rows(const struct jrn_digest *d, struct mqg_slice pages)
{
    for (uint32_t i = 0; i < d->nrow; i++) {
        const struct jrn_row *row = &d->rows[i];
        struct jrn_page page;
        MQG_ASSERT(row->first <= row->last && row->last - row->first < JRN_ROW_SPAN && row->count > 0);
        MQG_ASSERT(row->page_off + row->page_len <= d->pages_bytes);
        if (row->page_off + row->page_len > pages.len)
            continue;
        jrn_page_init(&page, mqg_slice_of(pages.ptr + row->page_off, row->page_len), row->queue_id,
                      row->first, row->count);
        fuzz_page(&page);
    }
}

static void fuzz_file(struct mqg_slice in)
{
    struct jrn_digest d;
    struct jrn_digest_head h;
    jrn_digest_init(&d);
    if (jrn_digest_head_decode(in, &d, &h) == MQG_OK) {
        struct mqg_cursor c = mqg_cursor_of(mqg_slice_of(in.ptr + JRN_DIGEST_HEAD, in.len - JRN_DIGEST_HEAD));
        struct mqg_slice table = mqg_cursor_slice(&c, (size_t)h.rows * JRN_ROW_BYTES);
        struct mqg_slice said = mqg_cursor_slice(&c, (size_t)h.said),
                         small = mqg_cursor_slice(&c, (size_t)h.small);
        fuzz_said(said);
        fuzz_small(small);
        if (table.len && jrn_digest_table_decode(table, &h, &d) == MQG_OK)
            fuzz_rows(&d, mqg_cursor_slice(&c, mqg_cursor_left(&c)));
    }
    jrn_digest_fini(&d);
}

/* As if the sum were right. */
static void fuzz_table(struct mqg_slice in)
{
    struct jrn_digest d;
    struct jrn_digest_head h = {.rows = (uint32_t)(in.len / JRN_ROW_BYTES), .pages = in.len};
    struct mqg_slice table = mqg_slice_of(in.ptr, h.rows * (size_t)JRN_ROW_BYTES);
    jrn_digest_init(&d);
    d.pages_bytes = h.pages;
    h.table_crc = jrn_crc32c(0, table.ptr, table.len);
    if (jrn_digest_table_decode(table, &h, &d) == MQG_OK)
        fuzz_rows(&d, in);
    jrn_digest_fini(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jrn_page page;
    if (size < 4)
        return 0;
    struct mqg_slice in = mqg_slice_of(data + 1, size - 1);
    switch (data[0] % 5) {
    case 0: fuzz_file(in); break;
    case 1: fuzz_table(in); break;
    case 2: fuzz_said(in); break;
    case 3: fuzz_small(in); break;
    default:
        jrn_page_init(&page, mqg_slice_of(in.ptr + 2, in.len - 2), 1, in.ptr[1], in.ptr[0]);
        fuzz_page(&page);
        break;
    }
    return 0;
}

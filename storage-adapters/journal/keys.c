/* keys.c - where the latest record of each key stands.
 *
 * META, stream definitions, trims, producers, positions: of each key only the last record counts. A segment
 * may go when none of its records is the last of its key, or after those were written again at the tail. The
 * table keeps hashes and places only (the values are read from the segment that goes, once), so 100k bindings
 * cost 4 MB. Two hashes, 96 bits together, both unknown to outsiders, stand for the key. The table is in 64 parts, each of which grows by
 * itself: the committer adds keys between a write and its confirms, and one table of 400,000 takes 12 ms to grow (measured). */
#include "journal.h"

#include <stdlib.h>

void jrn_keys_init(struct jrn_keys *k)
{
    *k = (struct jrn_keys){.free_row = JRN_MAP_NONE};
    pthread_mutex_init(&k->lock, NULL);
}

void jrn_keys_fini(struct jrn_keys *k)
{
    for (int i = 0; i < JRN_KEYS_MAPS; i++)
        jrn_map_fini(&k->at[i]);
    free(k->rows);
    pthread_mutex_destroy(&k->lock);
}

static uint32_t keys_row(struct jrn_keys *k)
{
    if (k->free_row != JRN_MAP_NONE) {
        uint32_t row = k->free_row;
        k->free_row = k->rows[row].off;
        return row;
    }
    if (k->nrow == k->cap_row) {
        k->cap_row = k->cap_row ? k->cap_row * 2 : 64;
        k->rows = mqg_xrealloc(k->rows, k->cap_row * sizeof *k->rows);
    }
    return k->nrow++;
}

static struct jrn_map *keys_map(struct jrn_keys *k, const struct jrn_keyed *key)
{
    return &k->at[key->hash / (UINT64_MAX / JRN_KEYS_MAPS + 1)];
}

void jrn_keys_set(struct jrn_keys *k, const struct jrn_keyed *key, uint64_t seq, uint32_t off)
{
    pthread_mutex_lock(&k->lock);
    bool fresh;
    uint32_t *at = jrn_map_put(keys_map(k, key), key->hash, &fresh);
    if (fresh)
        *at = keys_row(k);
    k->rows[*at] = (struct jrn_key_row){key->hash, seq, key->hash2, off, key->gone};
    pthread_mutex_unlock(&k->lock);
}

bool jrn_keys_is(struct jrn_keys *k, const struct jrn_keyed *key, uint64_t seq, uint32_t off)
{
    pthread_mutex_lock(&k->lock);
    uint32_t at = jrn_map_get(keys_map(k, key), key->hash);
    const struct jrn_key_row *row = at == JRN_MAP_NONE ? NULL : &k->rows[at];
    bool is = row && row->hash2 == key->hash2 && row->seq == seq && row->off == off;
    pthread_mutex_unlock(&k->lock);
    return is;
}

void jrn_keys_drop(struct jrn_keys *k, const struct jrn_keyed *key)
{
    pthread_mutex_lock(&k->lock);
    uint32_t at = jrn_map_get(keys_map(k, key), key->hash);
    if (at != JRN_MAP_NONE && k->rows[at].hash2 == key->hash2) {
        jrn_map_remove(keys_map(k, key), key->hash);
        k->rows[at].off = k->free_row;
        k->rows[at].seq = 0;
        k->free_row = at;
    }
    pthread_mutex_unlock(&k->lock);
}

static int keys_order(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Some rows at a time: the committer wants the lock for each key that it writes. A row that changes in between stands in a newer
 * segment from then on, so none is missed. */
uint32_t *jrn_keys_in(struct jrn_keys *k, uint64_t seq, uint32_t *n)
{
    enum { SLICE = 4096 };
    uint32_t *offs = NULL, cap = 0, nrow = 1;
    *n = 0;
    for (uint32_t at = 0; at < nrow;) {
        if (cap - *n < SLICE) {
            cap = *n + *n / 2 + SLICE;
            offs = mqg_xrealloc(offs, cap * sizeof *offs);
        }
        pthread_mutex_lock(&k->lock);
        nrow = k->nrow;
        for (uint32_t i = 0; i < SLICE && at < nrow; i++, at++)
            if (k->rows[at].seq == seq) /* rows that are free have sequence 0 */
                offs[(*n)++] = k->rows[at].off;
        pthread_mutex_unlock(&k->lock);
    }
    if (*n)
        qsort(offs, *n, sizeof *offs, keys_order);
    return offs;
}

/* ---- whose last word a record is ----------------------------------------------------------------------- */

/* The bytes that say whose last word a record is; the type is part of the key. */
static bool key_bytes(uint8_t type, struct mqg_slice main, struct mqg_slice parts[2], bool *gone)
{
    struct jrn_meta meta;
    struct jrn_position pos;
    struct jrn_stream_def def;
    parts[1] = MQG_SLICE_NONE;
    *gone = false;
    switch (type) {
    case JRN_REC_META:
        if (!jrn_rec_meta(main, &meta))
            return false;
        parts[0] = meta.key;
        *gone = meta.remove;
        return true;
    case JRN_REC_STREAM:
        if (!jrn_rec_stream(main, &def))
            return false;
        *gone = !def.exists;
        parts[0] = mqg_slice_of(main.ptr, 8);
        return true;
    case JRN_REC_STREAM_CONF:
    case JRN_REC_TRIM:
    case JRN_REC_CUT:
    case JRN_REC_PRODUCER:
        parts[0] = mqg_slice_of(main.ptr, type == JRN_REC_TRIM || type == JRN_REC_STREAM_CONF ? 8 : 16);
        *gone = type == JRN_REC_PRODUCER && main.len == 36 && mqg_le64(main.ptr + 28) == MQG_OFFSET_NONE;
        return main.len >= 16;
    case JRN_REC_POSITION:
        parts[0] = mqg_slice_of(main.ptr, 8);
        if (!jrn_rec_position(main, &pos))
            return false;
        parts[1] = pos.group;
        *gone = pos.offset == MQG_OFFSET_NONE;
        return true;
    default: return false;
    }
}

bool jrn_key_of(uint8_t type, struct mqg_slice main, struct jrn_keyed *key)
{
    struct mqg_slice parts[2];
    if (!key_bytes(type, main, parts, &key->gone))
        return false;
    key->trim = type == JRN_REC_TRIM;
    key->hash = mqg_hash(parts[0]) + type * 0x9e3779b97f4a7c15ull;
    if (parts[1].len)
        key->hash ^= mqg_hash(parts[1]) * 0xff51afd7ed558ccdull;
    key->hash2 = jrn_crc32c(jrn_crc32c(type, parts[0].ptr, parts[0].len), parts[1].ptr, parts[1].len);
    return true;
}

/* part_keys.c - the table of a compaction pass: each key's highest offset.
 *
 * Of a key only a hash of 96 bits is kept, 64 of them unknown to outsiders; 24 bytes a slot, half of them free, a million keys
 * at most: about 50 MB while a pass runs. */
#include "part_pass.h"

#include <stdlib.h>

enum { KEYS_MAX = 1 << 20, KEYS_CAP_MIN = 1024 };

struct part_key {
    uint64_t hash, offset; /* offset + 1; 0: free */
    uint32_t hash2;
};

void jrn_part_keys_init(struct part_keys *t)
{
    *t = (struct part_keys){.cap = KEYS_CAP_MIN};
    t->at = mqg_xcalloc(t->cap, sizeof *t->at);
}

void jrn_part_keys_fini(struct part_keys *t)
{
    free(t->at);
    t->at = NULL;
}

static struct part_key *keys_slot(struct part_key *at, uint32_t cap, uint64_t hash, uint32_t hash2)
{
    for (uint32_t i = (uint32_t)hash & (cap - 1);; i = (i + 1) & (cap - 1))
        if (at[i].offset == 0 || (at[i].hash == hash && at[i].hash2 == hash2))
            return &at[i];
}

static void keys_grow(struct part_keys *t)
{
    uint32_t cap = t->cap * 2;
    struct part_key *at = mqg_xcalloc(cap, sizeof *at);
    for (uint32_t i = 0; i < t->cap; i++)
        if (t->at[i].offset)
            *keys_slot(at, cap, t->at[i].hash, t->at[i].hash2) = t->at[i];
    free(t->at);
    t->at = at;
    t->cap = cap;
}

static struct part_key *keys_find(const struct part_keys *t, struct mqg_slice key)
{
    return keys_slot(t->at, t->cap, mqg_hash(key), jrn_crc32c(0, key.ptr, key.len));
}

bool jrn_part_keys_note(struct part_keys *t, struct mqg_slice key, uint64_t offset)
{
    if (t->n * 2 >= t->cap)
        keys_grow(t);
    struct part_key *k = keys_find(t, key);
    if (k->offset == 0) {
        if (t->n == KEYS_MAX)
            return false;
        t->n++;
        k->hash = mqg_hash(key);
        k->hash2 = jrn_crc32c(0, key.ptr, key.len);
    }
    k->offset = offset + 1;
    return true;
}

bool jrn_part_keys_over(const struct part_keys *t, struct mqg_slice key, uint64_t offset)
{
    return keys_find(t, key)->offset > offset + 1;
}

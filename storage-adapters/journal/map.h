/* map.h - a table from 64-bit ids to small numbers: open addressing, grows, never shrinks.
 *
 * Ids come from our own counters or from a seeded hash, so nobody outside can choose collisions. The value is
 * an index into a vector of the owner's. */
#ifndef JRN_MAP_H
#define JRN_MAP_H

#include <mqgate/base.h>

#define JRN_MAP_NONE UINT32_MAX

struct jrn_map_slot {
    uint64_t key;
    uint32_t value; /* JRN_MAP_NONE: empty */
};

struct jrn_map {
    struct jrn_map_slot *slots;
    size_t cap, used; /* cap: a power of two, or 0 */
};

void jrn_map_fini(struct jrn_map *m);
uint32_t jrn_map_get(const struct jrn_map *m, uint64_t key); /* JRN_MAP_NONE when not there */
/* The value's place; *fresh tells that it was not there and holds JRN_MAP_NONE: the caller sets it at once.
 * */
uint32_t *jrn_map_put(struct jrn_map *m, uint64_t key, bool *fresh);
void jrn_map_remove(struct jrn_map *m, uint64_t key);

#endif

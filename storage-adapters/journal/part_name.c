/* part_name.c - what partitions' files are called: streams/PARTITION/BASE[.dGENERATION].log and .idx; with .c
 * instead of .d: compacted by an earlier version, with gaps. Pure. */
#include "part.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void jrn_part_folder(uint64_t partition, char out[PART_NAME])
{
    snprintf(out, PART_NAME, "streams/%016" PRIx64, partition);
}

void jrn_part_name(const struct part_file *f, const char *kind, const char *suffix, char out[PART_NAME])
{
    char gen[16] = "";
    if (f->gen)
        snprintf(gen, sizeof gen, ".%c%" PRIu32, f->gaps ? 'c' : 'd', f->gen);
    snprintf(out, PART_NAME, "streams/%016" PRIx64 "/%020" PRIu64 "%s.%s%s", f->partition, f->base, gen, kind,
             suffix);
}

bool jrn_part_parse(const char *name, struct part_name *out)
{
    char *end;
    if (strspn(name, "0123456789") != 20)
        return false;
    errno = 0;
    *out = (struct part_name){.base = strtoull(name, &end, 10)};
    if (errno || out->base > INT64_MAX)
        return false;
    if (end[0] == '.' && (end[1] == 'c' || end[1] == 'd') && end[2] >= '1' && end[2] <= '9') {
        out->gaps = end[1] == 'c';
        unsigned long v = strtoul(end + 2, &end, 10);
        if (v > UINT32_MAX)
            return false;
        out->gen = (uint32_t)v;
    }
    out->log = strcmp(end, ".log") == 0;
    return out->log || strcmp(end, ".idx") == 0;
}

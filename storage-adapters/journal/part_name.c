/* part_name.c - what partitions' files are called: streams/PARTITION/BASE[.cGENERATION].log and .idx. Pure. */
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
        snprintf(gen, sizeof gen, ".c%" PRIu32, f->gen);
    snprintf(out, PART_NAME, "streams/%016" PRIx64 "/%020" PRIu64 "%s.%s%s", f->partition, f->base, gen, kind,
             suffix);
}

bool jrn_part_parse(const char *name, uint64_t *base, uint32_t *gen, bool *log)
{
    char *end;
    if (strspn(name, "0123456789") != 20)
        return false;
    errno = 0;
    *base = strtoull(name, &end, 10);
    *gen = 0;
    if (errno || *base > INT64_MAX)
        return false;
    if (end[0] == '.' && end[1] == 'c' && end[2] >= '1' && end[2] <= '9') {
        unsigned long v = strtoul(end + 2, &end, 10);
        if (v > UINT32_MAX)
            return false;
        *gen = (uint32_t)v;
    }
    *log = strcmp(end, ".log") == 0;
    return *log || strcmp(end, ".idx") == 0;
}

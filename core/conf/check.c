/* check.c - every entry held against the schema; the first that does not fit is refused with its place.
 *
 * An unknown key is most often a known one misspelt, or one that stands under the wrong section: both are looked for,
 * by edit distance with transpositions, and named. */
#include "conf_int.h"

#include <stdio.h>

enum { CHECK_NAME_MAX = 127 };

/* ---- did you mean ---------------------------------------------------------------------------------------------------------- */

static size_t check_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Steps (insert, delete, replace, swap neighbours) from a to b; names over the bound are far from everything. */
static size_t check_distance(const char *a, const char *b)
{
    static _Thread_local size_t d[3][CHECK_NAME_MAX + 2];
    size_t na = strlen(a), nb = strlen(b);
    if (na > CHECK_NAME_MAX || nb > CHECK_NAME_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *row = d[i % 3], *up = d[(i - 1) % 3], *up2 = d[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            row[j] = check_min(check_min(up[j], row[j - 1]) + 1, up[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = check_min(row[j], up2[j - 2] + 1);
        }
    }
    return d[na % 3][nb];
}

/* The name a row would have for somebody who wrote `section`: "store.*" becomes what he wrote. */
static void check_row_name(const struct mqg_conf_row *row, const char *section, char *out, size_t room)
{
    bool mine = conf_section_matches(row->section, section);
    snprintf(out, room, "%s.%s", mine ? section : row->section, row->key);
}

bool conf_suggest(const struct mqg_conf *c, const char *section, const char *key, char *out, size_t room)
{
    char wanted[CHECK_NAME_MAX + 1], name[CHECK_NAME_MAX + 1];
    snprintf(wanted, sizeof wanted, "%s.%s", section, key);
    size_t best = strlen(wanted) / 4 + 1;
    bool found = false;
    for (size_t i = 0; i < c->nrows; i++) {
        check_row_name(c->rows[i], section, name, sizeof name);
        size_t d = check_distance(wanted, name);
        if (strcmp(c->rows[i]->key, key) == 0 && d > 1)
            d = 1; /* right key, other section */
        if (d >= best)
            continue;
        best = d;
        found = true;
        snprintf(out, room, "%s", name);
    }
    return found;
}

/* ---- the check ----------------------------------------------------------------------------------------------------------------- */

static enum mqg_err check_unknown(const struct mqg_conf *c, const struct conf_entry *entry,
                                  struct mqg_error *e)
{
    char near[CHECK_NAME_MAX + 1];
    if (conf_suggest(c, entry->section, entry->key, near, sizeof near))
        return mqg_error_set(e, MQG_NOT_FOUND, 0, "%s: unknown key %s.%s; did you mean %s?", entry->where,
                             entry->section, entry->key, near);
    return mqg_error_set(e, MQG_NOT_FOUND, 0, "%s: unknown key %s.%s; --print-config lists all keys",
                         entry->where, entry->section, entry->key);
}

static enum mqg_err check_entry(const struct mqg_conf *c, const struct conf_entry *entry, struct mqg_error *e)
{
    const struct mqg_conf_row *row = conf_row_find(c, entry->section, entry->key);
    if (row == NULL)
        return check_unknown(c, entry, e);
    char right[256];
    int64_t v;
    if (conf_value_parse(row, entry->value, &v, right, sizeof right))
        return MQG_OK;
    return mqg_error_set(e, MQG_INVALID, 0, "%s: %s.%s=%.100s: expected %s", entry->where, entry->section,
                         entry->key, entry->value, right);
}

enum mqg_err mqg_conf_check(struct mqg_conf *c, struct mqg_error *e)
{
    enum mqg_err err = MQG_OK;
    for (size_t i = 0; i < c->nentries && err == MQG_OK; i++)
        err = check_entry(c, &c->entries[i], e);
    return err;
}

/* diff.c - what changed from one configuration to the next: for a reload, which must say what it cannot change. */
#include "conf_int.h"
#include "core_rows.h"

static bool diff_value(const struct mqg_conf *a, const struct mqg_conf *b, const char *section,
                       const char *key)
{
    const char *x = mqg_conf_str(a, section, key), *y = mqg_conf_str(b, section, key);
    return (x == NULL) != (y == NULL) || (x != NULL && strcmp(x, y) != 0);
}

static bool diff_has_section(const struct mqg_conf *c, const char *section)
{
    for (size_t i = 0; i < c->nsections; i++)
        if (strcmp(c->sections[i], section) == 0)
            return true;
    return false;
}

struct diff_visit {
    void (*fn)(void *arg, const char *section, const char *key);
    void *arg;
};

static void diff_key(const struct mqg_conf *a, const struct mqg_conf *b, const char *section,
                     const struct mqg_conf_row *row, const struct diff_visit *v)
{
    if (conf_row_find(a, section, row->key) == row && conf_row_find(b, section, row->key) != NULL &&
        diff_value(a, b, section, row->key))
        v->fn(v->arg, section, row->key);
}

/* A row under "store.*": each [store.NAME] that either has. */
static void diff_star(const struct mqg_conf *a, const struct mqg_conf *b, const struct mqg_conf_row *row,
                      const struct diff_visit *v)
{
    for (size_t i = 0; i < a->nsections; i++)
        if (conf_section_matches(row->section, a->sections[i]))
            diff_key(a, b, a->sections[i], row, v);
    for (size_t i = 0; i < b->nsections; i++)
        if (conf_section_matches(row->section, b->sections[i]) && !diff_has_section(a, b->sections[i]))
            diff_key(a, b, b->sections[i], row, v);
}

void mqg_conf_diff(const struct mqg_conf *a, const struct mqg_conf *b,
                   void (*fn)(void *arg, const char *section, const char *key), void *arg)
{
    const struct diff_visit v = {fn, arg};
    for (size_t i = 0; i < a->nrows; i++) {
        if (strchr(a->rows[i]->section, '*') != NULL)
            diff_star(a, b, a->rows[i], &v);
        else
            diff_key(a, b, a->rows[i]->section, a->rows[i], &v);
    }
}

/* print.c - the whole configuration as it counts now, as a file that could be read again.
 *
 * Each key with the help of its row above and the source of its value behind. Sections in the order of the schema; of
 * a section with a star those that were given a name. */
#include "conf_int.h"

static void print_key(const struct mqg_conf *c, struct mqg_dynbuf *out, const char *section,
                      const struct mqg_conf_row *row)
{
    const struct conf_entry *entry = conf_entry_find(c, section, row->key);
    const char *value = entry != NULL ? entry->value : row->fallback;
    mqg_dynbuf_printf(out, "# %s\n", row->help != NULL ? row->help : "");
    if (value == NULL)
        mqg_dynbuf_printf(out, "# %s = (not set)\n", row->key);
    else
        mqg_dynbuf_printf(out, "%s = %s  ; %s\n", row->key, value, entry != NULL ? entry->where : "default");
}

static bool print_is_first(const struct mqg_conf *c, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(c->rows[i]->section, c->rows[at]->section) == 0)
            return false;
    return true;
}

/* Several modules may have a row of the same name under "store.*". */
static bool print_is_repeat(const struct mqg_conf *c, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(c->rows[i]->section, c->rows[at]->section) == 0 &&
            strcmp(c->rows[i]->key, c->rows[at]->key) == 0)
            return true;
    return false;
}

static void print_section(const struct mqg_conf *c, struct mqg_dynbuf *out, const char *pattern,
                          const char *section)
{
    mqg_dynbuf_printf(out, "%s[%s]\n", out->len > 0 ? "\n" : "", section);
    for (size_t i = 0; i < c->nrows; i++)
        if (strcmp(c->rows[i]->section, pattern) == 0 && !print_is_repeat(c, i))
            print_key(c, out, section, c->rows[i]);
}

void mqg_conf_print(const struct mqg_conf *c, struct mqg_dynbuf *out)
{
    for (size_t i = 0; i < c->nrows; i++) {
        const char *pattern = c->rows[i]->section;
        if (!print_is_first(c, i))
            continue;
        if (strchr(pattern, '*') == NULL)
            print_section(c, out, pattern, pattern);
        for (size_t s = 0; strchr(pattern, '*') != NULL && s < c->nsections; s++)
            if (conf_section_matches(pattern, c->sections[s]))
                print_section(c, out, pattern, c->sections[s]);
    }
}

/* conf.c - the configuration as a value: rows say what may stand there, entries say what does.
 *
 * Reading (file, environment, --set) only notes entries with their place, since modules bring rows of their own and
 * are found by a setting themselves (modules.path). mqg_conf_check then holds every entry against the rows, those too
 * that a later source overrides: a line that nobody reads is still a line that somebody will copy. */
#include "conf_int.h"
#include "core_rows.h"

#include <stdlib.h>
#include <unistd.h>

struct mqg_conf *mqg_conf_new(void)
{
    return mqg_xcalloc(1, sizeof(struct mqg_conf));
}

static void conf_entry_fini(struct conf_entry *entry)
{
    free(entry->section);
    free(entry->key);
    free(entry->value);
    free(entry->where);
}

void mqg_conf_free(struct mqg_conf **conf)
{
    struct mqg_conf *c = *conf;
    *conf = NULL;
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->nentries; i++)
        conf_entry_fini(&c->entries[i]);
    for (size_t i = 0; i < c->nsections; i++)
        free(c->sections[i]);
    free(c->entries);
    free(c->sections);
    free(c->rows);
    free(c);
}

static struct mqg_conf *conf_retired;

void mqg_conf_retire(struct mqg_conf **conf)
{
    struct mqg_conf *c = *conf;
    *conf = NULL;
    if (c == NULL)
        return;
    c->next = conf_retired;
    conf_retired = c;
}

/* ---- schema ----------------------------------------------------------------------------------------------------------- */

void mqg_conf_schema(struct mqg_conf *c, const struct mqg_conf_row *rows)
{
    for (; rows != NULL && rows->section != NULL && rows->key != NULL; rows++) {
        c->rows = mqg_xrealloc(c->rows, (c->nrows + 1) * sizeof(struct mqg_conf_row *));
        c->rows[c->nrows++] = rows;
    }
}

bool conf_section_matches(const char *pattern, const char *section)
{
    size_t n = strlen(pattern);
    if (n < 2 || strcmp(pattern + n - 2, ".*") != 0)
        return strcmp(pattern, section) == 0;
    return strncmp(pattern, section, n - 1) == 0 && section[n - 1] != '\0' &&
           strchr(section + n - 1, '.') == NULL;
}

const struct mqg_conf_row *conf_row_find(const struct mqg_conf *c, const char *section, const char *key)
{
    for (size_t i = 0; i < c->nrows; i++)
        if (strcmp(c->rows[i]->key, key) == 0 && conf_section_matches(c->rows[i]->section, section))
            return c->rows[i];
    return NULL;
}

/* ---- entries ------------------------------------------------------------------------------------------------------------ */

static bool conf_entry_is(const struct conf_entry *entry, const char *section, const char *key)
{
    return strcmp(entry->section, section) == 0 && strcmp(entry->key, key) == 0;
}

const struct conf_entry *conf_entry_find(const struct mqg_conf *c, const char *section, const char *key)
{
    const struct conf_entry *best = NULL;
    for (size_t i = 0; i < c->nentries; i++) {
        const struct conf_entry *entry = &c->entries[i];
        if (conf_entry_is(entry, section, key) && (best == NULL || entry->source >= best->source))
            best = entry;
    }
    return best;
}

static const struct conf_entry *conf_entry_twice(const struct mqg_conf *c, enum conf_source source,
                                                 const char *section, const char *key)
{
    for (size_t i = 0; i < c->nentries && source != CONF_SET; i++)
        if (c->entries[i].source == source && conf_entry_is(&c->entries[i], section, key))
            return &c->entries[i];
    return NULL; /* of several --set the last one counts, as on any command line */
}

enum mqg_err conf_entry_add(struct mqg_conf *c, enum conf_source source, const char *where,
                            const char *section, const char *key, const char *value, struct mqg_error *e)
{
    const struct conf_entry *twice = conf_entry_twice(c, source, section, key);
    if (twice != NULL)
        return mqg_error_set(e, MQG_EXISTS, 0, "%s: %s.%s stands at %s already; keep one of them", where,
                             section, key, twice->where);
    c->entries = mqg_xrealloc(c->entries, (c->nentries + 1) * sizeof *c->entries);
    c->entries[c->nentries++] = (struct conf_entry){mqg_xstrdup(section), mqg_xstrdup(key),
                                                    mqg_xstrdup(value), mqg_xstrdup(where), source};
    conf_section_note(c, section);
    return MQG_OK;
}

void conf_section_note(struct mqg_conf *c, const char *section)
{
    for (size_t i = 0; i < c->nsections; i++)
        if (strcmp(c->sections[i], section) == 0)
            return;
    c->sections = mqg_xrealloc(c->sections, (c->nsections + 1) * sizeof *c->sections);
    c->sections[c->nsections++] = mqg_xstrdup(section);
}

/* ---- values --------------------------------------------------------------------------------------------------------------- */

static const struct mqg_conf_row *conf_row_need(const struct mqg_conf *c, const char *section,
                                                const char *key)
{
    const struct mqg_conf_row *row = conf_row_find(c, section, key);
    MQG_ASSERT(row != NULL); /* a key that is asked for without a row: our mistake */
    return row;
}

const char *mqg_conf_str(const struct mqg_conf *c, const char *section, const char *key)
{
    const struct mqg_conf_row *row = conf_row_need(c, section, key);
    const struct conf_entry *entry = conf_entry_find(c, section, key);
    return entry != NULL ? entry->value : row->fallback;
}

int64_t mqg_conf_int(const struct mqg_conf *c, const char *section, const char *key)
{
    const char *text = mqg_conf_str(c, section, key);
    char right[256];
    int64_t v = 0;
    bool good = text == NULL ||
                conf_value_parse(conf_row_need(c, section, key), text, &v, right, sizeof right);
    MQG_ASSERT(good); /* mqg_conf_check passed, or the row's own default is bad */
    return v;
}

/* [store.NAME] without a type is of the type NAME, and the default store needs no section at all. */
static void conf_complete_store(struct mqg_conf *c, const char *section)
{
    if (conf_entry_find(c, section, "type") == NULL)
        (void)conf_entry_add(c, CONF_BUILTIN, "default", section, "type", section + strlen("store."), NULL);
}

/* Without a certificate there is no TLS: its listeners are off unless somebody asks for them (and is then refused). */
static void conf_complete_tls(struct mqg_conf *c)
{
    const char *cert = mqg_conf_str(c, "tls", "cert");
    for (const struct mqg_core_listener *l = mqg_core_listeners; l->name != NULL && *cert == '\0'; l++)
        if (l->tls && conf_entry_find(c, "listeners", l->name) == NULL)
            (void)conf_entry_add(c, CONF_BUILTIN, "default without tls.cert", "listeners", l->name, "off",
                                 NULL);
}

/* A daemon that was built and not installed has its modules beside it. */
static void conf_complete_modules(struct mqg_conf *c)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof "modules");
    char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
    if (slash == NULL || conf_entry_find(c, "modules", "path") != NULL)
        return;
    memcpy(slash + 1, "modules", sizeof "modules");
    if (access(path, X_OK) == 0)
        (void)conf_entry_add(c, CONF_BUILTIN, "default beside the daemon", "modules", "path", path, NULL);
}

void mqg_conf_complete(struct mqg_conf *c)
{
    const char *section;
    conf_complete_tls(c);
    conf_complete_modules(c);
    for (size_t i = 0; (section = mqg_conf_section(c, "store.", i)) != NULL; i++)
        conf_complete_store(c, section);
    struct mqg_dynbuf name;
    mqg_dynbuf_init(&name, 1024);
    bool good = mqg_dynbuf_printf(&name, "store.%s", mqg_conf_str(c, "store", "default")) &&
                mqg_dynbuf_u8(&name, 0);
    if (good && name.len > sizeof "store.")
        conf_complete_store(c, (const char *)name.ptr);
    mqg_dynbuf_fini(&name);
}

bool mqg_conf_bool(const struct mqg_conf *c, const char *section, const char *key)
{
    return mqg_conf_int(c, section, key) != 0;
}

bool mqg_conf_given(const struct mqg_conf *c, const char *section, const char *key)
{
    conf_row_need(c, section, key);
    const struct conf_entry *entry = conf_entry_find(c, section, key);
    return entry != NULL && entry->source != CONF_BUILTIN;
}

const char *mqg_conf_where(const struct mqg_conf *c, const char *section, const char *key)
{
    const struct conf_entry *entry = conf_entry_find(c, section, key);
    return entry != NULL ? entry->where : "default";
}

const char *mqg_conf_section(const struct mqg_conf *c, const char *prefix, size_t index)
{
    for (size_t i = 0; i < c->nsections; i++)
        if (strncmp(c->sections[i], prefix, strlen(prefix)) == 0 && index-- == 0)
            return c->sections[i];
    return NULL;
}

/* conf_int.h - what the files of core/conf share. */
#ifndef MQG_CONF_INT_H
#define MQG_CONF_INT_H

#include <mqgate/conf.h>

enum conf_source { CONF_BUILTIN, CONF_FILE, CONF_ENVIRON, CONF_SET }; /* later ones win */

/* One given value and where it stands. */
struct conf_entry {
    char *section, *key, *value;
    char *where; /* "mqgate.conf:12", "environment MQGATE__NODE__WORKERS", "--set" */
    enum conf_source source;
};

struct mqg_conf {
    const struct mqg_conf_row **rows;
    size_t nrows;
    struct conf_entry *entries;
    size_t nentries;
    char **sections; /* as the file names them, in order */
    size_t nsections;
    struct mqg_conf *next; /* retired before this one */
};

/* NULL when no row says this key. */
const struct mqg_conf_row *conf_row_find(const struct mqg_conf *c, const char *section, const char *key);
/* Does a row's section ("store.*") stand for this one? */
bool conf_section_matches(const char *pattern, const char *section);
/* The entry that counts, or NULL. */
const struct conf_entry *conf_entry_find(const struct mqg_conf *c, const char *section, const char *key);
enum mqg_err conf_entry_add(struct mqg_conf *c, enum conf_source source, const char *where,
                            const char *section, const char *key, const char *value, struct mqg_error *e);
void conf_section_note(struct mqg_conf *c, const char *section);

/* Reads a value as its row's type; on failure *right says what would be right. */
bool conf_value_parse(const struct mqg_conf_row *row, const char *text, int64_t *out, char *right,
                      size_t room);
/* "section.key" nearest to an unknown one; false when none is near. */
bool conf_suggest(const struct mqg_conf *c, const char *section, const char *key, char *out, size_t room);

#endif

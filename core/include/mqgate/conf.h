/* mqgate/conf.h - configuration: INI text, a schema of rows from core and modules, environment and --set on top.
 *
 * Precedence: default < file < environment MQGATE__SECTION__KEY < --set section.key=value. A section name may hold dots
 * ([store.journal]); the key is what follows the last dot. Unknown key, bad value or conflict = refusal that names file,
 * line and what would be right. Read-only after load; a reload makes a new one. */
#ifndef MQGATE_CONF_H
#define MQGATE_CONF_H

#include <mqgate/base.h>

enum mqg_conf_type {
    MQG_CONF_STR,
    MQG_CONF_BOOL, /* on/off, true/false, yes/no */
    MQG_CONF_INT,
    MQG_CONF_SIZE,     /* bytes; 64KiB, 16MiB, 1GiB */
    MQG_CONF_DURATION, /* ms; 500ms 5s 1m 2h 7d */
    MQG_CONF_ENUM,     /* one of `words`, separated by '|' */
    MQG_CONF_ADDR,     /* host:port[,host:port] or off */
};

/* One key. section "store.*" stands for every [store.NAME]. Ended by a row with section NULL. */
struct mqg_conf_row {
    const char *section;
    const char *key;
    enum mqg_conf_type type;
    const char *fallback; /* as it would stand in the file; NULL = no default */
    int64_t min, max;     /* INT, SIZE, DURATION; both 0 = no bound */
    const char *words;    /* ENUM */
    const char *help;     /* one line: --print-config and docs */
};

struct mqg_conf;

MQG_API struct mqg_conf *mqg_conf_new(void);
MQG_API void mqg_conf_free(struct mqg_conf **c);
/* Adds schema rows (static storage). */
MQG_API void mqg_conf_schema(struct mqg_conf *c, const struct mqg_conf_row *rows);
/* Parsing only notes values and where they stand; the check against the schema is mqg_conf_check. */
MQG_API enum mqg_err mqg_conf_file(struct mqg_conf *c, const char *path, struct mqg_error *e) MQG_MUST_CHECK;
MQG_API enum mqg_err mqg_conf_set(struct mqg_conf *c, const char *assignment,
                                  struct mqg_error *e) MQG_MUST_CHECK;
MQG_API enum mqg_err mqg_conf_environ(struct mqg_conf *c, char *const *env,
                                      struct mqg_error *e) MQG_MUST_CHECK;
MQG_API enum mqg_err mqg_conf_check(struct mqg_conf *c, struct mqg_error *e) MQG_MUST_CHECK;
/* Values after check; section and key must be in the schema (asserted). Borrowed strings. */
MQG_API const char *mqg_conf_str(const struct mqg_conf *c, const char *section, const char *key);
MQG_API int64_t mqg_conf_int(const struct mqg_conf *c, const char *section,
                             const char *key); /* INT SIZE DURATION BOOL */
MQG_API bool mqg_conf_bool(const struct mqg_conf *c, const char *section, const char *key);
/* Did the user say it (file, environment, --set), or is it the default? */
MQG_API bool mqg_conf_given(const struct mqg_conf *c, const char *section, const char *key);
/* Where the value stands, for texts of refusals: "mqgate.conf:12", "environment NAME", "--set", "default". */
MQG_API const char *mqg_conf_where(const struct mqg_conf *c, const char *section, const char *key);
/* Names of sections with that prefix ("store." -> "store.journal"), in file order; index beyond the last = NULL. */
MQG_API const char *mqg_conf_section(const struct mqg_conf *c, const char *prefix, size_t index);
MQG_API void mqg_conf_print(const struct mqg_conf *c,
                            struct mqg_dynbuf *out); /* every key with value and source */

#endif

/* read.c - the three places settings come from: an INI file, the environment, the command line.
 *
 * inih splits the lines; it is handed them one by one, so that the line number is known and a line longer than its
 * buffer is refused rather than split in two. Leading blanks are taken off: for inih an indented line continues the
 * value before it, for people it is an indented line. */
#include "conf_int.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- file ---------------------------------------------------------------------------------------------------------------- */

struct read_file {
    struct mqg_conf *conf;
    const char *path;
    FILE *file;
    unsigned line;
    char *text; /* getline's */
    size_t room;
    enum mqg_err err;
    struct mqg_error *e;
};

static char *read_line(char *out, int room, void *arg)
{
    struct read_file *r = arg;
    if (r->err != MQG_OK || getline(&r->text, &r->room, r->file) < 0)
        return NULL;
    r->line++;
    const char *text = r->text;
    if (r->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3;
    text += strspn(text, " \t");
    if (strlen(text) >= (size_t)room) {
        if (*text == '#' || *text == ';')
            text = "\n"; /* a long comment is no harm */
        else
            r->err = mqg_error_set(r->e, MQG_TOO_LARGE, 0, "%s:%u: line is longer than %d bytes", r->path,
                                   r->line, room - 1);
    }
    if (r->err != MQG_OK)
        return NULL;
    memcpy(out, text, strlen(text) + 1);
    return out;
}

static int read_entry(void *arg, const char *section, const char *key, const char *value)
{
    struct read_file *r = arg;
    char where[4200];
    snprintf(where, sizeof where, "%s:%u", r->path, r->line);
    if (*section == '\0')
        r->err = mqg_error_set(r->e, MQG_INVALID, 0, "%s: %s stands before the first [section]", where, key);
    else
        r->err = conf_entry_add(r->conf, CONF_FILE, where, section, key, value, r->e);
    return r->err == MQG_OK;
}

static enum mqg_err read_parse(struct read_file *r)
{
    int line = ini_parse_stream(read_line, r, read_entry, r);
    if (r->err != MQG_OK && (line <= 0 || (unsigned)line >= r->line))
        return r->err; /* else inih had stumbled before, and that comes first */
    if (ferror(r->file))
        return mqg_error_set(r->e, MQG_IO, errno, "%s cannot be read: %s", r->path, strerror(errno));
    if (line != 0)
        return mqg_error_set(r->e, MQG_MALFORMED, 0, "%s:%d: expected [section], key = value or # comment",
                             r->path, line);
    return MQG_OK;
}

enum mqg_err mqg_conf_file(struct mqg_conf *c, const char *path, struct mqg_error *e)
{
    struct read_file r = {.conf = c, .path = path, .file = fopen(path, "re"), .e = e};
    if (r.file == NULL)
        return mqg_error_set(e, MQG_IO, errno, "%s cannot be opened: %s", path, strerror(errno));
    enum mqg_err err = read_parse(&r);
    fclose(r.file);
    free(r.text);
    return err;
}

/* ---- section.key=value ------------------------------------------------------------------------------------------------------ */

/* Splits "store.journal.path" at its last dot, in place. */
static bool read_split(char *name, char **key)
{
    char *dot = strrchr(name, '.');
    if (dot == NULL || dot == name || dot[1] == '\0')
        return false;
    *dot = '\0';
    *key = dot + 1;
    return true;
}

enum mqg_err mqg_conf_set(struct mqg_conf *c, const char *assignment, struct mqg_error *e)
{
    const char *equals = strchr(assignment, '=');
    char *key = NULL;
    char *name = equals != NULL ? mqg_slice_dup(mqg_slice_of(assignment, (size_t)(equals - assignment)))
                                : NULL;
    enum mqg_err err;
    if (name == NULL || !read_split(name, &key))
        err = mqg_error_set(e, MQG_INVALID, 0, "--set %.100s: expected section.key=value", assignment);
    else
        err = conf_entry_add(c, CONF_SET, "--set", name, key, equals + 1, e);
    free(name);
    return err;
}

/* ---- MQGATE__SECTION__KEY ------------------------------------------------------------------------------------------------------ */

/* "STORE__JOURNAL__PATH" to "store.journal.path". */
static void read_environ_name(char *name)
{
    char *to = name;
    for (const char *from = name; *from != '\0';) {
        bool dot = from[0] == '_' && from[1] == '_';
        *to++ = dot ? '.' : (char)tolower((unsigned char)*from);
        from += dot ? 2 : 1;
    }
    *to = '\0';
}

static enum mqg_err read_environ_one(struct mqg_conf *c, const char *text, struct mqg_error *e)
{
    static const char prefix[] = "MQGATE__";
    const char *equals = strchr(text, '=');
    if (equals == NULL || strncmp(text, prefix, sizeof prefix - 1) != 0)
        return MQG_OK;
    char where[300];
    snprintf(where, sizeof where, "environment %.*s", (int)(equals - text > 256 ? 256 : equals - text), text);
    const char *start = text + sizeof prefix - 1;
    char *key = NULL;
    char *name = mqg_slice_dup(mqg_slice_of(start, (size_t)(equals - start)));
    read_environ_name(name);
    enum mqg_err err;
    if (!read_split(name, &key))
        err = mqg_error_set(e, MQG_INVALID, 0, "%s: expected MQGATE__SECTION__KEY", where);
    else
        err = conf_entry_add(c, CONF_ENVIRON, where, name, key, equals + 1, e);
    free(name);
    return err;
}

enum mqg_err mqg_conf_environ(struct mqg_conf *c, char *const *env, struct mqg_error *e)
{
    enum mqg_err err = MQG_OK;
    for (; env != NULL && *env != NULL && err == MQG_OK; env++)
        err = read_environ_one(c, *env, e);
    return err;
}

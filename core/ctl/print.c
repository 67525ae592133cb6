/* print.c - listings and faults, in both voices.
 *
 * A listing is tab-separated with a line of column names, as rabbitmqctl prints it: for eyes, pipe it through column -t. */
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>

enum { PRINT_CELL_MAX_BYTES = 8 << 20 };

/* ---- values ------------------------------------------------------------------------------------------------------------------ */

static void print_term(struct mqg_dynbuf *out, const json_t *v);

static void print_pairs(struct mqg_dynbuf *out, const json_t *object)
{
    const char *key, *lead = "";
    json_t *value;
    mqg_dynbuf_u8(out, '[');
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        mqg_dynbuf_printf(out, "%s{\"%s\",", lead, key);
        print_term(out, value);
        mqg_dynbuf_u8(out, '}');
        lead = ",";
    }
    mqg_dynbuf_u8(out, ']');
}

/* Inside a table or a list, as an Erlang term. */
static void print_term(struct mqg_dynbuf *out, const json_t *v)
{
    if (json_is_string(v)) {
        mqg_dynbuf_printf(out, "\"%s\"", json_string_value(v));
    } else if (json_is_array(v)) {
        mqg_dynbuf_u8(out, '[');
        for (size_t i = 0; i < json_array_size(v); i++) {
            if (i > 0)
                mqg_dynbuf_u8(out, ',');
            print_term(out, json_array_get(v, i));
        }
        mqg_dynbuf_u8(out, ']');
    } else {
        print_value(out, v);
    }
}

/* A list of words (tags) is printed as [a, b]. */
static void print_words(struct mqg_dynbuf *out, const json_t *array)
{
    mqg_dynbuf_u8(out, '[');
    for (size_t i = 0; i < json_array_size(array); i++) {
        mqg_dynbuf_printf(out, "%s", i > 0 ? ", " : "");
        print_value(out, json_array_get(array, i));
    }
    mqg_dynbuf_u8(out, ']');
}

/* Tabs and line ends would break the listing. */
static void print_text(struct mqg_dynbuf *out, const char *s)
{
    for (; *s != '\0'; s++) {
        const char *escaped = *s == '\t' ? "\\t" : *s == '\n' ? "\\n" : *s == '\r' ? "\\r" : NULL;
        if (escaped != NULL)
            mqg_dynbuf_put(out, escaped, 2);
        else
            mqg_dynbuf_u8(out, (uint8_t)*s);
    }
}

void print_value(struct mqg_dynbuf *out, const json_t *v)
{
    switch (v != NULL ? json_typeof(v) : JSON_NULL) {
    case JSON_STRING: print_text(out, json_string_value(v)); break;
    case JSON_INTEGER: mqg_dynbuf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v)); break;
    case JSON_REAL: mqg_dynbuf_printf(out, "%.15g", json_real_value(v)); break;
    case JSON_TRUE: mqg_dynbuf_printf(out, "true"); break;
    case JSON_FALSE: mqg_dynbuf_printf(out, "false"); break;
    case JSON_ARRAY: print_words(out, v); break;
    case JSON_OBJECT: print_pairs(out, v); break;
    case JSON_NULL: break;
    }
}

json_t *print_at(const json_t *object, const char *path)
{
    json_t *value = (json_t *)(uintptr_t)object;
    while (value != NULL && *path != '\0') {
        char key[64];
        size_t len = strcspn(path, ".");
        MQG_ASSERT(len < sizeof key);
        memcpy(key, path, len);
        key[len] = '\0';
        value = json_object_get(value, key);
        path += len + (path[len] == '.');
    }
    return value;
}

/* ---- listings ------------------------------------------------------------------------------------------------------------------ */

static void print_cell(struct mqg_dynbuf *out, const json_t *row, const struct column *col)
{
    if (col->constant != NULL)
        mqg_dynbuf_printf(out, "%s", col->constant);
    else
        print_value(out, print_at(row, col->path != NULL ? col->path : col->word));
}

static void print_json(const json_t *rows, const struct column *columns, size_t n)
{
    json_t *out = json_array();
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_object();
        for (size_t k = 0; k < n; k++) {
            const struct column *col = &columns[k];
            json_t *value = col->constant != NULL
                                ? json_string(col->constant)
                                : json_incref(print_at(json_array_get(rows, i),
                                                       col->path != NULL ? col->path : col->word));
            json_object_set_new(row, col->word, value != NULL ? value : json_null());
        }
        json_array_append_new(out, row);
    }
    json_dumpf(out, stdout, JSON_INDENT(1) | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(out);
}

static void print_rows(const struct ctl *c, const json_t *rows, const struct column *columns, size_t n)
{
    struct mqg_dynbuf line;
    mqg_dynbuf_init(&line, PRINT_CELL_MAX_BYTES);
    size_t nrows = json_array_size(rows);
    for (size_t i = c->headless ? 1 : 0; i <= nrows; i++) {
        mqg_dynbuf_reset(&line);
        for (size_t k = 0; k < n; k++) {
            if (k > 0)
                mqg_dynbuf_u8(&line, '\t');
            if (i == 0)
                mqg_dynbuf_printf(&line, "%s", columns[k].word);
            else
                print_cell(&line, json_array_get(rows, i - 1), &columns[k]);
        }
        printf("%.*s\n", (int)line.len, (const char *)line.ptr);
    }
    mqg_dynbuf_fini(&line);
}

void print_table(const struct ctl *c, const json_t *rows, const struct column *columns, size_t n)
{
    /* rabbitmqctl prints no names above nothing */
    if (c->json)
        print_json(rows, columns, n);
    else if (json_array_size(rows) > 0 || !c->rabbit)
        print_rows(c, rows, columns, n);
}

/* ---- lines ------------------------------------------------------------------------------------------------------------------------ */

void print_banner(const struct ctl *c, const char *fmt, ...)
{
    va_list args;
    if (!c->rabbit || c->quiet || c->json)
        return;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

int ctl_error(const struct ctl *c, int code, const char *fmt, ...)
{
    va_list args;
    fprintf(stderr, c->rabbit ? "Error:\n" : "mqgatectl: ");
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    return code;
}

/* js.c - between JSON, slices and tables. */
#include "http.h"

#include <stdlib.h>

enum { JS_DEPTH_MAX = 16, JS_TEXT_MAX_BYTES = 4 << 20 };

/* ---- making ---------------------------------------------------------------------------------------------------------- */

/* The length of the well-formed character at the start, 0 when there is none. */
static size_t js_character(struct mqg_slice s)
{
    for (size_t n = 1; n <= 4 && n <= s.len; n++)
        if (mqg_utf8_valid(mqg_slice_of(s.ptr, n)))
            return n;
    return 0;
}

static json_t *js_repaired(struct mqg_slice s)
{
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, s.len * 3 + 1);
    while (s.len > 0) {
        size_t n = js_character(s);
        if (n > 0)
            mqg_dynbuf_put(&text, s.ptr, n);
        else
            mqg_dynbuf_put(&text, "\xef\xbf\xbd", 3);
        n = n > 0 ? n : 1;
        s = mqg_slice_of(s.ptr + n, s.len - n);
    }
    json_t *value = json_stringn((const char *)text.ptr, text.len);
    mqg_dynbuf_fini(&text);
    return value;
}

json_t *js_slice(struct mqg_slice s)
{
    if (s.len == 0)
        return json_string("");
    json_t *value = json_stringn((const char *)s.ptr, s.len);
    return value != NULL ? value : js_repaired(s);
}

void js_set(json_t *object, const char *key, json_t *value)
{
    MQG_ASSERT(value != NULL && json_object_set_new_nocheck(object, key, value) == 0);
}

void js_set_slice(json_t *object, const char *key, struct mqg_slice s)
{
    js_set(object, key, js_slice(s));
}

void js_set_str(json_t *object, const char *key, const char *s)
{
    js_set(object, key, js_slice(mqg_slice_str(s)));
}

void js_set_int(json_t *object, const char *key, uint64_t n)
{
    js_set(object, key, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
}

void js_set_bool(json_t *object, const char *key, bool yes)
{
    js_set(object, key, json_boolean(yes));
}

json_t *js_table(const struct mqg_table *t)
{
    if (t == NULL || t->n == 0)
        return json_object();
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, JS_TEXT_MAX_BYTES);
    mqg_table_json(&text, t);
    json_t *value = text.failed ? NULL : json_loadb((const char *)text.ptr, text.len, JSON_ALLOW_NUL, NULL);
    mqg_dynbuf_fini(&text);
    return value != NULL ? value : json_object();
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

static bool js_to_fields(const json_t *object, struct mqg_arena *a, struct mqg_table *out, unsigned depth);

static struct mqg_slice js_bytes(const json_t *string)
{
    return mqg_slice_of(json_string_value(string), json_string_length(string));
}

static bool js_to_items(const json_t *array, struct mqg_arena *a, struct mqg_array *out, unsigned depth);

static bool js_to_value(const json_t *j, struct mqg_arena *a, struct mqg_value *v, unsigned depth)
{
    *v = (struct mqg_value){.type = MQG_VALUE_NULL};
    switch (json_typeof(j)) {
    case JSON_STRING:
        v->type = MQG_VALUE_STRING;
        v->bytes = js_bytes(j);
        return true;
    case JSON_INTEGER:
        v->type = MQG_VALUE_INT64;
        v->i = json_integer_value(j);
        return true;
    case JSON_REAL:
        v->type = MQG_VALUE_DOUBLE;
        v->d = json_real_value(j);
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        v->type = MQG_VALUE_BOOL;
        v->boolean = json_is_true(j);
        return true;
    case JSON_ARRAY: v->type = MQG_VALUE_ARRAY; return js_to_items(j, a, &v->array, depth + 1);
    case JSON_OBJECT: v->type = MQG_VALUE_TABLE; return js_to_fields(j, a, &v->table, depth + 1);
    case JSON_NULL: return true;
    }
    return false;
}

static bool js_to_items(const json_t *array, struct mqg_arena *a, struct mqg_array *out, unsigned depth)
{
    if (depth > JS_DEPTH_MAX)
        return false;
    for (size_t i = 0; i < json_array_size(array); i++) {
        struct mqg_value *v = mqg_array_add(a, out);
        if (v == NULL || !js_to_value(json_array_get(array, i), a, v, depth))
            return false;
    }
    return true;
}

static bool js_to_fields(const json_t *object, struct mqg_arena *a, struct mqg_table *out, unsigned depth)
{
    const char *key;
    json_t *value;
    if (depth > JS_DEPTH_MAX)
        return false;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        struct mqg_field *f = strlen(key) <= 255 ? mqg_table_add(a, out, mqg_slice_str(key)) : NULL;
        if (f == NULL || !js_to_value(value, a, &f->value, depth))
            return false;
    }
    return true;
}

bool js_to_table(const json_t *object, struct mqg_arena *a, struct mqg_table *out)
{
    *out = (struct mqg_table){0};
    return js_to_fields(object, a, out, 0);
}

static const json_t *js_get(const struct http_request *r, const char *key)
{
    const json_t *value = json_object_get(r->json, key);
    return json_is_null(value) ? NULL : value;
}

bool js_get_bool(struct http_request *r, const char *key, bool *out)
{
    const json_t *value = js_get(r, key);
    if (value == NULL)
        return true;
    /* Scripts quote them. */
    bool yes = json_is_true(value) ||
               (json_is_string(value) && strcmp(json_string_value(value), "true") == 0);
    bool no = json_is_false(value) ||
              (json_is_string(value) && strcmp(json_string_value(value), "false") == 0);
    if (yes || no)
        *out = yes;
    else
        http_reply_error(r, 400, "bad_request", "%s: not_boolean", key);
    return yes || no;
}

bool js_get_str(struct http_request *r, const char *key, struct mqg_slice *out)
{
    const json_t *value = js_get(r, key);
    if (value == NULL)
        return true;
    if (json_is_string(value)) {
        *out = js_bytes(value);
        return true;
    }
    http_reply_error(r, 400, "bad_request", "%s: not_string", key);
    return false;
}

bool js_get_int(struct http_request *r, const char *key, int64_t *out)
{
    const json_t *value = js_get(r, key);
    if (value == NULL)
        return true;
    const char *text = json_string_value(value);
    char *end = NULL;
    if (json_is_integer(value))
        *out = json_integer_value(value);
    else if (text != NULL && *text >= '0' && *text <= '9' &&
             strlen(text) < 18) /* scripts quote numbers, too */
        *out = strtoll(text, &end, 10);
    if (json_is_integer(value) || (end != NULL && *end == '\0'))
        return true;
    http_reply_error(r, 400, "bad_request", "%s: not_integer", key);
    return false;
}

bool js_get_table(struct http_request *r, const char *key, struct mqg_arena *a, struct mqg_table *out)
{
    const json_t *value = js_get(r, key);
    *out = (struct mqg_table){0};
    /* An empty array is what some languages make of an empty map. */
    if (value == NULL || (json_is_array(value) && json_array_size(value) == 0))
        return true;
    if (json_is_object(value) && js_to_table(value, a, out))
        return true;
    http_reply_error(r, 400, "bad_request", "%s: not_a_table", key);
    return false;
}

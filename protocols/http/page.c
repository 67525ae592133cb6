/* page.c - what a query asks of a listing: name filter, sorting, pages, columns. On JSON, so that every listing can. */
#include "http.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE_KEYS_MAX = 5, PAGE_SIZE_DEFAULT = 100, PAGE_SIZE_MAX = 500, PAGE_MATCH_STEPS_MAX = 100000 };

/* The value at "queue_totals.messages". */
static json_t *page_at(const json_t *object, const char *path)
{
    json_t *value = (json_t *)(uintptr_t)object;
    while (value != NULL && *path != '\0') {
        size_t len = strcspn(path, ".");
        char key[128];
        if (len >= sizeof key)
            return NULL;
        memcpy(key, path, len);
        key[len] = '\0';
        value = json_object_get(value, key);
        path += len + (path[len] == '.');
    }
    return value;
}

/* ---- columns ------------------------------------------------------------------------------------------------------------ */

/* Puts a value at a dotted path, making the objects on the way. */
static void page_put(json_t *object, const char *path, json_t *value)
{
    size_t len = strcspn(path, ".");
    char key[128];
    if (len >= sizeof key)
        return;
    memcpy(key, path, len);
    key[len] = '\0';
    if (path[len] == '\0') {
        json_object_set(object, key, value);
        return;
    }
    if (!json_is_object(json_object_get(object, key)))
        js_set(object, key, json_object());
    page_put(json_object_get(object, key), path + len + 1, value);
}

static json_t *page_columns(const json_t *object, const char *columns)
{
    json_t *out = json_object();
    while (*columns != '\0') {
        char path[256];
        size_t len = strcspn(columns, ",");
        if (len < sizeof path) {
            memcpy(path, columns, len);
            path[len] = '\0';
            json_t *value = page_at(object, path);
            if (value != NULL && len > 0)
                page_put(out, path, value);
        }
        columns += len + (columns[len] == ',');
    }
    return out;
}

void http_reply_object(struct http_request *r, json_t *object)
{
    const char *columns = http_query(r, "columns");
    if (columns == NULL) {
        http_reply(r, 200, object);
        return;
    }
    http_reply(r, 200, page_columns(object, columns));
    json_decref(object);
}

/* ---- the name filter ------------------------------------------------------------------------------------------------------ */

struct page_filter {
    const char *name;
    pcre2_code *code; /* NULL: part of the name */
    pcre2_match_data *scratch;
    pcre2_match_context *limits;
};

/* false: not a regular expression (answered). */
static bool filter_init(struct http_request *r, struct page_filter *f)
{
    *f = (struct page_filter){.name = http_query(r, "name")};
    if (f->name == NULL || *f->name == '\0' || !http_query_true(r, "use_regex"))
        return true;
    int code = 0;
    PCRE2_SIZE at = 0;
    f->code = pcre2_compile((PCRE2_SPTR)f->name, PCRE2_ZERO_TERMINATED,
                            PCRE2_CASELESS | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    if (f->code == NULL) {
        http_reply_error(r, 400, "bad_request", "name: not a regular expression at offset %zu", (size_t)at);
        return false;
    }
    f->scratch = pcre2_match_data_create(1, NULL);
    f->limits = pcre2_match_context_create(NULL);
    MQG_ASSERT(f->scratch != NULL && f->limits != NULL);
    pcre2_set_match_limit(f->limits, PAGE_MATCH_STEPS_MAX);
    return true;
}

static void filter_fini(struct page_filter *f)
{
    pcre2_match_data_free(f->scratch);
    pcre2_match_context_free(f->limits);
    pcre2_code_free(f->code);
}

static bool filter_takes(const struct page_filter *f, const json_t *item)
{
    const char *name = json_string_value(json_object_get(item, "name"));
    if (f->name == NULL || *f->name == '\0' || name == NULL)
        return true;
    if (f->code == NULL)
        return strcasestr(name, f->name) != NULL;
    return pcre2_match(f->code, (PCRE2_SPTR)name, strlen(name), 0, 0, f->scratch, f->limits) >= 0;
}

/* ---- sorting ---------------------------------------------------------------------------------------------------------------- */

struct page_item {
    json_t *item;
    const json_t *by[PAGE_KEYS_MAX];
    size_t at;
};

/* Numbers before strings before what is not there; ties keep their order. */
static int page_rank(const json_t *v)
{
    return v == NULL || json_is_null(v) ? 3 : json_is_number(v) ? 0 : json_is_string(v) ? 1 : 2;
}

static int page_order_by(const json_t *x, const json_t *y)
{
    int rank = page_rank(x), order = rank - page_rank(y);
    if (order == 0 && rank == 0) {
        double p = json_number_value(x), q = json_number_value(y);
        order = (p > q) - (p < q);
    } else if (order == 0 && rank == 1) {
        order = strcmp(json_string_value(x), json_string_value(y));
    }
    return order;
}

static int page_order(const void *a, const void *b)
{
    const struct page_item *x = a, *y = b;
    int order = 0;
    for (size_t i = 0; i < PAGE_KEYS_MAX && order == 0; i++)
        order = page_order_by(x->by[i], y->by[i]);
    return order != 0 ? order : (x->at > y->at) - (x->at < y->at);
}

static void page_keys(struct page_item *item, const char *keys)
{
    for (size_t i = 0; i < PAGE_KEYS_MAX && *keys != '\0'; i++) {
        char path[256];
        size_t len = strcspn(keys, ",");
        snprintf(path, sizeof path, "%.*s", (int)(len < sizeof path ? len : sizeof path - 1), keys);
        item->by[i] = page_at(item->item, path);
        keys += len + (keys[len] == ',');
    }
}

static json_t *page_sort(json_t *array, const char *keys, bool reverse)
{
    size_t n = json_array_size(array);
    struct page_item *items = mqg_xcalloc(n + 1, sizeof *items);
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) {
        items[i].item = json_array_get(array, i);
        items[i].at = i;
        page_keys(&items[i], keys);
    }
    qsort(items, n, sizeof *items, page_order);
    for (size_t i = 0; i < n; i++)
        json_array_append(out, items[reverse ? n - 1 - i : i].item);
    free(items);
    json_decref(array);
    return out;
}

/* ---- pages --------------------------------------------------------------------------------------------------------------------- */

static bool page_number(struct http_request *r, const char *key, unsigned long fallback, unsigned long max,
                        unsigned long *out)
{
    const char *text = http_query(r, key);
    char *end;
    *out = fallback;
    if (text == NULL)
        return true;
    errno = 0;
    *out = strtoul(text, &end, 10);
    if (errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && *out >= 1 && *out <= max)
        return true;
    http_reply_error(r, 400, "bad_request", "Pagination parameters are invalid");
    return false;
}

static json_t *page_project(const json_t *array, size_t from, size_t to, const char *columns)
{
    json_t *out = json_array();
    for (size_t i = from; i < to; i++) {
        json_t *item = json_array_get(array, i);
        json_array_append_new(out, columns != NULL ? page_columns(item, columns) : json_incref(item));
    }
    return out;
}

static void page_reply(struct http_request *r, const json_t *all, size_t total, unsigned long page,
                       unsigned long size)
{
    size_t n = json_array_size(all), from = (page - 1) * size;
    if (page > 1 && from >= n) {
        http_reply_error(r, 400, "page_out_of_range", "Page out of range, page: %lu page size: %lu, len: %zu",
                         page, size, n);
        return;
    }
    size_t to = n - from < size ? n : from + size;
    json_t *out = json_object();
    js_set_int(out, "filtered_count", n);
    js_set_int(out, "item_count", to - from);
    js_set(out, "items", page_project(all, from, to, http_query(r, "columns")));
    js_set_int(out, "page", page);
    js_set_int(out, "page_count", n == 0 ? 1 : (n + size - 1) / size);
    js_set_int(out, "page_size", size);
    js_set_int(out, "total_count", total);
    http_reply(r, 200, out);
}

static json_t *page_filtered(json_t *array, const struct page_filter *f)
{
    json_t *out = json_array();
    for (size_t i = 0; i < json_array_size(array); i++)
        if (filter_takes(f, json_array_get(array, i)))
            json_array_append(out, json_array_get(array, i));
    json_decref(array);
    return out;
}

void http_reply_list(struct http_request *r, json_t *array, const char *order)
{
    unsigned long page, size;
    size_t total = json_array_size(array);
    const char *sort = http_query(r, "sort");
    struct page_filter filter;
    if (!page_number(r, "page", 1, 1000000, &page) ||
        !page_number(r, "page_size", PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, &size) || !filter_init(r, &filter)) {
        json_decref(array);
        return;
    }
    if (http_query(r, "page") != NULL) /* as RabbitMQ: the name filters pages only */
        array = page_filtered(array, &filter);
    filter_fini(&filter);
    array = page_sort(array, sort != NULL ? sort : order, http_query_true(r, "sort_reverse"));
    if (http_query(r, "page") != NULL)
        page_reply(r, array, total, page, size);
    else
        http_reply(r, 200, page_project(array, 0, json_array_size(array), http_query(r, "columns")));
    json_decref(array);
}

/* value.c - reading a value as the type its row says, and saying what would be right when it is not. */
#include "conf_addr.h"
#include "conf_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct value_unit {
    const char *name;
    int64_t factor;
};

static const struct value_unit value_sizes[] = {
    {"", 1}, {"B", 1}, {"KiB", 1LL << 10}, {"MiB", 1LL << 20}, {"GiB", 1LL << 30}, {"TiB", 1LL << 40}};
static const struct value_unit value_durations[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};

static bool value_number(const char *text, int64_t *out, const char **rest)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool digits = (text[0] >= '0' && text[0] <= '9') || (text[0] == '-' && text[1] >= '0' && text[1] <= '9');
    *out = v;
    *rest = end;
    return digits && errno == 0;
}

static bool value_with_unit(const char *text, const struct value_unit *units, size_t n, int64_t *out)
{
    const char *rest;
    int64_t v;
    if (!value_number(text, &v, &rest) || v < 0)
        return false;
    rest += strspn(rest, " ");
    if (v == 0 && *rest == '\0') {
        *out = 0; /* zero of anything */
        return true;
    }
    for (size_t i = 0; i < n; i++)
        if (strcmp(rest, units[i].name) == 0)
            return !__builtin_mul_overflow(v, units[i].factor, out);
    return false;
}

static bool value_bool(const char *text, int64_t *out)
{
    static const char *const words[] = {"off", "on", "false", "true", "no", "yes"};
    for (size_t i = 0; i < MQG_COUNTOF(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i % 2;
            return true;
        }
    }
    return false;
}

static bool value_enum(const char *words, const char *text, int64_t *out)
{
    size_t len = strlen(text);
    for (int64_t i = 0; words != NULL; i++) {
        const char *bar = strchr(words, '|');
        size_t n = bar != NULL ? (size_t)(bar - words) : strlen(words);
        if (n == len && memcmp(words, text, n) == 0) {
            *out = i;
            return true;
        }
        words = bar != NULL ? bar + 1 : NULL;
    }
    return false;
}

static bool value_addr(const char *text, int64_t *out)
{
    struct conf_addr list[CONF_ADDR_MAX];
    size_t n;
    *out = 0;
    return conf_addr_parse(text, list, &n);
}

static bool value_read(const struct mqg_conf_row *row, const char *text, int64_t *out)
{
    const char *rest;
    switch (row->type) {
    case MQG_CONF_STR: *out = 0; return true;
    case MQG_CONF_BOOL: return value_bool(text, out);
    case MQG_CONF_INT: return value_number(text, out, &rest) && *rest == '\0';
    case MQG_CONF_SIZE: return value_with_unit(text, value_sizes, MQG_COUNTOF(value_sizes), out);
    case MQG_CONF_DURATION: return value_with_unit(text, value_durations, MQG_COUNTOF(value_durations), out);
    case MQG_CONF_ENUM: return value_enum(row->words, text, out);
    case MQG_CONF_ADDR: return value_addr(text, out);
    }
    return false;
}

static const char *value_right(const struct mqg_conf_row *row)
{
    switch (row->type) {
    case MQG_CONF_BOOL: return "on or off";
    case MQG_CONF_INT: return "a whole number";
    case MQG_CONF_SIZE: return "a size such as 64KiB, 16MiB or 1GiB";
    case MQG_CONF_DURATION: return "a duration such as 500ms, 5s, 1m, 2h or 7d";
    case MQG_CONF_ENUM: return "one of ";
    case MQG_CONF_ADDR: return "host:port[,host:port] such as 127.0.0.1:5672 or [::1]:5672, or off";
    default: return "text";
    }
}

bool conf_value_parse(const struct mqg_conf_row *row, const char *text, int64_t *out, char *right,
                      size_t room)
{
    bool number = row->type == MQG_CONF_INT || row->type == MQG_CONF_SIZE || row->type == MQG_CONF_DURATION;
    bool bounded = number && (row->min != 0 || row->max != 0);
    if (value_read(row, text, out) && (!bounded || (*out >= row->min && *out <= row->max)))
        return true;
    const char *words = row->type == MQG_CONF_ENUM ? row->words : "";
    const char *unit = row->type == MQG_CONF_SIZE ? " bytes" : row->type == MQG_CONF_DURATION ? " ms" : "";
    int n = snprintf(right, room, "%s%s", value_right(row), words);
    if (bounded && n > 0 && (size_t)n < room)
        snprintf(right + n, room - (size_t)n, ", from %lld to %lld%s", (long long)row->min,
                 (long long)row->max, unit);
    return false;
}

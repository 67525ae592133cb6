/* listen.c - which listeners are opened, for which module, and why one is not.
 *
 * A protocol module serves its names and, with an s behind, the same over TLS. The keys of all protocols are known from
 * the first day, so a default whose module is not there is left out with a line in the log, while one that somebody
 * asked for is refused by the module's name: a typo or a missing package must not look like a start that went well.
 *
 * A module whose rows have the key `listen` in sections "NAME.*" has further listeners, one per section, named as the section
 * is ("kafka.internal"); the key `tls` there says whether it is one over TLS. What else stands in the section is the module's. */
#include "listen.h"
#include "conf_int.h"
#include "core_rows.h"
#include "listener.h"
#include "loader.h"
#include "tls.h"

#include <mqgate/obs.h>

#include <stdio.h>
#include <stdlib.h>

enum { LISTEN_MAX = 64, LISTEN_NAMED_MAX = 32 };

/* One listener as it is configured. */
struct listen_place {
    const char *name;          /* "amqps", "kafka.internal" */
    const char *section, *key; /* of its addresses */
    const struct mqg_protocol_ops *ops;
    bool tls;
};

struct listen_one {
    struct conn_source source;
    struct listen_place place;
    struct io_listener *sockets[CONF_ADDR_MAX];
    size_t nsockets;
};

static struct listen_one *listen_all[LISTEN_MAX];
static size_t nlisten;

/* ---- which module --------------------------------------------------------------------------------------------------------- */

static bool listen_serves(const struct mqg_protocol_ops *ops, const char *name, bool *tls)
{
    for (const char *const *base = ops->listeners; *base != NULL; base++) {
        size_t n = strlen(*base);
        if (strncmp(*base, name, n) != 0)
            continue;
        *tls = name[n] == 's' && name[n + 1] == '\0';
        if (*tls || name[n] == '\0')
            return true;
    }
    return false;
}

static const struct mqg_protocol_ops *listen_protocol(const char *name, bool *tls)
{
    const struct loaded *l;
    for (size_t i = 0; (l = loader_at(i)) != NULL; i++)
        if (l->module.kind == MQG_MODULE_PROTOCOL && listen_serves(&l->ops.protocol, name, tls))
            return &l->ops.protocol;
    return NULL;
}

static const struct mqg_core_listener *listen_known(const char *name)
{
    for (const struct mqg_core_listener *l = mqg_core_listeners; l->name != NULL; l++)
        if (strcmp(l->name, name) == 0)
            return l;
    return NULL;
}

/* A service binds its own sockets. */
static bool listen_is_service(const char *name)
{
    const struct mqg_core_listener *known = listen_known(name);
    const struct loaded *l = known != NULL ? loader_find(known->module) : NULL;
    return l != NULL && l->module.kind == MQG_MODULE_SERVICE;
}

static bool listen_in_list(const char *list, const char *name)
{
    size_t n = strlen(name);
    while (*list != '\0') {
        list += strspn(list, " ,");
        size_t len = strcspn(list, " ,");
        if (len == n && memcmp(list, name, n) == 0)
            return true;
        list += len;
    }
    return false;
}

static const char *listen_guess(struct mqg_slice head)
{
    const struct loaded *l;
    for (size_t i = 0; (l = loader_at(i)) != NULL; i++)
        if (l->module.kind == MQG_MODULE_PROTOCOL && l->ops.protocol.sniff != NULL &&
            l->ops.protocol.sniff(head))
            return l->module.name;
    return NULL;
}

/* ---- further ones, by section ----------------------------------------------------------------------------------------------- */

static bool listen_is_named(const struct mqg_conf *conf, const char *section)
{
    const struct mqg_conf_row *row = conf_row_find(conf, section, "listen");
    return row != NULL && row->type == MQG_CONF_ADDR;
}

/* The next further listener of the module, from its i-th section on; false beyond the last. */
static bool listen_named(const struct mqg_conf *conf, const struct loaded *l, size_t *i,
                         struct listen_place *out)
{
    char prefix[64];
    const char *section;
    snprintf(prefix, sizeof prefix, "%s.", l->module.name);
    while (l->module.kind == MQG_MODULE_PROTOCOL &&
           (section = mqg_conf_section(conf, prefix, (*i)++)) != NULL)
        if (listen_is_named(conf, section)) {
            *out = (struct listen_place){section, section, "listen", &l->ops.protocol,
                                         mqg_conf_bool(conf, section, "tls")};
            return true;
        }
    return false;
}

static enum mqg_err listen_check_named(const struct mqg_conf *conf, const struct listen_place *p, size_t all,
                                       struct mqg_error *e)
{
    if (mqg_conf_str(conf, p->section, p->key) == NULL)
        return mqg_error_set(e, MQG_INVALID, 0, "[%s]: listen = host:port is missing", p->section);
    if (strlen(p->name) >= sizeof((struct conn_source *)NULL)->name)
        return mqg_error_set(e, MQG_INVALID, 0, "[%s]: the name of a listener has at most %zu bytes",
                             p->section, sizeof((struct conn_source *)NULL)->name - 1);
    if (all > LISTEN_NAMED_MAX)
        return mqg_error_set(e, MQG_INVALID, 0, "[%s]: more than %d listeners by section", p->section,
                             LISTEN_NAMED_MAX);
    if (p->tls && !io_tls_ready())
        return mqg_error_set(e, MQG_INVALID, 0, "%s: [%s] with tls = on needs tls.cert and tls.key",
                             mqg_conf_where(conf, p->section, "tls"), p->section);
    return MQG_OK;
}

static enum mqg_err listen_check_all_named(const struct mqg_conf *conf, struct mqg_error *e)
{
    const struct loaded *l;
    struct listen_place p;
    size_t all = 0;
    for (size_t i = 0; (l = loader_at(i)) != NULL; i++)
        for (size_t k = 0; listen_named(conf, l, &k, &p);)
            if (listen_check_named(conf, &p, ++all, e) != MQG_OK)
                return e->err;
    return MQG_OK;
}

/* ---- the check ------------------------------------------------------------------------------------------------------------- */

static bool listen_is_off(const struct mqg_conf *conf, const char *name)
{
    return strcmp(mqg_conf_str(conf, "listeners", name), "off") == 0;
}

static enum mqg_err listen_check_one(const struct mqg_conf *conf, const char *name, struct mqg_error *e)
{
    bool tls = false;
    if (!mqg_conf_given(conf, "listeners", name) || listen_is_off(conf, name) || listen_is_service(name))
        return MQG_OK;
    const struct mqg_core_listener *known = listen_known(name);
    if (listen_protocol(name, &tls) == NULL)
        return mqg_error_set(e, MQG_NOT_FOUND, 0,
                             "%s: listeners.%s needs the module %s, which is not in modules.path=%s",
                             mqg_conf_where(conf, "listeners", name), name,
                             known != NULL ? known->module : name, mqg_conf_str(conf, "modules", "path"));
    if (tls && !io_tls_ready())
        return mqg_error_set(e, MQG_INVALID, 0, "%s: listeners.%s needs tls.cert and tls.key",
                             mqg_conf_where(conf, "listeners", name), name);
    return MQG_OK;
}

static bool listen_is_row(const struct mqg_conf_row *row)
{
    return strcmp(row->section, "listeners") == 0 && row->type == MQG_CONF_ADDR;
}

static bool listen_is_name(const struct mqg_conf *conf, struct mqg_slice word)
{
    for (size_t i = 0; i < conf->nrows; i++)
        if (listen_is_row(conf->rows[i]) && mqg_slice_eq(mqg_slice_str(conf->rows[i]->key), word))
            return true;
    for (size_t i = 0; i < conf->nsections; i++)
        if (listen_is_named(conf, conf->sections[i]) && mqg_slice_eq(mqg_slice_str(conf->sections[i]), word))
            return true;
    return false;
}

static enum mqg_err listen_check_proxies(const struct mqg_conf *conf, struct mqg_error *e)
{
    const char *list = mqg_conf_str(conf, "listeners", "proxy_protocol");
    for (list += strspn(list, " ,"); *list != '\0'; list += strspn(list, " ,")) {
        struct mqg_slice word = mqg_slice_of(list, strcspn(list, " ,"));
        if (!listen_is_name(conf, word))
            return mqg_error_set(e, MQG_INVALID, 0, "%s: listeners.proxy_protocol: there is no listener %.*s",
                                 mqg_conf_where(conf, "listeners", "proxy_protocol"), MQG_SLICE_FMT(word));
        list += word.len;
    }
    return MQG_OK;
}

enum mqg_err listen_check(const struct mqg_conf *conf, struct mqg_error *e)
{
    conn_on_guess(listen_guess);
    enum mqg_err err = listen_check_proxies(conf, e);
    for (size_t i = 0; i < conf->nrows && err == MQG_OK; i++)
        if (listen_is_row(conf->rows[i]))
            err = listen_check_one(conf, conf->rows[i]->key, e);
    return err == MQG_OK ? listen_check_all_named(conf, e) : err;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------ */

/* "stomp_ws", and with TLS "stomp_wss". */
static bool listen_is_ws(const char *name, bool tls)
{
    size_t n = strlen(name) - (tls ? 1 : 0);
    return n > 3 && memcmp(name + n - 3, "_ws", 3) == 0;
}

static struct listen_one *listen_new(const struct mqg_conf *conf, const struct listen_place *p)
{
    MQG_ASSERT(nlisten < LISTEN_MAX);
    struct listen_one *l = mqg_xcalloc(1, sizeof *l);
    l->place = *p;
    snprintf(l->source.name, sizeof l->source.name, "%s", p->name);
    l->source.ops = p->ops;
    l->source.tls = p->tls;
    l->source.ws = listen_is_ws(p->name, p->tls);
    l->source.ws_rules = (struct io_ws_rules){.path = mqg_conf_str(conf, "listeners", "ws_path"),
                                              .protocols = p->ops->ws_protocols,
                                              .text = p->ops->ws_text};
    l->source.proxy = listen_in_list(mqg_conf_str(conf, "listeners", "proxy_protocol"), p->name);
    listen_all[nlisten++] = l;
    return l;
}

static enum mqg_err listen_bind(const struct mqg_conf *conf, struct listen_one *l, struct event_base *base,
                                struct mqg_error *e)
{
    const struct listen_place *p = &l->place;
    struct conf_addr list[CONF_ADDR_MAX];
    size_t n = 0;
    bool good = conf_addr_parse(mqg_conf_str(conf, p->section, p->key), list, &n);
    MQG_ASSERT(good);
    for (size_t i = 0; i < n; i++) {
        enum mqg_err err = io_listener_open(&l->sockets[l->nsockets], base, &l->source, &list[i], e);
        if (err == MQG_NOT_FOUND && !mqg_conf_given(conf, p->section, p->key))
            continue; /* a machine without IPv6 */
        if (err != MQG_OK)
            return err;
        mqg_log(MQG_LOG_DEBUG, MQG_EVENT_LISTEN, "listener=%s address=%s", p->name,
                io_listener_address(l->sockets[l->nsockets]));
        l->nsockets++;
    }
    return MQG_OK;
}

static void listen_left_out(struct mqg_dynbuf *list, const char *name)
{
    mqg_dynbuf_printf(list, "%s%s", list->len > 0 ? "," : "", name);
}

struct listen_skipped {
    struct mqg_dynbuf no_module, no_cert;
};

static enum mqg_err listen_open_one(const struct mqg_conf *conf, const char *name, struct event_base *base,
                                    struct listen_skipped *skipped, struct mqg_error *e)
{
    struct listen_place p = {.name = name, .section = "listeners", .key = name};
    if (listen_is_off(conf, name) || listen_is_service(name))
        return MQG_OK;
    p.ops = listen_protocol(name, &p.tls);
    if (p.ops == NULL) {
        listen_left_out(&skipped->no_module, name);
        return MQG_OK;
    }
    if (p.tls && !io_tls_ready()) {
        listen_left_out(&skipped->no_cert, name);
        return MQG_OK;
    }
    return listen_bind(conf, listen_new(conf, &p), base, e);
}

static enum mqg_err listen_open_named(const struct mqg_conf *conf, struct event_base *base,
                                      struct mqg_error *e)
{
    const struct loaded *l;
    struct listen_place p;
    enum mqg_err err = MQG_OK;
    for (size_t i = 0; (l = loader_at(i)) != NULL; i++)
        for (size_t k = 0; err == MQG_OK && listen_named(conf, l, &k, &p);)
            if (strcmp(mqg_conf_str(conf, p.section, p.key), "off") != 0)
                err = listen_bind(conf, listen_new(conf, &p), base, e);
    return err;
}

static void listen_log_left_out(const struct mqg_dynbuf *list, const char *why)
{
    if (list->len > 0)
        mqg_log(MQG_LOG_INFO, MQG_EVENT_LISTEN, "left_out=%.*s why=%s", (int)list->len,
                (const char *)list->ptr, why);
}

enum mqg_err listen_open(const struct mqg_conf *conf, struct event_base *base, struct mqg_error *e)
{
    struct listen_skipped skipped;
    mqg_dynbuf_init(&skipped.no_module, 4096);
    mqg_dynbuf_init(&skipped.no_cert, 4096);
    enum mqg_err err = MQG_OK;
    for (size_t i = 0; i < conf->nrows && err == MQG_OK; i++)
        if (listen_is_row(conf->rows[i]))
            err = listen_open_one(conf, conf->rows[i]->key, base, &skipped, e);
    if (err == MQG_OK)
        err = listen_open_named(conf, base, e);
    listen_log_left_out(&skipped.no_module, "no_module");
    listen_log_left_out(&skipped.no_cert, "no_tls_cert");
    mqg_dynbuf_fini(&skipped.no_module);
    mqg_dynbuf_fini(&skipped.no_cert);
    return err;
}

/* The sockets close; what they say of living connections stays until the end of the process. */
void listen_close(void)
{
    for (size_t i = 0; i < nlisten; i++)
        for (; listen_all[i]->nsockets > 0; listen_all[i]->nsockets--)
            io_listener_close(&listen_all[i]->sockets[listen_all[i]->nsockets - 1]);
}

void listen_describe(struct mqg_dynbuf *out)
{
    for (size_t i = 0; i < nlisten; i++) {
        const struct listen_one *l = listen_all[i];
        for (size_t k = 0; k < l->nsockets; k++) {
            if (k == 0)
                mqg_dynbuf_printf(out, "%s%s=", out->len > 0 ? " " : "", l->source.name);
            mqg_dynbuf_printf(out, "%s%s", k > 0 ? "," : "", io_listener_address(l->sockets[k]));
        }
    }
}

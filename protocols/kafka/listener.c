/* listener.c - what holds for a client by the listener on which it came: the address that it is told, its vhost, who it is when it does
 * not log in.
 *
 * A client is told what is configured for its listener, else the address to which it connected, which is right for everybody who
 * is not behind an address translation. Settings of a listener stand in its section ([kafka.internal]); those of `kafka` and
 * `kafkas`, and what a section does not say, in [kafka], where a list may name listeners too. */
#include "kafka_int.h"

#include <stdio.h>
#include <stdlib.h>

enum { LISTENERS_MAX = 34 };

static struct kafka_listener listeners[LISTENERS_MAX];
static size_t nlisteners;

/* ---- lists by listener ----------------------------------------------------------------------------------------------------- */

/* "word,name=word,...": the word of that name; one without a name is for all that are not named. */
static bool listener_by_name(const char *list, const char *listener, struct mqg_slice *out)
{
    bool found = false;
    while (*list != '\0') {
        list += strspn(list, " ,");
        size_t len = strcspn(list, " ,"), n = strlen(listener);
        const char *equals = memchr(list, '=', len);
        if (len > 0 && equals == NULL && !found) {
            *out = mqg_slice_of(list, len);
            found = true;
        } else if (equals != NULL && (size_t)(equals - list) == n && memcmp(list, listener, n) == 0) {
            *out = mqg_slice_of(equals + 1, len - n - 1);
            return true;
        }
        list += len;
    }
    return found;
}

/* "host:port", "[::1]:9092"; false when it is neither. */
static bool listener_address(struct mqg_slice text, struct mqg_slice *host, int32_t *port)
{
    size_t colon = text.len;
    while (colon > 0 && text.ptr[colon - 1] != ':')
        colon--;
    if (colon < 2 || text.len - colon > 5)
        return false;
    *port = 0;
    for (size_t i = colon; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        *port = *port * 10 + (text.ptr[i] - '0');
    }
    *host = mqg_slice_of(text.ptr, colon - 1);
    if (host->ptr[0] == '[' && host->len > 2)
        *host = mqg_slice_of(host->ptr + 1, host->len - 2);
    return *port > 0 && *port <= 65535;
}

/* ---- the table ---------------------------------------------------------------------------------------------------------------- */

static enum mqg_err listener_check_word(struct mqg_slice word, struct mqg_error *e)
{
    struct mqg_slice host;
    int32_t port;
    const uint8_t *equals = memchr(word.ptr, '=', word.len);
    if (equals != NULL)
        word = mqg_slice_of(equals + 1, (size_t)(word.ptr + word.len - equals - 1));
    if (listener_address(word, &host, &port))
        return MQG_OK;
    return mqg_error_set(e, MQG_INVALID, 0, "kafka.advertised: '%.*s' is not [LISTENER=]HOST:PORT",
                         MQG_SLICE_FMT(word));
}

static enum mqg_err listener_check_list(const char *list, struct mqg_error *e)
{
    while (*list != '\0') {
        list += strspn(list, " ,");
        size_t len = strcspn(list, " ,");
        if (len > 0 && listener_check_word(mqg_slice_of(list, len), e) != MQG_OK)
            return MQG_INVALID;
        list += len;
    }
    return MQG_OK;
}

static enum kafka_anonymous listener_anonymous(const char *word)
{
    return strcmp(word, "off") == 0        ? KAFKA_ANONYMOUS_OFF
           : strcmp(word, "loopback") == 0 ? KAFKA_ANONYMOUS_LOOPBACK
                                           : KAFKA_ANONYMOUS_ANY;
}

/* What [kafka] says of it. */
static struct kafka_listener *listener_add(const struct mqg_conf *conf, const char *name)
{
    MQG_ASSERT(nlisteners < LISTENERS_MAX); /* the host has refused more sections */
    struct kafka_listener *l = &listeners[nlisteners++];
    struct mqg_slice told;
    *l = (struct kafka_listener){.name = name,
                                 .vhost = MQG_SLICE_LIT("/"),
                                 .anonymous = listener_anonymous(mqg_conf_str(conf, "kafka", "anonymous")),
                                 .user = mqg_conf_str(conf, "kafka", "anonymous_user")};
    (void)listener_by_name(mqg_conf_str(conf, "kafka", "vhost"), name, &l->vhost);
    if (listener_by_name(mqg_conf_str(conf, "kafka", "advertised"), name, &told))
        (void)listener_address(told, &l->host, &l->port);
    return l;
}

static enum mqg_err listener_section(const struct mqg_conf *conf, const char *section, struct mqg_error *e)
{
    struct kafka_listener *l = listener_add(conf, section);
    const char *advertised = mqg_conf_str(conf, section, "advertised");
    const char *vhost = mqg_conf_str(conf, section, "vhost");
    const char *anonymous = mqg_conf_str(conf, section, "anonymous");
    const char *user = mqg_conf_str(conf, section, "anonymous_user");
    if (advertised != NULL && !listener_address(mqg_slice_str(advertised), &l->host, &l->port))
        return mqg_error_set(e, MQG_INVALID, 0, "%s: %s.advertised: '%s' is not HOST:PORT",
                             mqg_conf_where(conf, section, "advertised"), section, advertised);
    if (vhost != NULL)
        l->vhost = mqg_slice_str(vhost);
    if (anonymous != NULL)
        l->anonymous = listener_anonymous(anonymous);
    if (user != NULL)
        l->user = user;
    return MQG_OK;
}

enum mqg_err kafka_listeners_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    const char *section;
    enum mqg_err err = listener_check_list(mqg_conf_str(conf, "kafka", "advertised"), e);
    nlisteners = 0;
    (void)listener_add(conf, "kafka");
    (void)listener_add(conf, "kafkas");
    for (size_t i = 0; err == MQG_OK && (section = mqg_conf_section(conf, "kafka.", i)) != NULL; i++)
        err = listener_section(conf, section, e);
    return err;
}

/* ---- of a connection ---------------------------------------------------------------------------------------------------------- */

const struct kafka_listener *kafka_listener(const struct kafka_conn *kc)
{
    const char *name = mqg_conn_info(kc->conn)->listener;
    for (size_t i = 0; i < nlisteners; i++)
        if (strcmp(listeners[i].name, name) == 0)
            return &listeners[i];
    return &listeners[0];
}

void kafka_endpoint(const struct kafka_conn *kc, struct mqg_slice *host, int32_t *port)
{
    const struct kafka_listener *l = kafka_listener(kc);
    const struct mqg_conn_info *i = mqg_conn_info(kc->conn);
    *host = l->port > 0 ? l->host : mqg_slice_str(i->host);
    *port = l->port > 0 ? l->port : i->port;
}

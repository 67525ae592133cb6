/* definitions_exchange.c - exchanges: declare, delete, the predeclared ones, auto-delete.
 *
 * Checks come in RabbitMQ's order, because a client that makes two mistakes is told the first. A declaration
 * that finds its exchange compares against the snapshot and takes no lock: most declarations in a running
 * system are of that kind. */
#include "definitions_int.h"

#include "names.h"

#include <stdlib.h>

static const char *const exchange_words[MQG_X_TYPE_COUNT] = {[MQG_X_DIRECT] = "direct",
                                                             [MQG_X_FANOUT] = "fanout",
                                                             [MQG_X_TOPIC] = "topic",
                                                             [MQG_X_HEADERS] = "headers"};

static const struct {
    const char *name;
    enum mqg_exchange_type type;
    bool internal;
} exchange_predeclared[] = {
    {"", MQG_X_DIRECT, false},
    {"amq.direct", MQG_X_DIRECT, false},
    {"amq.fanout", MQG_X_FANOUT, false},
    {"amq.topic", MQG_X_TOPIC, false},
    {"amq.headers", MQG_X_HEADERS, false},
    {"amq.match", MQG_X_HEADERS, false},
    {"amq.rabbitmq.trace", MQG_X_TOPIC, true},
};

bool exchange_type_parse(struct mqg_slice word, enum mqg_exchange_type *out)
{
    for (unsigned i = 0; i < MQG_COUNTOF(exchange_words); i++) {
        if (mqg_slice_eq(word, mqg_slice_str(exchange_words[i]))) {
            *out = (enum mqg_exchange_type)i;
            return true;
        }
    }
    return false;
}

struct mqg_slice exchange_type_word(enum mqg_exchange_type type)
{
    return mqg_slice_str(exchange_words[type]);
}

/* ---- the model ----------------------------------------------------------------------------------------- */

/* Durable ones are recorded, but for those that every vhost has by itself. */
static void exchange_record(struct definitions_edit *d, const struct exchange_entry *x, bool remove)
{
    const struct exchange_cell *c = &x->cell;
    definitions_log(d, "exchange", c->name, MQG_SLICE_NONE, remove);
    if (!c->durable || c->name.len == 0 || names_reserved(c->name))
        return;
    struct meta_record r = {.kind = META_EXCHANGE, .vhost = d->vhost->name};
    r.exchange = (struct mqg_exchange_def){.name = c->name,
                                           .type = exchange_type_word(c->type),
                                           .durable = c->durable,
                                           .auto_delete = c->auto_delete,
                                           .internal = c->internal,
                                           .args = *c->args};
    definitions_record(d, &r, remove);
}

static bool exchange_fronts(const struct mqg_table *args)
{
    const struct mqg_value *v = mqg_table_get(args, MQG_SLICE_LIT("x-stream"));
    return v != NULL && v->type == MQG_VALUE_BOOL && v->boolean;
}

struct exchange_entry *exchange_create(struct definitions_edit *d, const struct mqg_exchange_def *def,
                                       enum mqg_exchange_type type)
{
    definitions_drop_finish(d, def->name, false);
    struct exchange_entry *x = mqg_xcalloc(1, sizeof *x);
    struct mqg_slice name = mqg_slice_of(mqg_slice_dup(def->name), def->name.len);
    x->args = args_new(&def->args);
    const struct mqg_value *alternate = mqg_table_get(x->args, MQG_SLICE_LIT("alternate-exchange"));
    x->cell = (struct exchange_cell){.vhost = d->vhost,
                                     .name = name,
                                     .type = type,
                                     .durable = def->durable,
                                     .auto_delete = def->auto_delete,
                                     .internal = def->internal,
                                     .args = x->args,
                                     .dest = {.id = definitions_dest_id(), .exchange = name}};
    x->cell.fronts = exchange_fronts(x->args);
    x->cell.bridges = mqg_slice_eq(name, MQG_SLICE_LIT("amq.topic"));
    if (alternate != NULL && alternate->type == MQG_VALUE_STRING) {
        x->cell.has_alternate = true;
        x->cell.alternate = alternate->bytes;
    }
    exchange_record(d, x, false);
    mqg_map_set(&d->vhost->exchanges, name, x);
    topology_add_exchange(&d->topology, &x->cell);
    return x;
}

void exchange_create_predeclared(struct definitions_edit *d)
{
    for (size_t i = 0; i < MQG_COUNTOF(exchange_predeclared); i++) {
        struct mqg_exchange_def def = {.name = mqg_slice_str(exchange_predeclared[i].name),
                                       .durable = true,
                                       .internal = exchange_predeclared[i].internal};
        if (mqg_map_get(&d->vhost->exchanges, def.name) == NULL)
            exchange_create(d, &def, exchange_predeclared[i].type);
    }
}

static void exchange_entry_free(void *ptr, void *arg)
{
    struct exchange_entry *x = ptr;
    (void)arg;
    free((void *)(uintptr_t)x->cell.name.ptr);
    free(x->args);
    free(x);
}

void exchange_entry_retire(struct exchange_entry *x)
{
    topology_retire(x, exchange_entry_free, NULL);
}

void exchange_drop(struct definitions_edit *d, struct exchange_entry *x)
{
    x->doomed = x->gone = true;
    while (!LIST_EMPTY(&x->to))
        binding_drop(d, LIST_FIRST(&x->to), true);
    exchange_record(d, x, true);
    if (!d->dissolving)
        topology_remove_exchange(&d->topology, &x->cell);
    mqg_map_del(&d->vhost->exchanges, x->cell.name);
    exchange_drop_bindings(d, x);
}

/* ---- declare ------------------------------------------------------------------------------------------- */

static enum mqg_err exchange_type_check(struct mqg_slice word, enum mqg_exchange_type *type,
                                        struct mqg_error *e)
{
    if (exchange_type_parse(word, type))
        return MQG_OK;
    return mqg_error_set(e, MQG_INVALID, 503, "%s exchange type '%.*s'",
                         word.len == 0 ? "invalid" : "unknown", MQG_SLICE_FMT(word));
}

static enum mqg_err exchange_compare(const struct exchange_cell *c, const struct mqg_exchange_def *def,
                                     struct mqg_error *e)
{
    struct args_equal w = {"exchange", c->name, mqg_vhost_name(c->vhost)};
    enum mqg_err err = args_equal_word(&w, "type", def->type, exchange_type_word(c->type), e);
    if (err == MQG_OK)
        err = args_equal_bool(&w, "durable", def->durable, c->durable, e);
    if (err == MQG_OK)
        err = args_equal_bool(&w, "auto_delete", def->auto_delete, c->auto_delete, e);
    if (err == MQG_OK)
        err = args_equal_bool(&w, "internal", def->internal, c->internal, e);
    if (err == MQG_OK)
        err = args_equal_arg(&w, "alternate-exchange", &def->args, c->args, e);
    if (err == MQG_OK)
        err = args_equal_arg(&w, "x-stream", &def->args, c->args, e);
    return err;
}

/* What only a new exchange is asked. */
static enum mqg_err exchange_check_new(struct mqg_session *s, const struct mqg_exchange_def *def,
                                       struct mqg_error *e)
{
    if (names_reserved(def->name))
        return mqg_error_set(e, MQG_DENIED, 403, "exchange name '%.*s' contains reserved prefix 'amq.*'",
                             MQG_SLICE_FMT(def->name));
    enum mqg_err err = definitions_bounds("exchange", def->name, &def->args, e);
    const struct mqg_value *alternate = mqg_table_get(&def->args, MQG_SLICE_LIT("alternate-exchange"));
    if (err != MQG_OK || alternate == NULL)
        return err;
    if (alternate->type != MQG_VALUE_STRING)
        return mqg_error_set(
            e, MQG_INVALID, 406,
            "invalid type '%s' for arg 'alternate-exchange' in exchange '%.*s' in vhost '%.*s'",
            names_value_type(alternate->type), MQG_SLICE_FMT(def->name),
            MQG_SLICE_FMT(mqg_vhost_name(s->vhost)));
    err = definitions_need(s, MQG_READ, "exchange", def->name, e);
    return err == MQG_OK ? definitions_need(s, MQG_WRITE, "exchange", alternate->bytes, e) : err;
}

static enum mqg_err exchange_make(struct mqg_session *s, const struct mqg_exchange_def *def,
                                  enum mqg_exchange_type type, uint64_t *ticket, struct mqg_error *e)
{
    struct definitions_edit d;
    definitions_begin(&d, s->vhost);
    enum mqg_err err = MQG_OK;
    struct exchange_entry *x = mqg_map_get(&s->vhost->exchanges, def->name);
    if (!mqg_vhost_alive(s->vhost))
        err = definitions_vhost_gone(e, s->vhost);
    else if (x != NULL)
        err = exchange_compare(&x->cell, def, e); /* somebody was faster */
    else
        exchange_create(&d, def, type);
    *ticket = definitions_end_later(&d, s);
    return err;
}

/* ---- an exchange before a stream (x-stream) ------------------------------------------------------------- */

static enum mqg_err exchange_front_refuse(struct mqg_session *s, const struct mqg_exchange_def *def,
                                          const char *why, struct mqg_error *e)
{
    return mqg_error_set(e, MQG_INVALID, 406, "x-stream: exchange '%.*s' in vhost '%.*s' %s",
                         MQG_SLICE_FMT(def->name), MQG_SLICE_FMT(mqg_vhost_name(s->vhost)), why);
}

static enum mqg_err exchange_front_check(struct mqg_session *s, const struct mqg_exchange_def *def,
                                         struct mqg_error *e)
{
    const struct mqg_value *v = mqg_table_get(&def->args, MQG_SLICE_LIT("x-stream"));
    if (v == NULL)
        return MQG_OK;
    if (v->type != MQG_VALUE_BOOL)
        return exchange_front_refuse(s, def, "wants true or false", e);
    if (v->boolean && (!def->durable || def->auto_delete))
        return exchange_front_refuse(s, def, "must be durable and not auto-delete, as its stream is", e);
    struct mqg_queue *q = v->boolean ? topology_queue(s->vhost, def->name) : NULL;
    if (q != NULL && !queue_takes_front(q))
        return exchange_front_refuse(s, def, "would front a queue that is not a stream", e);
    return MQG_OK;
}

/* The stream, where it is not there yet: x-stream-partitions of them (1), everything else as the store chooses. */
static enum mqg_err exchange_front_stream(struct mqg_session *s, const struct mqg_exchange_def *def,
                                          uint64_t *ticket, struct mqg_error *e)
{
    const struct mqg_value *v = mqg_table_get(&def->args, MQG_SLICE_LIT("x-stream-partitions"));
    struct mqg_field fields[2] = {
        {MQG_SLICE_LIT("x-queue-type"), {.type = MQG_VALUE_STRING, .bytes = MQG_SLICE_LIT("stream")}}};
    struct mqg_queue_def stream = {.name = def->name, .durable = true, .owner_conn = s->conn_id};
    struct mqg_queue_ok ok;
    if (topology_queue(s->vhost, def->name) != NULL)
        return MQG_OK;
    stream.args = (struct mqg_table){.fields = fields, .n = 1};
    if (v != NULL)
        fields[stream.args.n++] = (struct mqg_field){MQG_SLICE_LIT("x-mqgate-partitions"), *v};
    return mqg_queue_declare(s, &stream, false, &ok, ticket, e);
}

enum mqg_err mqg_exchange_declare(struct mqg_session *s, const struct mqg_exchange_def *def, bool passive,
                                  uint64_t *ticket, struct mqg_error *e)
{
    enum mqg_exchange_type type = MQG_X_DIRECT;
    *ticket = 0;
    if (def->name.len == 0)
        return definitions_default_exchange(e);
    const struct exchange_cell *x = definitions_look_exchange(s->vhost, def->name);
    if (passive)
        return x != NULL ? MQG_OK : definitions_no(e, "exchange", def->name, s->vhost);
    enum mqg_err err = exchange_type_check(def->type, &type, e);
    if (err == MQG_OK)
        err = definitions_need(s, MQG_CONFIGURE, "exchange", def->name, e);
    if (err == MQG_OK && x != NULL)
        return exchange_compare(x, def, e);
    if (err == MQG_OK)
        err = exchange_check_new(s, def, e);
    if (err == MQG_OK)
        err = exchange_front_check(s, def, e);
    bool fronts = err == MQG_OK && exchange_fronts(&def->args);
    if (fronts)
        err = exchange_front_stream(s, def, ticket, e);
    if (err == MQG_OK)
        err = exchange_make(s, def, type, ticket, e);
    if (err == MQG_OK && fronts)
        queue_stream_declared(topology_queue(s->vhost, def->name));
    return err;
}

/* ---- delete -------------------------------------------------------------------------------------------- */

enum mqg_err mqg_exchange_delete(struct mqg_session *s, struct mqg_slice name, bool if_unused,
                                 uint64_t *ticket, struct mqg_error *e)
{
    *ticket = 0;
    if (name.len == 0)
        return definitions_default_exchange(e);
    if (names_reserved(name))
        return mqg_error_set(e, MQG_DENIED, 403,
                             "deletion of system exchange '%.*s' in vhost '%.*s' not allowed",
                             MQG_SLICE_FMT(name), MQG_SLICE_FMT(mqg_vhost_name(s->vhost)));
    enum mqg_err err = definitions_need(s, MQG_CONFIGURE, "exchange", name, e);
    if (err != MQG_OK)
        return err;
    struct definitions_edit d;
    definitions_begin(&d, s->vhost);
    struct exchange_entry *x = mqg_map_get(&s->vhost->exchanges, name);
    if (x != NULL && if_unused && !LIST_EMPTY(&x->from))
        err = mqg_error_set(e, MQG_IN_USE, 406, "exchange '%.*s' in vhost '%.*s' in use", MQG_SLICE_FMT(name),
                            MQG_SLICE_FMT(mqg_vhost_name(s->vhost)));
    else if (x != NULL)
        exchange_drop(&d, x);
    *ticket = definitions_end(&d);
    return err;
}

/* module.c - the AMQP 0-9-1 module: its descriptor and its place in the host. */
#include "amqp.h"

#include <mqgate/conf.h>

static const char *const amqp_listeners[] = {"amqp", NULL};

static bool amqp_sniff(struct mqg_slice head)
{
    return mqg_slice_starts(head, MQG_SLICE_LIT("AMQP"));
}

static void amqp_describe_channel(const struct amqp_channel *ch, struct mqg_describe *d)
{
    uint32_t consumers = 0;
    for (const struct amqp_consumer *co = ch->consumers; co; co = co->next)
        consumers++;
    d->begin(d->arg, "channel");
    d->num(d->arg, "number", ch->number);
    d->flag(d->arg, "confirm", ch->confirm);
    d->flag(d->arg, "transactional", ch->tx);
    d->num(d->arg, "prefetch_count", ch->prefetch);
    d->num(d->arg, "global_prefetch_count", ch->credit.limit);
    d->num(d->arg, "messages_unacknowledged", ch->unacked_n);
    d->num(d->arg, "messages_unconfirmed", (int64_t)(ch->publish_seq - ch->confirmed));
    d->num(d->arg, "consumer_count", consumers);
    d->str(d->arg, "state", ch->closing ? MQG_SLICE_LIT("closing") : MQG_SLICE_LIT("running"));
    d->end(d->arg);
}

static struct mqg_slice amqp_phase_word(const struct amqp_conn *ac)
{
    static const char *const words[] = {"starting", "starting", "tuning", "opening",
                                        "running",  "closing",  "closed"};
    return mqg_slice_str(ac->phase == AMQP_RUNNING && ac->blocked ? "blocked" : words[ac->phase]);
}

static void amqp_describe(const struct mqg_conn *c, struct mqg_describe *d)
{
    const struct amqp_conn *ac = mqg_conn_state((struct mqg_conn *)(uintptr_t)c);
    d->str(d->arg, "protocol", MQG_SLICE_LIT("AMQP 0-9-1"));
    d->str(d->arg, "state", amqp_phase_word(ac));
    d->str(d->arg, "auth_mechanism", mqg_slice_str(ac->mechanism));
    d->num(d->arg, "channels", ac->nchannels);
    d->num(d->arg, "channel_max", ac->channel_max);
    d->num(d->arg, "frame_max", ac->frame_max);
    d->num(d->arg, "timeout", ac->heartbeat_s);
    struct mqg_arena arena;
    mqg_arena_init(&arena, 1u << 20);
    struct mqg_table props = {0};
    if (ac->client_props &&
        amqp_table_decode(mqg_slice_of(ac->client_props, ac->client_props_len), &arena, &props) == MQG_OK)
        d->table(d->arg, "client_properties", &props);
    mqg_arena_fini(&arena);
    for (uint32_t i = 0; i < ac->channels_cap; i++)
        if (ac->channels[i])
            amqp_describe_channel(ac->channels[i], d);
}

static enum mqg_err amqp_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)e;
    amqp_body_max_bytes = (uint32_t)mqg_conf_int(conf, "limits", "message_size");
    mqg_origin_register(&amqp_origin_ops);
    return MQG_OK;
}

static const struct mqg_protocol_ops amqp_ops = {
    .name = "amqp",
    .proto = MQG_PROTO_AMQP091,
    .conn_bytes = sizeof(struct amqp_conn),
    .listeners = amqp_listeners,
    .default_port = 5672,
    .default_tls_port = 5671,
    .sniff = amqp_sniff,
    .conn_init = amqp_conn_init,
    .input = amqp_conn_input,
    .event = amqp_conn_event,
    .conn_fini = amqp_conn_fini,
    .describe = amqp_describe,
};

MQG_MODULE(amqp) = {
    MQG_MODULE_HEAD(struct mqg_protocol_ops),
    .kind = MQG_MODULE_PROTOCOL,
    .name = "amqp",
    .version = MQG_VERSION,
    .protocol = &amqp_ops,
    .load = amqp_load,
};

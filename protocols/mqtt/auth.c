/* auth.c - enhanced authentication (5.0: 4.12): SCRAM, in which the password is never sent, at CONNECT and again later.
 *
 * CONNECT names the mechanism and may bring its first message; AUTH packets carry the rest; CONNACK, or the last AUTH, the server's
 * signature. CONNECT's other fields are looked at when the account is proved: until then its bytes are kept. Meanwhile the client may
 * say AUTH and DISCONNECT only ([MQTT-3.1.2-30]). A connection that is in may prove itself again while its other packets go on; it
 * stays who it is: another account ends it, and so does a failure ([MQTT-4.12.1-2]). */
#include "mqtt.h"

#include <stdlib.h>

struct mqtt_auth {
    struct mqg_scram *scram; /* NULL: nothing is under way */
    enum mqg_scram_hash hash;
    struct mqg_slice method;  /* as the client said it; owned */
    struct mqg_slice connect; /* CONNECT's body, until it is answered; owned */
    struct mqg_dynbuf last;   /* the server's signature, for CONNACK */
};

enum { AUTH_REPLY_MAX = 4096 };

static void auth_forget(struct mqg_slice *s)
{
    free((void *)(uintptr_t)s->ptr);
    *s = MQG_SLICE_NONE;
}

void mqtt_auth_free(struct mqtt_auth **auth)
{
    struct mqtt_auth *a = *auth;
    *auth = NULL;
    if (!a)
        return;
    mqg_scram_free(&a->scram);
    auth_forget(&a->method);
    auth_forget(&a->connect);
    mqg_dynbuf_fini(&a->last);
    free(a);
}

static void auth_put_props(const struct mqtt_auth *a, struct mqg_slice data, struct mqg_dynbuf *out)
{
    mqtt_add_str(out, MQTT_P_AUTH_METHOD, a->method); /* [MQTT-4.12.0-5] */
    if (data.len > 0)
        mqtt_add_str(out, MQTT_P_AUTH_DATA, data);
}

void mqtt_auth_connack(const struct mqtt_auth *a, struct mqg_dynbuf *props)
{
    if (a)
        auth_put_props(a, mqg_dynbuf_view(&a->last), props);
}

static enum mqg_err auth_send(struct mqtt_conn *c, uint8_t reason, struct mqg_slice data, struct mqg_error *e)
{
    struct mqg_dynbuf props;
    mqg_dynbuf_init(&props, UINT16_MAX + 2 * AUTH_REPLY_MAX);
    auth_put_props(c->auth, data, &props);
    bool sent = mqtt_send(c, MQTT_AUTH, mqg_slice_of(&reason, 1), mqg_dynbuf_view(&props), MQG_SLICE_NONE);
    mqg_dynbuf_fini(&props);
    return sent ? MQG_OK
                : mqg_error_set(e, MQG_TOO_LARGE, MQTT_RC_PACKET_TOO_LARGE,
                                "a client that takes %u bytes does not take AUTH", c->packet_max);
}

/* ---- CONNECT ----------------------------------------------------------------------------------------------------- */

/* The account is proved: what CONNECT asked for. */
static enum mqg_err auth_connected(struct mqtt_conn *c, struct mqg_slice signature, struct mqg_error *e)
{
    struct mqtt_auth *a = c->auth;
    struct mqtt_connect p;
    mqg_dynbuf_reset(&a->last);
    mqg_dynbuf_slice(&a->last, signature);
    mqg_scram_free(&a->scram);
    enum mqg_err err = mqtt_connect_decode(a->connect, &p, e);
    if (err == MQG_OK)
        err = mqtt_connect_go(c, &p, e);
    auth_forget(&a->connect);
    return err;
}

static enum mqg_err auth_refused(struct mqtt_conn *c, const struct mqg_error *why, struct mqg_error *e)
{
    mqg_scram_free(&c->auth->scram);
    return mqg_error_set(e, MQG_UNAUTHENTICATED, MQTT_RC_NOT_AUTHORIZED, "%s", why->text);
}

/* Before CONNACK. */
static enum mqg_err auth_step(struct mqtt_conn *c, const struct mqtt_props *p, struct mqg_error *e)
{
    struct mqg_slice reply;
    struct mqg_error why = {0};
    if (!mqtt_has(p, MQTT_P_AUTH_DATA)) /* it is the client's turn */
        return auth_send(c, MQTT_RC_CONTINUE_AUTHENTICATION, MQG_SLICE_NONE, e);
    enum mqg_err err = mqg_scram_step(c->auth->scram, mqg_conn_info(c->conn), mqtt_str(p, MQTT_P_AUTH_DATA),
                                      &reply, &c->principal, &why);
    if (err == MQG_OK)
        return auth_connected(c, reply, e);
    if (err != MQG_MORE)
        return auth_refused(c, &why, e);
    return auth_send(c, MQTT_RC_CONTINUE_AUTHENTICATION, reply, e);
}

enum mqg_err mqtt_auth_connect(struct mqtt_conn *c, struct mqg_slice body, const struct mqtt_connect *p,
                               struct mqg_error *e)
{
    struct mqg_slice method = mqtt_str(&p->props, MQTT_P_AUTH_METHOD);
    enum mqg_scram_hash hash;
    if (!mqg_scram_find(method, &hash))
        return mqg_error_set(e, MQG_UNSUPPORTED, MQTT_RC_BAD_AUTH_METHOD,
                             "authentication method '%.*s' is unknown", MQG_SLICE_FMT(method));
    struct mqtt_auth *a = mqg_xcalloc(1, sizeof(*a));
    a->hash = hash;
    a->scram = mqg_scram_new(hash);
    a->method = mqg_slice_of(mqg_slice_dup(method), method.len);
    a->connect = mqg_slice_of(mqg_slice_dup(body), body.len);
    mqg_dynbuf_init(&a->last, AUTH_REPLY_MAX);
    c->auth = a;
    c->phase = MQTT_PROVING;
    return auth_step(c, &p->props, e);
}

/* ---- AUTH -------------------------------------------------------------------------------------------------------- */

/* A connection that is in proves itself again. */
static enum mqg_err auth_again(struct mqtt_conn *c, const struct mqtt_props *p, struct mqg_error *e)
{
    struct mqtt_auth *a = c->auth;
    struct mqg_session *who = NULL;
    struct mqg_slice reply;
    struct mqg_error why = {0};
    enum mqg_err err = mqg_scram_step(a->scram, mqg_conn_info(c->conn), mqtt_str(p, MQTT_P_AUTH_DATA), &reply,
                                      &who, &why);
    if (err == MQG_MORE)
        return auth_send(c, MQTT_RC_CONTINUE_AUTHENTICATION, reply, e);
    if (err != MQG_OK)
        return auth_refused(c, &why, e);
    bool same = strcmp(who->user, c->principal->user) == 0;
    mqg_session_unref(&who);
    if (!same)
        return mqg_error_set(e, MQG_DENIED, MQTT_RC_NOT_AUTHORIZED, "a connection stays with its account");
    err = auth_send(c, 0, reply, e);
    mqg_scram_free(&a->scram);
    return err;
}

enum mqg_err mqtt_auth_packet(struct mqtt_conn *c, struct mqg_slice body, struct mqg_error *e)
{
    struct mqtt_goodbye auth;
    struct mqtt_auth *a = c->auth;
    enum mqg_err err = mqtt_goodbye_decode(MQTT_AUTH, body, c->version, &auth, e);
    if (err != MQG_OK)
        return err;
    if (!a) /* [MQTT-4.12.0-6] */
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "AUTH without an authentication method");
    if (!mqg_slice_eq(mqtt_str(&auth.props, MQTT_P_AUTH_METHOD),
                      a->method)) /* [MQTT-4.12.0-5], [MQTT-4.12.1-1] */
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "AUTH with another method than CONNECT");
    bool begins = auth.reason == MQTT_RC_REAUTHENTICATE;
    if (begins != (c->phase == MQTT_UP && !a->scram))
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "AUTH out of its order");
    if (c->phase == MQTT_PROVING)
        return auth_step(c, &auth.props, e);
    if (begins)
        a->scram = mqg_scram_new(a->hash);
    return auth_again(c, &auth.props, e);
}

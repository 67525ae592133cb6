/* login.c - SASL: PLAIN (RFC 4616), AMQPLAIN (a field table), EXTERNAL (the client certificate's CN).
 *
 * Why a login failed is for the log only; the client hears RabbitMQ's one sentence. */
#include "amqp.h"

#include <stdio.h>

/* EXTERNAL only where a client certificate was verified: some clients take the first that they know. */
const char *amqp_mechanisms(const struct mqg_conn_info *from)
{
    return from->cert_subject_cn[0] != '\0' ? "PLAIN AMQPLAIN EXTERNAL" : "PLAIN AMQPLAIN";
}

/* [authzid] NUL authcid NUL password; the authorisation id is ignored, as RabbitMQ does. */
static bool login_plain(struct mqg_slice r, struct mqg_slice *user, struct mqg_slice *password)
{
    const uint8_t *first = r.len ? memchr(r.ptr, 0, r.len) : NULL;
    if (!first)
        return false;
    size_t at = (size_t)(first - r.ptr) + 1;
    const uint8_t *second = at < r.len ? memchr(r.ptr + at, 0, r.len - at) : NULL;
    if (!second)
        return false;
    *user = mqg_slice_of(r.ptr + at, (size_t)(second - r.ptr) - at);
    *password = mqg_slice_of(second + 1, r.len - (size_t)(second - r.ptr) - 1);
    return true;
}

static bool login_amqplain(struct mqg_slice r, struct mqg_slice *user, struct mqg_slice *password)
{
    struct amqp_value login, secret;
    return amqp_table_check(r) == MQG_OK && amqp_table_find(r, MQG_SLICE_LIT("LOGIN"), &login) &&
           amqp_table_find(r, MQG_SLICE_LIT("PASSWORD"), &secret) && amqp_value_bytes(&login, user) &&
           amqp_value_bytes(&secret, password);
}

enum mqg_err amqp_login(struct amqp_conn *ac, struct mqg_slice mechanism, struct mqg_slice response,
                        struct mqg_error *e)
{
    const struct mqg_conn_info *from = mqg_conn_info(ac->conn);
    struct mqg_slice user = MQG_SLICE_NONE, password = MQG_SLICE_NONE;
    snprintf(ac->mechanism, sizeof(ac->mechanism), "%.*s", MQG_SLICE_FMT(mechanism));
    bool understood;
    if (mqg_slice_eq(mechanism, MQG_SLICE_LIT("PLAIN"))) {
        understood = login_plain(response, &user, &password);
    } else if (mqg_slice_eq(mechanism, MQG_SLICE_LIT("AMQPLAIN"))) {
        understood = login_amqplain(response, &user, &password);
    } else if (mqg_slice_eq(mechanism, MQG_SLICE_LIT("EXTERNAL"))) {
        if (from->cert_subject_cn[0] != '\0')
            return mqg_auth_external(from, mqg_slice_str(from->cert_subject_cn), &ac->session, e);
        return mqg_error_set(e, MQG_UNAUTHENTICATED, AMQP_ACCESS_REFUSED, "no client certificate");
    } else {
        return mqg_error_set(e, MQG_UNSUPPORTED, AMQP_CHANNEL_ERROR,
                             "authentication mechanism '%.*s' is not supported", MQG_SLICE_FMT(mechanism));
    }
    if (!understood)
        return mqg_error_set(e, MQG_UNAUTHENTICATED, AMQP_ACCESS_REFUSED,
                             "the response is not of the mechanism's form");
    return mqg_auth_password(from, user, password, &ac->session, e);
}

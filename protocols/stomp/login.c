/* login.c - CONNECT and STOMP: version, account, vhost, heart-beats.
 *
 * Who: the headers login and passcode; without them a verified client certificate's name; without one the default user, if
 * one is configured; else nobody, which is guest where auth.anonymous allows it. Where: the header host names a vhost. Most
 * client libraries put the server's host name there, so an unknown one means the default vhost, unless that is turned off. */
#include "stomp.h"

#include <stdio.h>

/* ---- version ------------------------------------------------------------------------------------------------------------ */

/* The highest version both know; a CONNECT without accept-version is 1.0 (1.1, "Protocol Negotiation"). */
static bool login_version(struct mqg_slice accept, enum stomp_version *out)
{
    bool found = false;
    *out = STOMP_10;
    if (accept.ptr == NULL)
        return true;
    while (accept.len > 0) {
        const uint8_t *comma = memchr(accept.ptr, ',', accept.len);
        struct mqg_slice word = mqg_slice_of(accept.ptr,
                                             comma != NULL ? (size_t)(comma - accept.ptr) : accept.len);
        size_t skip = comma != NULL ? word.len + 1 : word.len;
        accept = mqg_slice_of(accept.ptr + skip, accept.len - skip);
        while (word.len > 0 && word.ptr[0] == ' ')
            word = mqg_slice_of(word.ptr + 1, word.len - 1);
        while (word.len > 0 && word.ptr[word.len - 1] == ' ')
            word.len--;
        for (int v = 0; v < STOMP_VERSIONS; v++)
            if (mqg_slice_eq(word, mqg_slice_str(stomp_version_name((enum stomp_version)v)))) {
                found = true;
                *out = (enum stomp_version)v > *out ? (enum stomp_version)v : *out;
            }
    }
    return found;
}

/* ---- account ------------------------------------------------------------------------------------------------------------ */

static enum mqg_err login_account(struct stomp_conn *sc, struct mqg_slice user, struct mqg_slice password,
                                  struct mqg_error *e)
{
    const struct mqg_conn_info *from = mqg_conn_info(sc->conn);
    if (user.ptr == NULL && password.ptr == NULL) {
        if (from->cert_subject_cn[0] != '\0')
            return mqg_auth_external(from, mqg_slice_str(from->cert_subject_cn), &sc->session, e);
        user = mqg_slice_str(stomp_settings.user);
        password = mqg_slice_str(stomp_settings.password);
    }
    return mqg_auth_password(from, user, password, &sc->session, e);
}

static enum mqg_err login_vhost(struct stomp_conn *sc, struct mqg_slice host, struct mqg_error *e)
{
    struct mqg_slice fallback = mqg_slice_str(stomp_settings.vhost);
    if (host.len == 0)
        return mqg_session_open(sc->session, fallback, e);
    enum mqg_err err = mqg_session_open(sc->session, host, e);
    if (err == MQG_NOT_FOUND && stomp_settings.vhost_fallback)
        err = mqg_session_open(sc->session, fallback, e);
    return err;
}

static void login_refused(struct stomp_conn *sc, struct mqg_slice user, const struct mqg_error *e)
{
    mqg_count(MQG_COUNT_LOGINS_FAILED, 1);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_LOGIN, "conn=%llu result=refused user=%s why=%s",
            (unsigned long long)mqg_conn_info(sc->conn)->id, mqg_logq(user), mqg_logqs(e->text));
}

static bool login_open(struct stomp_conn *sc, struct mqg_slice user, struct mqg_slice password,
                       struct mqg_slice host)
{
    struct mqg_error e;
    if (login_account(sc, user, password, &e) != MQG_OK) {
        login_refused(sc, user, &e);
        stomp_fail(sc, "Bad CONNECT", "Access refused for user '%.*s'", MQG_SLICE_FMT(user));
        return false;
    }
    enum mqg_err err = login_vhost(sc, host, &e);
    if (err != MQG_OK) {
        login_refused(sc, user, &e);
        stomp_fail(sc, "Bad CONNECT",
                   err == MQG_NOT_FOUND ? "Virtual host '%.*s' does not exist"
                                        : "Virtual host '%.*s' access denied",
                   MQG_SLICE_FMT(host));
        return false;
    }
    const struct mqg_conn_info *i = mqg_conn_info(sc->conn);
    struct mqg_slice vhost = mqg_vhost_name(sc->session->vhost);
    mqg_conn_session(sc->conn, sc->session);
    mqg_conn_input_max(sc->conn, STOMP_INPUT_BYTES);
    mqg_pub_init(&sc->pub, &stomp_pub_ops, sc->session, sc);
    snprintf(sc->session_name, sizeof sc->session_name, "session-%llx", (unsigned long long)i->id);
    sc->phase = STOMP_RUNNING;
    mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_LOGIN, "conn=%llu result=ok user=%s vhost=%s version=%s peer=%s:%u",
            (unsigned long long)i->id, mqg_logqs(sc->session->user), mqg_logq(vhost),
            stomp_version_name(sc->version), i->peer_host, i->peer_port);
    return true;
}

/* ---- heart-beats -------------------------------------------------------------------------------------------------------- */

static uint64_t login_interval(uint64_t ms)
{
    return ms > 0 && ms < STOMP_HEART_BEAT_LEAST_MS ? STOMP_HEART_BEAT_LEAST_MS : ms;
}

/* "cx,cy": what the client can send, what it wants to get. We do as it likes, within reason. */
static bool login_heart_beats(struct stomp_conn *sc, struct mqg_slice text)
{
    if (text.ptr == NULL)
        return true;
    const uint8_t *comma = text.len > 0 ? memchr(text.ptr, ',', text.len) : NULL;
    size_t first = comma != NULL ? (size_t)(comma - text.ptr) : 0;
    struct mqg_slice second = comma != NULL ? mqg_slice_of(comma + 1, text.len - first - 1) : MQG_SLICE_NONE;
    while (second.len > 0 && second.ptr[0] == ' ')
        second = mqg_slice_of(second.ptr + 1, second.len - 1);
    uint64_t in_ms = 0, out_ms = 0;
    if (!stomp_number(mqg_slice_of(text.ptr, first), 1u << 31, &in_ms) ||
        !stomp_number(second, 1u << 31, &out_ms)) {
        stomp_fail(sc, "Invalid header", "heart-beat must be two numbers of milliseconds, this is '%.*s'",
                   MQG_SLICE_FMT(text));
        return false;
    }
    sc->heart_in_ms = login_interval(in_ms);
    sc->heart_out_ms = login_interval(out_ms);
    return true;
}

/* ---- CONNECT ------------------------------------------------------------------------------------------------------------ */

static void login_connected(struct stomp_conn *sc)
{
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 4096);
    mqg_dynbuf_printf(&out, "CONNECTED\nversion:%s\nheart-beat:%llu,%llu\nsession:%s\nserver:mqgate/%s\n",
                      stomp_version_name(sc->version), (unsigned long long)sc->heart_out_ms,
                      (unsigned long long)sc->heart_in_ms, sc->session_name, MQG_VERSION);
    mqg_dynbuf_put(&out, "\n", 2); /* the empty line, and the NUL */
    mqg_conn_write(sc->conn, mqg_dynbuf_view(&out));
    mqg_dynbuf_fini(&out);
    stomp_heart_beats(sc);
}

static struct mqg_slice login_header(const struct stomp_head *h, enum stomp_header_id id)
{
    if (!stomp_has(h, id))
        return MQG_SLICE_NONE;
    return h->known[id];
}

void stomp_connect(struct stomp_conn *sc, const struct stomp_head *h)
{
    /* These two frames have no escapes, in any version, so that 1.0 clients may send them (1.2, "Value Encoding"). */
    if (stomp_has(h, STOMP_H_RECEIPT)) {
        stomp_fail(sc, "Invalid header", "%.*s takes no receipt", MQG_SLICE_FMT(h->command_text));
        return;
    }
    if (!login_version(login_header(h, STOMP_H_ACCEPT_VERSION), &sc->version)) {
        stomp_fail(sc, "Version mismatch", "Supported versions are 1.0,1.1,1.2");
        return;
    }
    if (!login_heart_beats(sc, login_header(h, STOMP_H_HEART_BEAT)))
        return;
    if (login_open(sc, login_header(h, STOMP_H_LOGIN), login_header(h, STOMP_H_PASSCODE),
                   login_header(h, STOMP_H_HOST)))
        login_connected(sc);
}

void stomp_connect_implicit(struct stomp_conn *sc)
{
    sc->version = STOMP_10;
    if (login_open(sc, MQG_SLICE_NONE, MQG_SLICE_NONE, MQG_SLICE_NONE))
        stomp_heart_beats(sc);
}

/* sasl.c - logins: SaslHandshake, SaslAuthenticate, and the bare tokens of clients older than KIP-152.
 *
 *   SaslHandshake v1, then SaslAuthenticate until the mechanism is done              (since Kafka 1.0)
 *   SaslHandshake v0, then tokens, each with a length of 4 bytes and nothing else    (before)
 *
 * PLAIN is one token (authzid NUL user NUL password), SCRAM two (core/auth). Why a login failed is in the log; the client is told
 * that it did, and the connection ends. With kafka.sasl_lifetime a client is told for how long its login is good and logs in
 * again on the same connection (KIP-368), as the same user and by the same mechanism; one that does not is disconnected at its
 * next request. */
#include "sasl.h"

#include "admin.h"

#include <stdlib.h>

enum sasl_mechanism { SASL_PLAIN, SASL_SCRAM };

struct kafka_sasl {
    enum sasl_mechanism mechanism;
    enum mqg_scram_hash hash; /* SCRAM */
    struct mqg_scram *scram;
    bool chosen, raw; /* a handshake was answered, and nothing followed it to its end; by v0 */
    bool done;        /* somebody is logged in */
    enum sasl_mechanism done_mechanism;
    enum mqg_scram_hash done_hash;
    uint64_t until_ms; /* monotonic; 0: for ever */
};

static uint64_t sasl_lifetime_ms;
static struct mqg_slice sasl_names[] = {MQG_SLICE_INIT("PLAIN"), MQG_SLICE_INIT("SCRAM-SHA-256"),
                                        MQG_SLICE_INIT("SCRAM-SHA-512")};

/* ---- the handshake ------------------------------------------------------------------------------------------------------- */

static bool sasl_find(struct mqg_slice name, struct kafka_sasl *s)
{
    s->mechanism = mqg_slice_eq(name, sasl_names[0]) ? SASL_PLAIN : SASL_SCRAM;
    return s->mechanism == SASL_PLAIN || mqg_scram_find(name, &s->hash);
}

static void sasl_handshake(struct kafka_call *c)
{
    const struct kafka_sasl_handshake_request *q = c->request;
    struct kafka_sasl_handshake_response *r = c->response;
    struct kafka_conn *kc = c->conn;
    if (kc->sasl == NULL)
        kc->sasl = mqg_xcalloc(1, sizeof *kc->sasl);
    struct kafka_sasl *s = kc->sasl;
    r->mechanisms = sasl_names;
    r->mechanisms_n = MQG_COUNTOF(sasl_names);
    bool in = kc->phase == KAFKA_RUNNING &&
              !s->done; /* came in without a login: cannot become somebody else */
    bool good = !in && !s->chosen && sasl_find(q->mechanism, s);
    r->error_code = good              ? KAFKA_NONE
                    : in || s->chosen ? KAFKA_ILLEGAL_SASL_STATE
                                      : KAFKA_UNSUPPORTED_SASL_MECHANISM;
    mqg_scram_free(&s->scram);
    s->chosen = good;
    s->raw = good && c->head.version == 0;
    kafka_call_answer(c);
    if (!good)
        kafka_conn_end(kc);
}

/* ---- tokens ----------------------------------------------------------------------------------------------------------------- */

/* authzid NUL authcid NUL password (RFC 4616); an authzid must be the user itself. */
static enum mqg_err sasl_plain(const struct mqg_conn_info *from, struct mqg_slice token,
                               struct mqg_session **out, struct mqg_error *e)
{
    struct mqg_slice part[3];
    for (int i = 0; i < 3; i++) {
        const uint8_t *nul = token.len > 0 ? memchr(token.ptr, 0, token.len) : NULL;
        if ((nul == NULL) != (i == 2))
            return mqg_error_set(e, MQG_MALFORMED, 0, "SASL PLAIN: not three parts");
        size_t n = nul != NULL ? (size_t)(nul - token.ptr) : token.len;
        part[i] = mqg_slice_of(token.ptr, n);
        token = nul != NULL ? mqg_slice_of(nul + 1, token.len - n - 1) : MQG_SLICE_NONE;
    }
    if (part[1].len == 0 || (part[0].len > 0 && !mqg_slice_eq(part[0], part[1])))
        return mqg_error_set(e, MQG_MALFORMED, 0, "SASL PLAIN: no user, or another authorization id");
    return mqg_auth_password(from, part[1], part[2], out, e);
}

static enum mqg_err sasl_step(struct kafka_conn *kc, struct mqg_slice token, struct mqg_slice *reply,
                              struct mqg_session **out, struct mqg_error *e)
{
    struct kafka_sasl *s = kc->sasl;
    const struct mqg_conn_info *from = mqg_conn_info(kc->conn);
    *reply = MQG_SLICE_LIT("");
    if (s->mechanism == SASL_PLAIN)
        return sasl_plain(from, token, out, e);
    if (s->scram == NULL)
        s->scram = mqg_scram_new(s->hash);
    return mqg_scram_step(s->scram, from, token, reply, out, e);
}

/* A second login of a connection changes nothing but how long it is good. */
static enum mqg_err sasl_again(struct kafka_conn *kc, struct mqg_session **session, struct mqg_error *e)
{
    const struct kafka_sasl *s = kc->sasl;
    bool same = strcmp((*session)->user, kc->session->user) == 0 && s->mechanism == s->done_mechanism &&
                (s->mechanism == SASL_PLAIN || s->hash == s->done_hash);
    mqg_session_unref(session);
    return same ? MQG_OK
                : mqg_error_set(e, MQG_UNAUTHENTICATED, 0,
                                "a second login as somebody else or by another mechanism");
}

static enum mqg_err sasl_admit(struct kafka_conn *kc, struct mqg_session **session, struct mqg_error *e)
{
    struct kafka_sasl *s = kc->sasl;
    enum mqg_err err = s->done ? sasl_again(kc, session, e) : kafka_conn_login(kc, session, e);
    if (err != MQG_OK)
        return err;
    s->chosen = s->raw = false;
    s->done = true;
    s->done_mechanism = s->mechanism;
    s->done_hash = s->hash;
    s->until_ms = sasl_lifetime_ms > 0 ? mqg_clock_mono_us() / 1000 + sasl_lifetime_ms : 0;
    return MQG_OK;
}

/* OK: logged in; MORE: send *reply and go on; else it failed. */
static enum mqg_err sasl_token(struct kafka_conn *kc, struct mqg_slice token, struct mqg_slice *reply)
{
    struct mqg_session *session = NULL;
    struct mqg_error e = {.text = ""};
    enum mqg_err err = sasl_step(kc, token, reply, &session, &e);
    if (err == MQG_OK)
        err = sasl_admit(kc, &session, &e);
    if (err != MQG_OK && err != MQG_MORE)
        mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_LOGIN, "conn=%llu result=refused peer=%s:%u why=%s",
                (unsigned long long)mqg_conn_info(kc->conn)->id, mqg_conn_info(kc->conn)->peer_host,
                mqg_conn_info(kc->conn)->peer_port, mqg_logqs(e.text));
    return err;
}

/* ---- SaslAuthenticate ---------------------------------------------------------------------------------------------------------- */

static void sasl_authenticate(struct kafka_call *c)
{
    const struct kafka_sasl_authenticate_request *q = c->request;
    struct kafka_sasl_authenticate_response *r = c->response;
    struct kafka_conn *kc = c->conn;
    enum mqg_err err = MQG_INVALID;
    r->auth_bytes = MQG_SLICE_LIT("");
    r->error_message = MQG_SLICE_NONE;
    if (kc->sasl == NULL || !kc->sasl->chosen) {
        r->error_code = KAFKA_ILLEGAL_SASL_STATE;
        r->error_message = mqg_slice_str(
            "SaslAuthenticate request received without a SaslHandshake before it");
    } else {
        err = sasl_token(kc, q->auth_bytes, &r->auth_bytes);
    }
    bool good = err == MQG_OK || err == MQG_MORE;
    if (!good && r->error_code == KAFKA_NONE) {
        r->error_code = KAFKA_SASL_AUTHENTICATION_FAILED;
        r->error_message = mqg_slice_str(kc->sasl->mechanism == SASL_PLAIN
                                             ? "Authentication failed: Invalid username or password"
                                             : "Authentication failed during authentication due to invalid "
                                               "credentials with SASL mechanism SCRAM");
    }
    if (err == MQG_OK)
        r->session_lifetime_ms = (int64_t)sasl_lifetime_ms;
    kafka_call_answer(c);
    if (err != MQG_MORE && kc->sasl != NULL)
        mqg_scram_free(&kc->sasl->scram);
    if (!good)
        kafka_conn_end(kc);
}

/* ---- bare tokens ----------------------------------------------------------------------------------------------------------------- */

bool kafka_sasl_is_raw(const struct kafka_conn *kc)
{
    return kc->sasl != NULL && kc->sasl->raw;
}

void kafka_sasl_raw(struct kafka_conn *kc, struct mqg_slice token)
{
    struct mqg_slice reply;
    uint8_t head[4];
    enum mqg_err err = sasl_token(kc, token, &reply);
    if (err != MQG_OK && err != MQG_MORE) {
        kafka_conn_fail(kc, "a login by SASL failed");
        return;
    }
    mqg_put_be32(head, (uint32_t)reply.len);
    mqg_conn_write(kc->conn, mqg_slice_of(head, sizeof head));
    if (reply.len > 0)
        mqg_conn_write(kc->conn, reply);
    if (err == MQG_OK)
        mqg_scram_free(&kc->sasl->scram);
}

bool kafka_sasl_expired(const struct kafka_conn *kc)
{
    return kc->sasl != NULL && kc->sasl->until_ms > 0 && mqg_clock_mono_us() / 1000 > kc->sasl->until_ms;
}

/* ---- the part ------------------------------------------------------------------------------------------------------------------- */

static void sasl_reload(const struct mqg_conf *conf)
{
    sasl_lifetime_ms = (uint64_t)mqg_conf_int(conf, "kafka", "sasl_lifetime");
}

static enum mqg_err sasl_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)e;
    sasl_reload(conf);
    return MQG_OK;
}

static void sasl_conn_fini(struct kafka_conn *kc)
{
    if (kc->sasl != NULL)
        mqg_scram_free(&kc->sasl->scram);
    free(kc->sasl);
    kc->sasl = NULL;
}

static const struct kafka_api sasl_apis[] = {
    {KAFKA_API_SASL_HANDSHAKE, 0, 1, KAFKA_API_INPLACE | KAFKA_API_OPEN, sasl_handshake},
    {KAFKA_API_SASL_AUTHENTICATE, 0, 2, KAFKA_API_INPLACE | KAFKA_API_OPEN, sasl_authenticate},
    {.key = -1},
};

const struct kafka_part kafka_sasl_part = {
    .name = "sasl", .apis = sasl_apis, .load = sasl_load, .reload = sasl_reload, .conn_fini = sasl_conn_fini};

/* request.c - from a frame to its handler: the table of APIs, ApiVersions, who may ask what before it is known.
 *
 * The table is joined from the parts' own at load, and ApiVersions is made from it, so that what is told is what is there. An
 * API or version that is not in it ends the connection, as a client cannot be answered in a form that it knows; ApiVersions
 * alone is answered in its oldest form with the versions that are there (KIP-511).
 *
 * A request is decoded where it lies when its handler has promised to keep nothing of it (KAFKA_API_INPLACE); else its frame is
 * copied first. */
#include "kafka_int.h"
#include "sasl.h"

#include <stdio.h>

static const struct kafka_api *api_rows[KAFKA_API_LAST + 1];

enum mqg_err kafka_apis_load(struct mqg_error *e)
{
    for (size_t i = 0; kafka_parts[i] != NULL; i++)
        for (const struct kafka_api *a = kafka_parts[i]->apis; a != NULL && a->key >= 0; a++) {
            if (api_rows[a->key] != NULL && api_rows[a->key] != a)
                return mqg_error_set(e, MQG_EXISTS, 0, "kafka: two handlers of api %d", a->key);
            api_rows[a->key] = a;
        }
    return MQG_OK;
}

const struct kafka_api *kafka_api_find(int16_t key)
{
    return key >= 0 && key <= KAFKA_API_LAST ? api_rows[key] : NULL;
}

/* ---- who is it ----------------------------------------------------------------------------------------------------------- */

static bool login_anonymous_ok(const struct kafka_listener *l, const struct mqg_conn_info *from)
{
    return l->anonymous == KAFKA_ANONYMOUS_ANY ||
           (l->anonymous == KAFKA_ANONYMOUS_LOOPBACK && from->flags & MQG_CONN_LOOPBACK);
}

/* A client that does not log in is whom its certificate names, else nobody in particular, where that is allowed. */
static bool login_silent(struct kafka_conn *kc)
{
    struct mqg_error e = {.text = "a login is needed here"};
    const struct mqg_conn_info *from = mqg_conn_info(kc->conn);
    const struct kafka_listener *l = kafka_listener(kc);
    struct mqg_session *session = NULL;
    enum mqg_err err = MQG_UNAUTHENTICATED;
    if (from->cert_subject_cn[0] != '\0')
        err = mqg_auth_external(from, mqg_slice_str(from->cert_subject_cn), &session, &e);
    else if (login_anonymous_ok(l, from))
        err = mqg_auth_external(from, mqg_slice_str(l->user), &session, &e);
    if (err == MQG_OK)
        err = kafka_conn_login(kc, &session, &e);
    if (err == MQG_OK)
        return true;
    mqg_count(MQG_COUNT_LOGINS_FAILED, 1);
    kafka_conn_fail(kc, "refused without a login: %s", e.text);
    return false;
}

static void login_vhost_of_user(void *arg, const struct mqg_perm_info *p)
{
    struct {
        const char *user;
        char vhost[256];
        unsigned n;
    } *found = arg;
    if (strcmp(p->user, found->user) != 0)
        return;
    snprintf(found->vhost, sizeof found->vhost, "%s", p->vhost);
    found->n++;
}

/* The listener's vhost; a user who may not enter it but one other enters that. */
static enum mqg_err login_vhost(struct kafka_conn *kc, struct mqg_session *s, struct mqg_error *e)
{
    enum mqg_err err = mqg_session_open(s, kafka_listener(kc)->vhost, e);
    if (err != MQG_DENIED)
        return err;
    struct {
        const char *user;
        char vhost[256];
        unsigned n;
    } own = {.user = s->user};
    mqg_perm_each(login_vhost_of_user, &own);
    return own.n == 1 ? mqg_session_open(s, mqg_slice_str(own.vhost), e) : err;
}

enum mqg_err kafka_conn_login(struct kafka_conn *kc, struct mqg_session **session, struct mqg_error *e)
{
    enum mqg_err err = login_vhost(kc, *session, e);
    if (err != MQG_OK) {
        mqg_session_unref(session);
        return err;
    }
    const struct mqg_conn_info *i = mqg_conn_info(kc->conn);
    mqg_session_unref(&kc->session);
    kc->session = *session;
    *session = NULL;
    kafka_topics_free(kc);
    kc->phase = KAFKA_RUNNING;
    mqg_conn_session(kc->conn, kc->session);
    mqg_conn_idle(kc->conn, kafka_settings.idle_ms);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_LOGIN,
            "conn=%llu result=ok user=%s vhost=%s client=%s software=%s peer=%s:%u",
            (unsigned long long)i->id, mqg_logqs(kc->session->user),
            mqg_logq(mqg_vhost_name(kafka_vhost(kc))), mqg_logq(mqg_dynbuf_view(&kc->client_id)),
            mqg_logqs(kc->software), i->peer_host, i->peer_port);
    return MQG_OK;
}

/* ---- requests ------------------------------------------------------------------------------------------------------------ */

static void request_client_id(struct kafka_conn *kc, struct mqg_slice id)
{
    if (kc->client_id.max == 0)
        mqg_dynbuf_init(&kc->client_id, INT16_MAX);
    if (mqg_slice_eq(mqg_dynbuf_view(&kc->client_id), id))
        return;
    mqg_dynbuf_reset(&kc->client_id);
    mqg_dynbuf_slice(&kc->client_id, id);
}

/* Request and response structs; false: the connection was failed. */
static bool request_decode(struct kafka_call *c)
{
    const struct kafka_message *response = kafka_responses[c->head.key];
    void *request = mqg_arena_alloc(&c->arena, c->head.message->layout->size);
    c->response = mqg_arena_alloc(&c->arena, response->layout->size);
    MQG_ASSERT(request != NULL && c->response != NULL);
    kafka_init(response, c->response);
    c->request = request;
    enum mqg_err err = kafka_decode(c->head.message, c->head.version, c->head.body, &c->arena, request);
    if (err != MQG_OK)
        kafka_call_drop(c, err == MQG_TOO_LARGE ? "too many elements" : "malformed");
    return err == MQG_OK;
}

static void request_begin(struct kafka_conn *kc, const struct kafka_api *api, struct mqg_slice frame,
                          const struct kafka_request_head *head, uint8_t *owned)
{
    bool inplace = api->flags & KAFKA_API_INPLACE;
    struct kafka_call *c = kafka_call_begin(kc, inplace ? NULL : owned, (uint32_t)frame.len);
    c->api = api;
    c->head = *head;
    if (!inplace && owned == NULL) {
        enum mqg_err err = kafka_request_head(kafka_call_keep(c, frame), &c->head);
        MQG_ASSERT(err == MQG_OK);
    }
    kc->alone = api->flags & KAFKA_API_ALONE;
    if (request_decode(c))
        api->call(c);
    if (inplace)
        kafka_frame_free(owned, frame.len);
}

/* ApiVersions of a version that we do not know is answered in the oldest form. */
static void request_unknown_versions(struct kafka_conn *kc, const struct kafka_request_head *head)
{
    struct kafka_call *c = kafka_call_begin(kc, NULL, 0);
    c->api = kafka_api_find(KAFKA_API_API_VERSIONS);
    c->head = *head;
    c->head.version = 0;
    const struct kafka_message *m = kafka_responses[KAFKA_API_API_VERSIONS];
    struct kafka_api_versions_response *r = c->response = mqg_arena_alloc(&c->arena, m->layout->size);
    kafka_init(m, r);
    r->error_code = KAFKA_UNSUPPORTED_VERSION;
    c->api->call(c);
}

static bool request_is_known(struct kafka_conn *kc, const struct kafka_request_head *head, enum mqg_err err,
                             const struct kafka_api *api)
{
    if (err == MQG_MALFORMED)
        kafka_conn_fail(kc, "a malformed request head");
    else if (api != NULL && err == MQG_OK && head->version >= api->first && head->version <= api->last)
        return true;
    else if (head->key == KAFKA_API_API_VERSIONS)
        request_unknown_versions(kc, head);
    else
        kafka_conn_fail(kc, "api %d version %d is not served", head->key, head->version);
    return false;
}

/* A login's time is over, and this is no new one. */
static bool request_too_late(struct kafka_conn *kc, const struct kafka_api *api)
{
    if (api->flags & KAFKA_API_OPEN || !kafka_sasl_expired(kc))
        return false;
    kafka_conn_fail(kc, "the login's time is over");
    return true;
}

void kafka_request(struct kafka_conn *kc, struct mqg_slice frame, uint8_t *owned)
{
    struct kafka_request_head head;
    if (MQG_UNLIKELY(kafka_sasl_is_raw(kc))) {
        kafka_sasl_raw(kc, frame);
        kafka_frame_free(owned, frame.len);
        return;
    }
    enum mqg_err err = kafka_request_head(frame, &head);
    const struct kafka_api *api = kafka_api_find(head.key);
    mqg_conn_note(kc->conn, "request", (uint32_t)head.key);
    if (!request_is_known(kc, &head, err, api)) {
        kafka_frame_free(owned, frame.len);
        return;
    }
    request_client_id(kc, head.client_id);
    MQG_TRACE("kafka", mqg_conn_info(kc->conn)->id, "conn=%llu api=%s version=%d bytes=%zu",
              (unsigned long long)mqg_conn_info(kc->conn)->id, head.message->name, head.version, frame.len);
    if ((kc->phase == KAFKA_STARTING && !(api->flags & KAFKA_API_OPEN) && !login_silent(kc)) ||
        request_too_late(kc, api)) {
        kafka_frame_free(owned, frame.len);
        return;
    }
    request_begin(kc, api, frame, &head, owned);
}

/* ---- ApiVersions ---------------------------------------------------------------------------------------------------------- */

/* KIP-511: letters, digits, '-' and '.', beginning and ending with a letter or digit. */
static bool versions_word_ok(struct mqg_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool inner = (c == '-' || c == '.') && i > 0 && i + 1 < s.len;
        if (!letter && !inner)
            return false;
    }
    return s.len > 0;
}

static void versions_software(struct kafka_call *c)
{
    const struct kafka_api_versions_request *q = c->request;
    struct kafka_api_versions_response *r = c->response;
    if (q == NULL || c->head.version < 3)
        return;
    if (!versions_word_ok(q->client_software_name) || !versions_word_ok(q->client_software_version))
        r->error_code = KAFKA_INVALID_REQUEST;
    else
        snprintf(c->conn->software, sizeof c->conn->software, "%.*s %.*s",
                 MQG_SLICE_FMT(q->client_software_name), MQG_SLICE_FMT(q->client_software_version));
}

/* What is not an API, but a way in which several are used. Earlier versions cannot say a feature that may be 0 (KIP-1022). */
static void versions_features(struct kafka_call *c)
{
    static const struct {
        const char *name;
        int16_t max;
    } features[] = {
        {"group.version", 1},       /* KIP-848 */
        {"transaction.version", 2}, /* KIP-890 */
    };
    struct kafka_api_versions_response *r = c->response;
    if (c->head.version < 4)
        return;
    r->supported_features = kafka_call_alloc(c, MQG_COUNTOF(features), sizeof *r->supported_features);
    r->finalized_features = kafka_call_alloc(c, MQG_COUNTOF(features), sizeof *r->finalized_features);
    MQG_ASSERT(r->supported_features != NULL && r->finalized_features != NULL);
    r->finalized_features_epoch = 0;
    r->supported_features_n = r->finalized_features_n = MQG_COUNTOF(features);
    for (size_t i = 0; i < MQG_COUNTOF(features); i++) {
        r->supported_features[i].name = r->finalized_features[i].name = mqg_slice_str(features[i].name);
        r->supported_features[i].max_version = features[i].max;
        r->finalized_features[i].max_version_level = r->finalized_features[i].min_version_level =
            features[i].max;
    }
}

static void versions_call(struct kafka_call *c)
{
    struct kafka_api_versions_response *r = c->response;
    versions_software(c);
    r->api_keys = kafka_call_alloc(c, MQG_COUNTOF(api_rows), sizeof *r->api_keys);
    MQG_ASSERT(r->api_keys != NULL);
    for (size_t i = 0; i < MQG_COUNTOF(api_rows); i++)
        if (api_rows[i] != NULL)
            r->api_keys[r->api_keys_n++] = (struct kafka_api_versions_response_api_keys){
                .api_key = api_rows[i]->key,
                .min_version = api_rows[i]->first,
                .max_version = api_rows[i]->last};
    versions_features(c);
    kafka_call_answer(c);
}

const struct kafka_api kafka_core_apis[] = {
    {KAFKA_API_API_VERSIONS, 0, 4, KAFKA_API_INPLACE | KAFKA_API_OPEN, versions_call},
    {.key = -1},
};

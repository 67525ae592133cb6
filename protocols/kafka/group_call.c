/* group_call.c - JoinGroup, SyncGroup, Heartbeat, LeaveGroup as they come from the wire.
 *
 * A join or a sync waits in its group as a struct group_wait. Whichever worker decides it (another member's request, the home
 * worker's timer) fills it and wakes the call, which writes its answer on its own connection's worker. The wake happens under
 * the group's mutex: a connection that closes takes the mutex to take its wait back, and after that nobody has the call. */
#include "group_table.h"

#include <stdlib.h>

#define GROUP_PROTOCOLS_BYTES (1u << 20) /* of one member: what it may make the coordinator keep */
#define GROUP_PROTOCOLS       64

struct group_call {
    struct group_wait wait;
    struct kafka_call *call;
    struct kafka_group *group; /* one reference */
};

static void call_free(struct group_call **p)
{
    group_wait_fini(&(*p)->wait);
    kafka_group_unref((*p)->group);
    free(*p);
    *p = NULL;
}

static void call_gone(struct kafka_call *c)
{
    struct group_call *p = c->owner;
    (void)kafka_group_relock(p->group);
    group_wait_cancel(&p->group->classic, kafka_now_ms(), &p->wait);
    kafka_group_unlock(p->group);
    call_free(&p);
}

void kafka_group_call_answered(struct group_wait *w)
{
    kafka_call_wake(((struct group_call *)w->owner)->call);
}

/* Takes over a reference on the group, which is locked. */
static struct group_call *call_wait(struct kafka_call *c, struct kafka_group *g,
                                    void (*resume)(struct kafka_call *c))
{
    struct group_call *p = mqg_xcalloc(1, sizeof *p);
    p->wait.owner = p;
    p->call = c;
    p->group = g;
    c->owner = p;
    c->gone = call_gone;
    c->resume = resume;
    return p;
}

/* ---- JoinGroup --------------------------------------------------------------------------------------------------------- */

static void join_fail(struct kafka_call *c, enum kafka_error error)
{
    const struct kafka_join_group_request *in = c->request;
    struct kafka_join_group_response *out = c->response;
    out->error_code = (int16_t)error;
    out->member_id = in->member_id;
    kafka_call_answer(c);
}

static void join_resume(struct kafka_call *c)
{
    struct group_call *p = c->owner;
    const struct group_wait *w = &p->wait;
    struct kafka_join_group_response *out = c->response;
    out->error_code = w->error;
    out->generation_id = w->generation;
    out->protocol_type = group_view(w->protocol_type);
    out->protocol_name = group_view(w->protocol);
    if (out->protocol_name.ptr == NULL && c->head.version < 7)
        out->protocol_name = MQG_SLICE_LIT("");
    out->leader = w->leader != NULL ? group_view(w->leader) : MQG_SLICE_LIT("");
    out->member_id = w->member_id != NULL ? group_view(w->member_id) : MQG_SLICE_LIT("");
    out->skip_assignment = w->skip_assignment;
    out->members = kafka_call_alloc(c, w->npeers, sizeof *out->members);
    for (uint32_t i = 0; i < w->npeers && out->members != NULL; i++) {
        out->members[i].member_id = group_view(w->peers[i].id);
        out->members[i].group_instance_id = group_view(w->peers[i].instance_id);
        out->members[i].metadata = w->peers[i].metadata != NULL ? group_view(w->peers[i].metadata)
                                                                : MQG_SLICE_LIT("");
    }
    out->members_n = out->members != NULL ? (int32_t)w->npeers : 0;
    kafka_call_answer(c);
    call_free(&p);
}

static void id_random(struct mqg_dynbuf *out)
{
    uint8_t b[16];
    mqg_random_bytes(b, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < sizeof b; i++)
        mqg_dynbuf_printf(out, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", b[i]);
}

/* "rdkafka-0b25…": the instance or the client, and a random uuid; alone where there is neither. */
static struct mqg_slice id_new(struct kafka_call *c, struct mqg_slice first)
{
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, first.len + 64);
    mqg_dynbuf_slice(&text, first);
    if (first.ptr != NULL)
        mqg_dynbuf_u8(&text, '-');
    id_random(&text);
    struct mqg_slice id = kafka_call_dup(c, mqg_dynbuf_view(&text));
    mqg_dynbuf_fini(&text);
    return id;
}

struct mqg_slice kafka_group_new_id(struct kafka_call *c)
{
    return id_new(c, MQG_SLICE_NONE);
}

static enum kafka_error join_check(struct kafka_call *c)
{
    const struct kafka_join_group_request *in = c->request;
    size_t bytes = 0;
    for (int32_t i = 0; i < in->protocols_n; i++)
        bytes += in->protocols[i].name.len + in->protocols[i].metadata.len;
    if (in->group_id.len == 0)
        return KAFKA_INVALID_GROUP_ID;
    if (!kafka_allowed(c->conn, MQG_READ, "group", in->group_id))
        return KAFKA_GROUP_AUTHORIZATION_FAILED;
    if (in->session_timeout_ms < 0 ||
        (uint32_t)in->session_timeout_ms < kafka_group_settings.session_min_ms ||
        (uint32_t)in->session_timeout_ms > kafka_group_settings.session_max_ms)
        return KAFKA_INVALID_SESSION_TIMEOUT;
    if (in->group_instance_id.ptr != NULL && in->group_instance_id.len == 0)
        return KAFKA_INVALID_REQUEST;
    if (in->protocols_n > GROUP_PROTOCOLS || bytes > GROUP_PROTOCOLS_BYTES)
        return KAFKA_INVALID_REQUEST;
    return in->protocols_n > 0 && in->protocol_type.len > 0 ? KAFKA_NONE : KAFKA_INCONSISTENT_GROUP_PROTOCOL;
}

struct mqg_slice kafka_group_host(struct kafka_call *c)
{
    const struct mqg_conn_info *info = mqg_conn_info(c->conn->conn);
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, sizeof info->peer_host + 1);
    mqg_dynbuf_printf(&text, "/%s", info->peer_host);
    struct mqg_slice host = kafka_call_dup(c, mqg_dynbuf_view(&text));
    mqg_dynbuf_fini(&text);
    return host;
}

static void join_into(struct kafka_call *c, struct kafka_group *g)
{
    const struct kafka_join_group_request *in = c->request;
    struct group_join_protocol *protocols = kafka_call_alloc(c, (size_t)in->protocols_n, sizeof *protocols);
    for (int32_t i = 0; protocols != NULL && i < in->protocols_n; i++)
        protocols[i] = (struct group_join_protocol){in->protocols[i].name, in->protocols[i].metadata};
    int32_t rebalance_ms = in->rebalance_timeout_ms >= 0 ? in->rebalance_timeout_ms : in->session_timeout_ms;
    struct group_join join = {
        .version = c->head.version,
        .member_id = in->member_id,
        .instance_id = in->group_instance_id,
        .client_id = c->head.client_id,
        .client_host = kafka_group_host(c),
        .protocol_type = in->protocol_type,
        .session_ms = (uint32_t)in->session_timeout_ms,
        .rebalance_ms = (uint32_t)rebalance_ms,
        .protocols = protocols,
        .nprotocols = protocols != NULL ? (uint32_t)in->protocols_n : 0,
        .new_id = id_new(c, in->group_instance_id.ptr != NULL ? in->group_instance_id : c->head.client_id)};
    struct group_call *p = call_wait(c, g, join_resume);
    group_join(&g->classic, kafka_now_ms(), &join, &p->wait);
    kafka_group_unlock(g);
}

void kafka_join_group(struct kafka_call *c)
{
    const struct kafka_join_group_request *in = c->request;
    enum kafka_error error = join_check(c);
    if (error != KAFKA_NONE) {
        join_fail(c, error);
        return;
    }
    struct kafka_group *g = kafka_group_lock(kafka_vhost(c->conn), in->group_id, in->member_id.len == 0);
    if (g == NULL) {
        join_fail(c, in->member_id.len == 0 ? KAFKA_COORDINATOR_NOT_AVAILABLE : KAFKA_UNKNOWN_MEMBER_ID);
    } else if (!kafka_group_become(g, KAFKA_GROUP_CLASSIC)) {
        kafka_group_done(g);
        join_fail(c, KAFKA_INCONSISTENT_GROUP_PROTOCOL);
    } else {
        join_into(c, g);
    }
}

/* ---- SyncGroup --------------------------------------------------------------------------------------------------------- */

static void sync_fail(struct kafka_call *c, enum kafka_error error)
{
    ((struct kafka_sync_group_response *)c->response)->error_code = (int16_t)error;
    kafka_call_answer(c);
}

static void sync_resume(struct kafka_call *c)
{
    struct group_call *p = c->owner;
    struct kafka_sync_group_response *out = c->response;
    out->error_code = p->wait.error;
    out->protocol_type = group_view(p->wait.protocol_type);
    out->protocol_name = group_view(p->wait.protocol);
    out->assignment = p->wait.assignment != NULL ? group_view(p->wait.assignment) : MQG_SLICE_LIT("");
    kafka_call_answer(c);
    call_free(&p);
}

/* The classic group of that name, locked; NULL when there is none, or it is of the other kind. */
static struct kafka_group *classic_lock(struct kafka_call *c, struct mqg_slice name, enum kafka_error *error)
{
    *error = KAFKA_NONE;
    if (name.len == 0)
        *error = KAFKA_INVALID_GROUP_ID;
    else if (!kafka_allowed(c->conn, MQG_READ, "group", name))
        *error = KAFKA_GROUP_AUTHORIZATION_FAILED;
    if (*error != KAFKA_NONE)
        return NULL;
    struct kafka_group *g = kafka_group_lock(kafka_vhost(c->conn), name, false);
    if (g != NULL && g->kind == KAFKA_GROUP_CLASSIC)
        return g;
    if (g != NULL)
        kafka_group_done(g);
    *error = KAFKA_UNKNOWN_MEMBER_ID;
    return NULL;
}

void kafka_sync_group(struct kafka_call *c)
{
    const struct kafka_sync_group_request *in = c->request;
    enum kafka_error error;
    struct group_sync_row *rows = kafka_call_alloc(
        c, (size_t)(in->assignments_n > 0 ? in->assignments_n : 0) + 1, sizeof *rows);
    struct kafka_group *g = rows != NULL ? classic_lock(c, in->group_id, &error) : NULL;
    if (g == NULL) {
        sync_fail(c, rows != NULL ? error : KAFKA_INVALID_REQUEST);
        return;
    }
    for (int32_t i = 0; i < in->assignments_n; i++)
        rows[i] = (struct group_sync_row){in->assignments[i].member_id, in->assignments[i].assignment};
    struct group_sync sync = {.generation = in->generation_id,
                              .member_id = in->member_id,
                              .instance_id = in->group_instance_id,
                              .protocol_type = in->protocol_type,
                              .protocol = in->protocol_name,
                              .rows = rows,
                              .nrows = in->assignments_n > 0 ? (uint32_t)in->assignments_n : 0};
    struct group_call *p = call_wait(c, g, sync_resume);
    group_sync(&g->classic, kafka_now_ms(), &sync, &p->wait);
    kafka_group_unlock(g);
}

/* ---- Heartbeat, LeaveGroup ----------------------------------------------------------------------------------------------- */

void kafka_heartbeat(struct kafka_call *c)
{
    const struct kafka_heartbeat_request *in = c->request;
    enum kafka_error error;
    struct kafka_group *g = classic_lock(c, in->group_id, &error);
    int16_t code = (int16_t)error;
    if (g != NULL) {
        code = group_heartbeat(&g->classic, kafka_now_ms(), in->generation_id, in->member_id,
                               in->group_instance_id);
        kafka_group_done(g);
    }
    ((struct kafka_heartbeat_response *)c->response)->error_code = code;
    kafka_call_answer(c);
}

/* An operator's tool removes static members of either kind by their instance. */
static int16_t leave_one(struct kafka_group *g, struct mqg_slice member_id, struct mqg_slice instance_id)
{
    if (g->kind == KAFKA_GROUP_CLASSIC)
        return group_leave(&g->classic, kafka_now_ms(), member_id, instance_id);
    return consumer_remove(&g->consumer, kafka_now_ms(), member_id, instance_id);
}

static void leave_many(struct kafka_call *c, struct kafka_group *g)
{
    const struct kafka_leave_group_request *in = c->request;
    struct kafka_leave_group_response *out = c->response;
    out->members = kafka_call_alloc(c, (size_t)(in->members_n > 0 ? in->members_n : 0), sizeof *out->members);
    out->members_n = out->members != NULL && in->members_n > 0 ? in->members_n : 0;
    for (int32_t i = 0; i < out->members_n; i++) {
        out->members[i].member_id = in->members[i].member_id;
        out->members[i].group_instance_id = in->members[i].group_instance_id;
        out->members[i].error_code = g != NULL ? leave_one(g, in->members[i].member_id,
                                                           in->members[i].group_instance_id)
                                               : KAFKA_UNKNOWN_MEMBER_ID;
    }
}

void kafka_leave_group(struct kafka_call *c)
{
    const struct kafka_leave_group_request *in = c->request;
    struct kafka_leave_group_response *out = c->response;
    struct kafka_group *g = NULL;
    if (in->group_id.len == 0)
        out->error_code = KAFKA_INVALID_GROUP_ID;
    else if (!kafka_allowed(c->conn, MQG_READ, "group", in->group_id))
        out->error_code = KAFKA_GROUP_AUTHORIZATION_FAILED;
    else
        g = kafka_group_lock(kafka_vhost(c->conn), in->group_id, false);
    if (out->error_code == KAFKA_NONE && c->head.version >= 3)
        leave_many(c, g);
    else if (out->error_code == KAFKA_NONE)
        out->error_code = g != NULL ? leave_one(g, in->member_id, MQG_SLICE_NONE) : KAFKA_UNKNOWN_MEMBER_ID;
    if (g != NULL)
        kafka_group_done(g);
    kafka_call_answer(c);
}

/* group_list.c - ListGroups, DescribeGroups, DeleteGroups: what operators ask and do. */
#include "acl.h"
#include "group_table.h"

#include "admin.h"

#include <stdlib.h>
#include <strings.h>

/* ---- ListGroups --------------------------------------------------------------------------------------------------------- */

struct list {
    struct kafka_call *call;
    struct kafka_list_groups_response_groups *rows;
    size_t n, cap;
};

static bool list_wanted(const struct mqg_slice *filter, int32_t n, const char *word)
{
    for (int32_t i = 0; i < n; i++)
        if (filter[i].len == strlen(word) &&
            strncasecmp((const char *)filter[i].ptr, word, filter[i].len) == 0)
            return true;
    return n <= 0;
}

static bool list_visit(void *arg, struct kafka_group *g)
{
    struct list *l = arg;
    const struct kafka_list_groups_request *in = l->call->request;
    const char *state = kafka_group_state(g), *type = kafka_group_type(g);
    if (!list_wanted(in->states_filter, in->states_filter_n, state) ||
        !list_wanted(in->types_filter, in->types_filter_n, type) ||
        !kafka_allowed(l->call->conn, KAFKA_DESCRIBE, "group", group_view(g->name)))
        return true;
    if (l->n == l->cap) {
        l->cap = l->cap > 0 ? l->cap * 2 : 16;
        l->rows = mqg_xrealloc(l->rows, l->cap * sizeof *l->rows);
    }
    struct mqg_slice protocol = g->kind == KAFKA_GROUP_CONSUMER ? MQG_SLICE_LIT("consumer")
                                                                : group_view(g->classic.protocol_type);
    l->rows[l->n++] = (struct kafka_list_groups_response_groups){
        .group_id = kafka_call_dup(l->call, group_view(g->name)),
        .protocol_type = protocol.ptr != NULL ? kafka_call_dup(l->call, protocol) : MQG_SLICE_LIT(""),
        .group_state = mqg_slice_str(state),
        .group_type = mqg_slice_str(type)};
    return true;
}

void kafka_list_groups(struct kafka_call *c)
{
    struct kafka_list_groups_response *out = c->response;
    struct list l = {.call = c};
    kafka_groups_each(kafka_vhost(c->conn), list_visit, &l);
    out->groups = l.rows;
    out->groups_n = (int32_t)l.n;
    kafka_call_answer(c);
    free(l.rows);
}

/* ---- DescribeGroups ------------------------------------------------------------------------------------------------------ */

enum { DESCRIBE_MISSES_FROM = 6 }; /* KIP-1043; before it a group that is not there is dead */

static struct mqg_slice copy_of(struct kafka_call *c, const struct mqg_buf *b)
{
    return b != NULL && b->len > 0 ? kafka_call_dup(c, group_view(b)) : MQG_SLICE_LIT("");
}

static void describe_member(struct kafka_call *c, const struct group *g, const struct group_member *m,
                            struct kafka_describe_groups_response_groups_members *out)
{
    out->member_id = copy_of(c, m->id);
    if (m->instance_id != NULL)
        out->group_instance_id = copy_of(c, m->instance_id);
    out->client_id = copy_of(c, m->client_id);
    out->client_host = copy_of(c, m->client_host);
    out->member_metadata = out->member_assignment = MQG_SLICE_LIT("");
    if (g->state != GROUP_STABLE)
        return;
    struct mqg_slice metadata = group_metadata(g, m);
    if (metadata.len > 0)
        out->member_metadata = kafka_call_dup(c, metadata);
    out->member_assignment = copy_of(c, m->assignment);
}

static void describe_one(struct kafka_call *c, struct kafka_group *g,
                         struct kafka_describe_groups_response_groups *out)
{
    const struct group *k = &g->classic;
    out->group_state = mqg_slice_str(kafka_group_state(g));
    out->protocol_type = copy_of(c, k->protocol_type);
    if (k->state == GROUP_STABLE)
        out->protocol_data = copy_of(c, k->protocol);
    out->members = kafka_call_alloc(c, k->members.n, sizeof *out->members);
    out->members_n = 0;
    for (size_t i = 0; out->members != NULL && i < k->members.n; i++)
        describe_member(c, k, k->members.items[i], &out->members[out->members_n++]);
}

static void describe_name(struct kafka_call *c, struct mqg_slice name,
                          struct kafka_describe_groups_response_groups *out)
{
    const struct kafka_describe_groups_request *in = c->request;
    out->group_id = name;
    out->group_state = MQG_SLICE_LIT("Dead");
    out->protocol_type = out->protocol_data = MQG_SLICE_LIT("");
    out->members_n = 0;
    out->authorized_operations = INT32_MIN;
    if (!kafka_allowed(c->conn, KAFKA_DESCRIBE, "group", name)) {
        out->error_code = KAFKA_GROUP_AUTHORIZATION_FAILED;
        out->group_state = MQG_SLICE_LIT("");
        return;
    }
    if (in->include_authorized_operations)
        out->authorized_operations = kafka_group_operations(c, name);
    struct kafka_group *g = kafka_group_lock(kafka_vhost(c->conn), name, false);
    bool classic = g != NULL && g->kind == KAFKA_GROUP_CLASSIC;
    if (classic)
        describe_one(c, g, out);
    if (g != NULL)
        kafka_group_done(g);
    if (!classic && c->head.version >= DESCRIBE_MISSES_FROM) {
        out->error_code = KAFKA_GROUP_ID_NOT_FOUND;
        out->error_message = MQG_SLICE_LIT("No classic group of that name.");
    }
}

int32_t kafka_group_operations(struct kafka_call *c, struct mqg_slice name)
{
    return kafka_permitted(c->conn, KAFKA_RESOURCE_GROUP, name);
}

void kafka_describe_groups(struct kafka_call *c)
{
    const struct kafka_describe_groups_request *in = c->request;
    struct kafka_describe_groups_response *out = c->response;
    int32_t n = in->groups_n > 0 ? in->groups_n : 0;
    out->groups = kafka_call_alloc(c, (size_t)n, sizeof *out->groups);
    out->groups_n = out->groups != NULL ? n : 0;
    for (int32_t i = 0; i < out->groups_n; i++)
        describe_name(c, in->groups[i], &out->groups[i]);
    kafka_call_answer(c);
}

/* ---- DeleteGroups --------------------------------------------------------------------------------------------------------- */

static enum kafka_error delete_name(struct kafka_call *c, struct mqg_slice name,
                                    struct kafka_durable *durable)
{
    if (!kafka_allowed(c->conn, MQG_CONFIGURE, "group", name))
        return KAFKA_GROUP_AUTHORIZATION_FAILED;
    struct kafka_group *g = kafka_group_lock(kafka_vhost(c->conn), name, false);
    if (g == NULL)
        return KAFKA_GROUP_ID_NOT_FOUND;
    bool empty = kafka_group_empty(g);
    for (struct mqg_map_iter it = {.left = 0}; empty && mqg_map_next(&g->offsets.rows, &it);)
        kafka_group_position_drop(g, &((struct group_offset *)it.value)->row, durable);
    if (empty) {
        uint64_t ticket = kafka_group_remove(g);
        kafka_durable_meta(durable, ticket);
    }
    kafka_group_done(g);
    return empty ? KAFKA_NONE : KAFKA_NON_EMPTY_GROUP;
}

void kafka_delete_groups(struct kafka_call *c)
{
    const struct kafka_delete_groups_request *in = c->request;
    struct kafka_delete_groups_response *out = c->response;
    struct kafka_durable durable = {{0}};
    int32_t n = in->groups_names_n > 0 ? in->groups_names_n : 0;
    out->results = kafka_call_alloc(c, (size_t)n, sizeof *out->results);
    out->results_n = out->results != NULL ? n : 0;
    for (int32_t i = 0; i < out->results_n; i++) {
        out->results[i].group_id = in->groups_names[i];
        out->results[i].error_code = (int16_t)delete_name(c, in->groups_names[i], &durable);
    }
    kafka_durable_answer(c, &durable);
}

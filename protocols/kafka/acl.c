/* acl.c - the table of ACLs: a sorted vector under one mutex.
 *
 * Rights are asked for seldom: a connection keeps what it learned about a topic until accounts or ACLs change. So a question
 * walks the rules of its resource type, and nothing needs an index. A node without ACLs is asked with one load. */
#include "acl.h"

#include <mqgate/vec.h>

#include <pthread.h>
#include <stdlib.h>

struct acl_item {
    struct kafka_acl_rule rule; /* its texts lie behind */
    uint8_t text[];
};

static pthread_mutex_t acl_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_vec acl_items; /* of struct acl_item, sorted; under the lock */
static _Atomic size_t acl_count;

/* ---- order --------------------------------------------------------------------------------------------------------------- */

static int acl_order(const struct kafka_acl_rule *a, const struct kafka_acl_rule *b)
{
    const int parts[] = {
        mqg_slice_cmp(a->vhost, b->vhost),
        a->type - b->type,
        mqg_slice_cmp(a->name, b->name),
        a->pattern - b->pattern,
        mqg_slice_cmp(a->principal, b->principal),
        mqg_slice_cmp(a->host, b->host),
        a->op - b->op,
        a->permission - b->permission,
    };
    for (size_t i = 0; i < MQG_COUNTOF(parts); i++)
        if (parts[i] != 0)
            return parts[i];
    return 0;
}

static const struct kafka_acl_rule *acl_at(size_t i)
{
    return &((const struct acl_item *)acl_items.items[i])->rule;
}

static size_t acl_find(const struct kafka_acl_rule *r, bool *found)
{
    size_t low = 0, high = acl_items.n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (acl_order(acl_at(mid), r) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *found = low < acl_items.n && acl_order(acl_at(low), r) == 0;
    return low;
}

/* ---- changing -------------------------------------------------------------------------------------------------------------- */

static struct mqg_slice acl_text(uint8_t **at, struct mqg_slice s)
{
    struct mqg_slice copy = mqg_slice_of(*at, s.len);
    if (s.len > 0)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return copy;
}

static struct acl_item *acl_copy(const struct kafka_acl_rule *r)
{
    size_t bytes = r->vhost.len + r->name.len + r->principal.len + r->host.len;
    struct acl_item *item = mqg_xmalloc(sizeof *item + bytes);
    uint8_t *at = item->text;
    item->rule = *r;
    item->rule.vhost = acl_text(&at, r->vhost);
    item->rule.name = acl_text(&at, r->name);
    item->rule.principal = acl_text(&at, r->principal);
    item->rule.host = acl_text(&at, r->host);
    return item;
}

bool kafka_acl_add(const struct kafka_acl_rule *r)
{
    bool found;
    pthread_mutex_lock(&acl_lock);
    size_t at = acl_find(r, &found);
    if (!found) {
        struct acl_item *item = acl_copy(r);
        mqg_vec_push(&acl_items, item);
        memmove(&acl_items.items[at + 1], &acl_items.items[at], (acl_items.n - 1 - at) * sizeof(void *));
        acl_items.items[at] = item;
        atomic_store_explicit(&acl_count, acl_items.n, memory_order_release);
    }
    pthread_mutex_unlock(&acl_lock);
    return !found;
}

bool kafka_acl_remove(const struct kafka_acl_rule *r)
{
    bool found;
    pthread_mutex_lock(&acl_lock);
    size_t at = acl_find(r, &found);
    if (found) {
        free(acl_items.items[at]);
        mqg_vec_remove(&acl_items, at);
        atomic_store_explicit(&acl_count, acl_items.n, memory_order_release);
    }
    pthread_mutex_unlock(&acl_lock);
    return found;
}

size_t kafka_acl_sweep(bool (*gone)(void *arg, struct mqg_slice vhost),
                       void (*visit)(void *arg, const struct kafka_acl_rule *r), void *arg)
{
    size_t kept = 0, all;
    pthread_mutex_lock(&acl_lock);
    all = acl_items.n;
    for (size_t i = 0; i < all; i++) {
        struct acl_item *item = acl_items.items[i];
        if (!gone(arg, item->rule.vhost)) {
            acl_items.items[kept++] = item;
            continue;
        }
        visit(arg, &item->rule);
        free(item);
    }
    acl_items.n = kept;
    atomic_store_explicit(&acl_count, kept, memory_order_release);
    pthread_mutex_unlock(&acl_lock);
    return all - kept;
}

void kafka_acl_clear(void)
{
    pthread_mutex_lock(&acl_lock);
    for (size_t i = 0; i < acl_items.n; i++)
        free(acl_items.items[i]);
    mqg_vec_fini(&acl_items);
    atomic_store_explicit(&acl_count, 0, memory_order_release);
    pthread_mutex_unlock(&acl_lock);
}

size_t kafka_acl_count(void)
{
    return atomic_load_explicit(&acl_count, memory_order_acquire);
}

/* ---- matching ---------------------------------------------------------------------------------------------------------------- */

/* Does the rule bear on the resource of that name? */
static bool acl_bears_on(const struct kafka_acl_rule *r, struct mqg_slice name)
{
    if (r->pattern == KAFKA_PATTERN_PREFIXED)
        return mqg_slice_starts(name, r->name);
    return mqg_slice_eq(r->name, name) || mqg_slice_eq(r->name, MQG_SLICE_LIT("*"));
}

static bool filter_name(const struct kafka_acl_filter *f, const struct kafka_acl_rule *r)
{
    if (f->pattern != KAFKA_PATTERN_ANY && f->pattern != KAFKA_PATTERN_MATCH && f->pattern != r->pattern)
        return false;
    if (f->name.ptr == NULL)
        return true;
    return f->pattern == KAFKA_PATTERN_MATCH ? acl_bears_on(r, f->name) : mqg_slice_eq(f->name, r->name);
}

static bool filter_is(int8_t wanted, uint8_t have)
{
    return wanted == 1 || wanted == have; /* 1 is ANY in each of them */
}

static bool filter_matches(const struct kafka_acl_filter *f, const struct kafka_acl_rule *r)
{
    return mqg_slice_eq(f->vhost, r->vhost) && filter_is(f->type, r->type) && filter_is(f->op, r->op) &&
           filter_is(f->permission, r->permission) && filter_name(f, r) &&
           (f->principal.ptr == NULL || mqg_slice_eq(f->principal, r->principal)) &&
           (f->host.ptr == NULL || mqg_slice_eq(f->host, r->host));
}

void kafka_acl_each(const struct kafka_acl_filter *f,
                    void (*visit)(void *arg, const struct kafka_acl_rule *r), void *arg)
{
    pthread_mutex_lock(&acl_lock);
    for (size_t i = 0; i < acl_items.n; i++)
        if (filter_matches(f, acl_at(i)))
            visit(arg, acl_at(i));
    pthread_mutex_unlock(&acl_lock);
}

/* ---- judging ------------------------------------------------------------------------------------------------------------------- */

static bool acl_is_about(const struct kafka_acl_rule *r, struct mqg_slice user, struct mqg_slice host)
{
    const struct mqg_slice kind = MQG_SLICE_INIT("User:");
    if (!mqg_slice_starts(r->principal, kind))
        return false;
    struct mqg_slice who = mqg_slice_of(r->principal.ptr + kind.len, r->principal.len - kind.len);
    return (mqg_slice_eq(who, user) || mqg_slice_eq(who, MQG_SLICE_LIT("*"))) &&
           (mqg_slice_eq(r->host, host) || mqg_slice_eq(r->host, MQG_SLICE_LIT("*")));
}

/* Who may read, write, delete or alter may describe; who may alter configurations may describe them (KIP-11, KIP-133). */
static bool acl_grants(uint8_t granted, enum kafka_op op)
{
    if (granted == KAFKA_OP_ALL || granted == op)
        return true;
    if (op == KAFKA_OP_DESCRIBE)
        return granted == KAFKA_OP_READ || granted == KAFKA_OP_WRITE || granted == KAFKA_OP_DELETE ||
               granted == KAFKA_OP_ALTER;
    return op == KAFKA_OP_DESCRIBE_CONFIGS && granted == KAFKA_OP_ALTER_CONFIGS;
}

enum kafka_verdict kafka_acl_judge(struct mqg_slice vhost, enum kafka_resource type, struct mqg_slice name,
                                   struct mqg_slice user, struct mqg_slice host, enum kafka_op op)
{
    bool any = false, allowed = false, denied = false;
    pthread_mutex_lock(&acl_lock);
    for (size_t i = 0; i < acl_items.n && !denied; i++) {
        const struct kafka_acl_rule *r = acl_at(i);
        if (r->type != type || !mqg_slice_eq(r->vhost, vhost) || !acl_bears_on(r, name))
            continue;
        any = true;
        if (!acl_is_about(r, user, host))
            continue;
        if (r->permission == KAFKA_PERMISSION_DENY)
            denied = r->op == KAFKA_OP_ALL || r->op == op;
        else
            allowed = allowed || acl_grants(r->op, op);
    }
    pthread_mutex_unlock(&acl_lock);
    return !any ? KAFKA_VERDICT_NONE : allowed && !denied ? KAFKA_VERDICT_ALLOW : KAFKA_VERDICT_DENY;
}

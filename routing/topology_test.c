/* topology_test.c - routing against a naive matcher: the same bindings in a plain list, matched by the rules
 * as one would say them. Both are driven by the same random declarations, so what the tries, sets and path
 * copies get wrong shows as a difference. */
#include "topology_fake.h"

#include "../core/base/test_kit.h"

enum { NAIVE_MAX = 4096, NAIVE_NAME = 48 };

/* ---- words --------------------------------------------------------------------------------------------- */

static struct mqg_slice str(const char *s)
{
    return mqg_slice_str(s);
}

static void declare_exchange(const char *name, const char *type, const char *alternate)
{
    struct mqg_field field = {str("alternate-exchange"),
                              {.type = MQG_VALUE_STRING, .bytes = str(alternate ? alternate : "")}};
    struct mqg_exchange_def def = {.name = str(name), .type = str(type)};
    uint64_t ticket;
    if (alternate != NULL)
        def.args = (struct mqg_table){&field, 1, 1};
    assert_int_equal(mqg_exchange_declare(fake_session(1), &def, false, &ticket, NULL), MQG_OK);
}

static void declare_queue(const char *name)
{
    struct mqg_queue_def def = {.name = str(name), .owner_conn = 1};
    struct mqg_queue_ok ok;
    uint64_t ticket;
    assert_int_equal(mqg_queue_declare(fake_session(1), &def, false, &ok, &ticket, NULL), MQG_OK);
}

static void bind_args(const char *source, const char *destination, bool to_exchange, const char *key,
                      struct mqg_table args)
{
    struct mqg_binding_def def = {str(source), str(destination), to_exchange, str(key), args};
    uint64_t ticket;
    assert_int_equal(mqg_binding_put(fake_session(1), &def, &ticket, NULL), MQG_OK);
}

static void bind_to(const char *source, const char *destination, bool to_exchange, const char *key)
{
    bind_args(source, destination, to_exchange, key, (struct mqg_table){.fields = NULL});
}

static void unbind(const char *source, const char *destination, bool to_exchange, const char *key)
{
    struct mqg_binding_def def = {
        .source = str(source), .destination = str(destination), .to_exchange = to_exchange, .key = str(key)};
    uint64_t ticket;
    assert_int_equal(mqg_binding_delete(fake_session(1), &def, &ticket, NULL), MQG_OK);
}

/* Routes and gives the queues' names, sorted, with a blank between: "a b". */
static int by_name(const void *a, const void *b)
{
    return mqg_slice_cmp(mqg_queue_name(*(struct mqg_queue *const *)a),
                         mqg_queue_name(*(struct mqg_queue *const *)b));
}

static const char *reached_by(const char *exchange, const struct mqg_slice *keys, size_t nkeys,
                              const struct mqg_msg *m)
{
    static char out[65536];
    const struct mqg_vhost *v = mqg_vhost_find(str("/"));
    const struct mqg_exchange *x = topology_exchange(v, str(exchange));
    struct route_set r;
    size_t len = 0;
    assert_non_null(x);
    route_set_init(&r);
    topology_route(v, x, m, keys, nkeys, &r);
    if (r.n > 1)
        qsort(r.queues, r.n, sizeof(struct mqg_queue *), by_name);
    out[0] = '\0';
    for (size_t i = 0; i < r.n; i++)
        len += (size_t)snprintf(out + len, sizeof out - len, "%s%.*s", i > 0 ? " " : "",
                                MQG_SLICE_FMT(mqg_queue_name(r.queues[i])));
    route_set_fini(&r);
    return out;
}

static const char *reached(const char *exchange, const char *key)
{
    struct mqg_slice one = str(key);
    return reached_by(exchange, &one, 1, NULL);
}

/* ---- the naive matcher --------------------------------------------------------------------------------- */

/* Plain recursion over words, as the rule is told: exponential, but short here. */
static bool naive_match(const char *p, bool p_more, const char *k, bool k_more)
{
    if (!p_more)
        return !k_more;
    size_t pn = strcspn(p, ".");
    const char *p_next = p[pn] ? p + pn + 1 : p + pn;
    bool p_rest = p[pn] != '\0';
    size_t kn = strcspn(k, ".");
    const char *k_next = k[kn] ? k + kn + 1 : k + kn;
    bool k_rest = k[kn] != '\0';
    if (pn == 1 && *p == '#')
        return naive_match(p_next, p_rest, k, k_more) || (k_more && naive_match(p, true, k_next, k_rest));
    if (!k_more)
        return false;
    if (!(pn == 1 && *p == '*') && !(pn == kn && memcmp(p, k, pn) == 0))
        return false;
    return naive_match(p_next, p_rest, k_next, k_rest);
}

static bool naive_topic(const char *pattern, const char *key)
{
    return naive_match(pattern, *pattern != '\0', key, *key != '\0');
}

static const struct {
    const char *pattern, *key;
    bool hit;
} topics[] = {
    {"a.b.c", "a.b.c", true},
    {"a.b.c", "a.b", false},
    {"a.*.c", "a.b.c", true},
    {"a.*.c", "a.c", false},
    {"a.*.c", "a..c", true},
    {"*", "", false},
    {"*", "a", true},
    {"*", "a.b", false},
    {"#", "", true},
    {"#", "a.b.c", true},
    {"a.#", "a", true},
    {"a.#", "a.b.c", true},
    {"a.#", "ab", false},
    {"#.c", "c", true},
    {"#.c", "a.b.c", true},
    {"#.c", "a.b", false},
    {"a.#.c", "a.c", true},
    {"a.#.c", "a.x.y.c", true},
    {"a.#.c", "a.x.y", false},
    {"*.*", "a.b", true},
    {"*.*", ".", true},
    {"#.#", "a", true},
    {"#.*", "", false},
    {"#.*", "a", true},
    {"#.*.#", "a.b", true},
    {"#.a.#.b.#", "x.a.y.b.z", true},
    {"#.a.#.b.#", "b.a", false},
    {"", "", true},
    {"", "a", false},
    {"..", "..", true},
    {"a*", "ab", false},
    {"a*", "a*", true},
    {"a#", "a#", true},
    {"*.#", "a", true},
    {"*.#", "", false},
    {"#.#.#", "", true},
    {"$x.#", "$x.y", true},
    {"#", "$x", true},
    {".", ".", true},
    {".", "", false},
    {"#.", "a.", true},
    {"#.", "a", false},
    {".#", ".", true},
    {".#", "a", false},
};

static void test_topic_table(void **state)
{
    (void)state;
    fake_start();
    declare_queue("q");
    for (size_t i = 0; i < MQG_COUNTOF(topics); i++) {
        assert_int_equal(naive_topic(topics[i].pattern, topics[i].key), topics[i].hit);
        bind_to("amq.topic", "q", false, topics[i].pattern);
        if (strcmp(reached("amq.topic", topics[i].key), topics[i].hit ? "q" : "") != 0)
            fail_msg("pattern '%s' key '%s'", topics[i].pattern, topics[i].key);
        unbind("amq.topic", "q", false, topics[i].pattern);
        assert_string_equal(reached("amq.topic", topics[i].key), "");
    }
    fake_stop();
}

/* ---- random declarations, all types -------------------------------------------------------------------- */

struct naive_binding {
    char source[NAIVE_NAME], destination[NAIVE_NAME], key[NAIVE_NAME];
    bool to_exchange;
};

struct naive {
    struct naive_binding bindings[NAIVE_MAX];
    size_t n;
};

static const char *const naive_exchanges[][2] = {{"d1", "direct"}, {"d2", "direct"}, {"f1", "fanout"},
                                                 {"f2", "fanout"}, {"t1", "topic"},  {"t2", "topic"},
                                                 {"t3", "topic"}};
enum { NAIVE_QUEUES = 90 };

static const char *naive_type(const char *exchange)
{
    for (size_t i = 0; i < MQG_COUNTOF(naive_exchanges); i++)
        if (strcmp(naive_exchanges[i][0], exchange) == 0)
            return naive_exchanges[i][1];
    return "";
}

/* d1's alternate is f2, t3's is d1. */
static const char *naive_alternate(const char *exchange)
{
    return strcmp(exchange, "d1") == 0 ? "f2" : strcmp(exchange, "t3") == 0 ? "d1" : NULL;
}

static bool naive_fits(const char *type, const char *pattern, const char *key)
{
    if (strcmp(type, "fanout") == 0)
        return true;
    return strcmp(type, "topic") == 0 ? naive_topic(pattern, key) : strcmp(pattern, key) == 0;
}

static void naive_route(const struct naive *n, const char *exchange, const char *key, bool *hit,
                        unsigned *visited)
{
    unsigned bit = 1u << (exchange[0] == 'd' ? 0 : exchange[0] == 'f' ? 8 : 16) << (exchange[1] - '0');
    bool any = false;
    if (*visited & bit)
        return;
    *visited |= bit;
    for (size_t i = 0; i < n->n; i++) {
        const struct naive_binding *b = &n->bindings[i];
        if (strcmp(b->source, exchange) != 0 || !naive_fits(naive_type(exchange), b->key, key))
            continue;
        any = true;
        if (b->to_exchange)
            naive_route(n, b->destination, key, hit, visited);
        else
            hit[atoi(b->destination + 1)] = true; /* lint:allow banned_calls names we made */
    }
    if (!any && naive_alternate(exchange) != NULL)
        naive_route(n, naive_alternate(exchange), key, hit, visited);
}

static void naive_expect(const struct naive *n, const char *exchange, const char *key)
{
    bool hit[NAIVE_QUEUES] = {false};
    char want[NAIVE_QUEUES * 8] = "";
    unsigned visited = 0;
    size_t len = 0;
    naive_route(n, exchange, key, hit, &visited);
    for (int i = 0; i < NAIVE_QUEUES; i++)
        if (hit[i])
            len += (size_t)snprintf(want + len, sizeof want - len, "%sq%02d", len > 0 ? " " : "", i);
    const char *got = reached(exchange, key);
    if (strcmp(got, want) != 0)
        fail_msg("exchange %s key '%s': got '%s', want '%s'", exchange, key, got, want);
}

static void random_key(uint64_t *seed, char out[NAIVE_NAME], bool pattern)
{
    static const char *const words[] = {"a", "b", "", "#", "*"};
    size_t n = test_random(seed) % 6, len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(out + len, NAIVE_NAME - len, "%s%s", i > 0 ? "." : "",
                                words[test_random(seed) % (pattern ? 5 : 3)]);
}

static void naive_step(struct naive *n, uint64_t *seed)
{
    struct naive_binding b;
    bool to_exchange = test_random(seed) % 12 == 0;
    snprintf(b.source, sizeof b.source, "%s",
             naive_exchanges[test_random(seed) % MQG_COUNTOF(naive_exchanges)][0]);
    b.to_exchange = to_exchange;
    if (to_exchange)
        snprintf(b.destination, sizeof b.destination, "%s",
                 naive_exchanges[test_random(seed) % MQG_COUNTOF(naive_exchanges)][0]);
    else
        snprintf(b.destination, sizeof b.destination, "q%02d", (int)(test_random(seed) % NAIVE_QUEUES));
    random_key(seed, b.key, true);
    bool grow = n->n < 40 || (n->n < NAIVE_MAX - 1 && test_random(seed) % 5 < 3);
    if (!grow) {
        size_t at = test_random(seed) % n->n;
        struct naive_binding *old = &n->bindings[at];
        unbind(old->source, old->destination, old->to_exchange, old->key);
        *old = n->bindings[--n->n];
        return;
    }
    bind_to(b.source, b.destination, b.to_exchange, b.key);
    for (size_t i = 0; i < n->n; i++) {
        const struct naive_binding *o = &n->bindings[i];
        if (strcmp(o->source, b.source) == 0 && strcmp(o->destination, b.destination) == 0 &&
            strcmp(o->key, b.key) == 0)
            return; /* there already */
    }
    n->bindings[n->n++] = b;
}

static void naive_delete_queue(struct naive *n, uint64_t *seed)
{
    char name[NAIVE_NAME];
    uint64_t messages, ticket;
    snprintf(name, sizeof name, "q%02d", (int)(test_random(seed) % NAIVE_QUEUES));
    assert_int_equal(mqg_queue_delete(fake_session(1), str(name), false, false, &messages, &ticket, NULL),
                     MQG_OK);
    declare_queue(name);
    for (size_t i = 0; i < n->n;)
        if (!n->bindings[i].to_exchange && strcmp(n->bindings[i].destination, name) == 0)
            n->bindings[i] = n->bindings[--n->n];
        else
            i++;
}

static void naive_delete_exchange(struct naive *n, uint64_t *seed)
{
    size_t which = test_random(seed) % MQG_COUNTOF(naive_exchanges);
    const char *name = naive_exchanges[which][0];
    uint64_t ticket;
    assert_int_equal(mqg_exchange_delete(fake_session(1), str(name), false, &ticket, NULL), MQG_OK);
    declare_exchange(name, naive_exchanges[which][1], naive_alternate(name));
    for (size_t i = 0; i < n->n;) {
        const struct naive_binding *b = &n->bindings[i];
        if (strcmp(b->source, name) == 0 || (b->to_exchange && strcmp(b->destination, name) == 0))
            n->bindings[i] = n->bindings[--n->n];
        else
            i++;
    }
}

static void test_random_against_naive(void **state)
{
    (void)state;
    static struct naive n;
    uint64_t seed = 0x5eed2026;
    n.n = 0;
    fake_start();
    for (size_t i = 0; i < MQG_COUNTOF(naive_exchanges); i++)
        declare_exchange(naive_exchanges[i][0], naive_exchanges[i][1],
                         naive_alternate(naive_exchanges[i][0]));
    for (int i = 0; i < NAIVE_QUEUES; i++) {
        char name[NAIVE_NAME];
        snprintf(name, sizeof name, "q%02d", i);
        declare_queue(name);
    }
    for (int step = 0; step < 6000; step++) {
        char key[NAIVE_NAME];
        naive_step(&n, &seed);
        if (step % 97 == 0)
            naive_delete_queue(&n, &seed);
        if (step % 701 == 0)
            naive_delete_exchange(&n, &seed);
        random_key(&seed, key, false);
        naive_expect(&n, naive_exchanges[test_random(&seed) % MQG_COUNTOF(naive_exchanges)][0], key);
        if (step % 64 == 0)
            mqg_epoch_reclaim();
    }
    fake_stop();
}

/* ---- worst cases --------------------------------------------------------------------------------------- */

static size_t repeat(char *out, size_t len, size_t size, const char *part, int times)
{
    for (int i = 0; i < times; i++)
        len += (size_t)snprintf(out + len, size - len, "%s", part);
    assert_true(len < size);
    return len;
}

/* 60 times '#', words between: backtracking would take longer than the universe has. */
static void test_many_hashes_cost_little(void **state)
{
    (void)state;
    char pattern[512], key[1024];
    fake_start();
    declare_queue("q");
    repeat(pattern, repeat(pattern, 0, sizeof pattern, "#.a.", 60), sizeof pattern, "#.b", 1);
    size_t len = repeat(key, 0, sizeof key, "a.", 250);
    repeat(key, len, sizeof key, "a", 1);
    bind_to("amq.topic", "q", false, pattern);
    for (int i = 0; i < 20; i++) /* the universe is longer than the harness waits */
        assert_string_equal(reached("amq.topic", key), "");
    repeat(key, len, sizeof key, "b", 1);
    assert_string_equal(reached("amq.topic", key), "q");
    fake_stop();
}

/* ---- exchanges to exchanges ---------------------------------------------------------------------------- */

static void test_cycles_end(void **state)
{
    (void)state;
    fake_start();
    declare_exchange("x1", "fanout", NULL);
    declare_exchange("x2", "topic", NULL);
    declare_exchange("x3", "direct", NULL);
    declare_queue("a");
    declare_queue("b");
    bind_to("x1", "x2", true, "");
    bind_to("x2", "x3", true, "#");
    bind_to("x3", "x1", true, "k");
    bind_to("x1", "x1", true, "");
    bind_to("x3", "a", false, "k");
    bind_to("x2", "a", false, "k.#");
    bind_to("x1", "b", false, "");
    assert_string_equal(reached("x1", "k"), "a b");
    assert_string_equal(reached("x3", "k"), "a b");
    assert_string_equal(reached("x2", "other"), "");
    struct mqg_slice keys[2] = {str("nothing"), str("k")};
    assert_string_equal(reached_by("x3", keys, 2, NULL), "a b");
    fake_stop();
}

static void test_alternate_exchange(void **state)
{
    (void)state;
    fake_start();
    declare_exchange("last", "fanout", "main"); /* back again: ends */
    declare_exchange("main", "direct", "spare");
    declare_exchange("dead", "direct", "nowhere");
    declare_queue("a");
    declare_queue("b");
    bind_to("main", "a", false, "k");
    assert_string_equal(reached("main", "k"), "a");
    assert_string_equal(reached("main", "z"), ""); /* "spare" is not there yet */
    declare_exchange("spare", "topic", "last");
    bind_to("spare", "b", false, "z.#");
    assert_string_equal(reached("main", "z"), "b");
    assert_string_equal(reached("main", "y"), "");
    bind_to("last", "a", false, "");
    assert_string_equal(reached("main", "y"), "a");
    assert_string_equal(reached("main", "k"), "a");
    assert_string_equal(reached("dead", "y"), "");
    bind_to("main", "spare", true,
            "y"); /* a match, though nothing comes of it there: then spare's own alternate */
    assert_string_equal(reached("main", "y"), "a");
    fake_stop();
}

static void test_default_exchange(void **state)
{
    (void)state;
    fake_start();
    declare_queue("a");
    assert_string_equal(reached("", "a"), "a");
    assert_string_equal(reached("", "b"), "");
    struct mqg_slice keys[3] = {str("b"), str("a"), str("a")};
    assert_string_equal(reached_by("", keys, 3, NULL), "a");
    fake_stop();
}

/* A '/' key is the '.' key with the separators swapped. */
static void test_other_separator(void **state)
{
    (void)state;
    struct mqg_msg m = {.st = {.key_sep = '/'}};
    struct mqg_slice key = str("a/b.c");
    fake_start();
    declare_queue("q");
    bind_to("amq.topic", "q", false, "a.b/c");
    bind_to("amq.topic", "q", false, "x.*");
    assert_string_equal(reached_by("amq.topic", &key, 1, &m), "q");
    assert_string_equal(reached_by("amq.topic", &key, 1, NULL), "");
    fake_stop();
}

/* ---- large sets ---------------------------------------------------------------------------------------- */

static void test_large_fanout(void **state)
{
    (void)state;
    enum { N = 400 };
    char name[16];
    struct route_set r;
    fake_start();
    const struct mqg_vhost *v = mqg_vhost_find(str("/"));
    struct mqg_slice key = str("k");
    route_set_init(&r);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "q%d", i);
        declare_queue(name);
        bind_to("amq.fanout", name, false, "one");
        bind_to("amq.fanout", name, false, "two");
        bind_to("amq.direct", name, false, "k");
        bind_to("amq.direct", name, false, "l");
        topology_route(v, topology_exchange(v, str("amq.fanout")), NULL, &key, 1, &r);
        assert_int_equal(r.n, i + 1);
        struct mqg_slice keys[2] = {str("k"), str("l")};
        topology_route(v, topology_exchange(v, str("amq.direct")), NULL, keys, 2, &r);
        assert_int_equal(r.n, i + 1);
    }
    for (int i = N - 1; i >= 0; i--) {
        snprintf(name, sizeof name, "q%d", i);
        unbind("amq.fanout", name, false, "one");
        topology_route(v, topology_exchange(v, str("amq.fanout")), NULL, &key, 1, &r);
        assert_int_equal(r.n, i + 1);
        unbind("amq.fanout", name, false, "two");
        topology_route(v, topology_exchange(v, str("amq.fanout")), NULL, &key, 1, &r);
        assert_int_equal(r.n, i);
    }
    route_set_fini(&r);
    fake_stop();
}

/* ---- headers ------------------------------------------------------------------------------------------- */

enum { T_END, T_INT, T_LONG, T_STR, T_BOOL, T_VOID };
struct h {
    const char *name;
    int type;
    int64_t number;
    const char *text;
};

static struct mqg_table headers_table(const struct h *rows, struct mqg_field fields[8], const char *match)
{
    struct mqg_table t = {fields, 0, 8};
    if (match != NULL)
        fields[t.n++] = (struct mqg_field){str("x-match"), {.type = MQG_VALUE_STRING, .bytes = str(match)}};
    for (; rows->type != T_END; rows++) {
        struct mqg_field *f = &fields[t.n++];
        f->name = str(rows->name);
        switch (rows->type) {
        case T_INT: f->value = (struct mqg_value){.type = MQG_VALUE_INT32, .i = rows->number}; break;
        case T_LONG: f->value = (struct mqg_value){.type = MQG_VALUE_INT64, .i = rows->number}; break;
        case T_STR: f->value = (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = str(rows->text)}; break;
        case T_BOOL:
            f->value = (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = rows->number != 0};
            break;
        default: f->value = (struct mqg_value){.type = MQG_VALUE_NULL};
        }
    }
    return t;
}

static const struct {
    const char *match;
    struct h binding[4], headers[4];
    bool hit;
} headers_rows[] = {
    {"all", {{"a", T_INT, 1, 0}, {"b", T_STR, 0, "x"}}, {{"a", T_INT, 1, 0}, {"b", T_STR, 0, "x"}}, true},
    {"all",
     {{"a", T_INT, 1, 0}, {"b", T_STR, 0, "x"}},
     {{"a", T_INT, 1, 0}, {"b", T_STR, 0, "x"}, {"c", T_INT, 3, 0}},
     true},
    {"all", {{"a", T_INT, 1, 0}, {"b", T_STR, 0, "x"}}, {{"a", T_INT, 1, 0}}, false},
    {"all", {{"a", T_INT, 1, 0}, {"b", T_STR, 0, "x"}}, {{"a", T_INT, 1, 0}, {"b", T_STR, 0, "y"}}, false},
    {"all", {{0}}, {{0}}, true},
    {"all", {{0}}, {{"a", T_INT, 1, 0}}, true},
    {"any", {{"a", T_INT, 1, 0}, {"b", T_STR, 0, "x"}}, {{"b", T_STR, 0, "x"}}, true},
    {"any", {{"a", T_INT, 1, 0}, {"b", T_STR, 0, "x"}}, {{"a", T_INT, 2, 0}, {"b", T_STR, 0, "y"}}, false},
    {"any", {{"a", T_INT, 1, 0}}, {{0}}, false},
    {"any", {{0}}, {{"a", T_INT, 1, 0}}, false},
    {"all", {{"a", T_VOID, 0, 0}}, {{"a", T_STR, 0, "anything"}}, true},
    {"all", {{"a", T_VOID, 0, 0}}, {{"b", T_INT, 1, 0}}, false},
    {"any", {{"a", T_VOID, 0, 0}}, {{"a", T_INT, 3, 0}}, true},
    {"all", {{"a", T_INT, 1, 0}}, {{"a", T_STR, 0, "1"}}, false},
    {"all", {{"a", T_INT, 1, 0}}, {{"a", T_LONG, 1, 0}}, false},
    {"all", {{"a", T_BOOL, 1, 0}}, {{"a", T_BOOL, 1, 0}}, true},
    {"all", {{"a", T_BOOL, 1, 0}}, {{"a", T_INT, 1, 0}}, false},
    {"all", {{"x-a", T_INT, 1, 0}}, {{0}}, true},
    {"any", {{"x-a", T_INT, 1, 0}}, {{"x-a", T_INT, 1, 0}}, false},
    {"all-with-x", {{"x-a", T_INT, 1, 0}}, {{0}}, false},
    {"all-with-x", {{"x-a", T_INT, 1, 0}}, {{"x-a", T_INT, 1, 0}}, true},
    {"all-with-x",
     {{"x-a", T_INT, 1, 0}, {"b", T_INT, 1, 0}},
     {{"x-a", T_INT, 2, 0}, {"b", T_INT, 1, 0}},
     false},
    {"any-with-x", {{"x-a", T_INT, 1, 0}}, {{"x-a", T_INT, 1, 0}}, true},
    {"any-with-x", {{"x-a", T_INT, 1, 0}}, {{"x-a", T_INT, 2, 0}}, false},
    {NULL, {{"a", T_INT, 1, 0}, {"b", T_INT, 2, 0}}, {{"a", T_INT, 1, 0}, {"b", T_INT, 2, 0}}, true},
    {NULL, {{"a", T_INT, 1, 0}, {"b", T_INT, 2, 0}}, {{"a", T_INT, 1, 0}}, false},
};

static void test_headers_table(void **state)
{
    (void)state;
    struct mqg_msg m = {.st = {.key_sep = '.'}};
    struct mqg_slice key = str("ignored");
    fake_start();
    declare_queue("q");
    for (size_t i = 0; i < MQG_COUNTOF(headers_rows); i++) {
        struct mqg_field args[8], headers[8];
        struct mqg_table t = headers_table(headers_rows[i].binding, args, headers_rows[i].match);
        fake_headers = headers_table(headers_rows[i].headers, headers, NULL);
        bind_args("amq.headers", "q", false, "", t);
        if (strcmp(reached_by("amq.headers", &key, 1, &m), headers_rows[i].hit ? "q" : "") != 0)
            fail_msg("row %zu", i);
        struct mqg_binding_def def = {str("amq.headers"), str("q"), false, str(""), t};
        uint64_t ticket;
        assert_int_equal(mqg_binding_delete(fake_session(1), &def, &ticket, NULL), MQG_OK);
        assert_string_equal(reached_by("amq.headers", &key, 1, &m), "");
    }
    fake_stop();
}

/* ---- caching ------------------------------------------------------------------------------------------- */

static void test_generation_and_cacheable(void **state)
{
    (void)state;
    fake_start();
    const struct mqg_vhost *v = mqg_vhost_find(str("/"));
    uint64_t before = topology_generation(v);
    declare_queue("q");
    assert_true(topology_generation(v) > before);
    before = topology_generation(v);
    declare_queue("q");
    assert_true(topology_generation(v) == before); /* nothing changed */
    declare_exchange("d", "direct", NULL);
    declare_exchange("e", "direct", "amq.match");
    assert_true(topology_cacheable(topology_exchange(v, str("d"))));
    assert_true(topology_cacheable(topology_exchange(v, str("e"))));
    bind_to("amq.match", "q", false, "");
    assert_true(topology_cacheable(topology_exchange(v, str("d"))));
    assert_false(topology_cacheable(topology_exchange(v, str("e"))));
    assert_false(topology_cacheable(topology_exchange(v, str("amq.match"))));
    bind_to("d", "amq.match", true, "k");
    assert_false(topology_cacheable(topology_exchange(v, str("d"))));
    unbind("amq.match", "q", false, "");
    assert_true(topology_cacheable(topology_exchange(v, str("d"))));
    fake_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topic_table),
        cmocka_unit_test(test_random_against_naive),
        cmocka_unit_test(test_many_hashes_cost_little),
        cmocka_unit_test(test_cycles_end),
        cmocka_unit_test(test_alternate_exchange),
        cmocka_unit_test(test_default_exchange),
        cmocka_unit_test(test_other_separator),
        cmocka_unit_test(test_large_fanout),
        cmocka_unit_test(test_headers_table),
        cmocka_unit_test(test_generation_and_cacheable),
    };
    return cmocka_run_group_tests_name("topology", tests, NULL, NULL);
}

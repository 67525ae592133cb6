/* definitions_test.c - declaring and deleting: refusals with their codes and texts, what goes with what,
 * owners, metadata that comes back after a restart. */
#include "topology_fake.h"

#include "definitions_int.h"
#include "names.h"

#include "../core/base/test_kit.h"

static struct mqg_error last;

static struct mqg_slice str(const char *s)
{
    return mqg_slice_str(s);
}

static struct mqg_vhost *root_vhost(void)
{
    return mqg_vhost_find(str("/"));
}

/* ---- words: each gives the outcome and leaves the error in `last` -------------------------------------- */

enum {
    DURABLE = 1,
    EXCLUSIVE = 2,
    AUTO_DELETE = 4,
    INTERNAL = 8,
    PASSIVE = 16,
    CONN2 = 32,
    IF_UNUSED = 64,
    IF_EMPTY = 128
};

static struct mqg_session *who(unsigned flags)
{
    last = (struct mqg_error){.err = MQG_OK};
    return fake_session(flags & CONN2 ? 2 : 1);
}

static struct mqg_table one_arg(struct mqg_field *f, const char *name, struct mqg_value v)
{
    *f = (struct mqg_field){str(name != NULL ? name : ""), v};
    return (struct mqg_table){f, name != NULL, 1};
}

static struct mqg_value number(int64_t n)
{
    return (struct mqg_value){.type = MQG_VALUE_INT32, .i = n};
}

static struct mqg_value text(const char *s)
{
    return (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = str(s)};
}

static struct mqg_queue_ok last_ok;
static uint64_t last_ticket, last_messages;

static enum mqg_err queue_arg(const char *name, unsigned flags, const char *arg, struct mqg_value v)
{
    struct mqg_field f;
    struct mqg_queue_def def = {.name = str(name),
                                .durable = flags & DURABLE,
                                .exclusive = flags & EXCLUSIVE,
                                .auto_delete = flags & AUTO_DELETE,
                                .owner_conn = flags & CONN2 ? 2 : 1,
                                .args = one_arg(&f, arg, v)};
    return mqg_queue_declare(who(flags), &def, flags & PASSIVE, &last_ok, &last_ticket, &last);
}

static enum mqg_err queue(const char *name, unsigned flags)
{
    return queue_arg(name, flags, NULL, number(0));
}

static enum mqg_err queue_delete(const char *name, unsigned flags)
{
    return mqg_queue_delete(who(flags), str(name), flags & IF_UNUSED, flags & IF_EMPTY, &last_messages,
                            &last_ticket, &last);
}

static enum mqg_err exchange_arg(const char *name, const char *type, unsigned flags, const char *arg,
                                 struct mqg_value v)
{
    struct mqg_field f;
    struct mqg_exchange_def def = {.name = str(name),
                                   .type = str(type),
                                   .durable = flags & DURABLE,
                                   .auto_delete = flags & AUTO_DELETE,
                                   .internal = flags & INTERNAL,
                                   .args = one_arg(&f, arg, v)};
    return mqg_exchange_declare(who(flags), &def, flags & PASSIVE, &last_ticket, &last);
}

static enum mqg_err exchange(const char *name, const char *type, unsigned flags)
{
    return exchange_arg(name, type, flags, NULL, number(0));
}

static enum mqg_err exchange_delete(const char *name, unsigned flags)
{
    return mqg_exchange_delete(who(flags), str(name), flags & IF_UNUSED, &last_ticket, &last);
}

static enum mqg_err bind_arg(const char *source, const char *destination, const char *key, const char *arg,
                             struct mqg_value v, unsigned flags, bool undo)
{
    struct mqg_field f;
    bool to_exchange = destination[0] == '>';
    struct mqg_binding_def def = {str(source), str(destination + to_exchange), to_exchange, str(key),
                                  one_arg(&f, arg, v)};
    if (undo)
        return mqg_binding_delete(who(flags), &def, &last_ticket, &last);
    return mqg_binding_put(who(flags), &def, &last_ticket, &last);
}

/* ">x" binds to exchange x. */
static enum mqg_err bind_to(const char *source, const char *destination, const char *key)
{
    return bind_arg(source, destination, key, NULL, number(0), 0, false);
}

static enum mqg_err unbind(const char *source, const char *destination, const char *key)
{
    return bind_arg(source, destination, key, NULL, number(0), 0, true);
}

static void refused_(enum mqg_err got, int code, const char *want, int line)
{
    if (got == MQG_OK || last.code != code || strcmp(last.text, want) != 0)
        fail_msg("line %d: err %d code %d '%s', want %d '%s'", line, (int)got, last.code, last.text, code,
                 want);
}
#define refused(call, code, want) refused_(call, code, want, __LINE__)
#define ok(call)                  assert_int_equal(call, MQG_OK)

static bool exchange_there(const char *name)
{
    return topology_exchange(root_vhost(), str(name)) != NULL;
}

static size_t route_count(const char *exchange, const char *key)
{
    struct route_set r;
    struct mqg_slice one = str(key);
    route_set_init(&r);
    topology_route(root_vhost(), topology_exchange(root_vhost(), str(exchange)), NULL, &one, 1, &r);
    size_t n = r.n;
    route_set_fini(&r);
    return n;
}

static bool queue_there(const char *name)
{
    return topology_queue(root_vhost(), str(name)) != NULL;
}

static int start(void **state)
{
    (void)state;
    fake_start();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fake_stop();
    return 0;
}

/* ---- refusals ------------------------------------------------------------------------------------------ */

#define LOCKED(q)                                                 \
    "cannot obtain exclusive access to locked queue '" q          \
    "' in vhost '/'. It could be originally declared on another " \
    "connection or the exclusive property value does not match that of the original declaration."

static void test_not_found(void **state)
{
    (void)state;
    ok(queue("q", 0));
    refused(queue("new", PASSIVE), 404, "no queue 'new' in vhost '/'");
    refused(queue("", PASSIVE), 404, "no queue '' in vhost '/'");
    refused(queue("amq.new", PASSIVE), 404, "no queue 'amq.new' in vhost '/'");
    refused(exchange("new", "direct", PASSIVE), 404, "no exchange 'new' in vhost '/'");
    refused(bind_to("amq.direct", "new", "k"), 404, "no queue 'new' in vhost '/'");
    refused(bind_to("new", "q", "k"), 404, "no exchange 'new' in vhost '/'");
    refused(bind_to("nox", "noq", "k"), 404, "no exchange 'nox' in vhost '/'");
    refused(bind_to("nox2", ">nox1", "k"), 404, "no exchange 'nox2' in vhost '/'");
    refused(bind_to("amq.direct", ">nox1", "k"), 404, "no exchange 'nox1' in vhost '/'");
    uint64_t messages;
    refused(mqg_queue_purge(who(0), str("new"), &messages, &last), 404, "no queue 'new' in vhost '/'");
    struct mqg_queue *q = NULL;
    refused(mqg_queue_open(who(0), str("new"), &q, &last), 404, "no queue 'new' in vhost '/'");
    assert_null(q);
    ok(queue_delete("new", 0));
    ok(queue_delete("amq.new", 0));
    ok(exchange_delete("new", 0));
    ok(unbind("nox", "noq", "k"));
    ok(unbind("amq.direct", "q", "never"));
    ok(unbind("nox", ">noq", "k"));
}

static void test_inequivalent_queue(void **state)
{
    (void)state;
#define DIFF(arg, how) "inequivalent arg '" arg "' for queue 'q' in vhost '/': " how
    ok(queue("q", 0));
    ok(queue("q", 0));
    refused(queue("q", DURABLE), 406, DIFF("durable", "received 'true' but current is 'false'"));
    refused(queue("q", AUTO_DELETE), 406, DIFF("auto_delete", "received 'true' but current is 'false'"));
    refused(queue("q", EXCLUSIVE), 405, LOCKED("q"));
    refused(queue_arg("q", 0, "x-message-ttl", number(1000)), 406,
            DIFF("x-message-ttl", "received the value '1000' of type 'signedint' but current is none"));
    refused(queue_arg("q", 0, "x-message-ttl", text("abc")), 406,
            DIFF("x-message-ttl", "received the value 'abc' of type 'longstr' but current is none"));
    refused(queue_arg("q", 0, "x-message-ttl", (struct mqg_value){.type = MQG_VALUE_NULL}), 406,
            DIFF("x-message-ttl", "received the value 'undefined' of type 'void' but current is none"));
    refused(queue_arg("q", 0, "x-queue-type", text("quorum")), 406,
            DIFF("x-queue-type", "received the value 'quorum' of type 'longstr' but current is none"));
    ok(queue_arg("q", 0, "x-queue-type", text("classic")));
    ok(queue_arg("q", 0, "x-delivery-limit", number(2)));
    ok(queue_arg("q", 0, "x-unknown", number(2)));
    ok(queue_delete("q", 0));
    ok(queue_arg("q", 0, "x-message-ttl", number(10)));
    refused(queue("q", 0), 406,
            DIFF("x-message-ttl", "received none but current is the value '10' of type 'signedint'"));
    refused(queue_arg("q", 0, "x-message-ttl", number(20)), 406,
            DIFF("x-message-ttl", "received '20' but current is '10'"));
    refused(queue_arg("q", 0, "x-message-ttl", text("10")), 406,
            DIFF("x-message-ttl", "received '10' but current is '10'"));
    refused(queue_arg("q", 0, "x-message-ttl", (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = true}),
            406, DIFF("x-message-ttl", "received 'true' but current is '10'"));
    refused(queue_arg("q", 0, "x-message-ttl", (struct mqg_value){.type = MQG_VALUE_NULL}), 406,
            DIFF("x-message-ttl", "received none but current is '10'"));
    ok(queue_arg("q", 0, "x-message-ttl", (struct mqg_value){.type = MQG_VALUE_INT64, .i = 10}));
    ok(queue_arg("q", 0, "x-message-ttl", (struct mqg_value){.type = MQG_VALUE_DOUBLE, .d = 10.0}));
    ok(queue_arg("q", PASSIVE | DURABLE, "x-message-ttl", number(5)));
    ok(queue_delete("q", 0));
    ok(queue_arg("q", DURABLE, "x-queue-type", text("quorum")));
    refused(queue("q", DURABLE), 406,
            DIFF("x-queue-type", "received none but current is the value 'quorum' of type 'longstr'"));
}

static void test_inequivalent_exchange(void **state)
{
    (void)state;
#define XDIFF(arg, how) "inequivalent arg '" arg "' for exchange 'x' in vhost '/': " how
    ok(exchange("x", "direct", 0));
    refused(exchange("x", "fanout", DURABLE), 406,
            XDIFF("type", "received 'fanout' but current is 'direct'"));
    refused(exchange("x", "direct", DURABLE | INTERNAL), 406,
            XDIFF("durable", "received 'true' but current is 'false'"));
    refused(exchange("x", "direct", AUTO_DELETE), 406,
            XDIFF("auto_delete", "received 'true' but current is 'false'"));
    refused(exchange("x", "direct", INTERNAL), 406,
            XDIFF("internal", "received 'true' but current is 'false'"));
    refused(exchange_arg("x", "direct", 0, "alternate-exchange", text("y")), 406,
            XDIFF("alternate-exchange", "received the value 'y' of type 'longstr' but current is none"));
    ok(exchange_arg("x", "direct", 0, "other", number(1)));
    ok(exchange("x", "fanout", PASSIVE | INTERNAL));
    ok(exchange("amq.direct", "direct", DURABLE));
    ok(exchange("amq.rabbitmq.trace", "topic", DURABLE | INTERNAL));
    refused(exchange("new", "bogus", 0), 503, "unknown exchange type 'bogus'");
    refused(exchange("new", "x-consistent-hash", 0), 503, "unknown exchange type 'x-consistent-hash'");
    refused(exchange("new", "", 0), 503, "invalid exchange type ''");
    refused(exchange("amq.new", "bogus", 0), 503, "unknown exchange type 'bogus'");
    refused(exchange_arg("x2", "direct", 0, "alternate-exchange", number(3)), 406,
            "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x2' in vhost '/'");
}

static void test_access_refused(void **state)
{
    (void)state;
    static const char no[] = "operation not permitted on the default exchange";
    ok(queue("q", 0));
    refused(queue("amq.mine", 0), 403, "queue name 'amq.mine' contains reserved prefix 'amq.*'");
    refused(exchange("amq.mine", "direct", 0), 403,
            "exchange name 'amq.mine' contains reserved prefix 'amq.*'");
    refused(exchange_delete("amq.direct", 0), 403,
            "deletion of system exchange 'amq.direct' in vhost '/' not allowed");
    refused(exchange_delete("amq.none", 0), 403,
            "deletion of system exchange 'amq.none' in vhost '/' not allowed");
    refused(exchange_delete("", 0), 403, no);
    refused(exchange("", "direct", DURABLE), 403, no);
    refused(exchange("", "direct", PASSIVE), 403, no);
    refused(bind_to("", "q", "q"), 403, no);
    refused(bind_to("", "noq", "q"), 403, no);
    refused(unbind("", "q", "q"), 403, no);
    refused(bind_to("amq.direct", ">", "q"), 403, no);
    refused(unbind("amq.direct", ">", "q"), 403, no);
}

static void test_in_use(void **state)
{
    (void)state;
    ok(queue("q", 0));
    ok(exchange("x", "direct", 0));
    ok(bind_to("amq.fanout", ">x", ""));
    ok(bind_to("x", "q", "k"));
    refused(exchange_delete("x", IF_UNUSED), 406, "exchange 'x' in vhost '/' in use");
    ok(unbind("x", "q", "k"));
    topology_queue(root_vhost(), str("q"))->ready = 3;
    topology_queue(root_vhost(), str("q"))->consumers = 2;
    refused(queue_delete("q", IF_UNUSED), 406, "in use");
    refused(queue_delete("q", IF_EMPTY), 406, "not empty");
    ok(queue("q", PASSIVE));
    assert_true(last_ok.messages == 3 && last_ok.consumers == 2);
    ok(queue_delete("q", 0));
    assert_int_equal(last_messages, 3);
    ok(exchange_delete("x", IF_UNUSED)); /* only a destination */
    assert_false(exchange_there("x") || queue_there("q"));
}

static void test_headers_match_words(void **state)
{
    (void)state;
    ok(queue("q", 0));
    refused(bind_arg("amq.match", "q", "", "x-match", text("most"), 0, false), 406,
            "Invalid x-match field value <<\"most\">>; expected all, any, all-with-x, or any-with-x");
    refused(bind_arg("amq.match", "q", "", "x-match", number(3), 0, false), 406,
            "Invalid x-match field type signedint (value 3); expected longstr");
    refused(bind_arg("amq.match", "q", "", "x-match",
                     (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = true}, 0, false),
            406, "Invalid x-match field type bool (value true); expected longstr");
    ok(bind_arg("amq.match", "q", "", "x-match", text("most"), 0, true));
    ok(bind_arg("amq.direct", "q", "", "x-match", text("most"), 0, false));
}

static void test_permissions(void **state)
{
    (void)state;
    ok(queue("q", 0));
    ok(exchange("x", "direct", 0));
    fake_denied[MQG_CONFIGURE] = "no";
    refused(queue("no1", 0), 403, "access to queue 'no1' in vhost '/' refused for user 'guest'");
    refused(exchange("no1", "direct", 0), 403,
            "access to exchange 'no1' in vhost '/' refused for user 'guest'");
    refused(queue_delete("no1", 0), 403, "access to queue 'no1' in vhost '/' refused for user 'guest'");
    refused(exchange_delete("no1", 0), 403, "access to exchange 'no1' in vhost '/' refused for user 'guest'");
    fake_denied[MQG_CONFIGURE] = NULL;
    fake_denied[MQG_WRITE] = "no";
    refused(queue_arg("q2", 0, "x-dead-letter-exchange", text("no")), 403,
            "access to exchange 'no' in vhost '/' refused for user 'guest'");
    ok(queue_arg("q2", 0, "x-dead-letter-exchange", text("yes")));
    refused(exchange_arg("x2", "direct", 0, "alternate-exchange", text("no")), 403,
            "access to exchange 'no' in vhost '/' refused for user 'guest'");
    refused(bind_to("x", "noq", "k"), 403, "access to queue 'noq' in vhost '/' refused for user 'guest'");
    refused(bind_to("x", ">nox", "k"), 403, "access to exchange 'nox' in vhost '/' refused for user 'guest'");
    fake_denied[MQG_READ] = "q";
    refused(queue_arg("q3", 0, "x-dead-letter-exchange", text("yes")), 403,
            "access to queue 'q3' in vhost '/' refused for user 'guest'");
    uint64_t messages;
    refused(mqg_queue_purge(who(0), str("q"), &messages, &last), 403,
            "access to queue 'q' in vhost '/' refused for user 'guest'");
    fake_denied[MQG_READ] = "x";
    refused(bind_to("x", "q", "k"), 403, "access to exchange 'x' in vhost '/' refused for user 'guest'");
    refused(unbind("x", "q", "k"), 403, "access to exchange 'x' in vhost '/' refused for user 'guest'");
    assert_false(queue_there("no1") || queue_there("q3") || exchange_there("x2"));
}

static void test_bounds(void **state)
{
    (void)state;
    char name[300], blob[300 * 1024];
    memset(name, 'n', sizeof name);
    memset(blob, 'b', sizeof blob);
    name[255] = '\0';
    ok(queue(name, 0));
    name[255] = 'n';
    name[256] = '\0';
    refused(queue(name, 0), 406, "queue name of 256 bytes is longer than 255");
    refused(exchange(name, "direct", 0), 406, "exchange name of 256 bytes is longer than 255");
    struct mqg_value huge = {.type = MQG_VALUE_STRING, .bytes = mqg_slice_of(blob, sizeof blob)};
    refused(queue_arg("q", 0, "x", huge), 406, "arguments of queue 'q' are larger than 262144 bytes");
}

/* ---- owners -------------------------------------------------------------------------------------------- */

static void test_exclusive(void **state)
{
    (void)state;
    struct mqg_queue *q = NULL;
    uint64_t messages;
    ok(queue("mine", EXCLUSIVE | DURABLE));
    ok(queue("mine", EXCLUSIVE));
    ok(queue("mine", PASSIVE));
    refused(queue("mine", 0), 405, LOCKED("mine"));
    refused(queue("mine", CONN2 | EXCLUSIVE), 405, LOCKED("mine"));
    refused(queue("mine", CONN2), 405, LOCKED("mine"));
    refused(queue("mine", CONN2 | PASSIVE), 405, LOCKED("mine"));
    refused(queue_delete("mine", CONN2), 405, LOCKED("mine"));
    refused(mqg_queue_purge(who(CONN2), str("mine"), &messages, &last), 405, LOCKED("mine"));
    refused(mqg_queue_open(who(CONN2), str("mine"), &q, &last), 405, LOCKED("mine"));
    refused(bind_arg("amq.direct", "mine", "k", NULL, number(0), CONN2, false), 405, LOCKED("mine"));
    ok(bind_to("amq.direct", "mine", "k"));
    refused(bind_arg("amq.direct", "mine", "k", NULL, number(0), CONN2, true), 405, LOCKED("mine"));
    ok(mqg_queue_open(who(0), str("mine"), &q, &last));
    mqg_queue_unref(&q);
    assert_int_equal(fake_meta.count, 3); /* vhost, ids, epoch: no exclusive queue */
}

static void test_connection_takes_its_queues_along(void **state)
{
    (void)state;
    ok(queue("a", EXCLUSIVE));
    ok(queue("b", EXCLUSIVE));
    ok(queue("c", EXCLUSIVE | CONN2));
    ok(queue("d", 0));
    ok(exchange("x", "fanout", AUTO_DELETE));
    ok(bind_to("x", "a", ""));
    mqg_conn_gone(fake_session(1));
    assert_false(queue_there("a") || queue_there("b") || exchange_there("x"));
    assert_true(queue_there("c") && queue_there("d"));
    mqg_conn_gone(fake_session(1));
    mqg_conn_gone(fake_session(2));
    assert_false(queue_there("c"));
}

static void test_server_named(void **state)
{
    (void)state;
    char first[64];
    ok(queue("", EXCLUSIVE));
    snprintf(first, sizeof first, "%.*s", MQG_SLICE_FMT(last_ok.name));
    assert_int_equal(strncmp(first, "amq.gen-", 8), 0);
    assert_int_equal(strlen(first), 30);
    ok(queue("", 0));
    assert_false(mqg_slice_eq(last_ok.name, str(first)));
    assert_true(queue_there(first));
}

/* ---- what goes with what ------------------------------------------------------------------------------- */

static void test_auto_delete_exchanges(void **state)
{
    (void)state;
    ok(exchange("x", "direct", AUTO_DELETE));
    ok(queue("q", 0));
    ok(bind_to("x", "q", "a"));
    ok(bind_to("x", "q", "b"));
    ok(bind_to("x", "q", "b"));
    ok(unbind("x", "q", "a"));
    assert_true(exchange_there("x"));
    ok(unbind("x", "q", "b"));
    assert_false(exchange_there("x"));
    ok(exchange("x", "fanout", AUTO_DELETE));
    ok(bind_to("x", "q", ""));
    ok(queue_delete("q", 0));
    assert_false(exchange_there("x"));
}

/* A chain of 20,000: a loop, not a recursion. */
static void test_auto_delete_cascades(void **state)
{
    (void)state;
    enum { N = 20000 };
    char name[16], next[16];
    ok(queue("q", 0));
    for (int i = 0; i <= N; i++) {
        snprintf(name, sizeof name, "x%d", i);
        ok(exchange(name, "fanout", AUTO_DELETE));
    }
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "x%d", i);
        snprintf(next, sizeof next, ">x%d", i + 1);
        ok(bind_to(name, next, ""));
    }
    snprintf(name, sizeof name, "x%d", N);
    ok(bind_to(name, "q", ""));
    ok(queue_delete("q", 0));
    assert_false(exchange_there("x0") || exchange_there(name));
    assert_int_equal(root_vhost()->exchanges.count, 7);
    assert_int_equal(root_vhost()->bindings.count, 0);
}

static void test_self_binding(void **state)
{
    (void)state;
    ok(exchange("x", "fanout", AUTO_DELETE));
    ok(exchange("y", "fanout", AUTO_DELETE));
    ok(bind_to("x", ">x", ""));
    ok(bind_to("x", ">y", ""));
    ok(bind_to("y", ">x", ""));
    ok(exchange_delete("x", 0));
    assert_false(exchange_there("x") || exchange_there("y"));
}

static void test_bindings_differ_by_arguments(void **state)
{
    (void)state;
    struct route_set r;
    struct mqg_slice key = str("k");
    ok(queue("q", 0));
    ok(bind_arg("amq.direct", "q", "k", "n", number(1), 0, false));
    ok(bind_arg("amq.direct", "q", "k", "n", number(2), 0, false));
    ok(bind_arg("amq.direct", "q", "k", "n", number(2), 0, false));
    assert_int_equal(root_vhost()->bindings.count, 2);
    ok(bind_arg("amq.direct", "q", "k", "n", number(1), 0, true));
    route_set_init(&r);
    topology_route(root_vhost(), topology_exchange(root_vhost(), str("amq.direct")), NULL, &key, 1, &r);
    assert_int_equal(r.n, 1);
    ok(bind_arg("amq.direct", "q", "k", "n", number(2), 0, true));
    topology_route(root_vhost(), topology_exchange(root_vhost(), str("amq.direct")), NULL, &key, 1, &r);
    assert_int_equal(r.n, 0);
    route_set_fini(&r);
}

static void test_queue_over(void **state)
{
    (void)state;
    ok(queue("q", AUTO_DELETE));
    struct mqg_queue *q = NULL;
    ok(mqg_queue_open(who(0), str("q"), &q, &last));
    q->consumers = 1; /* somebody came in between */
    definitions_queue_over(q, "auto-delete");
    assert_true(queue_there("q"));
    q->consumers = 0;
    definitions_queue_over(q, "auto-delete");
    assert_false(queue_there("q"));
    ok(queue("q", 0)); /* another one of the same name */
    definitions_queue_over(q, "auto-delete");
    assert_true(queue_there("q"));
    mqg_queue_unref(&q);
}

/* ---- metadata ------------------------------------------------------------------------------------------ */

static bool meta_has(const char *key)
{
    return mqg_map_get(&fake_meta, str(key)) != NULL;
}

static void test_only_durable_is_recorded(void **state)
{
    (void)state;
    ok(queue("t", 0));
    assert_int_equal(last_ticket, 0);
    ok(queue("d", DURABLE));
    assert_true(last_ticket > 0);
    ok(queue("d", DURABLE));
    assert_int_equal(last_ticket, 0);
    ok(exchange("dx", "topic", DURABLE));
    ok(exchange("tx", "topic", 0));
    ok(bind_to("dx", "d", "k.#"));
    ok(bind_to("dx", "t", "k"));
    ok(bind_to("tx", "d", "k"));
    ok(bind_to("dx", ">tx", "k"));
    ok(bind_to("dx", ">amq.fanout", ""));
    assert_true(meta_has("q/%2F/d") && meta_has("x/%2F/dx") && meta_has("b/%2F/dx/q/d/k.%23/") &&
                meta_has("b/%2F/dx/x/amq.fanout//"));
    assert_int_equal(fake_meta.count, 3 + 4);
    ok(exchange_delete("dx", 0));
    assert_true(last_ticket > 0);
    ok(queue_delete("d", 0));
    assert_int_equal(fake_meta.count, 3);
}

/* Everything that survives a restart, as text. */
struct dump {
    char *lines[64];
    size_t n;
};

static void dump_line(struct dump *d, const char *fmt, ...) MQG_PRINTF(2, 3);
static void dump_line(struct dump *d, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    assert_true(d->n < MQG_COUNTOF(d->lines));
    assert_true(vasprintf(&d->lines[d->n++], fmt, args) >= 0);
    va_end(args);
}

static void dump_args(char out[512], const struct mqg_table *args)
{
    struct mqg_dynbuf json;
    mqg_dynbuf_init(&json, 4096);
    mqg_table_json(&json, args);
    snprintf(out, 512, "%.*s", MQG_SLICE_FMT(mqg_dynbuf_view(&json)));
    mqg_dynbuf_fini(&json);
}

static bool dump_queue(void *arg, const struct mqg_queue_info *q)
{
    char args[512];
    dump_args(args, q->args);
    dump_line(arg, "queue %.*s %llu %d %s", MQG_SLICE_FMT(q->name),
              (unsigned long long)mqg_queue_id(q->queue), q->durable, args);
    return true;
}

static bool dump_exchange(void *arg, const struct mqg_exchange_info *x)
{
    char args[512];
    dump_args(args, x->args);
    dump_line(arg, "exchange %.*s %.*s %.*s %d%d%d %s", MQG_SLICE_FMT(x->vhost), MQG_SLICE_FMT(x->name),
              MQG_SLICE_FMT(x->type), x->durable, x->auto_delete, x->internal, args);
    return true;
}

static bool dump_binding(void *arg, const struct mqg_binding_info *b)
{
    char args[512];
    dump_args(args, b->args);
    dump_line(arg, "binding %.*s %.*s %s %.*s %.*s %s", MQG_SLICE_FMT(b->vhost), MQG_SLICE_FMT(b->source),
              b->to_exchange ? "exchange" : "queue", MQG_SLICE_FMT(b->destination), MQG_SLICE_FMT(b->key),
              args);
    return true;
}

static int dump_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void dump_take(struct dump *d)
{
    d->n = 0;
    mqg_queue_each(NULL, dump_queue, d);
    mqg_exchange_each(NULL, dump_exchange, d);
    mqg_binding_each(NULL, dump_binding, d);
    qsort(d->lines, d->n, sizeof d->lines[0], dump_order);
}

static void dump_free(struct dump *d)
{
    for (size_t i = 0; i < d->n; i++)
        free(d->lines[i]);
}

static void declare_a_bit_of_everything(void)
{
    uint64_t ticket;
    ok(mqg_vhost_put(str("other/one"), &ticket, NULL));
    ok(queue_arg("d", DURABLE, "x-max-length", number(7)));
    ok(queue_arg("quorum", DURABLE, "x-queue-type", text("quorum")));
    ok(queue("auto", DURABLE | AUTO_DELETE));
    ok(exchange_arg("dx", "topic", DURABLE | INTERNAL, "alternate-exchange", text("hx")));
    ok(exchange("hx", "headers", DURABLE | AUTO_DELETE));
    ok(bind_to("dx", "d", "k.*.#"));
    ok(bind_to("dx", "quorum", ""));
    ok(bind_to("dx", ">hx", "#"));
    ok(bind_arg("hx", "d", "", "n", number(1), 0, false));
    ok(bind_arg("hx", "d", "", "n", number(2), 0, false));
    ok(bind_to("amq.fanout", "auto", ""));
}

static void test_round_trip(void **state)
{
    (void)state;
    struct dump before, after;
    declare_a_bit_of_everything();
    dump_take(&before);
    fake_restart(true);
    dump_take(&after);
    assert_int_equal(before.n, after.n);
    for (size_t i = 0; i < before.n; i++)
        assert_string_equal(before.lines[i], after.lines[i]);
    assert_int_equal(before.n, 3 + 2 * 7 + 2 + 3 + 6); /* queues, exchanges, default bindings, bindings */
    dump_free(&before);
    dump_free(&after);
    struct mqg_session *s = fake_session(1);
    s->vhost = mqg_vhost_find(str("other/one"));
    assert_non_null(s->vhost);
    assert_non_null(topology_exchange(s->vhost, str("amq.topic")));
    ok(queue_arg("d", DURABLE, "x-max-length", number(7)));
    ok(bind_arg("hx", "d", "", "n", number(1), 0, true)); /* found again */
    ok(bind_arg("hx", "d", "", "n", number(2), 0, true));
    assert_false(exchange_there("hx"));
}

static void test_transient_is_gone_after_a_restart(void **state)
{
    (void)state;
    ok(queue("t", 0));
    ok(queue("d", DURABLE));
    ok(exchange("dx", "direct", DURABLE));
    ok(bind_to("dx", "t", "k"));
    fake_restart(false);
    assert_true(queue_there("d") && exchange_there("dx") && !queue_there("t"));
    assert_int_equal(root_vhost()->bindings.count, 0);
}

static void test_ids_are_never_used_again(void **state)
{
    (void)state;
    uint64_t highest = 0;
    for (int start_n = 0; start_n < 4; start_n++) {
        for (int i = 0; i < 50; i++) {
            ok(queue("q", DURABLE));
            uint64_t id = mqg_queue_id(topology_queue(root_vhost(), str("q")));
            assert_true(id > highest);
            assert_ptr_equal(topology_queue_by_id(id), topology_queue(root_vhost(), str("q")));
            highest = id;
            ok(queue_delete("q", 0));
            assert_null(topology_queue_by_id(id));
        }
        fake_restart(true);
    }
}

static void put_meta(const char *key, const void *value, size_t len)
{
    fake_put(str(key), mqg_slice_of(value, len));
}

/* What does not decode, or is another's, is left out; the rest starts. */
static void test_damaged_records(void **state)
{
    (void)state;
    declare_a_bit_of_everything();
    const struct fake_value *d = mqg_map_get(&fake_meta, str("q/%2F/d"));
    assert_non_null(d);
    uint8_t copy[512];
    size_t len = d->len;
    memcpy(copy, d->bytes, len);
    put_meta("q/%2F/stolen", copy, len);
    put_meta("q/%2F/d", copy, len - 1);
    put_meta("x/%2F/bad", "\1\1\1\0/", 5);
    put_meta("q/nowhere/q", "\1\1\5\0\0\0\0\0\0\0\7\0nowhere\1\0q\0\0\0\0", 27);
    fake_restart(true);
    assert_false(queue_there("d") || queue_there("stolen") || exchange_there("bad"));
    assert_true(queue_there("quorum") && queue_there("auto") && exchange_there("dx") && exchange_there("hx"));
}

static size_t meta_bindings(void)
{
    size_t n = 0;
    for (struct mqg_map_iter it = {0}; mqg_map_next(&fake_meta, &it);)
        n += mqg_slice_starts(it.key, str("b/"));
    return n;
}

static void bind_many(const char *source, unsigned n)
{
    char key[16];
    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof key, "k%u", i);
        ok(bind_to(source, "d", key));
    }
}

/* The exchange is gone at once; its bindings go in slices, and are never taken for those of its successor. */
static void test_large_exchanges_go_in_slices(void **state)
{
    (void)state;
    ok(queue("d", DURABLE));
    ok(exchange("x", "direct", DURABLE));
    ok(exchange("y", "topic", DURABLE));
    bind_many("x", 2500);
    bind_many("y", 1500);
    ok(exchange_delete("x", 0));
    ok(exchange_delete("y", 0));
    assert_false(exchange_there("x") || exchange_there("y"));
    assert_int_equal(meta_bindings(), 2000);
    ok(unbind("x", "d", "k2400"));
    ok(exchange("x", "direct", DURABLE)); /* lets go of what is left of the first */
    assert_int_equal(meta_bindings(), 500);
    ok(bind_to("x", "d", "k7"));
    assert_false(definitions_drop_slice());
    assert_int_equal(meta_bindings(), 1);
    assert_int_equal(route_count("x", "k7"), 1);
    assert_int_equal(route_count("x", "k2400"), 0);
    fake_restart(true);
    assert_int_equal(route_count("x", "k7"), 1);
    bind_many("x", 1800);
    ok(exchange_delete("x", 0));
    ok(queue_delete("d", 0)); /* its list still has bindings of x */
    assert_int_equal(meta_bindings(), 0);
    assert_false(definitions_drop_slice());
}

static void test_crash_between_slices(void **state)
{
    (void)state;
    ok(queue("d", DURABLE));
    ok(exchange("x", "direct", DURABLE));
    bind_many("x", 2500);
    ok(exchange_delete("x", 0));
    assert_int_equal(meta_bindings(), 1500);
    fake_restart(true);
    assert_int_equal(meta_bindings(), 0);
    ok(exchange("x", "direct", DURABLE));
    fake_restart(true);
    assert_int_equal(route_count("x", "k2400"), 0);
}

static void test_messages_find_their_queue(void **state)
{
    (void)state;
    struct mqg_stored head = {.version = 1};
    struct mqg_range range;
    uint64_t upto = 0;
    ok(queue("d", DURABLE));
    struct mqg_queue *q = topology_queue(root_vhost(), str("d"));
    assert_true(mqg_routing_recover_message(q->id, 1, NULL, 0, 0, &head, 0, 0));
    assert_true(mqg_routing_recover_message(q->id, 2, NULL, 0, 0, &head, 1, 1));
    assert_false(mqg_routing_recover_message(q->id + 1, 1, NULL, 0, 0, &head, 0, 0));
    assert_int_equal(q->recovered, 2);
    assert_int_equal(mqg_routing_queue_live(q->id, &range, 1, &upto), 2);
    assert_int_equal(mqg_routing_queue_live(q->id + 1, &range, 1, &upto), 0);
    assert_true(upto == UINT64_MAX);
}

/* ---- vhosts -------------------------------------------------------------------------------------------- */

static bool count_vhost(void *arg, struct mqg_vhost *v)
{
    (void)v;
    (*(int *)arg)++;
    return true;
}

static void test_vhosts(void **state)
{
    (void)state;
    uint64_t ticket;
    int n = 0;
    struct mqg_vhost *first = root_vhost();
    ok(mqg_vhost_put(str("/"), &ticket, &last));
    assert_int_equal(ticket, 0);
    ok(mqg_vhost_put(str("v"), &ticket, &last));
    assert_true(ticket > 0);
    assert_int_equal(mqg_vhost_put(str(""), &ticket, &last), MQG_INVALID);
    mqg_vhost_each(count_vhost, &n);
    assert_int_equal(n, 2);
    declare_a_bit_of_everything();
    ok(queue("ex", EXCLUSIVE));
    struct mqg_session old = *fake_session(1);
    unsigned kills = fake_kills;
    ok(mqg_vhost_delete(str("/"), &ticket, &last));
    assert_int_equal(fake_kills, kills + 1);
    assert_null(root_vhost());
    assert_int_equal(mqg_vhost_delete(str("/"), &ticket, &last), MQG_NOT_FOUND);
    for (struct mqg_map_iter it = {0}; mqg_map_next(&fake_meta, &it);)
        assert_false(mqg_slice_starts(it.key, str("q/")) || mqg_slice_starts(it.key, str("b/")) ||
                     mqg_slice_starts(it.key, str("x/")));
    ok(mqg_vhost_put(str("/"), &ticket, &last));
    assert_ptr_not_equal(root_vhost(), first);
    assert_false(mqg_vhost_alive(first));
    struct mqg_exchange_def def = {.name = str("x"), .type = str("direct")};
    assert_int_equal(mqg_exchange_declare(&old, &def, false, &ticket, &last), MQG_GONE); /* of the dead one */
    mqg_conn_gone(&old);
    ok(queue("d", DURABLE));
    fake_restart(false);
    assert_true(queue_there("d") && mqg_vhost_find(str("v")) != NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(not_found),
        TEST(inequivalent_queue),
        TEST(inequivalent_exchange),
        TEST(access_refused),
        TEST(in_use),
        TEST(headers_match_words),
        TEST(permissions),
        TEST(bounds),
        TEST(exclusive),
        TEST(connection_takes_its_queues_along),
        TEST(server_named),
        TEST(auto_delete_exchanges),
        TEST(auto_delete_cascades),
        TEST(self_binding),
        TEST(bindings_differ_by_arguments),
        TEST(queue_over),
        TEST(only_durable_is_recorded),
        TEST(round_trip),
        TEST(transient_is_gone_after_a_restart),
        TEST(ids_are_never_used_again),
        TEST(damaged_records),
        TEST(large_exchanges_go_in_slices),
        TEST(crash_between_slices),
        TEST(messages_find_their_queue),
        TEST(vhosts),
    };
    return cmocka_run_group_tests_name("definitions", tests, NULL, NULL);
}

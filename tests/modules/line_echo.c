/* line_echo.c - a sample protocol module: each line that a client sends comes back.
 *
 * The smallest handler that does everything a handler must: it takes input in whatever pieces it comes, answers into the
 * connection's output, says goodbye when the node stops, and gives back what it holds. docs/module-guide.md walks
 * through this file. */
#include <mqgate/conf.h>
#include <mqgate/module.h>
#include <mqgate/obs.h>
#include <mqgate/protocol.h>

/* A listener of a name of our own needs a key: [listeners] line_echo = host:port. Off unless somebody asks. */
static const struct mqg_conf_row echo_rows[] = {
    {"listeners", "line_echo", MQG_CONF_ADDR, "off", 0, 0, NULL, "line echo, a sample"},
    {"line_echo", "greeting", MQG_CONF_STR, "hello", 0, 0, NULL, "first line that a client gets"},
    {.section = NULL},
};

/* Per connection; zeroed by the host, which owns the memory. */
struct echo_conn {
    uint64_t lines;
};

static char echo_greeting[64] = "hello";

static void echo_write_line(struct mqg_conn *c, struct mqg_slice line)
{
    mqg_conn_write(c, line);
    mqg_conn_write(c, MQG_SLICE_LIT("\n"));
}

static enum mqg_err echo_conn_init(struct mqg_conn *c)
{
    mqg_conn_idle(c, 60000); /* logged in at once; a minute of silence ends it */
    echo_write_line(c, mqg_slice_str(echo_greeting));
    return MQG_OK;
}

static void echo_line(struct mqg_conn *c, struct mqg_slice line, struct mqg_error *e)
{
    struct echo_conn *ec = mqg_conn_state(c);
    ec->lines++;
    if (mqg_slice_eq(line, MQG_SLICE_LIT("quit"))) {
        echo_write_line(c, MQG_SLICE_LIT("bye"));
        mqg_conn_close(c);
    } else if (!mqg_utf8_valid(line)) {
        echo_write_line(c, MQG_SLICE_LIT("not UTF-8"));
        mqg_error_set(e, MQG_MALFORMED, 0, "a line that is not UTF-8");
    } else {
        echo_write_line(c, line);
    }
}

/* Whole lines are used; the beginning of one stays with the host and comes again with more behind it. */
static size_t echo_input(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e)
{
    size_t used = 0;
    const uint8_t *end;
    while (e->err == MQG_OK && used < in.len && (end = memchr(in.ptr + used, '\n', in.len - used)) != NULL) {
        size_t len = (size_t)(end - in.ptr) - used;
        echo_line(c, mqg_slice_of(in.ptr + used, len), e);
        used += len + 1;
    }
    return used;
}

static void echo_event(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text)
{
    if (ev != MQG_EV_DRAINING && ev != MQG_EV_KILL)
        return;
    echo_write_line(c, text);
    mqg_conn_close(c);
}

static void echo_conn_fini(struct mqg_conn *c)
{
    const struct echo_conn *ec = mqg_conn_state(c);
    MQG_TRACE("line_echo", mqg_conn_info(c)->id, "lines=%llu", (unsigned long long)ec->lines);
}

static void echo_describe(const struct mqg_conn *c, struct mqg_describe *d)
{
    const struct echo_conn *ec = mqg_conn_state((struct mqg_conn *)(uintptr_t)c);
    d->num(d->arg, "lines", (int64_t)ec->lines);
}

static void echo_reload(const struct mqg_conf *conf)
{
    const char *greeting = mqg_conf_str(conf, "line_echo", "greeting");
    size_t n = strlen(greeting) < sizeof echo_greeting ? strlen(greeting) : sizeof echo_greeting - 1;
    memcpy(echo_greeting, greeting, n);
    echo_greeting[n] = '\0';
}

static enum mqg_err echo_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    if (*mqg_conf_str(conf, "line_echo", "greeting") == '\0')
        return mqg_error_set(e, MQG_INVALID, 0, "%s: line_echo.greeting is empty; say something",
                             mqg_conf_where(conf, "line_echo", "greeting"));
    echo_reload(conf);
    return MQG_OK;
}

static const char *const echo_listeners[] = {"line_echo", NULL};

static const struct mqg_protocol_ops echo_ops = {
    .name = "line_echo",
    .proto = MQG_PROTO_INTERNAL,
    .conn_bytes = sizeof(struct echo_conn),
    .listeners = echo_listeners,
    .conn_init = echo_conn_init,
    .input = echo_input,
    .event = echo_event,
    .conn_fini = echo_conn_fini,
    .describe = echo_describe,
};

MQG_MODULE(line_echo) = {
    MQG_MODULE_HEAD(struct mqg_protocol_ops),
    .kind = MQG_MODULE_PROTOCOL,
    .name = "line_echo",
    .version = "1",
    .conf = echo_rows,
    .protocol = &echo_ops,
    .load = echo_load,
    .reload = echo_reload,
};

/* echo.c - the protocol of the io tests.
 *
 *   quit          says bye and closes          bad          a protocol fault, with a goodbye
 *   flood N       writes N KiB                 big          sends a message's body by reference
 *   pause         stops input for 20 ms        publish      is a publisher from now on
 *   unsettled     holds deliveries             login        raises the login deadline, and input to 256 KiB
 *   idle N        is closed after N ms         crash        asserts
 *   all else      comes back with a newline */
#include "echo.h"

#include <stdlib.h>
#include <unistd.h>

_Atomic int echo_inits, echo_finis, echo_lines, echo_writable, echo_blocked, echo_unblocked, echo_kills,
    echo_drains;

struct echo_pause {
    struct mqg_timer timer;
    struct mqg_conn *c;
};

struct echo_conn {
    struct echo_pause pause;
};

static enum mqg_err echo_init(struct mqg_conn *c)
{
    (void)c;
    echo_inits++;
    return MQG_OK;
}

static void echo_fini(struct mqg_conn *c)
{
    struct echo_conn *e = mqg_conn_state(c);
    mqg_timer_cancel(&e->pause.timer);
    echo_finis++;
}

static void echo_resume(struct mqg_timer *t)
{
    struct echo_pause *p = MQG_CONTAINER_OF(t, struct echo_pause, timer);
    mqg_conn_pause(p->c, MQG_PAUSE_HANDLER, false);
}

static void echo_do_pause(struct mqg_conn *c)
{
    struct echo_conn *e = mqg_conn_state(c);
    mqg_timer_init(&e->pause.timer, echo_resume);
    e->pause.c = c;
    mqg_conn_pause(c, MQG_PAUSE_HANDLER, true);
    mqg_timer_in(&e->pause.timer, 20);
}

static void echo_flood(struct mqg_conn *c, size_t kib)
{
    for (; kib > 0; kib--) {
        memset(mqg_conn_reserve(c, 1024), 'f', 1024);
        mqg_conn_commit(c, 1024);
    }
}

static void echo_big(struct mqg_conn *c)
{
    struct mqg_msg_parts parts = {.proto = MQG_PROTO_INTERNAL, .key_sep = '.', .body_len = 1 << 20};
    struct mqg_msg *m = mqg_msg_new(&parts);
    MQG_ASSERT(m != NULL);
    memset(mqg_msg_body_mut(m), 'm', 1 << 20);
    mqg_conn_write_msg(c, m, mqg_msg_body(m));
    mqg_msg_unref(&m);
}

static bool echo_is(struct mqg_slice line, const char *word)
{
    return mqg_slice_starts(line, mqg_slice_str(word));
}

static unsigned long echo_number(struct mqg_slice line)
{
    char text[32] = "";
    memcpy(text, line.ptr, line.len < sizeof text - 1 ? line.len : sizeof text - 1);
    char *space = strchr(text, ' ');
    return space != NULL ? strtoul(space, NULL, 10) : 0;
}

static void echo_line(struct mqg_conn *c, struct mqg_slice line, struct mqg_error *e)
{
    echo_lines++;
    if (echo_is(line, "quit")) {
        mqg_conn_write(c, MQG_SLICE_LIT("bye\n"));
        mqg_conn_close(c);
    } else if (echo_is(line, "bad")) {
        mqg_conn_write(c, MQG_SLICE_LIT("error\n"));
        mqg_error_set(e, MQG_MALFORMED, 0, "the client said bad");
    } else if (echo_is(line, "flood ")) {
        echo_flood(c, echo_number(line));
    } else if (echo_is(line, "big")) {
        echo_big(c);
    } else if (echo_is(line, "pause")) {
        echo_do_pause(c);
    } else if (echo_is(line, "publish")) {
        mqg_conn_publishes(c);
    } else if (echo_is(line, "unsettled")) {
        mqg_conn_has_unsettled(c, true);
    } else if (echo_is(line, "idle ")) {
        mqg_conn_idle(c, echo_number(line));
    } else if (echo_is(line, "crash")) {
        MQG_ASSERT(echo_lines < 0);
    } else if (echo_is(line, "login")) {
        mqg_conn_idle(c, 0);
        mqg_conn_input_max(c, 256 << 10);
    } else {
        mqg_conn_write(c, line);
        mqg_conn_write(c, MQG_SLICE_LIT("\n"));
    }
}

static bool echo_paused(struct mqg_conn *c)
{
    const struct echo_conn *e = mqg_conn_state(c);
    return e->pause.timer.due_ms != 0;
}

static size_t echo_input(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e)
{
    size_t used = 0;
    while (!echo_paused(c) && e->err == MQG_OK) {
        const uint8_t *end = used < in.len ? memchr(in.ptr + used, '\n', in.len - used) : NULL;
        if (end == NULL)
            break;
        echo_line(c, mqg_slice_of(in.ptr + used, (size_t)(end - in.ptr) - used), e);
        used = (size_t)(end - in.ptr) + 1;
    }
    return used;
}

static void echo_dump(const struct mqg_conn *c, int fd)
{
    (void)c;
    ssize_t n = write(fd, "echo was here\n", 14);
    (void)n;
}

static void echo_event(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text)
{
    (void)text;
    switch (ev) {
    case MQG_EV_WRITABLE: echo_writable++; break;
    case MQG_EV_BLOCKED: echo_blocked++; break;
    case MQG_EV_UNBLOCKED: echo_unblocked++; break;
    case MQG_EV_KILL:
        echo_kills++;
        mqg_conn_write(c, MQG_SLICE_LIT("killed\n"));
        mqg_conn_close(c);
        break;
    case MQG_EV_DRAINING:
        echo_drains++;
        mqg_conn_write(c, MQG_SLICE_LIT("draining\n"));
        mqg_conn_close(c);
        break;
    default: break;
    }
}

static const char *const echo_listeners[] = {"echo", NULL};

const struct mqg_protocol_ops echo_ops = {
    .name = "echo",
    .proto = MQG_PROTO_INTERNAL,
    .conn_bytes = sizeof(struct echo_conn),
    .listeners = echo_listeners,
    .conn_init = echo_init,
    .input = echo_input,
    .event = echo_event,
    .conn_fini = echo_fini,
    .dump = echo_dump,
};

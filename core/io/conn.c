/* conn.c - the life of a connection, from the accepted socket to its last byte.
 *
 * All of it happens on one worker. Nothing is freed in the middle of a turn: whoever ends a connection (handler, peer,
 * operator) marks it, and conn_turn_end does the rest when no caller can be inside it any more. The end has an order:
 * the handler gives back what it holds, what was written leaves, our side of the socket is shut, and the peer's own
 * end is awaited a moment, since a close with unread input makes the kernel send a reset, and a reset may overtake the
 * goodbye. Every step has a deadline. */
#include "conn.h"
#include "conn_int.h"
#include "pressure.h"
#include "tls.h"
#include "ws.h"

#include <mqgate/auth.h>
#include <mqgate/obs.h>

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static _Atomic uint64_t conn_next_id = 1;
static _Atomic uint32_t conn_total;
static _Atomic bool conn_draining;
static _Atomic uint64_t conn_login_timeout_ms = 10000;
static _Atomic uint32_t conn_max;
static _Atomic bool conn_dribble;

void conn_configure(const struct conn_settings *s)
{
    atomic_store(&conn_login_timeout_ms, s->login_timeout_ms);
    atomic_store(&conn_max, s->connections_max);
    atomic_store(&conn_dribble, s->dribble);
    pressure_memory(s->memory_high_bytes, s->memory_hard_bytes);
}

uint32_t conn_count(void)
{
    return atomic_load(&conn_total);
}

/* ---- lists of a worker ---------------------------------------------------------------------------------------------- */

void conn_worker_init(struct io_worker *w)
{
    struct conn_worker *cw = mqg_xcalloc(1, sizeof *cw);
    cw->all.next = cw->all.prev = &cw->all;
    cw->ready_end = &cw->ready;
    cw->dirty_end = &cw->dirty;
    cw->end_end = &cw->end;
    cw->input_cap = CONN_READ_BYTES + CONN_INPUT_MAX;
    cw->input = mqg_xmalloc(cw->input_cap);
    pressure_worker_init(cw);
    w->pub.io = cw;
}

void conn_worker_free(struct io_worker *w)
{
    struct conn_worker *cw = conn_worker_of(w);
    MQG_ASSERT(cw->count == 0);
    conn_output_worker_free(cw);
    free(cw->scratch);
    free(cw->input);
    free(cw);
    w->pub.io = NULL;
}

void conn_ready_later(struct mqg_conn *c)
{
    struct conn_worker *cw = conn_worker_of(c->w);
    if (c->ready_queued)
        return;
    c->ready_queued = true;
    c->ready_next = NULL;
    *cw->ready_end = c;
    cw->ready_end = &c->ready_next;
}

void conn_end_later(struct mqg_conn *c)
{
    struct conn_worker *cw = conn_worker_of(c->w);
    if (c->end_queued)
        return;
    c->end_queued = true;
    c->end_next = NULL;
    *cw->end_end = c;
    cw->end_end = &c->end_next;
}

static struct mqg_conn *conn_take_ready(struct conn_worker *cw)
{
    struct mqg_conn *first = cw->ready;
    cw->ready = NULL;
    cw->ready_end = &cw->ready;
    return first;
}

static struct mqg_conn *conn_take_end(struct conn_worker *cw)
{
    struct mqg_conn *first = cw->end;
    cw->end = NULL;
    cw->end_end = &cw->end;
    return first;
}

/* ---- deadlines -------------------------------------------------------------------------------------------------------- */

static uint64_t conn_now(const struct mqg_conn *c)
{
    return c->w->pub.now.mono_ms;
}

/* When the timer must look again: the nearer of login and idle. */
static void conn_timer_arm(struct mqg_conn *c)
{
    uint64_t due = c->login_due_ms > 0 ? c->login_due_ms : UINT64_MAX;
    if (c->idle_ms > 0 && c->last_read_ms + c->idle_ms < due)
        due = c->last_read_ms + c->idle_ms;
    if (due == UINT64_MAX)
        mqg_timer_cancel(&c->timer);
    else
        mqg_timer_at(&c->timer, due > conn_now(c) ? due : conn_now(c) + 1);
}

static void conn_expire(struct mqg_conn *c, const char *why)
{
    mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_CLOSE, "conn=%llu peer=%s:%u listener=%s why=%s",
            (unsigned long long)c->info.id, c->info.peer_host, c->info.peer_port, c->info.listener, why);
    mqg_conn_close(c);
}

static void conn_judge_idle(struct mqg_conn *c)
{
    if (conn_is_held(c) || conn_worker_of(c->w)->blocked)
        c->last_read_ms = conn_now(c); /* whom we do not read we do not judge */
    if (c->idle_ms > 0 && conn_now(c) >= c->last_read_ms + c->idle_ms)
        conn_expire(c, "idle");
    else
        conn_timer_arm(c);
}

static void conn_timer_fire(struct mqg_timer *t)
{
    struct mqg_conn *c = MQG_CONTAINER_OF(t, struct mqg_conn, timer);
    if (c->state == CONN_CLOSING || c->state == CONN_LINGER)
        mqg_conn_abort(c);
    else if (c->login_due_ms > 0 && conn_now(c) >= c->login_due_ms)
        conn_expire(c, "login_timeout");
    else if (c->state == CONN_OPEN)
        conn_judge_idle(c);
}

void mqg_conn_idle(struct mqg_conn *c, uint64_t read_ms)
{
    c->login_due_ms = 0;
    c->idle_ms = read_ms;
    conn_timer_arm(c);
}

void mqg_conn_note(struct mqg_conn *c, const char *what, uint32_t arg)
{
    c->notes[c->notes_n++ % CONN_NOTES] = (struct conn_note){what, arg, (uint32_t)conn_now(c)};
}

/* ---- birth -------------------------------------------------------------------------------------------------------------- */

static void conn_on_read(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    conn_ready_later(arg);
}

static void conn_on_write(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct mqg_conn *c = arg;
    c->out_wait = false;
    if (c->state == CONN_PREFACE || io_filter_wants_write(c->filter))
        conn_ready_later(c); /* a handshake waited to write */
    conn_dirty_later(c);
}

static struct io_filter *conn_filter_new(struct mqg_conn *c, const struct conn_source *source)
{
    struct io_filter *f = source->tls ? io_tls_filter_new(c->fd) : io_socket_filter_new(c->fd);
    if (f != NULL && atomic_load(&conn_dribble))
        f = io_dribble_filter_new(f);
    if (f != NULL && source->ws)
        f = io_ws_filter_new(f, &source->ws_rules);
    return f;
}

static void conn_begin(struct mqg_task *task)
{
    struct mqg_conn *c = MQG_CONTAINER_OF(task, struct mqg_conn, task);
    struct conn_worker *cw = conn_worker_of(c->w);
    c->link = (struct conn_link){cw->all.next, &cw->all};
    cw->all.next->prev = &c->link;
    cw->all.next = &c->link;
    cw->count++;
    event_assign(&c->read_event, c->w->pub.base, c->fd, EV_READ | EV_PERSIST, conn_on_read, c);
    event_assign(&c->write_event, c->w->pub.base, c->fd, EV_WRITE, conn_on_write, c);
    c->last_read_ms = c->last_write_ms = conn_now(c);
    c->login_due_ms = conn_now(c) + atomic_load(&conn_login_timeout_ms);
    mqg_count(MQG_COUNT_CONNS_OPENED, 1);
    if (c->filter == NULL || atomic_load(&conn_draining)) {
        mqg_conn_abort(c);
        return;
    }
    conn_timer_arm(c);
    conn_read_update(c);
    conn_preface(c);
}

static bool conn_addr_is_loopback(const struct sockaddr *addr)
{
    if (addr == NULL || addr->sa_family == AF_UNIX)
        return true;
    if (addr->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr);
    const struct sockaddr_in *v4 = (const void *)addr;
    return addr->sa_family == AF_INET && (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
}

static void conn_addr_print(const struct sockaddr *addr, char host[64], uint16_t *port)
{
    char service[16] = "0";
    socklen_t len = addr != NULL && addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                : sizeof(struct sockaddr_in);
    bool inet = addr != NULL && (addr->sa_family == AF_INET || addr->sa_family == AF_INET6);
    if (!inet ||
        getnameinfo(addr, len, host, 64, service, sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(host, 64, "local");
    *port = (uint16_t)strtoul(service, NULL, 10);
}

static void conn_describe_peer(struct mqg_conn *c, const struct conn_source *source,
                               const struct sockaddr *addr)
{
    struct sockaddr_storage local = {0};
    socklen_t len = sizeof local;
    struct mqg_conn_info *info = &c->info;
    info->id = atomic_fetch_add(&conn_next_id, 1);
    info->listener = source->name;
    info->connected_us = mqg_clock_now().wall_us;
    info->flags = (source->tls ? MQG_CONN_TLS : 0u) | (conn_addr_is_loopback(addr) ? MQG_CONN_LOOPBACK : 0u);
    conn_addr_print(addr, info->peer_host, &info->peer_port);
    bool known = getsockname(c->fd, (struct sockaddr *)&local, &len) == 0;
    conn_addr_print(known ? (struct sockaddr *)&local : NULL, info->host, &info->port);
}

static void conn_tune_socket(int fd)
{
    int on = 1, idle_s = 60, every_s = 15, probes = 4;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static bool conn_take_place(void)
{
    uint32_t max = atomic_load(&conn_max);
    uint32_t now = atomic_fetch_add(&conn_total, 1);
    if (max == 0 || now < max)
        return true;
    atomic_fetch_sub(&conn_total, 1);
    return false;
}

bool conn_adopt(struct mqg_worker *w, int fd, const struct conn_source *source, const struct sockaddr *addr)
{
    if (!conn_take_place()) {
        close(fd);
        return false;
    }
    struct mqg_conn *c = mqg_xcalloc(1, sizeof *c + source->ops->conn_bytes);
    c->magic = CONN_MAGIC;
    c->fd = fd;
    c->ops = source->ops;
    c->w = io_worker_of(w);
    c->input_max = CONN_INPUT_MAX;
    c->wants_proxy = source->proxy;
    mqg_timer_init(&c->timer, conn_timer_fire);
    conn_tune_socket(fd);
    conn_describe_peer(c, source, addr);
    c->filter = conn_filter_new(c, source);
    c->task.run = conn_begin;
    mqg_worker_post(w, &c->task);
    return true;
}

/* ---- end ------------------------------------------------------------------------------------------------------------------ */

void mqg_conn_close(struct mqg_conn *c)
{
    if (c->state >= CONN_CLOSING)
        return;
    mqg_conn_note(c, "close", 0);
    c->state = CONN_CLOSING;
    mqg_timer_in(&c->timer, CONN_CLOSE_MS);
    conn_dirty_later(c);
    conn_end_later(c);
}

void mqg_conn_abort(struct mqg_conn *c)
{
    if (c->state == CONN_DEAD)
        return;
    mqg_conn_note(c, "abort", 0);
    c->state = CONN_DEAD;
    conn_end_later(c);
}

void conn_fail(struct mqg_conn *c, const struct mqg_error *e)
{
    mqg_conn_note(c, "protocol error", (uint32_t)e->err);
    mqg_count(MQG_COUNT_PROTOCOL_ERRORS, 1);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_PROTOCOL_ERROR, "conn=%llu peer=%s:%u listener=%s err=%s text=%s",
            (unsigned long long)c->info.id, c->info.peer_host, c->info.peer_port, c->info.listener,
            mqg_err_name(e->err), mqg_logqs(e->text));
    mqg_conn_close(c);
}

static void conn_handler_down(struct mqg_conn *c)
{
    if (!c->handler_up)
        return;
    c->handler_up = false;
    c->ops->conn_fini(c);
    conn_input_fini(c);
}

static void conn_free(struct mqg_conn *c)
{
    struct conn_worker *cw = conn_worker_of(c->w);
    MQG_ASSERT(!c->ready_queued && !c->dirty_queued && !c->handler_up);
    mqg_timer_cancel(&c->timer);
    event_del(&c->read_event);
    event_del(&c->write_event);
    c->link.prev->next = c->link.next;
    c->link.next->prev = c->link.prev;
    cw->count--;
    conn_output_fini(c);
    conn_input_fini(c);
    io_filter_free(&c->filter);
    close(c->fd);
    mqg_session_unref(&c->session);
    mqg_count(MQG_COUNT_CONNS_CLOSED, 1);
    mqg_log(MQG_LOG_DEBUG, MQG_EVENT_CONN_CLOSE, "conn=%llu bytes_in=%llu bytes_out=%llu",
            (unsigned long long)c->info.id, (unsigned long long)c->bytes_in,
            (unsigned long long)c->bytes_out);
    atomic_fetch_sub(&conn_total, 1);
    c->magic = 0;
    free(c);
}

/* All is written. */
static void conn_linger(struct mqg_conn *c)
{
    io_filter_shutdown(c->filter);
    c->state = c->eof ? CONN_DEAD : CONN_LINGER;
    if (c->state == CONN_DEAD)
        return;
    mqg_timer_in(&c->timer, CONN_LINGER_MS);
    conn_read_update(c);
}

/* In the ready or dirty list still: these are emptied first, the next turn ends it. */
static bool conn_is_listed(const struct mqg_conn *c)
{
    return c->ready_queued || c->dirty_queued;
}

static void conn_end(struct mqg_conn *c)
{
    conn_handler_down(c);
    if (c->state == CONN_CLOSING && c->out_pending == 0)
        conn_linger(c);
    if (c->state != CONN_DEAD)
        return;
    if (conn_is_listed(c))
        conn_end_later(c);
    else
        conn_free(c);
}

void conn_turn_end(struct io_worker *w)
{
    struct conn_worker *cw = conn_worker_of(w);
    struct mqg_conn *next;
    for (struct mqg_conn *c = conn_take_end(cw); c != NULL; c = next) {
        next = c->end_next;
        c->end_queued = false;
        w->again = true; /* what a handler gave back is work for others */
        conn_end(c);
    }
    if (cw->ready != NULL)
        w->again = true;
}

void conn_close_all(struct io_worker *w)
{
    struct conn_worker *cw = conn_worker_of(w);
    for (struct conn_link *l = cw->all.next; l != &cw->all; l = l->next)
        mqg_conn_close(MQG_CONTAINER_OF(l, struct mqg_conn, link));
    conn_write_phase(&w->pub);
    for (struct conn_link *l = cw->all.next; l != &cw->all; l = l->next)
        mqg_conn_abort(MQG_CONTAINER_OF(l, struct mqg_conn, link));
    conn_write_phase(&w->pub); /* whom the first left in its list */
    for (struct mqg_conn *c = conn_take_ready(cw); c != NULL; c = c->ready_next)
        c->ready_queued = false;
    while (cw->end != NULL)
        conn_turn_end(w);
}

/* ---- the turn -------------------------------------------------------------------------------------------------------------- */

static void conn_tell_all(struct io_worker *w, enum mqg_conn_event ev)
{
    struct conn_worker *cw = conn_worker_of(w);
    for (struct conn_link *l = cw->all.next; l != &cw->all; l = l->next) {
        struct mqg_conn *c = MQG_CONTAINER_OF(l, struct mqg_conn, link);
        if (c->state == CONN_OPEN && c->ops->event != NULL)
            c->ops->event(c, ev, MQG_SLICE_LIT("the node stops"));
        else if (c->state <= CONN_OPEN)
            mqg_conn_close(c);
    }
}

void conn_turn_begin(struct io_worker *w)
{
    struct conn_worker *cw = conn_worker_of(w);
    pressure_turn(w);
    struct mqg_conn *next;
    for (struct mqg_conn *c = conn_take_ready(cw); c != NULL; c = next) {
        next = c->ready_next;
        c->ready_queued = false;
        conn_input(c);
    }
}

struct conn_drain_task {
    struct mqg_task task;
    struct mqg_worker *w;
};

static void conn_drain_run(struct mqg_task *task)
{
    struct conn_drain_task *d = MQG_CONTAINER_OF(task, struct conn_drain_task, task);
    conn_tell_all(io_worker_of(d->w), MQG_EV_DRAINING);
    free(d);
}

void conn_drain(void)
{
    atomic_store(&conn_draining, true);
    for (uint32_t i = 0; i < mqg_worker_count(); i++) {
        struct conn_drain_task *d = mqg_xcalloc(1, sizeof *d);
        d->task.run = conn_drain_run;
        d->w = mqg_worker_at(i);
        mqg_worker_post(d->w, &d->task);
    }
}

/* ---- what handlers ask ------------------------------------------------------------------------------------------------------- */

void *mqg_conn_state(struct mqg_conn *c)
{
    return c->handler;
}

const struct mqg_conn_info *mqg_conn_info(const struct mqg_conn *c)
{
    return &c->info;
}

struct mqg_worker *mqg_conn_worker(const struct mqg_conn *c)
{
    return &c->w->pub;
}

uint64_t mqg_conn_bytes_in(const struct mqg_conn *c)
{
    return c->bytes_in;
}

uint64_t mqg_conn_bytes_out(const struct mqg_conn *c)
{
    return c->bytes_out;
}

uint64_t mqg_conn_last_write_ms(const struct mqg_conn *c)
{
    return c->last_write_ms;
}

uint64_t mqg_conn_last_read_ms(const struct mqg_conn *c)
{
    return c->last_read_ms;
}

const struct mqg_protocol_ops *mqg_conn_protocol(const struct mqg_conn *c)
{
    return c->ops;
}

struct mqg_session *mqg_conn_get_session(const struct mqg_conn *c)
{
    return c->session;
}

void mqg_conn_session(struct mqg_conn *c, struct mqg_session *s)
{
    struct mqg_session *old = c->session;
    c->session = s != NULL ? mqg_session_ref(s) : NULL;
    mqg_session_unref(&old);
    if (s == NULL || c->login_due_ms == 0)
        return;
    c->login_due_ms = 0; /* it is in */
    conn_timer_arm(c);
}

void mqg_conn_each(struct mqg_worker *w, bool (*visit)(struct mqg_conn *c, void *arg), void *arg)
{
    struct conn_worker *cw = conn_worker_of(io_worker_of(w));
    MQG_ASSERT(mqg_worker_self() == w);
    struct conn_link *next;
    for (struct conn_link *l = cw->all.next; l != &cw->all; l = next) {
        struct mqg_conn *c = MQG_CONTAINER_OF(l, struct mqg_conn, link);
        next = l->next;
        if (c->state == CONN_OPEN && !visit(c, arg))
            return;
    }
}

struct conn_kill_search {
    uint64_t id;
    struct mqg_conn *found;
};

static bool conn_kill_visit(struct mqg_conn *c, void *arg)
{
    struct conn_kill_search *search = arg;
    if (c->info.id == search->id)
        search->found = c;
    return search->found == NULL;
}

bool mqg_conn_kill(struct mqg_worker *w, uint64_t id, struct mqg_slice reason)
{
    struct conn_kill_search search = {id, NULL};
    mqg_conn_each(w, conn_kill_visit, &search);
    struct mqg_conn *c = search.found;
    if (c == NULL)
        return false;
    if (c->ops->event != NULL)
        c->ops->event(c, MQG_EV_KILL, reason);
    else
        mqg_conn_close(c);
    return true;
}

/* conn_test.c - connections over socket pairs: input, output, pauses, deadlines, pressure, ends.
 *
 * One worker is turned by hand, so every test is a sequence without sleeps; the peer is the other end of a pair. Most
 * tests run twice, the second time with the dribble filter. */
#include "conn.h"
#include "conn_int.h"
#include "echo.h"

#include <mqgate/auth.h>
#include <mqgate/obs.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct mqg_worker *worker;
static const struct conn_source source = {.name = "echo", .ops = &echo_ops};
static struct conn_settings settings;

static int worker_setup(void **state)
{
    settings = (struct conn_settings){.login_timeout_ms = 10000, .dribble = *state != NULL};
    conn_configure(&settings);
    mqg_clock_set(&(struct mqg_time){1000, 1000000}); /* stands: a slow machine is no reason for a timeout */
    worker = mqg_worker_manual();
    mqg_log_level_set(MQG_LOG_WARN);
    return 0;
}

static int worker_teardown(void **state)
{
    (void)state;
    mqg_workers_fini();
    mqg_clock_set(NULL);
    assert_int_equal(conn_count(), 0);
    assert_int_equal(echo_inits, echo_finis);
    return 0;
}

/* ---- the peer ------------------------------------------------------------------------------------------------------------ */

static int peer_open(const struct conn_source *from)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_true(conn_adopt(worker, fds[1], from, NULL));
    mqg_worker_turn(worker, 0);
    return fds[0];
}

static void turns(int n)
{
    while (n-- > 0)
        mqg_worker_turn(worker, 0);
}

static void peer_send_bytes(int fd, const void *ptr, size_t n)
{
    const char *at = ptr;
    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        if (sent < 0)
            assert_int_equal(errno, EAGAIN);
        at += sent > 0 ? sent : 0;
        n -= sent > 0 ? (size_t)sent : 0;
        turns(1);
    }
}

static void peer_send(int fd, const char *text)
{
    peer_send_bytes(fd, text, strlen(text));
}

/* Turns until n bytes are there; the bytes in a static buffer. */
static const char *peer_read(int fd, size_t n)
{
    static char buf[4 << 20];
    size_t got = 0;
    assert_true(n < sizeof buf);
    for (int i = 0; got < n; i++) {
        assert_true(i < 5000000);
        turns(1);
        ssize_t r = read(fd, buf + got, n - got);
        if (r == 0)
            fail_msg("the connection ended after %zu of %zu bytes", got, n);
        got += r > 0 ? (size_t)r : 0;
    }
    buf[got] = '\0';
    return buf;
}

static void peer_expect(int fd, const char *text)
{
    assert_string_equal(peer_read(fd, strlen(text)), text);
}

/* Nothing but the end may come. */
static void peer_expect_end(int fd)
{
    char c;
    ssize_t r = -1;
    for (int i = 0; i < 100000 && (r = read(fd, &c, 1)) < 0 && errno == EAGAIN; i++)
        turns(1);
    assert_true(r == 0 || (r < 0 && errno == ECONNRESET));
    close(fd);
    turns(20);
}

static struct mqg_conn *only_conn;

static bool conn_find(struct mqg_conn *c, void *arg)
{
    (void)arg;
    only_conn = c;
    return false;
}

static struct mqg_conn *the_conn(void)
{
    only_conn = NULL;
    mqg_conn_each(worker, conn_find, NULL);
    return only_conn;
}

static bool peer_is_silent(int fd)
{
    char c;
    turns(50);
    return recv(fd, &c, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

/* ---- input ----------------------------------------------------------------------------------------------------------------- */

static void test_lines_come_back(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    peer_send(fd, "one\ntwo\nthr");
    peer_expect(fd, "one\ntwo\n");
    peer_send(fd, "ee\n");
    peer_expect(fd, "three\n");
    struct mqg_conn *c = the_conn();
    assert_int_equal(mqg_conn_bytes_in(c), 14);
    assert_int_equal(mqg_conn_bytes_out(c), 14);
    assert_string_equal(mqg_conn_info(c)->listener, "echo");
    assert_true(mqg_conn_info(c)->flags & MQG_CONN_LOOPBACK);
    close(fd);
    turns(20);
}

static void test_idle_connection_owns_no_buffers(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    peer_send(fd, "hello\npart");
    peer_expect(fd, "hello\n");
    struct mqg_conn *c = the_conn();
    turns(20);
    assert_int_equal(c->rest_len, 4);
    assert_null(c->out_head);
    peer_send(fd, "\n");
    peer_expect(fd, "part\n");
    assert_null(c->rest);
    assert_null(c->out_head);
    assert_true(sizeof *c < 3072); /* 1 KiB of it are the notes */
    close(fd);
    turns(20);
}

static void test_long_line_before_login_ends_the_connection(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    static char big[CONN_INPUT_MAX];
    memset(big, 'x', sizeof big);
    peer_send_bytes(fd, big, sizeof big - 1);
    assert_non_null(the_conn());
    peer_send_bytes(fd, "x", 1);
    peer_expect_end(fd);
}

static void test_long_line_after_login_is_taken(void **state)
{
    int fd = peer_open(&source);
    peer_send(fd, "login\n");
    static char big[200000];
    size_t n = *state != NULL ? 20000 : sizeof big;
    memset(big, 'x', n);
    big[n - 1] = '\n';
    peer_send_bytes(fd, big, n);
    assert_memory_equal(peer_read(fd, n), big, n);
    close(fd);
    turns(20);
}

static void test_pause_holds_what_was_read(void **state)
{
    (void)state;
    mqg_clock_set(&(struct mqg_time){1000, 1000000});
    int fd = peer_open(&source);
    peer_send(fd, "pause\nafter\n");
    peer_send(fd, "later\n");
    assert_true(peer_is_silent(fd));
    mqg_clock_set(&(struct mqg_time){1030, 1030000});
    peer_expect(fd, "after\nlater\n");
    close(fd);
    turns(20);
}

/* ---- ends ------------------------------------------------------------------------------------------------------------------- */

static void test_goodbye_arrives_although_input_is_unread(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    peer_send(fd, "quit\nnobody reads this\n");
    peer_expect(fd, "bye\n");
    peer_expect_end(fd);
    assert_int_equal(conn_count(), 0);
}

static void test_fault_says_goodbye_then_ends(void **state)
{
    (void)state;
    uint64_t before = mqg_count_sum(MQG_COUNT_PROTOCOL_ERRORS);
    int fd = peer_open(&source);
    peer_send(fd, "bad\nmore\n");
    peer_expect(fd, "error\n");
    peer_expect_end(fd);
    assert_int_equal(mqg_count_sum(MQG_COUNT_PROTOCOL_ERRORS), before + 1);
}

static void test_half_closed_peer_gets_its_answers(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    peer_send(fd, "a\nb\n");
    shutdown(fd, SHUT_WR);
    peer_expect(fd, "a\nb\n");
    peer_expect_end(fd);
    assert_int_equal(conn_count(), 0);
}

static void test_peer_that_goes_away_is_noticed(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    peer_send(fd, "flood 2000\n");
    close(fd);
    turns(50);
    assert_int_equal(conn_count(), 0);
}

static void test_lingering_ends_by_time(void **state)
{
    (void)state;
    mqg_clock_set(&(struct mqg_time){1000, 1000000});
    int fd = peer_open(&source);
    peer_send(fd, "quit\n");
    peer_expect(fd, "bye\n");
    turns(20);
    assert_int_equal(conn_count(), 1); /* waits for our end */
    mqg_clock_set(&(struct mqg_time){1000 + CONN_LINGER_MS, 0});
    turns(3);
    assert_int_equal(conn_count(), 0);
    close(fd);
}

static void test_kill_and_drain(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    uint64_t id = mqg_conn_info(the_conn())->id;
    assert_false(mqg_conn_kill(worker, id + 1, MQG_SLICE_LIT("no")));
    assert_true(mqg_conn_kill(worker, id, MQG_SLICE_LIT("yes")));
    peer_expect(fd, "killed\n");
    peer_expect_end(fd);
}

static void test_session_is_counted(void **state)
{
    (void)state;
    struct mqg_session s = {.refs = 1};
    mqg_clock_set(&(struct mqg_time){1000, 0});
    int fd = peer_open(&source);
    mqg_conn_session(the_conn(), &s);
    assert_int_equal(s.refs, 2);
    mqg_clock_set(&(struct mqg_time){20000, 0});
    turns(3);
    assert_non_null(the_conn()); /* logged in: no deadline any more */
    assert_ptr_equal(mqg_conn_get_session(the_conn()), &s);
    close(fd);
    turns(20);
    assert_int_equal(s.refs, 1);
}

/* ---- deadlines ---------------------------------------------------------------------------------------------------------------- */

static void test_login_timeout_is_not_moved_by_dribbling(void **state)
{
    (void)state;
    mqg_clock_set(&(struct mqg_time){1000, 0});
    int fd = peer_open(&source);
    for (uint64_t ms = 1000; ms < 11000; ms += 1000) {
        mqg_clock_set(&(struct mqg_time){ms, 0});
        peer_send(fd, "x");
        assert_non_null(the_conn());
    }
    mqg_clock_set(&(struct mqg_time){11000, 0});
    peer_expect_end(fd);
}

static void test_idle_rule(void **state)
{
    (void)state;
    mqg_clock_set(&(struct mqg_time){1000, 0});
    int fd = peer_open(&source);
    peer_send(fd, "idle 500\n");
    turns(20);
    mqg_clock_set(&(struct mqg_time){1400, 0});
    peer_send(fd, "hello\n");
    peer_expect(fd, "hello\n");
    mqg_clock_set(&(struct mqg_time){1850, 0});
    turns(3);
    assert_non_null(the_conn());
    assert_int_equal(mqg_conn_last_read_ms(the_conn()), 1400);
    mqg_conn_pause(the_conn(), MQG_PAUSE_MEMORY, true);
    mqg_clock_set(&(struct mqg_time){60000, 0});
    turns(3);
    mqg_conn_pause(the_conn(), MQG_PAUSE_MEMORY, false); /* not judged while it was not read */
    turns(3);
    assert_non_null(the_conn());
    mqg_clock_set(&(struct mqg_time){60501, 0});
    peer_expect_end(fd);
}

/* ---- output --------------------------------------------------------------------------------------------------------------------- */

static void test_peer_that_never_reads_is_bounded(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    int writable = echo_writable;
    peer_send(fd, "flood 9000\nflood 1\nhello\n");
    turns(50);
    struct mqg_conn *c = the_conn();
    assert_true(mqg_conn_out_full(c));
    assert_true(mqg_conn_out_pending(c) > CONN_OUT_PAUSE / 2);
    assert_int_equal(c->pauses[MQG_PAUSE_OUTPUT], 1);
    assert_int_equal(echo_writable, writable);
    for (int i = 0; i < 9001; i++)
        assert_int_equal(peer_read(fd, 1024)[0], 'f');
    peer_expect(fd, "hello\n");
    assert_int_equal(echo_writable, writable + 1);
    assert_false(mqg_conn_out_full(c));
    assert_int_equal(c->pauses[MQG_PAUSE_OUTPUT], 0);
    close(fd);
    turns(20);
}

static void test_many_that_never_read_get_less_each(void **state)
{
    (void)state;
    enum { PEERS = 50 };
    int fds[PEERS];
    for (int i = 0; i < PEERS; i++) {
        fds[i] = peer_open(&source);
        peer_send(fds[i], "flood 2000\n");
        turns(3);
        if (i < PEERS / 2 || i == PEERS - 1) /* the list begins with the newest */
            assert_int_equal(the_conn()->pauses[MQG_PAUSE_OUTPUT], i == PEERS - 1 ? 1 : 0);
    }
    for (int i = 0; i < PEERS; i++)
        close(fds[i]);
    turns(50);
    assert_int_equal(conn_worker_of(io_worker_of(worker))->out_bytes, 0);
}

static void test_hard_limit_aborts(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    peer_send(fd, "flood 80000\n");
    turns(20);
    assert_int_equal(conn_count(), 0);
    close(fd);
}

static void test_big_bodies_are_sent_by_reference(void **state)
{
    (void)state;
    int64_t before = mqg_msg_memory_used();
    int fd = peer_open(&source);
    peer_send(fd, "a\nbig\nb\n");
    turns(10);
    const char *all = peer_read(fd, 2 + (1 << 20) + 2);
    assert_memory_equal(all, "a\nmm", 4);
    assert_memory_equal(all + (1 << 20), "mmb\n", 4);
    assert_int_equal(mqg_msg_memory_used(), before);
    close(fd);
    turns(20);
}

static void test_references_are_dropped_with_the_connection(void **state)
{
    (void)state;
    int64_t before = mqg_msg_memory_used();
    int fd = peer_open(&source);
    peer_send(fd, "big\nbig\nbig\n");
    turns(10);
    assert_true(mqg_msg_memory_used() > before);
    close(fd);
    turns(20);
    assert_int_equal(mqg_msg_memory_used(), before);
}

static void test_output_of_a_dead_connection_goes_nowhere(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    struct mqg_conn *c = the_conn();
    mqg_conn_abort(c);
    memset(mqg_conn_reserve(c, 65536), 'x', 65536);
    mqg_conn_commit(c, 65536);
    mqg_conn_write(c, MQG_SLICE_LIT("x"));
    assert_int_equal(mqg_conn_out_pending(c), 0);
    turns(3);
    peer_expect_end(fd);
}

/* ---- pressure ---------------------------------------------------------------------------------------------------------------------- */

static void test_pressure_stops_publishers_only(void **state)
{
    (void)state;
    mqg_clock_set(&(struct mqg_time){1000, 0});
    int pub = peer_open(&source), sub = peer_open(&source);
    peer_send(pub, "publish\n");
    turns(20);
    peer_send(sub, "x\n");
    peer_expect(sub, "x\n");
    int blocked = echo_blocked;
    mqg_node_pressure(MQG_PRESSURE_STORE, true, "no space");
    assert_true(mqg_node_blocked());
    turns(2);
    assert_int_equal(echo_blocked, blocked + 1); /* who only consumes is not told */
    peer_send(pub, "late\n");
    peer_send(sub, "y\n");
    peer_expect(sub, "y\n");
    mqg_clock_set(&(struct mqg_time){2000, 0});
    assert_true(peer_is_silent(pub));
    mqg_node_pressure(MQG_PRESSURE_STORE, false, "space");
    turns(2);
    assert_int_equal(echo_unblocked, blocked + 1);
    peer_expect(pub, "late\n");
    close(pub);
    close(sub);
    turns(20);
}

static void test_late_publisher_is_told_at_its_first_publish(void **state)
{
    (void)state;
    int fd = peer_open(&source);
    int blocked = echo_blocked;
    mqg_node_pressure(MQG_PRESSURE_STORE, true, "no space");
    turns(3);
    assert_int_equal(echo_blocked, blocked);
    peer_send(fd, "publish\npublish\n");
    turns(50);
    assert_int_equal(echo_blocked, blocked + 1);
    mqg_node_pressure(MQG_PRESSURE_STORE, false, "space");
    turns(3);
    close(fd);
    turns(20);
}

static void test_holder_of_deliveries_is_read_at_a_trickle(void **state)
{
    int ticks = *state != NULL ? 1 : 4;
    uint64_t ms = 1000;
    mqg_clock_set(&(struct mqg_time){ms, 0});
    int fd = peer_open(&source);
    peer_send(fd, "login\npublish\nunsettled\n");
    turns(50);
    struct mqg_conn *c = the_conn();
    uint64_t before = mqg_conn_bytes_in(c);
    mqg_node_pressure(MQG_PRESSURE_STORE, true, "no space");
    turns(2);
    static char lines[5 * CONN_TRICKLE_BYTES];
    size_t n = (size_t)(ticks + 1) * CONN_TRICKLE_BYTES;
    for (size_t i = 0; i < n; i += 8)
        memcpy(lines + i, "publish\n", 8);
    assert_int_equal(send(fd, lines, n, 0), n);
    for (int tick = 1; tick <= ticks; tick++) {
        ms += CONN_TRICKLE_MS;
        mqg_clock_set(&(struct mqg_time){ms, 0});
        turns(*state != NULL ? (int)CONN_TRICKLE_BYTES + 10
                             : 10); /* dribbling or not: not more than its share */
        assert_int_equal(mqg_conn_bytes_in(c) - before, (uint64_t)tick * CONN_TRICKLE_BYTES);
    }
    mqg_node_pressure(MQG_PRESSURE_STORE, false, "space");
    for (int i = 0; i < 100000 && mqg_conn_bytes_in(c) - before < n; i++)
        turns(1);
    assert_int_equal(mqg_conn_bytes_in(c) - before, n);
    close(fd);
    turns(20);
}

static void test_memory_blocks_and_unblocks_by_itself(void **state)
{
    (void)state;
    settings.memory_high_bytes = mqg_msg_memory_used() + (1 << 20);
    conn_configure(&settings);
    int fd = peer_open(&source);
    peer_send(fd, "publish\nx\n");
    peer_expect(fd, "x\n");
    int blocked = echo_blocked, unblocked = echo_unblocked;
    struct mqg_msg_parts parts = {.proto = MQG_PROTO_INTERNAL, .key_sep = '.', .body_len = 2 << 20};
    struct mqg_msg *m = mqg_msg_new(&parts);
    turns(3);
    assert_int_equal(echo_blocked, blocked + 1);
    mqg_msg_unref(&m);
    turns(3);
    assert_int_equal(echo_unblocked, unblocked + 1);
    assert_false(mqg_node_blocked());
    close(fd);
    turns(20);
}

/* ---- places -------------------------------------------------------------------------------------------------------------------------- */

static void test_too_many_connections_are_refused(void **state)
{
    (void)state;
    settings.connections_max = 1;
    conn_configure(&settings);
    int fd = peer_open(&source);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    assert_false(conn_adopt(worker, fds[1], &source, NULL));
    peer_expect_end(fds[0]);
    close(fd);
    turns(20);
    fd = peer_open(&source);
    peer_send(fd, "again\n");
    peer_expect(fd, "again\n");
    close(fd);
    turns(20);
}

static void test_proxy_header_comes_first(void **state)
{
    (void)state;
    static const struct conn_source proxied = {.name = "echo", .ops = &echo_ops, .proxy = true};
    int fd = peer_open(&proxied);
    peer_send(fd, "PROXY TCP4 192.0.2.7 192.0.2.8 4711 5672\r\nhello\n");
    peer_expect(fd, "hello\n");
    const struct mqg_conn_info *info = mqg_conn_info(the_conn());
    assert_string_equal(info->peer_host, "192.0.2.7");
    assert_int_equal(info->peer_port, 4711);
    assert_int_equal(info->flags, MQG_CONN_PROXIED); /* no loopback any more */
    close(fd);
    turns(20);
    fd = peer_open(&proxied);
    peer_send(fd, "PRO");
    peer_send(fd, "XY UNKNOWN\r\nx\n");
    peer_expect(fd, "x\n");
    close(fd);
    turns(20);
    int inits = echo_inits;
    fd = peer_open(&proxied);
    peer_send(fd, "hello\n");
    peer_expect_end(fd);
    assert_int_equal(echo_inits, inits);
}

/* In the child: what the dying process says goes into the pipe. */
static _Noreturn void crash_child(int out)
{
    dup2(out, STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);
    int fd = peer_open(&source);
    peer_send(fd, "part of a line");
    peer_send(fd, "\ncrash\n");
    turns(1000);
    _exit(0);
}

static void test_a_crash_tells_its_connections(void **state)
{
    (void)state;
    int out[2], status;
    char said[4096];
    size_t len = 0;
    ssize_t n;
    assert_int_equal(pipe(out), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        crash_child(out[1]);
    close(out[1]);
    while (len < sizeof said - 1 && (n = read(out[0], said + len, sizeof said - 1 - len)) > 0)
        len += (size_t)n;
    said[len] = '\0';
    close(out[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
    assert_non_null(strstr(said, "assert failed: echo_lines < 0"));
    assert_non_null(strstr(said, " listener=echo peer=local:0 state=open "));
    assert_non_null(strstr(said, "echo was here\n"));
    assert_non_null(strstr(said, " note=open arg=0\n"));
    const char *last = strstr(said, " note=read arg=14\n"); /* "part of a line", then the rest */
    assert_non_null(last);
    assert_non_null(strstr(last, " note=read arg=7\n"));
}

static void test_the_end_of_the_worker_ends_all(void **state)
{
    (void)state;
    int a = peer_open(&source), b = peer_open(&source);
    peer_send(a, "flood 3000\n");
    mqg_workers_fini();
    assert_int_equal(conn_count(), 0);
    assert_int_equal(echo_inits, echo_finis);
    close(a);
    close(b);
    worker = mqg_worker_manual();
}

#define CONN_TEST(fn)                                                   \
    cmocka_unit_test_setup_teardown(fn, worker_setup, worker_teardown), \
    {                                                                   \
#fn "_dribbled", fn, worker_setup, worker_teardown, &settings   \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONN_TEST(test_lines_come_back),
        CONN_TEST(test_idle_connection_owns_no_buffers),
        CONN_TEST(test_long_line_before_login_ends_the_connection),
        CONN_TEST(test_long_line_after_login_is_taken),
        CONN_TEST(test_pause_holds_what_was_read),
        CONN_TEST(test_goodbye_arrives_although_input_is_unread),
        CONN_TEST(test_fault_says_goodbye_then_ends),
        CONN_TEST(test_half_closed_peer_gets_its_answers),
        CONN_TEST(test_peer_that_goes_away_is_noticed),
        CONN_TEST(test_lingering_ends_by_time),
        CONN_TEST(test_kill_and_drain),
        CONN_TEST(test_session_is_counted),
        CONN_TEST(test_login_timeout_is_not_moved_by_dribbling),
        CONN_TEST(test_idle_rule),
        cmocka_unit_test_setup_teardown(test_peer_that_never_reads_is_bounded, worker_setup, worker_teardown),
        cmocka_unit_test_setup_teardown(test_many_that_never_read_get_less_each, worker_setup,
                                        worker_teardown),
        CONN_TEST(test_hard_limit_aborts),
        cmocka_unit_test_setup_teardown(test_big_bodies_are_sent_by_reference, worker_setup, worker_teardown),
        CONN_TEST(test_references_are_dropped_with_the_connection),
        CONN_TEST(test_output_of_a_dead_connection_goes_nowhere),
        CONN_TEST(test_pressure_stops_publishers_only),
        CONN_TEST(test_late_publisher_is_told_at_its_first_publish),
        CONN_TEST(test_holder_of_deliveries_is_read_at_a_trickle),
        CONN_TEST(test_memory_blocks_and_unblocks_by_itself),
        CONN_TEST(test_too_many_connections_are_refused),
        CONN_TEST(test_proxy_header_comes_first),
        cmocka_unit_test_setup_teardown(test_a_crash_tells_its_connections, worker_setup, worker_teardown),
        CONN_TEST(test_the_end_of_the_worker_ends_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

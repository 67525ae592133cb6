/* listener_test.c - listening on loopback: connections spread over threads, addresses in use, descriptors spent. */
#include "echo.h"
#include "listener.h"

#include <mqgate/obs.h>
#include <mqgate/worker.h>

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 50000 };

static const struct conn_source source = {.name = "echo", .ops = &echo_ops};
static struct event_base *base;

static int workers_setup(void **state)
{
    (void)state;
    struct mqg_error e;
    conn_configure(&(struct conn_settings){.login_timeout_ms = 600000});
    mqg_log_level_set(MQG_LOG_ERROR);
    base = event_base_new();
    assert_int_equal(mqg_workers_init(2, &e), MQG_OK);
    mqg_workers_start();
    return 0;
}

static int workers_teardown(void **state)
{
    (void)state;
    mqg_workers_fini();
    event_base_free(base);
    assert_int_equal(echo_inits, echo_finis);
    return 0;
}

static struct io_listener *listen_on(const char *host, uint16_t port)
{
    struct mqg_error e;
    struct io_listener *l = NULL;
    struct conf_addr addr = {.port = port};
    snprintf(addr.host, sizeof addr.host, "%s", host);
    assert_int_equal(io_listener_open(&l, base, &source, &addr, &e), MQG_OK);
    return l;
}

static uint16_t port_of(const struct io_listener *l)
{
    return (uint16_t)strtoul(strrchr(io_listener_address(l), ':') + 1, NULL, 10);
}

static int peer_open(uint16_t port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

static bool peer_gets(int fd, const char *text)
{
    char got[256] = "";
    size_t len = 0, want = strlen(text);
    uint64_t deadline_ms = mqg_clock_now().mono_ms + PATIENCE_MS;
    while (len < want && mqg_clock_now().mono_ms < deadline_ms) {
        event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        ssize_t n = recv(fd, got + len, want - len, MSG_DONTWAIT);
        if (n == 0)
            return false;
        len += n > 0 ? (size_t)n : 0;
    }
    return len == want && memcmp(got, text, want) == 0;
}

static uint32_t conns_at[2];

static bool count_visit(struct mqg_conn *c, void *arg)
{
    (void)c;
    ++*(uint32_t *)arg;
    return true;
}

static void count_conns(void *arg)
{
    mqg_conn_each(mqg_worker_self(), count_visit, arg);
}

static void test_connections_spread_over_workers(void **state)
{
    (void)state;
    enum { PEERS = 40 };
    int fds[PEERS];
    struct io_listener *l = listen_on("127.0.0.1", 0);
    for (int i = 0; i < PEERS; i++) {
        fds[i] = peer_open(port_of(l));
        assert_int_equal(send(fds[i], "hello\n", 6, 0), 6);
    }
    for (int i = 0; i < PEERS; i++)
        assert_true(peer_gets(fds[i], "hello\n"));
    for (uint32_t i = 0; i < 2; i++) {
        conns_at[i] = 0;
        assert_true(mqg_worker_call(mqg_worker_at(i), count_conns, &conns_at[i]));
        assert_int_equal(conns_at[i], PEERS / 2);
    }
    for (int i = 0; i < PEERS; i++)
        close(fds[i]);
    io_listener_close(&l);
}

static void test_an_address_in_use_names_its_holder(void **state)
{
    (void)state;
    struct mqg_error e;
    struct io_listener *l = listen_on("127.0.0.1", 0), *second = NULL;
    struct conf_addr addr = {.host = "127.0.0.1", .port = port_of(l)};
    char says[256];
    assert_int_equal(io_listener_open(&second, base, &source, &addr, &e), MQG_IN_USE);
    snprintf(says, sizeof says,
             "127.0.0.1:%u is in use by listener_test (pid %d); --set listeners.echo=127.0.0.1:%u moves it, "
             "./run --port-offset N moves all listeners",
             addr.port, (int)getpid(), addr.port + 1u);
    assert_string_equal(e.text, says);
    io_listener_close(&l);
    assert_int_equal(io_listener_open(&l, base, &source, &addr, &e), MQG_OK); /* free again at once */
    io_listener_close(&l);
}

static void test_addresses_that_cannot_be_had(void **state)
{
    (void)state;
    struct mqg_error e;
    struct io_listener *l = NULL;
    struct conf_addr elsewhere = {.host = "192.0.2.1", .port = 1}, nobody = {.port = 1};
    memset(nobody.host, 'x',
           70); /* longer than a label may be: no name server is asked, there may be none that answers */
    assert_int_equal(io_listener_open(&l, base, &source, &elsewhere, &e), MQG_NOT_FOUND);
    assert_int_equal(io_listener_open(&l, base, &source, &nobody, &e), MQG_INVALID);
    assert_non_null(strstr(e.text, "listeners.echo: xxx"));
    assert_non_null(strstr(e.text, "xxx is no address"));
}

static void test_spent_descriptors_are_waited_for(void **state)
{
    (void)state;
    struct rlimit before, few;
    struct io_listener *l = listen_on("127.0.0.1", 0);
    int fd = peer_open(port_of(l)); /* in the backlog */
    int lowest = dup(fd);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (int i = 0; i < 5; i++)
        event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(send(fd, "late\n", 5, 0), 5);
    assert_true(peer_gets(fd, "late\n"));
    close(fd);
    io_listener_close(&l);
}

static void test_draining_says_goodbye_everywhere(void **state)
{
    (void)state;
    enum { PEERS = 10 };
    int fds[PEERS];
    struct io_listener *l = listen_on("127.0.0.1", 0);
    for (int i = 0; i < PEERS; i++) {
        fds[i] = peer_open(port_of(l));
        assert_int_equal(send(fds[i], "x\n", 2, 0), 2);
        assert_true(peer_gets(fds[i], "x\n"));
    }
    io_listener_close(&l);
    conn_drain();
    for (int i = 0; i < PEERS; i++) {
        assert_true(peer_gets(fds[i], "draining\n"));
        close(fds[i]);
    }
    uint64_t deadline_ms = mqg_clock_now().mono_ms + PATIENCE_MS;
    while (conn_count() > 0) {
        assert_true(mqg_clock_now().mono_ms < deadline_ms);
        sched_yield();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_connections_spread_over_workers, workers_setup,
                                        workers_teardown),
        cmocka_unit_test_setup_teardown(test_an_address_in_use_names_its_holder, workers_setup,
                                        workers_teardown),
        cmocka_unit_test_setup_teardown(test_addresses_that_cannot_be_had, workers_setup, workers_teardown),
        cmocka_unit_test_setup_teardown(test_spent_descriptors_are_waited_for, workers_setup,
                                        workers_teardown),
        cmocka_unit_test_setup_teardown(test_draining_says_goodbye_everywhere, workers_setup,
                                        workers_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* echo_peer.c - a client for the loader's test: non-blocking, with a deadline. */
#include "echo_peer.h"

#include <mqgate/base.h>

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { PEER_DEADLINE_MS = 50000 };

static int peer_connect(uint16_t port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

void peer_talk(struct event_base *base, uint16_t port, const char *send_text, const char *expected)
{
    char got[1024];
    size_t len = 0;
    int fd = peer_connect(port);
    assert_int_equal(send(fd, send_text, strlen(send_text), MSG_NOSIGNAL), strlen(send_text));
    uint64_t deadline_ms = mqg_clock_now().mono_ms + PEER_DEADLINE_MS;
    for (;;) {
        event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        ssize_t n = recv(fd, got + len, sizeof got - 1 - len, MSG_DONTWAIT);
        if (n == 0)
            break;
        assert_true(n > 0 || errno == EAGAIN);
        assert_true(mqg_clock_now().mono_ms < deadline_ms);
        len += n > 0 ? (size_t)n : 0;
    }
    got[len] = '\0';
    assert_string_equal(got, expected);
    close(fd);
}

/* ws_test.c - WebSocket: the request line by line, frames whole and cut at each byte, fragments, control frames, closing,
 * text and binary, what leaves; and connections through the whole stack, dribbled too. */
#include "conn.h"
#include "conn_int.h"
#include "echo.h"
#include "ws_kit.h"

#include <mqgate/obs.h>

#include <setjmp.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the request ------------------------------------------------------------------------------------------------------ */

#define HEAD  "GET /ws HTTP/1.1\r\n"
#define HOST  "Host: a\r\n"
#define UP    "Upgrade: WebSocket\r\nConnection: upgrade\r\n"
#define KEY   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VER   "Sec-WebSocket-Version: 13\r\n"
#define GOOD  HOST UP KEY VER
#define PROTO "Sec-WebSocket-Protocol: "

static const struct request_row {
    const char *text;
    int status;
    const char *answer_has; /* or the sub-protocol chosen */
} request_rows[] = {
    {HEAD GOOD "\r\n", 101, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"},
    {"GET /ws?token=1 HTTP/1.1\r\n" GOOD "\r\n", 101, "101"},
    {HEAD GOOD PROTO "v10.stomp,v12.stomp\r\n\r\n", 101, "Protocol: v12.stomp\r\n"},
    {HEAD GOOD PROTO "x\r\n" PROTO "v11.stomp\r\n\r\n", 101, "Protocol: v11.stomp\r\n"},
    {HEAD GOOD "Content-Length: 0\r\n\r\n", 101, "101"},
    {HEAD GOOD PROTO "mqtt\r\n\r\n", 400, "none of the sub-protocols"},
    {HEAD GOOD PROTO "V12.STOMP\r\n\r\n", 400, "none of the sub-protocols"},
    {HEAD GOOD "Content-Length: 5\r\n\r\n", 400, "no body"},
    {HEAD GOOD "Transfer-Encoding: chunked\r\n\r\n", 400, "no body"},
    {HEAD UP KEY VER "\r\n", 400, "Host"},
    {HEAD HOST GOOD "\r\n", 400, "Host"},
    {HEAD HOST KEY VER "\r\n", 426, "Sec-WebSocket-Version: 13"},
    {HEAD HOST "Upgrade: websocket\r\n" KEY VER "\r\n", 426, "Upgrade"},
    {HEAD HOST UP KEY "\r\n", 426, "version 13"},
    {HEAD HOST UP KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426, "version 13"},
    {HEAD HOST UP KEY VER VER "\r\n", 426, "version 13"},
    {HEAD HOST UP VER "\r\n", 400, "Sec-WebSocket-Key"},
    {HEAD HOST UP KEY KEY VER "\r\n", 400, "Sec-WebSocket-Key"},
    {HEAD HOST UP VER "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n\r\n", 400, "Sec-WebSocket-Key"},
    {HEAD HOST UP VER "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ\x01==\r\n\r\n", 400, "malformed"},
    {HEAD GOOD "Bad Name: x\r\n\r\n", 400, "malformed"},
    {HEAD GOOD "X: 1\r\n folded\r\n\r\n", 400, "malformed"},
    {HEAD GOOD "X: a\rb\r\n\r\n", 400, "malformed"},
    {HEAD "Host: a\n" UP KEY VER "\r\n", 400, "malformed"},
    {HEAD GOOD "X : 1\r\n\r\n", 400, "malformed"},
    {"GET /ws HTTP/1.0\r\n" GOOD "\r\n", 400, "malformed"},
    {"GET  /ws HTTP/1.1\r\n" GOOD "\r\n", 400, "malformed"},
    {"GET /ws HTTP/1.1 x\r\n" GOOD "\r\n", 400, "malformed"},
    {"GET /other HTTP/1.1\r\n" GOOD "\r\n", 404, "404"},
    {"GET /wsx HTTP/1.1\r\n" GOOD "\r\n", 404, "404"},
    {"POST /ws HTTP/1.1\r\n" GOOD "\r\n", 405, "Allow: GET"},
    {"CONNECT\naccept-version:1.2\n\n", 400, "an HTTP request"},
    {"\x16\x03\x01", 400, "an HTTP request"},
};

static void request_judges_each_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(request_rows); i++) {
        const struct request_row *row = &request_rows[i];
        struct io_ws_upgrade up;
        size_t used;
        enum mqg_err err = io_ws_upgrade(mqg_slice_str(row->text), &kit_text, &up, &used);
        if (err != MQG_OK || up.status != row->status || strstr(up.answer, row->answer_has) == NULL)
            fail_msg("row %zu: %d, status %d, answer %s", i, err, up.status, up.answer);
    }
}

static void request_waits_until_it_is_whole(void **state)
{
    (void)state;
    struct mqg_slice text = MQG_SLICE_LIT(KIT_REQUEST);
    struct io_ws_upgrade up;
    size_t used;
    for (size_t n = 0; n < text.len; n++)
        assert_int_equal(io_ws_upgrade(mqg_slice_of(text.ptr, n), &kit_text, &up, &used), MQG_MORE);
    assert_int_equal(io_ws_upgrade(text, &kit_text, &up, &used), MQG_OK);
    assert_int_equal(used, text.len);
    assert_int_equal(up.status, 101);
}

static void request_survives_each_flip(void **state)
{
    (void)state;
    char text[] = KIT_REQUEST;
    struct io_ws_upgrade up;
    size_t used, good = 0;
    for (size_t i = 0; i < sizeof text - 1; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ (1 << bit));
            enum mqg_err err = io_ws_upgrade(mqg_slice_of(text, sizeof text - 1), &kit_text, &up, &used);
            good += err == MQG_OK && up.status == 101;
            text[i] = (char)(text[i] ^ (1 << bit));
        }
    assert_in_range(good, 1, (sizeof text - 1) * 8 / 2); /* upper and lower case, other hosts and keys */
}

static void request_is_bounded(void **state)
{
    (void)state;
    static char text[WS_REQUEST_MAX + 1];
    memset(text, 'a', sizeof text);
    memcpy(text, HEAD "X: ", strlen(HEAD "X: "));
    struct io_ws_upgrade up;
    size_t used;
    assert_int_equal(io_ws_upgrade(mqg_slice_of(text, WS_REQUEST_MAX - 1), &kit_text, &up, &used), MQG_MORE);
    assert_int_equal(io_ws_upgrade(mqg_slice_of(text, WS_REQUEST_MAX), &kit_text, &up, &used), MQG_OK);
    assert_int_equal(up.status, 431);
}

/* ---- frames ------------------------------------------------------------------------------------------------------------- */

struct stack {
    struct kit_below *below;
    struct io_filter *top;
    struct mqg_dynbuf got; /* payload */
    struct mqg_dynbuf in;
};

static void stack_open(struct stack *s, const struct io_ws_rules *rules)
{
    struct mqg_error e;
    s->below = kit_below_new();
    s->top = io_ws_filter_new(&s->below->filter, rules);
    s->below->in = MQG_SLICE_LIT(KIT_REQUEST);
    assert_int_equal(io_filter_handshake(s->top, &e), MQG_OK);
    assert_memory_equal(s->below->out.ptr, "HTTP/1.1 101", 12);
    mqg_dynbuf_reset(&s->below->out);
    mqg_dynbuf_init(&s->got, 16u << 20);
    mqg_dynbuf_init(&s->in, 16u << 20);
}

static void stack_close(struct stack *s)
{
    io_filter_free(&s->top);
    mqg_dynbuf_fini(&s->got);
    mqg_dynbuf_fini(&s->in);
}

/* Feeds what was collected, in pieces; the last outcome: 0 end, -1 with errno. */
static ssize_t stack_run(struct stack *s, size_t piece)
{
    static uint8_t buf[65536];
    ssize_t n;
    s->below->in = mqg_dynbuf_view(&s->in);
    s->below->piece = piece;
    do {
        n = io_filter_read(s->top, buf, sizeof buf);
        if (n > 0)
            mqg_dynbuf_put(&s->got, buf, (size_t)n);
    } while (n > 0 || (n < 0 && errno == EAGAIN && s->below->in.len > 0));
    mqg_dynbuf_reset(&s->in);
    return n;
}

static void stack_expect(struct stack *s, const char *payload)
{
    assert_int_equal(s->got.len, strlen(payload));
    assert_memory_equal(s->got.ptr, payload, s->got.len);
}

static void frames_are_a_stream_however_they_are_cut(void **state)
{
    (void)state;
    static uint8_t big[70000];
    memset(big, 'z', sizeof big);
    for (size_t piece = 1; piece < 40; piece++) {
        struct stack s;
        stack_open(&s, &kit_text);
        kit_frame(&s.in, 0x81, MQG_SLICE_LIT("one "));
        kit_frame(&s.in, 0x02, MQG_SLICE_LIT("two ")); /* a message in three frames */
        kit_frame(&s.in, 0x89, MQG_SLICE_LIT("ping")); /* with a ping between */
        kit_frame(&s.in, 0x00, MQG_SLICE_LIT("and "));
        kit_frame(&s.in, 0x80, MQG_SLICE_LIT("a half "));
        kit_frame(&s.in, 0x82, MQG_SLICE_LIT(""));
        kit_frame(&s.in, 0x8a, MQG_SLICE_LIT("a pong nobody asked for"));
        kit_frame(&s.in, 0x82, mqg_slice_of(big, 300));
        kit_frame(&s.in, 0x82, mqg_slice_of(big, sizeof big));
        assert_int_equal(stack_run(&s, piece), -1);
        assert_int_equal(errno, EAGAIN);
        assert_int_equal(s.got.len, 19 + 300 + sizeof big);
        assert_memory_equal(s.got.ptr, "one two and a half zzz", 22);
        assert_int_equal(s.below->out.len, 6); /* one pong */
        assert_memory_equal(s.below->out.ptr, "\x8a\x04ping", 6);
        stack_close(&s);
    }
}

static const struct fault_row {
    const char *name;
    const char *bytes;
    size_t len;
    uint16_t code; /* of our close frame */
} fault_rows[] = {
    {"no mask", "\x81\x02hi", 4, 1002},
    {"reserved bit", "\xc1\x80\x01\x02\x03\x04", 6, 1002},
    {"reserved opcode", "\x83\x80\x01\x02\x03\x04", 6, 1002},
    {"control frame of 126", "\x89\xfe\x00\x7e\x01\x02\x03\x04", 8, 1002},
    {"control frame in fragments", "\x09\x80\x01\x02\x03\x04", 6, 1002},
    {"continuation of nothing", "\x80\x80\x01\x02\x03\x04", 6, 1002},
    {"length of 64 bits, top bit set", "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04", 14, 1002},
    {"length not the shortest", "\x82\xfe\x00\x01\x00\x00\x00\x00x", 9, 1002},
    {"text that is no UTF-8", "\x81\x81\x00\x00\x00\x00\xff", 7, 1007},
    {"close with one byte", "\x88\x81\x00\x00\x00\x00\x03", 7, 0},
    {"close, code 1005", "\x88\x82\x00\x00\x00\x00\x03\xed", 8, 1002},
    {"close", "\x88\x82\x00\x00\x00\x00\x03\xe8", 8, 1000},
};

static void faults_end_with_their_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(fault_rows); i++) {
        const struct fault_row *row = &fault_rows[i];
        struct stack s;
        stack_open(&s, &kit_text);
        kit_frame(&s.in, 0x81, MQG_SLICE_LIT("before"));
        mqg_dynbuf_put(&s.in, row->bytes, row->len);
        kit_frame(&s.in, 0x81, MQG_SLICE_LIT("behind"));
        if (stack_run(&s, SIZE_MAX) != 0)
            fail_msg("%s: not ended", row->name);
        stack_expect(&s, "before");
        assert_true(io_filter_pending(s.top)); /* the end is told without more input */
        io_filter_shutdown(s.top);
        const uint8_t *out = s.below->out.ptr;
        assert_true(s.below->out.len >= 2 && out[0] == 0x88);
        uint16_t code = s.below->out.len >= 4 ? mqg_be16(out + 2) : 0;
        if (code != row->code)
            fail_msg("%s: code %u", row->name, code);
        stack_close(&s);
    }
}

static void text_is_refused_where_it_is_not_spoken(void **state)
{
    (void)state;
    struct stack s;
    stack_open(&s, &kit_binary);
    kit_frame(&s.in, 0x82, MQG_SLICE_LIT("fine"));
    kit_frame(&s.in, 0x81, MQG_SLICE_LIT("no"));
    assert_int_equal(stack_run(&s, SIZE_MAX), 0);
    stack_expect(&s, "fine");
    io_filter_shutdown(s.top);
    assert_memory_equal(s.below->out.ptr, "\x88\x02\x03\xeb", 4);
    stack_close(&s);
}

static void pings_without_end_are_bounded(void **state)
{
    (void)state;
    struct stack s;
    stack_open(&s, &kit_text);
    s.below->room = 0; /* reads none of our pongs */
    ssize_t n = -1;
    int rounds = 0;
    for (; rounds < 10000; rounds++) {
        kit_frame(&s.in, 0x89, MQG_SLICE_LIT("0123456789012345678901234567890123456789"));
        n = stack_run(&s, SIZE_MAX);
        assert_int_equal(n, -1);
        if (errno != EAGAIN)
            break;
        assert_true(io_filter_wants_write(s.top));
    }
    assert_int_equal(errno, EPROTO);
    assert_in_range(rounds, 100, 1000);
    stack_close(&s);
}

/* ---- what leaves --------------------------------------------------------------------------------------------------------- */

static void stack_write(struct stack *s, const char *bytes, size_t len)
{
    while (len > 0) {
        struct iovec iov[2] = {{(void *)(uintptr_t)bytes, len / 2},
                               {(void *)(uintptr_t)(bytes + len / 2), len - len / 2}};
        ssize_t n = io_filter_writev(s->top, iov, 2);
        assert_true(n > 0 || errno == EAGAIN);
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
}

static const struct out_row {
    const char *bytes;
    const char *expect; /* frames */
    size_t expect_len;
} out_rows[] = {
    {"hello", "\x81\x05hello", 7},
    {"h\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\x81\x0ah\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 12},
    {"\xff\xfe", "\x82\x02\xff\xfe", 4},
    {"a\xed\xa0\x80",
     "\x82\x04"
     "a\xed\xa0\x80",
     6}, /* a surrogate */
    {"ab\xe2\x82",
     "\x81\x02"
     "ab\x82\x02\xe2\x82",
     8}, /* cut inside a character, and no more comes */
};

static void text_leaves_as_text_while_it_is_utf8(void **state)
{
    (void)state;
    for (size_t room = 1; room < 8; room++)
        for (size_t i = 0; i < MQG_COUNTOF(out_rows); i++) {
            struct stack s;
            stack_open(&s, &kit_text);
            s.below->room = room;
            stack_write(&s, out_rows[i].bytes, strlen(out_rows[i].bytes));
            assert_int_equal(s.below->out.len, out_rows[i].expect_len);
            assert_memory_equal(s.below->out.ptr, out_rows[i].expect, out_rows[i].expect_len);
            stack_close(&s);
        }
}

static void answers_are_of_the_clients_kind(void **state)
{
    (void)state;
    struct stack s;
    stack_open(&s, &kit_text);
    kit_frame(&s.in, 0x82, MQG_SLICE_LIT("x"));
    stack_run(&s, SIZE_MAX);
    stack_write(&s, "a", 1);
    kit_frame(&s.in, 0x81, MQG_SLICE_LIT("x"));
    stack_run(&s, SIZE_MAX);
    stack_write(&s, "b", 1);
    assert_memory_equal(s.below->out.ptr,
                        "\x82\x01"
                        "a\x81\x01"
                        "b",
                        6);
    stack_close(&s);
}

static void large_output_has_long_headers(void **state)
{
    (void)state;
    static char big[70000];
    memset(big, 'b', sizeof big);
    struct stack s;
    stack_open(&s, &kit_binary);
    stack_write(&s, big, 300);
    stack_write(&s, big, sizeof big);
    assert_int_equal(s.below->out.len, 4 + 300 + 10 + sizeof big);
    assert_memory_equal(s.below->out.ptr, "\x82\x7e\x01\x2c", 4);
    assert_memory_equal(s.below->out.ptr + 304, "\x82\x7f\0\0\0\0\0\x01\x11\x70", 10);
    stack_close(&s);
}

/* A pong may not fall into the middle of a frame. */
static void pongs_wait_for_the_end_of_a_frame(void **state)
{
    (void)state;
    struct stack s;
    stack_open(&s, &kit_text);
    s.below->room = 4;
    struct iovec iov = {(void *)(uintptr_t) "0123456789", 10};
    assert_int_equal(io_filter_writev(s.top, &iov, 1), 2);
    kit_frame(&s.in, 0x89, MQG_SLICE_LIT("p"));
    stack_run(&s, SIZE_MAX);
    assert_int_equal(s.below->out.len, 4);
    s.below->room = SIZE_MAX;
    iov = (struct iovec){(void *)(uintptr_t) "23456789", 8};
    assert_int_equal(io_filter_writev(s.top, &iov, 1), 8);
    assert_int_equal(s.below->out.len, 12 + 3);
    assert_memory_equal(s.below->out.ptr,
                        "\x81\x0a"
                        "0123456789\x8a\x01p",
                        15);
    stack_close(&s);
}

/* ---- connections ------------------------------------------------------------------------------------------------------------ */

static struct mqg_worker *worker;
static const struct conn_source source = {
    .name = "echo_ws",
    .ops = &echo_ops,
    .ws = true,
    .ws_rules = {.path = "/ws", .protocols = kit_protocols, .text = true},
};

static int worker_setup(void **state)
{
    mqg_log_level_set(MQG_LOG_ERROR);
    conn_configure(&(struct conn_settings){.login_timeout_ms = 600000, .dribble = *state != NULL});
    worker = mqg_worker_manual();
    return 0;
}

static int worker_teardown(void **state)
{
    (void)state;
    mqg_workers_fini();
    return 0;
}

static int peer_open(void)
{
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    assert_true(conn_adopt(worker, fd[0], &source, NULL));
    return fd[1];
}

static void peer_send(int fd, struct mqg_slice s)
{
    assert_int_equal(write(fd, s.ptr, s.len), (ssize_t)s.len);
}

/* Turns until n bytes have come, or the end; how many came. */
static size_t peer_read(int fd, uint8_t *to, size_t n)
{
    size_t got = 0;
    for (int turn = 0; turn < 5000 && got < n; turn++) {
        mqg_worker_turn(worker, 1);
        ssize_t r = read(fd, to + got, n - got);
        if (r == 0)
            break;
        got += r > 0 ? (size_t)r : 0;
    }
    return got;
}

static void peer_handshake(int fd)
{
    static const char answer[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: v12.stomp\r\n\r\n";
    uint8_t got[sizeof answer];
    assert_int_equal(peer_read(fd, got, sizeof answer - 1), sizeof answer - 1);
    assert_memory_equal(got, answer, sizeof answer - 1);
}

static void connection_echoes_and_closes(void **state)
{
    (void)state;
    struct mqg_dynbuf in;
    uint8_t got[4096];
    mqg_dynbuf_init(&in, 65536);
    int fd = peer_open();
    mqg_dynbuf_put(&in, KIT_REQUEST, strlen(KIT_REQUEST)); /* the first frame does not wait for the answer */
    kit_frame(&in, 0x01, MQG_SLICE_LIT("lo"));
    kit_frame(&in, 0x80, MQG_SLICE_LIT("gin\nhello\n"));
    peer_send(fd, mqg_dynbuf_view(&in));
    peer_handshake(fd);
    size_t n = 0, text = 0;
    while (text < 6) { /* however many frames it takes */
        assert_int_equal(peer_read(fd, got + n, 2), 2);
        assert_int_equal(got[n], 0x81);
        size_t len = got[n + 1];
        assert_int_equal(peer_read(fd, got + text, len), len);
        text += len;
        n = text;
    }
    assert_memory_equal(got, "hello\n", 6);
    mqg_dynbuf_reset(&in);
    kit_frame(&in, 0x88, MQG_SLICE_LIT("\x03\xe8"));
    peer_send(fd, mqg_dynbuf_view(&in));
    assert_int_equal(peer_read(fd, got, sizeof got), 4);
    assert_memory_equal(got, "\x88\x02\x03\xe8", 4);
    close(fd);
    mqg_dynbuf_fini(&in);
}

static void connection_says_goodbye(void **state)
{
    (void)state;
    struct mqg_dynbuf in;
    uint8_t got[64];
    mqg_dynbuf_init(&in, 65536);
    int fd = peer_open();
    peer_send(fd, MQG_SLICE_LIT(KIT_REQUEST));
    peer_handshake(fd);
    kit_frame(&in, 0x81, MQG_SLICE_LIT("quit\n"));
    peer_send(fd, mqg_dynbuf_view(&in));
    size_t n = peer_read(fd, got, sizeof got);
    assert_true(n >= 10);
    assert_memory_equal(got + n - 4, "\x88\x02\x03\xe8", 4);
    close(fd);
    mqg_dynbuf_fini(&in);
}

static void connection_refused_is_told(void **state)
{
    (void)state;
    uint8_t got[1024];
    int fd = peer_open();
    peer_send(fd, MQG_SLICE_LIT("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"));
    size_t n = peer_read(fd, got, sizeof got);
    assert_true(n > 12 && n < sizeof got);
    assert_memory_equal(got, "HTTP/1.1 404", 12);
    close(fd);
}

/* A client that takes its time with the request meets the login timeout, however busily it sends. */
static void slow_request_is_ended(void **state)
{
    (void)state;
    uint8_t got[16];
    conn_configure(&(struct conn_settings){.login_timeout_ms = 300});
    uint64_t start = mqg_clock_now().mono_ms;
    mqg_worker_turn(worker, 0); /* the worker's own clock is not behind */
    int fd = peer_open();
    peer_send(fd, MQG_SLICE_LIT("GET /ws HTTP/1.1\r\nX: "));
    size_t n = 1;
    bool ended = false;
    uint64_t last = 0;
    while (!ended && mqg_clock_now().mono_ms < start + 50000) {
        mqg_worker_turn(worker, 5);
        if (mqg_clock_now().mono_ms >= last + 10) {
            last = mqg_clock_now().mono_ms;
            (void)!write(fd, "a", 1);
        }
        n = (size_t)read(fd, got, sizeof got);
        ended = n == 0;
    }
    assert_true(ended);
    assert_true(mqg_clock_now().mono_ms >= start + 300);
    close(fd);
}

int main(void)
{
    static bool dribbled = true;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_judges_each_row),
        cmocka_unit_test(request_waits_until_it_is_whole),
        cmocka_unit_test(request_survives_each_flip),
        cmocka_unit_test(request_is_bounded),
        cmocka_unit_test(frames_are_a_stream_however_they_are_cut),
        cmocka_unit_test(faults_end_with_their_code),
        cmocka_unit_test(text_is_refused_where_it_is_not_spoken),
        cmocka_unit_test(pings_without_end_are_bounded),
        cmocka_unit_test(text_leaves_as_text_while_it_is_utf8),
        cmocka_unit_test(answers_are_of_the_clients_kind),
        cmocka_unit_test(large_output_has_long_headers),
        cmocka_unit_test(pongs_wait_for_the_end_of_a_frame),
        cmocka_unit_test_prestate_setup_teardown(connection_echoes_and_closes, worker_setup, worker_teardown,
                                                 NULL),
        cmocka_unit_test_prestate_setup_teardown(connection_echoes_and_closes, worker_setup, worker_teardown,
                                                 &dribbled),
        cmocka_unit_test_prestate_setup_teardown(connection_says_goodbye, worker_setup, worker_teardown,
                                                 NULL),
        cmocka_unit_test_prestate_setup_teardown(connection_says_goodbye, worker_setup, worker_teardown,
                                                 &dribbled),
        cmocka_unit_test_prestate_setup_teardown(connection_refused_is_told, worker_setup, worker_teardown,
                                                 NULL),
        cmocka_unit_test_prestate_setup_teardown(slow_request_is_ended, worker_setup, worker_teardown, NULL),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

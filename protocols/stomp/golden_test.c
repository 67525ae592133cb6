/* golden_test.c - frames as the specification shows them, clause by clause: what each one says, and how ours are written. */
#include "frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct golden_header {
    const char *name, *value; /* unescaped */
};

static const struct golden_row {
    const char *clause;
    enum stomp_version version;
    const char *block; /* up to the empty line */
    enum stomp_command command;
    struct golden_header headers[4];
} golden_rows[] = {
    {"1.2 STOMP Frames",
     STOMP_12,
     "SEND\ndestination:/queue/a\ncontent-type:text/plain\n\n",
     STOMP_SEND,
     {{"destination", "/queue/a"}, {"content-type", "text/plain"}}},
    {"1.2 Connecting",
     STOMP_12,
     "CONNECT\naccept-version:1.2\nhost:stomp.github.org\n\n",
     STOMP_CONNECT,
     {{"accept-version", "1.2"}, {"host", "stomp.github.org"}}},
    {"1.2 CONNECT or STOMP Frame",
     STOMP_12,
     "STOMP\naccept-version:1.0,1.1,2.0\nhost:a\n\n",
     STOMP_STOMP,
     {{"accept-version", "1.0,1.1,2.0"}}},
    {"1.2 Augmented BNF: EOL",
     STOMP_12,
     "SEND\r\ndestination:/queue/a\r\n\r\n",
     STOMP_SEND,
     {{"destination", "/queue/a"}}},
    {"1.2 Value Encoding",
     STOMP_12,
     "SEND\na:\\r\\n\\c\\\\\nb\\cc:d\n\n",
     STOMP_SEND,
     {{"a", "\r\n:\\"}, {"b:c", "d"}}},
    {"1.1 Value Encoding", STOMP_11, "SEND\na:\\n\\c\\\\\n\n", STOMP_SEND, {{"a", "\n:\\"}}},
    {"1.0 has no encoding", STOMP_10, "SEND\na:\\n\\c\\\\\n\n", STOMP_SEND, {{"a", "\\n\\c\\\\"}}},
    {"1.2 Repeated Header Entries",
     STOMP_12,
     "MESSAGE\nfoo:World\nfoo:Hello\n\n",
     STOMP_UNKNOWN,
     {{"foo", "World"}, {"foo", "Hello"}}},
    {"1.2 white space is kept", STOMP_12, "SEND\n a : b \n\n", STOMP_SEND, {{" a ", " b "}}},
    {"1.2 SUBSCRIBE",
     STOMP_12,
     "SUBSCRIBE\nid:0\ndestination:/queue/foo\nack:client\n\n",
     STOMP_SUBSCRIBE,
     {{"id", "0"}, {"destination", "/queue/foo"}, {"ack", "client"}}},
    {"1.2 UNSUBSCRIBE", STOMP_12, "UNSUBSCRIBE\nid:0\n\n", STOMP_UNSUBSCRIBE, {{"id", "0"}}},
    {"1.2 ACK",
     STOMP_12,
     "ACK\nid:12345\ntransaction:tx1\n\n",
     STOMP_ACK,
     {{"id", "12345"}, {"transaction", "tx1"}}},
    {"1.1 ACK",
     STOMP_11,
     "ACK\nsubscription:0\nmessage-id:007\n\n",
     STOMP_ACK,
     {{"subscription", "0"}, {"message-id", "007"}}},
    {"1.2 BEGIN", STOMP_12, "BEGIN\ntransaction:tx1\n\n", STOMP_BEGIN, {{"transaction", "tx1"}}},
    {"1.2 COMMIT", STOMP_12, "COMMIT\ntransaction:tx1\n\n", STOMP_COMMIT, {{"transaction", "tx1"}}},
    {"1.2 ABORT", STOMP_12, "ABORT\ntransaction:tx1\n\n", STOMP_ABORT, {{"transaction", "tx1"}}},
    {"1.2 DISCONNECT", STOMP_12, "DISCONNECT\nreceipt:77\n\n", STOMP_DISCONNECT, {{"receipt", "77"}}},
    {"1.2 commands are case sensitive", STOMP_12, "send\n\n", STOMP_UNKNOWN, {{NULL, NULL}}},
};

static void frames_say_what_the_specification_says(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    for (size_t i = 0; i < MQG_COUNTOF(golden_rows); i++) {
        const struct golden_row *row = &golden_rows[i];
        struct stomp_line lines[8];
        struct stomp_head h = {.lines = lines, .max = MQG_COUNTOF(lines)};
        struct mqg_error e;
        size_t scanned = 0, len = 0;
        struct mqg_slice in = mqg_slice_str(row->block), name, value;
        if (stomp_head_end(in, &scanned, &len) != MQG_OK || len != in.len ||
            stomp_head_read(in, &h, &e) != MQG_OK)
            fail_msg("%s: not read", row->clause);
        assert_int_equal(h.command, row->command);
        uint32_t n = 0;
        for (; n < MQG_COUNTOF(row->headers) && row->headers[n].name != NULL; n++) {
            assert_int_equal(stomp_unescape(lines[n].name, row->version, &a, &name), MQG_OK);
            assert_int_equal(stomp_unescape(lines[n].value, row->version, &a, &value), MQG_OK);
            if (!mqg_slice_eq(name, mqg_slice_str(row->headers[n].name)) ||
                !mqg_slice_eq(value, mqg_slice_str(row->headers[n].value)))
                fail_msg("%s: header %u", row->clause, n);
        }
        if (i != 2) /* only some of its headers are told above */
            assert_int_equal(h.n, n);
    }
    mqg_arena_fini(&a);
}

static void headers_are_written_as_the_specification_says(void **state)
{
    (void)state;
    static const char *const want[] = {"a\\cb:c:\\nd\\e\n", "a\\cb:c\\c\\nd\\\\e\n", "a\\cb:c\\c\\nd\\\\e\n"};
    for (int v = 0; v < STOMP_VERSIONS; v++) {
        struct mqg_dynbuf out;
        mqg_dynbuf_init(&out, 4096);
        stomp_put_header(&out, (enum stomp_version)v, MQG_SLICE_LIT("a:b"), MQG_SLICE_LIT("c:\nd\\e"));
        assert_true(mqg_slice_eq(mqg_dynbuf_view(&out), mqg_slice_str(want[v])));
        mqg_dynbuf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_say_what_the_specification_says),
        cmocka_unit_test(headers_are_written_as_the_specification_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* ws_fuzz.c - a WebSocket from anybody: the request, or what follows a good one, cut into pieces of any size. The payload is
 * never longer than what came, an answer is one whole HTTP answer, and the stack can always be closed and freed. */
#include "ws_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_request(struct mqg_slice in)
{
    struct io_ws_upgrade up;
    size_t used = 0;
    enum mqg_err err = io_ws_upgrade(in, &kit_text, &up, &used);
    MQG_ASSERT(err == MQG_OK || err == MQG_MORE);
    if (err != MQG_OK)
        return;
    MQG_ASSERT(used <= in.len && up.answer_len > 0 && up.answer_len < sizeof up.answer);
    MQG_ASSERT(up.status == 101 || up.status >= 400);
    MQG_ASSERT(memmem(up.answer, up.answer_len, "\r\n\r\n", 4) != NULL);
}

static void fuzz_stack(struct mqg_slice in, uint8_t how)
{
    struct kit_below *below = kit_below_new();
    struct io_filter *f = io_ws_filter_new(&below->filter, how & 1 ? &kit_text : &kit_binary);
    struct mqg_error e;
    uint8_t buf[512];
    size_t got = 0;
    below->in = MQG_SLICE_LIT(KIT_REQUEST);
    enum mqg_err err = io_filter_handshake(f, &e);
    MQG_ASSERT(err == MQG_OK);
    below->in = in;
    below->piece = (how >> 1) % 8 == 0 ? SIZE_MAX : (how >> 1) % 8;
    below->eof = true;
    ssize_t n;
    do {
        n = io_filter_read(f, buf, how & 128 ? 64 : sizeof buf);
        got += n > 0 ? (size_t)n : 0;
        if (n > 0) {
            struct iovec iov = {buf, (size_t)n};
            (void)io_filter_writev(f, &iov, 1);
        }
    } while (n > 0 || (n < 0 && errno == EAGAIN));
    MQG_ASSERT(got <= in.len);
    io_filter_shutdown(f);
    io_filter_free(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct mqg_slice in = mqg_slice_of(data + 1, size - 1);
    if (data[0] == 'G')
        fuzz_request(mqg_slice_of(data, size));
    else
        fuzz_stack(in, data[0]);
    return 0;
}

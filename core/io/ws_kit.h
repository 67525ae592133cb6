/* ws_kit.h - what the test and the fuzz target of WebSocket stand on: a filter made of memory, and the client's side of a
 * frame. */
#ifndef MQG_IO_WS_KIT_H
#define MQG_IO_WS_KIT_H

#include "ws.h"

#include <errno.h>
#include <stdlib.h>

/* Gives `in` in pieces of at most `piece`, then EAGAIN, or the end once `eof` is set; keeps what is written, `room` bytes at
 * a time. */
struct kit_below {
    struct io_filter filter;
    struct mqg_slice in;
    size_t piece, room;
    bool eof;
    struct mqg_dynbuf out;
};

static inline ssize_t kit_read(struct io_filter *f, void *buf, size_t n)
{
    struct kit_below *k = MQG_CONTAINER_OF(f, struct kit_below, filter);
    if (n > k->piece)
        n = k->piece;
    if (n > k->in.len)
        n = k->in.len;
    if (n == 0 && !k->eof) {
        errno = EAGAIN;
        return -1;
    }
    if (n > 0)
        memcpy(buf, k->in.ptr, n);
    k->in = mqg_slice_of(k->in.ptr + n, k->in.len - n);
    return (ssize_t)n;
}

static inline ssize_t kit_writev(struct io_filter *f, const struct iovec *iov, int n)
{
    struct kit_below *k = MQG_CONTAINER_OF(f, struct kit_below, filter);
    size_t room = k->room, sent = 0;
    for (int i = 0; i < n && room > 0; i++) {
        size_t take = iov[i].iov_len < room ? iov[i].iov_len : room;
        mqg_dynbuf_put(&k->out, iov[i].iov_base, take);
        room -= take;
        sent += take;
    }
    if (sent > 0)
        return (ssize_t)sent;
    errno = EAGAIN;
    return -1;
}

static inline void kit_free(struct io_filter *f)
{
    struct kit_below *k = MQG_CONTAINER_OF(f, struct kit_below, filter);
    mqg_dynbuf_fini(&k->out);
    free(k);
}

static const struct io_filter_ops kit_below_ops = {
    .name = "memory", .read = kit_read, .writev = kit_writev, .free = kit_free};

static inline struct kit_below *kit_below_new(void)
{
    struct kit_below *k = mqg_xcalloc(1, sizeof *k);
    k->filter.ops = &kit_below_ops;
    k->piece = k->room = SIZE_MAX;
    mqg_dynbuf_init(&k->out, 64u << 20);
    return k;
}

/* A client's frame: first byte (FIN and opcode), masked payload. */
static inline void kit_frame(struct mqg_dynbuf *out, uint8_t first, struct mqg_slice payload)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    mqg_dynbuf_u8(out, first);
    if (payload.len < 126) {
        mqg_dynbuf_u8(out, (uint8_t)(0x80 | payload.len));
    } else if (payload.len <= UINT16_MAX) {
        mqg_dynbuf_u8(out, 0x80 | 126);
        mqg_dynbuf_be16(out, (uint16_t)payload.len);
    } else {
        mqg_dynbuf_u8(out, 0x80 | 127);
        mqg_dynbuf_be64(out, payload.len);
    }
    mqg_dynbuf_put(out, mask, sizeof mask);
    for (size_t i = 0; i < payload.len; i++)
        mqg_dynbuf_u8(out, payload.ptr[i] ^ mask[i & 3]);
}

#define KIT_REQUEST                                                                                    \
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"                     \
    "Sec-WebSocket-Protocol: v10.stomp, v12.stomp\r\n\r\n"

static const char *const kit_protocols[] = {"v12.stomp", "v11.stomp", "v10.stomp", NULL};
static const struct io_ws_rules kit_text = {.path = "/ws", .protocols = kit_protocols, .text = true};
static const struct io_ws_rules kit_binary = {.path = "/ws", .protocols = kit_protocols, .text = false};

#endif

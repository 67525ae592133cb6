/* input.c - frames out of the input.
 *
 *   HEAD --SEND, content-length, body not all there--> BODY --> NUL --> HEAD
 *   HEAD --SEND, no content-length, no NUL in sight--> GATHER --------> HEAD
 *
 * A frame that is whole in the input is handled where it lies; that is nearly every one. A body with a length is copied into
 * its message piece by piece; one without must be gathered first, bounded, because a message's length must be known: each by
 * limits.message_size, and all that are under way together, since they are no message memory yet. Other frames than SEND have
 * no body that anybody reads: they must fit into the input. */
#include "stomp.h"

struct mqg_budget stomp_gather_budget;

/* ---- bodies ------------------------------------------------------------------------------------------------------------- */

/* Length of the body if it is all there with its NUL; MORE if not yet; MALFORMED: no NUL where it must be. */
static enum mqg_err input_body_end(const struct stomp_head *h, struct mqg_slice rest, bool has_len,
                                   uint64_t len, size_t *n)
{
    struct mqg_slice body = mqg_slice_of(rest.ptr + h->len, rest.len - h->len);
    if (has_len) {
        if (len >= body.len)
            return MQG_MORE;
        *n = (size_t)len;
        return body.ptr[len] == 0 ? MQG_OK : MQG_MALFORMED;
    }
    const uint8_t *nul = body.len > 0 ? memchr(body.ptr, 0, body.len) : NULL;
    *n = nul != NULL ? (size_t)(nul - body.ptr) : 0;
    return nul != NULL ? MQG_OK : MQG_MORE;
}

static void input_too_large(struct stomp_conn *sc, uint64_t len)
{
    stomp_fail(sc, "Frame too large", "message size %llu is larger than configured max size %u",
               (unsigned long long)len, stomp_settings.body_max);
}

static void input_send_whole(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_slice body)
{
    if (!stomp_send_begin(sc, h, (uint32_t)body.len))
        return;
    if (body.len > 0)
        memcpy(sc->send.body_at, body.ptr, body.len);
    stomp_send_end(sc);
}

/* False: over a bound, the connection failed. */
static bool input_gather_put(struct stomp_conn *sc, const uint8_t *ptr, size_t n)
{
    if (!mqg_budget_take(&stomp_gather_budget, n)) {
        stomp_fail(sc, "resource_error", "too many bodies without a content-length are on their way");
        return false;
    }
    if (mqg_dynbuf_put(&sc->gather, ptr, n))
        return true;
    mqg_budget_give(&stomp_gather_budget, n);
    input_too_large(sc, sc->gather.len - sc->gather_head + n);
    return false;
}

void stomp_gather_free(struct stomp_conn *sc)
{
    if (sc->gather.max == 0)
        return;
    mqg_budget_give(&stomp_gather_budget, sc->gather.len);
    mqg_dynbuf_fini(&sc->gather);
    sc->gather = (struct mqg_dynbuf){.max = 0};
}

/* The body goes on beyond the input. Bytes used. */
static size_t input_send_part(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_slice rest,
                              bool has_len, uint64_t len)
{
    if (!has_len) {
        sc->in = STOMP_IN_GATHER;
        sc->gather_head = h->len;
        mqg_dynbuf_init(&sc->gather, (size_t)h->len + stomp_settings.body_max + 1);
        (void)input_gather_put(sc, rest.ptr, rest.len);
        return rest.len;
    }
    if (!stomp_send_begin(sc, h, (uint32_t)len))
        return rest.len;
    stomp_send_keep(sc);
    size_t n = rest.len - h->len;
    memcpy(sc->send.body_at, rest.ptr + h->len, n);
    sc->send.body_at += n;
    sc->send.body_left = len - n;
    sc->in = sc->send.body_left > 0 ? STOMP_IN_BODY : STOMP_IN_NUL;
    return rest.len;
}

static bool input_content_length(struct stomp_conn *sc, const struct stomp_head *h, bool *has, uint64_t *len)
{
    *has = stomp_has(h, STOMP_H_CONTENT_LENGTH);
    *len = 0;
    if (!*has)
        return true;
    struct mqg_slice text = h->known[STOMP_H_CONTENT_LENGTH];
    while (text.len > 0 && text.ptr[text.len - 1] == ' ')
        text.len--;
    while (text.len > 0 && text.ptr[0] == ' ')
        text = mqg_slice_of(text.ptr + 1, text.len - 1);
    if (!stomp_number(text, UINT64_MAX, len)) {
        stomp_fail(sc, "Invalid header", "content-length must be a number of bytes, this is '%.*s'",
                   MQG_SLICE_FMT(text));
        return false;
    }
    if (*len > stomp_settings.body_max) {
        input_too_large(sc, *len);
        return false;
    }
    return true;
}

/* Bytes used of `rest`, which begins with the header block; 0: more must come. */
static size_t input_frame(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_slice rest)
{
    bool has_len;
    uint64_t len;
    size_t n;
    if (!stomp_value(sc, h, STOMP_H_RECEIPT, &sc->receipt) || !input_content_length(sc, h, &has_len, &len))
        return rest.len;
    enum mqg_err err = input_body_end(h, rest, has_len, len, &n);
    if (err == MQG_MALFORMED) {
        stomp_fail(sc, "Invalid frame", "no NUL behind a body of content-length %llu",
                   (unsigned long long)len);
        return rest.len;
    }
    if (h->command == STOMP_SEND && !stomp_may_run(sc, h))
        return rest.len;
    if (err == MQG_OK) {
        if (n > stomp_settings.body_max)
            input_too_large(sc, n);
        else if (h->command == STOMP_SEND)
            input_send_whole(sc, h, mqg_slice_of(rest.ptr + h->len, n));
        else
            stomp_frame(sc, h);
        return h->len + n + 1;
    }
    if (h->command == STOMP_SEND)
        return input_send_part(sc, h, rest, has_len, len);
    if (len >= STOMP_INPUT_BYTES / 2 ||
        rest.len >= (sc->phase == STOMP_RUNNING ? STOMP_INPUT_BYTES : 16384u)) {
        stomp_fail(sc, "Frame too large", "a %.*s frame has no body to speak of",
                   MQG_SLICE_FMT(h->command_text));
        return rest.len;
    }
    return 0;
}

static uint32_t input_head_max(const struct stomp_conn *sc)
{
    return sc->phase == STOMP_RUNNING || stomp_settings.head_max < STOMP_LOGIN_HEAD_MAX
               ? stomp_settings.head_max
               : STOMP_LOGIN_HEAD_MAX;
}

/* The present frame is over. */
static void input_frame_done(struct stomp_conn *sc)
{
    sc->receipt = MQG_SLICE_NONE;
    if (sc->arena_used)
        mqg_arena_reset(&sc->arena);
    sc->arena_used = false;
}

static bool input_head_read(struct stomp_conn *sc, struct mqg_slice block, struct stomp_head *h)
{
    struct mqg_error e;
    h->max = stomp_settings.headers_max;
    enum mqg_err err = stomp_head_read(block, h, &e);
    if (err != MQG_OK)
        stomp_fail(sc, err == MQG_TOO_LARGE ? "Frame too large" : "Invalid frame", "%s", e.text);
    return err == MQG_OK;
}

/* A frame that begins here; bytes used, 0: more must come. */
static size_t input_head(struct stomp_conn *sc, struct mqg_slice rest)
{
    struct stomp_line lines[STOMP_HEADERS_LIMIT];
    struct stomp_head h;
    size_t len = 0;
    enum mqg_err err = stomp_head_end(rest, &sc->scanned, &len);
    if (err == MQG_MALFORMED) {
        stomp_fail(sc, "Invalid frame", "a NUL among the headers: an empty line must end them");
        return rest.len;
    }
    if ((err == MQG_MORE ? rest.len : len) > input_head_max(sc)) {
        stomp_fail(sc, "Frame too large", "the headers are larger than %u bytes", input_head_max(sc));
        return rest.len;
    }
    if (err == MQG_MORE)
        return 0;
    h.lines = lines;
    if (!input_head_read(sc, mqg_slice_of(rest.ptr, len), &h))
        return rest.len;
    size_t used = input_frame(sc, &h, rest);
    input_frame_done(sc);
    return used;
}

/* A body without a length goes on; up to its NUL. */
static size_t input_gather(struct stomp_conn *sc, struct mqg_slice rest)
{
    const uint8_t *nul = memchr(rest.ptr, 0, rest.len);
    size_t n = nul != NULL ? (size_t)(nul - rest.ptr) : rest.len;
    if (!input_gather_put(sc, rest.ptr, n))
        return rest.len;
    if (nul == NULL)
        return n;
    struct stomp_line lines[STOMP_HEADERS_LIMIT];
    struct stomp_head h = {.lines = lines};
    struct mqg_slice all = mqg_dynbuf_view(&sc->gather);
    sc->in = STOMP_IN_HEAD;
    if (input_head_read(sc, mqg_slice_of(all.ptr, sc->gather_head), &h) &&
        stomp_value(sc, &h, STOMP_H_RECEIPT, &sc->receipt))
        input_send_whole(sc, &h, mqg_slice_of(all.ptr + sc->gather_head, all.len - sc->gather_head));
    input_frame_done(sc);
    stomp_gather_free(sc);
    return n + 1;
}

static size_t input_body(struct stomp_conn *sc, struct mqg_slice rest)
{
    size_t n = rest.len < sc->send.body_left ? rest.len : (size_t)sc->send.body_left;
    memcpy(sc->send.body_at, rest.ptr, n);
    sc->send.body_at += n;
    sc->send.body_left -= n;
    if (sc->send.body_left == 0)
        sc->in = STOMP_IN_NUL;
    return n;
}

static size_t input_nul(struct stomp_conn *sc, struct mqg_slice rest)
{
    sc->in = STOMP_IN_HEAD;
    sc->receipt = sc->send.receipt;
    if (rest.ptr[0] != 0)
        stomp_fail(sc, "Invalid frame", "no NUL behind the body");
    else
        stomp_send_end(sc);
    input_frame_done(sc);
    return 1;
}

static size_t input_some(struct stomp_conn *sc, struct mqg_slice rest)
{
    switch (sc->in) {
    case STOMP_IN_BODY: return input_body(sc, rest);
    case STOMP_IN_NUL: return input_nul(sc, rest);
    case STOMP_IN_GATHER: return input_gather(sc, rest);
    case STOMP_IN_HEAD: break;
    }
    size_t eols = sc->scanned == 0 ? stomp_eols(rest) : 0;
    if (eols > 0)
        return eols;
    size_t used = input_head(sc, rest);
    if (used > 0)
        sc->scanned = 0;
    return used;
}

size_t stomp_input(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e)
{
    struct stomp_conn *sc = mqg_conn_state(c);
    (void)e; /* faults are answered in the protocol's way */
    size_t used = 0;
    while (used < in.len && sc->phase != STOMP_CLOSED && !sc->receipts.paused) {
        size_t n = input_some(sc, mqg_slice_of(in.ptr + used, in.len - used));
        if (n == 0)
            break;
        used += n;
    }
    if (sc->settle != NULL)
        stomp_settle_flush(sc);
    return sc->phase == STOMP_CLOSED ? in.len : used;
}

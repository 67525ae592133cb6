/* A publisher must cost less than the server that it loads. All frames of a message are built once; per
 * message only 16 bytes are stamped (sequence and time), and one write takes up to 256 KiB of them. The
 * batch is used as a ring: a slot is stamped again only after all stamped bytes were written, so a partial
 * write needs no copy. */
#include "load_pub.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { PUB_BATCH_BYTES = 256 << 10, PUB_RING = 1 << 17 };

static void pub_put_method(struct load_out *out, const struct load_job *job)
{
    const size_t start = load_method_begin(out, 1, LOAD_BASIC_PUBLISH);
    load_put_u16(out, 0);
    load_put_short(out, job->exchange == NULL ? "" : job->exchange);
    load_put_short(out, job->exchange == NULL ? job->queue : "");
    load_put_u8(out, 0);
    load_frame_end(out, start);
}

static void pub_put_header(struct load_out *out, const struct load_job *job)
{
    enum { CLASS_BASIC = 60, HAS_DELIVERY_MODE = 0x1000, TRANSIENT = 1, PERSISTENT = 2 };
    const size_t start = load_frame_begin(out, LOAD_FRAME_HEADER, 1);
    load_put_u16(out, CLASS_BASIC);
    load_put_u16(out, 0);
    load_put_u64(out, job->body_bytes);
    load_put_u16(out, HAS_DELIVERY_MODE);
    load_put_u8(out, job->persistent ? PERSISTENT : TRANSIENT);
    load_frame_end(out, start);
}

static void pub_fill_body(uint8_t *body, size_t bytes, unsigned slot)
{
    uint32_t noise = slot * 2654435761U + 1;
    memset(body, 0, LOAD_STAMP_BYTES);
    for (size_t i = LOAD_STAMP_BYTES; i < bytes; i++) {
        noise = noise * 1664525U + 1013904223U;
        body[i] = (uint8_t)(noise >> 24);
    }
    const uint32_t check = load_hash(LOAD_HASH_SEED, body + LOAD_STAMP_BYTES, bytes - LOAD_STAMP_BYTES);
    memcpy(body + LOAD_BODY_CHECK, &check, sizeof check);
}

/* Bodies beyond frame_max go out in several frames; the stamp always lies in the first. */
static void pub_put_body(struct load_out *out, const uint8_t *body, size_t bytes, size_t frame_max)
{
    while (bytes != 0) {
        const size_t piece = bytes < frame_max - LOAD_FRAME_OVERHEAD ? bytes
                                                                     : frame_max - LOAD_FRAME_OVERHEAD;
        const size_t start = load_frame_begin(out, LOAD_FRAME_BODY, 1);
        load_put_bytes(out, body, piece);
        load_frame_end(out, start);
        body += piece;
        bytes -= piece;
    }
}

static void pub_build(struct load_pub *pub)
{
    const struct load_job *job = pub->job;
    struct load_out out = {0};
    uint8_t *body = load_alloc(job->body_bytes);
    do {
        pub_fill_body(body, job->body_bytes, pub->slots);
        pub_put_method(&out, job);
        pub_put_header(&out, job);
        if (pub->slots == 0)
            pub->body_at = out.len + LOAD_FRAME_HEAD;
        pub_put_body(&out, body, job->body_bytes, pub->conn.frame_max);
        pub->slots++;
        pub->stride = out.len / pub->slots;
    } while (out.len + pub->stride <= PUB_BATCH_BYTES);
    pub->batch = out.data;
    free(body);
}

void load_pub_open(struct load_pub *pub, const struct load_job *job, unsigned index,
                   struct load_hist *confirm_ns)
{
    memset(pub, 0, sizeof *pub);
    pub->job = job;
    pub->index = index;
    pub->confirm_ns = confirm_ns;
    load_conn_open(&pub->conn, &job->target);
    if (index == 0)
        load_job_declare(job, &pub->conn);
    if (job->window != 0) {
        const size_t start = load_method_begin(&pub->conn.out, 1, LOAD_CONFIRM_SELECT);
        load_put_u8(&pub->conn.out, 0);
        load_frame_end(&pub->conn.out, start);
        load_conn_call(&pub->conn, LOAD_CONFIRM_SELECT_OK);
    }
    pub->ring_mask = PUB_RING - 1;
    pub->settled = load_alloc(PUB_RING);
    if (job->takes_latency)
        pub->sent_ns = load_alloc(PUB_RING * sizeof *pub->sent_ns);
    pub_build(pub);
}

bool load_pub_is_writing(const struct load_pub *pub)
{
    return pub->from != pub->upto;
}

static bool pub_write(struct load_pub *pub)
{
    while (pub->from < pub->upto) {
        const ssize_t n = send(pub->conn.fd, pub->batch + pub->from, pub->upto - pub->from, MSG_NOSIGNAL);
        if (n >= 0) {
            pub->from += (size_t)n;
        } else if (errno == EAGAIN) {
            pub->stuck = true;
            return false;
        } else if (errno != EINTR) {
            load_fail("send: %s", strerror(errno));
        }
    }
    pub->stuck = false;
    return true;
}

/* How many may be unconfirmed now: the window, as long as the ring of marks has a place for each. */
static uint64_t pub_room(const struct load_pub *pub)
{
    const uint64_t open = pub->sent - pub->confirmed - pub->nacked;
    const uint64_t room = pub->job->window - open;
    const uint64_t places = PUB_RING - (pub->sent - pub->settled_upto);
    return room < places ? room : places;
}

static void pub_stamp(struct load_pub *pub, unsigned slot, uint64_t time_ns)
{
    uint8_t *body = pub->batch + slot * pub->stride + pub->body_at;
    const uint64_t sequence = pub->sent | ((uint64_t)pub->index << LOAD_SEQUENCE_BITS);
    memcpy(body + LOAD_BODY_SEQUENCE, &sequence, sizeof sequence);
    memcpy(body + LOAD_BODY_TIME, &time_ns, sizeof time_ns);
    if (pub->sent_ns != NULL)
        pub->sent_ns[pub->sent & pub->ring_mask] = time_ns;
    pub->sent++;
}

uint64_t load_pub_send(struct load_pub *pub, uint64_t allowed, uint64_t due_ns, uint64_t step_ns)
{
    if (!pub_write(pub))
        return 0;
    if (pub->job->window != 0 && pub_room(pub) < allowed)
        allowed = pub_room(pub);
    const unsigned first = (unsigned)(pub->sent % pub->slots);
    const uint64_t n = allowed < pub->slots - first ? allowed : pub->slots - first;
    for (unsigned i = 0; i < n; i++)
        pub_stamp(pub, first + i, due_ns + i * step_ns);
    pub->from = first * pub->stride;
    pub->upto = (first + n) * pub->stride;
    if (n != 0)
        pub_write(pub);
    return n;
}

/* Marks one tag; 1 if it was open. */
static uint64_t pub_settle(struct load_pub *pub, uint64_t tag, uint64_t now_ns)
{
    uint8_t *mark = &pub->settled[(tag - 1) & pub->ring_mask];
    if (tag <= pub->settled_upto || *mark != 0)
        return 0;
    *mark = 1;
    if (pub->sent_ns != NULL)
        load_hist_add(pub->confirm_ns, now_ns - pub->sent_ns[(tag - 1) & pub->ring_mask]);
    return 1;
}

/* The number of messages that this frame settles. Servers mix single and multiple ones in any order. */
static uint64_t pub_confirm(struct load_pub *pub, const struct load_frame *frame, uint64_t now_ns)
{
    if (frame->bytes < 13)
        load_fail("a confirm is too short");
    const uint64_t tag = load_get_u64(frame->payload + 4);
    const bool multiple = (frame->payload[12] & 1) != 0;
    if (tag == 0 || tag > pub->sent)
        load_fail("a confirm for %llu, but %llu were sent", (unsigned long long)tag,
                  (unsigned long long)pub->sent);
    uint64_t n = 0;
    for (uint64_t i = multiple ? pub->settled_upto + 1 : tag; i <= tag; i++)
        n += pub_settle(pub, i, now_ns);
    while (pub->settled_upto < pub->sent && pub->settled[pub->settled_upto & pub->ring_mask] != 0)
        pub->settled[pub->settled_upto++ & pub->ring_mask] = 0;
    return n;
}

static void pub_frame(struct load_pub *pub, const struct load_frame *frame, uint64_t now_ns)
{
    if (frame->method == LOAD_BASIC_ACK)
        pub->confirmed += pub_confirm(pub, frame, now_ns);
    else if (frame->method == LOAD_BASIC_NACK)
        pub->nacked += pub_confirm(pub, frame, now_ns);
    else if (frame->method == LOAD_BASIC_RETURN)
        pub->returned++;
    else
        load_conn_other(&pub->conn, frame);
}

bool load_pub_receive(struct load_pub *pub)
{
    struct load_frame frame;
    if (load_conn_read(&pub->conn) == 0)
        return false;
    const uint64_t now_ns = pub->sent_ns == NULL ? 0 : load_now_ns();
    while (load_conn_next(&pub->conn, &frame))
        pub_frame(pub, &frame, now_ns);
    return true;
}

void load_pub_close(struct load_pub *pub)
{
    load_conn_close(&pub->conn);
    free(pub->batch);
    free(pub->settled);
    free(pub->sent_ns);
}

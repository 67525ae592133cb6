/* msg_bench.c - what a message's life costs: made, a body of 100 bytes filled in, let go.
 *
 * Three shapes: let go at once (a broker that keeps up), a window of 1000 (confirms), another thread's frees left out.
 * A number to look at, no test. */
#include "self.h"

#include <mqgate/msg.h>

#include <stdio.h>

enum { BENCH_ROUNDS = 5000000, BENCH_WINDOW = 1000 };

static struct mqg_msg_parts bench_parts(void)
{
    return (struct mqg_msg_parts){.proto = MQG_PROTO_AMQP091,
                                  .key_sep = '.',
                                  .exchange = MQG_SLICE_LIT("orders"),
                                  .key = MQG_SLICE_LIT("orders.eu.new"),
                                  .user = MQG_SLICE_LIT("guest"),
                                  .origin = MQG_SLICE_LIT("\0\0\0\0"),
                                  .body_len = 100};
}

static double bench_run(size_t window)
{
    static struct mqg_msg *ring[BENCH_WINDOW];
    static uint8_t body[100];
    struct mqg_msg_parts parts = bench_parts();
    uint64_t start = mqg_clock_mono_us();
    for (size_t i = 0; i < BENCH_ROUNDS; i++) {
        struct mqg_msg **at = &ring[i % window];
        mqg_msg_unref(at);
        *at = mqg_msg_new(&parts);
        memcpy(mqg_msg_body_mut(*at), body, sizeof body);
    }
    for (size_t i = 0; i < window; i++)
        mqg_msg_unref(&ring[i]);
    return (double)(mqg_clock_mono_us() - start) * 1000.0 / BENCH_ROUNDS;
}

int main(void)
{
    struct mqg_worker w = {.now = mqg_clock_now()};
    mqg_self_set(&w);
    printf("new + body + unref, ns: at once %.1f, window %d %.1f\n", bench_run(1), BENCH_WINDOW,
           bench_run(BENCH_WINDOW));
    return 0;
}

/* msg_test.c - messages: parts, identity, memory, stored form, keys. */
#include "self.h"
#include "slab.h"

#include <mqgate/msg.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

static struct mqg_msg_parts test_parts(uint32_t body_len)
{
    return (struct mqg_msg_parts){
        .proto = MQG_PROTO_AMQP091,
        .flags = MQG_MSG_PERSISTENT | MQG_MSG_HAS_PKEY | MQG_MSG_HAS_TTL,
        .priority = 3,
        .key_sep = '.',
        .ttl_ms = 5000,
        .exchange = MQG_SLICE_LIT("x1"),
        .key = MQG_SLICE_LIT("a.b.c"),
        .pkey = MQG_SLICE_LIT("part"),
        .user = MQG_SLICE_LIT("guest"),
        .client = MQG_SLICE_LIT("cli"),
        .origin = MQG_SLICE_LIT("ORIGIN"),
        .overlay = MQG_SLICE_NONE,
        .body_len = body_len,
    };
}

static struct mqg_msg *test_msg(uint32_t body_len)
{
    struct mqg_msg_parts parts = test_parts(body_len);
    struct mqg_msg *m = mqg_msg_new(&parts);
    assert_non_null(m);
    memset(mqg_msg_body_mut(m), 'b', body_len);
    return m;
}

static void assert_slice(struct mqg_slice s, const char *text)
{
    assert_int_equal(s.len, strlen(text));
    assert_memory_equal(s.ptr, text, s.len);
}

static void test_parts_stand_where_they_belong(void **state)
{
    (void)state;
    struct mqg_msg *m = test_msg(10);
    assert_slice(mqg_msg_exchange(m), "x1");
    assert_slice(mqg_msg_key(m), "a.b.c");
    assert_slice(mqg_msg_pkey(m), "part");
    assert_slice(mqg_msg_user(m), "guest");
    assert_slice(mqg_msg_origin(m), "ORIGIN");
    assert_int_equal(mqg_msg_overlay(m).len, 0);
    assert_slice(mqg_msg_body(m), "bbbbbbbbbb");
    assert_int_equal(m->total_len, 80 + 2 + 5 + 4 + 5 + 3 + 6 + 10);
    assert_true(mqg_msg_persistent(m));
    mqg_msg_ref(m);
    struct mqg_msg *other = m;
    mqg_msg_unref(&other);
    assert_null(other);
    assert_int_equal(atomic_load(&m->refs), 1);
    mqg_msg_unref(&m);
    mqg_msg_unref(&m); /* NULL is fine */
}

static void test_identity_rises_and_never_repeats(void **state)
{
    (void)state;
    struct mqg_worker w = {.index = 2, .now = {1, 1000}};
    mqg_self_set(&w);
    struct mqg_msg *a = test_msg(1), *b = test_msg(1);
    w.now.wall_us = 500; /* the clock was set back */
    struct mqg_msg *c = test_msg(1);
    mqg_self_set(NULL);
    assert_true(a->st.id_hi <= b->st.id_hi && b->st.id_hi <= c->st.id_hi);
    assert_int_not_equal(a->st.id_lo, b->st.id_lo);
    assert_int_not_equal(b->st.id_lo, c->st.id_lo);
    assert_int_equal(a->st.id_lo >> 32 & 0xff, 2);
    assert_int_equal(c->st.append_us, 500);
    mqg_msg_unref(&a);
    mqg_msg_unref(&b);
    mqg_msg_unref(&c);
}

static void test_stored_form_goes_round(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 1, 100, 8000, 9000, 1000000};
    for (size_t i = 0; i < MQG_COUNTOF(sizes); i++) {
        struct mqg_msg *m = test_msg(sizes[i]);
        enum mqg_err err;
        struct mqg_msg *again = mqg_msg_from_stored(mqg_msg_stored(m), &err);
        assert_non_null(again);
        assert_int_equal(err, MQG_OK);
        assert_true(mqg_slice_eq(mqg_msg_stored(m), mqg_msg_stored(again)));
        mqg_msg_unref(&m);
        mqg_msg_unref(&again);
    }
}

static void test_stored_form_cut_is_refused(void **state)
{
    (void)state;
    struct mqg_msg *m = test_msg(10);
    struct mqg_slice s = mqg_msg_stored(m);
    for (size_t n = 0; n < s.len; n++) {
        enum mqg_err err = MQG_OK;
        uint8_t *exact = malloc(n + 1);
        memcpy(exact, s.ptr, n);
        assert_null(mqg_msg_from_stored(mqg_slice_of(exact, n), &err));
        assert_int_equal(err, MQG_CORRUPT);
        free(exact);
    }
    mqg_msg_unref(&m);
}

/* Every head byte is flipped: lengths must not fit any more, meanings are refused or kept, nothing crashes. */
static void test_stored_form_flipped_stays_inside(void **state)
{
    (void)state;
    struct mqg_msg *m = test_msg(10);
    struct mqg_slice s = mqg_msg_stored(m);
    uint8_t *copy = malloc(s.len);
    for (size_t i = 0; i < s.len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(copy, s.ptr, s.len);
            copy[i] = (uint8_t)(copy[i] ^ (1u << bit));
            enum mqg_err err = MQG_OK;
            struct mqg_msg *got = mqg_msg_from_stored(mqg_slice_of(copy, s.len), &err);
            if (got != NULL)
                assert_true(mqg_msg_body(got).ptr + mqg_msg_body(got).len == got->data + got->total_len - 80);
            else
                assert_int_not_equal(err, MQG_OK);
            mqg_msg_unref(&got);
        }
    }
    free(copy);
    mqg_msg_unref(&m);
}

static void test_stored_form_of_a_later_version(void **state)
{
    (void)state;
    struct mqg_msg *m = test_msg(1);
    m->st.version = MQG_STORED_VERSION + 1;
    enum mqg_err err;
    assert_null(mqg_msg_from_stored(mqg_msg_stored(m), &err));
    assert_int_equal(err, MQG_UNSUPPORTED);
    mqg_msg_unref(&m);
}

static void test_derived_keeps_identity_and_body(void **state)
{
    (void)state;
    struct mqg_msg *m = test_msg(20);
    struct mqg_msg *d = mqg_msg_derive(m, MQG_SLICE_LIT("dlx"), MQG_SLICE_LIT("dead"), MQG_SLICE_LIT("OV"),
                                       MQG_MSG_PERSISTENT, 7);
    assert_true(d->st.id_hi == m->st.id_hi && d->st.id_lo == m->st.id_lo);
    assert_slice(mqg_msg_exchange(d), "dlx");
    assert_slice(mqg_msg_key(d), "dead");
    assert_slice(mqg_msg_overlay(d), "OV");
    assert_slice(mqg_msg_origin(d), "ORIGIN");
    assert_slice(mqg_msg_user(d), "guest");
    assert_true(mqg_slice_eq(mqg_msg_body(d), mqg_msg_body(m)));
    assert_int_equal(d->st.create_us, m->st.create_us);
    struct mqg_msg *c = mqg_msg_clone(m);
    assert_true(mqg_slice_eq(mqg_msg_stored(c), mqg_msg_stored(m)));
    assert_null(c->extent);
    mqg_msg_unref(&m);
    mqg_msg_unref(&d);
    mqg_msg_unref(&c);
}

static void test_memory_is_given_back(void **state)
{
    (void)state;
    enum { N = 3000 };
    static struct mqg_msg *all[N];
    int64_t before = mqg_msg_memory_used();
    for (size_t i = 0; i < N; i++)
        all[i] = test_msg((uint32_t)i * 7 % 12000);
    assert_true(mqg_msg_memory_used() > before + N * 3000);
    for (size_t i = 0; i < N; i++)
        mqg_msg_unref(&all[(i * 7919) % N]);
    assert_true(mqg_msg_memory_used() <= before + (int64_t)MSG_SLAB_BYTES);
}

static void test_limit_refuses_new_but_not_loaded(void **state)
{
    (void)state;
    struct mqg_msg *seed = test_msg(20000);
    mqg_msg_memory_limit(mqg_msg_memory_used() + 10000);
    struct mqg_msg_parts parts = test_parts(20000);
    assert_null(mqg_msg_new(&parts));
    enum mqg_err err;
    struct mqg_msg *loaded = mqg_msg_from_stored(mqg_msg_stored(seed), &err);
    assert_non_null(loaded);
    mqg_msg_memory_limit(0);
    mqg_msg_unref(&loaded);
    mqg_msg_unref(&seed);
}

/* One thread makes, others free, in every order; the slabs of ended threads die too. */
enum { THREADS = 4, EACH = 20000, RING = 256 };
static _Atomic(struct mqg_msg *) thread_ring[RING];

static void *thread_main(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < EACH; i++) {
        struct mqg_msg_parts parts = test_parts((uint32_t)(rand_r(&seed) % 600));
        struct mqg_msg *m = mqg_msg_new(&parts);
        memset(mqg_msg_body_mut(m), (int)seed, parts.body_len);
        struct mqg_msg *old = atomic_exchange(&thread_ring[(unsigned)rand_r(&seed) % RING], m);
        mqg_msg_unref(&old);
    }
    return NULL;
}

static void test_threads_free_each_others(void **state)
{
    (void)state;
    int64_t before = mqg_msg_memory_used();
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_main, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < RING; i++) {
        struct mqg_msg *old = atomic_exchange(&thread_ring[i], NULL);
        mqg_msg_unref(&old);
    }
    assert_int_equal(mqg_msg_memory_used(), before);
}

static void test_levels(void **state)
{
    (void)state;
    struct mqg_slice l[4];
    assert_int_equal(mqg_key_levels(MQG_SLICE_LIT("a.b.c"), '.', l, 4), 3);
    assert_slice(l[2], "c");
    assert_int_equal(mqg_key_levels(MQG_SLICE_LIT(""), '.', l, 4), 1);
    assert_int_equal(l[0].len, 0);
    assert_int_equal(mqg_key_levels(MQG_SLICE_LIT("a..b."), '.', l, 4), 4);
    assert_int_equal(l[1].len, 0);
    assert_int_equal(l[3].len, 0);
    assert_int_equal(mqg_key_levels(MQG_SLICE_LIT("a.b.c.d.e"), '.', l, 4), 0);
    assert_int_equal(mqg_key_levels(MQG_SLICE_LIT("a.b/c"), '/', l, 4), 2);
    assert_int_equal(mqg_key_levels(MQG_SLICE_NONE, '.', l, 4), 1);
}

static void test_key_rendering_is_reversible(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"a/b.c", "a.b/c"}, {"", ""}, {"///", "..."}, {"plain", "plain"}, {"./", "/."}};
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_dynbuf out, back;
        mqg_dynbuf_init(&out, 64);
        mqg_dynbuf_init(&back, 64);
        mqg_key_render(&out, mqg_slice_str(rows[i][0]), '/', '.');
        assert_slice(mqg_dynbuf_view(&out), rows[i][1]);
        mqg_key_render(&back, mqg_dynbuf_view(&out), '.', '/');
        assert_slice(mqg_dynbuf_view(&back), rows[i][0]);
        mqg_dynbuf_fini(&out);
        mqg_dynbuf_fini(&back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_stand_where_they_belong),
        cmocka_unit_test(test_identity_rises_and_never_repeats),
        cmocka_unit_test(test_stored_form_goes_round),
        cmocka_unit_test(test_stored_form_cut_is_refused),
        cmocka_unit_test(test_stored_form_flipped_stays_inside),
        cmocka_unit_test(test_stored_form_of_a_later_version),
        cmocka_unit_test(test_derived_keeps_identity_and_body),
        cmocka_unit_test(test_memory_is_given_back),
        cmocka_unit_test(test_limit_refuses_new_but_not_loaded),
        cmocka_unit_test(test_threads_free_each_others),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_key_rendering_is_reversible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

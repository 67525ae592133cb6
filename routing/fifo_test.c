/* fifo_test.c - the index of a queue against a plain array that does the same slowly. */
#include "fifo.h"

#include <setjmp.h>
#include <stdlib.h>
#include <cmocka.h>

#define MODEL_MAX 20000u

struct model {
    struct fifo fifo;
    uint8_t state[MODEL_MAX];
    uint64_t qseq[MODEL_MAX];
    uint32_t n; /* positions given; model and fifo number alike while no qseq jump skips positions */
    uint32_t ready, live;
};

static uint64_t seed = 1;

static uint32_t below(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static void model_append(struct model *m)
{
    uint64_t pos;
    m->qseq[m->n] = 1000 + m->n * 3u;
    struct entry *e = fifo_append(&m->fifo, m->qseq[m->n], &pos);
    assert_non_null(e);
    assert_int_equal(pos, m->n);
    m->state[m->n++] = ENTRY_READY;
    m->ready++;
    m->live++;
}

static void model_check_head(struct model *m)
{
    uint64_t pos = 0;
    struct entry *e = fifo_head(&m->fifo, &pos);
    uint32_t want = 0;
    while (want < m->n && m->state[want] != ENTRY_READY)
        want++;
    if (want == m->n) {
        assert_null(e);
        return;
    }
    assert_non_null(e);
    assert_int_equal(pos, want);
    assert_int_equal(fifo_qseq(&m->fifo, pos), m->qseq[want]);
}

static void model_change(struct model *m, uint32_t at)
{
    struct entry *e = fifo_at(&m->fifo, at);
    if (m->state[at] == ENTRY_FREE) {
        assert_null(e);
        return;
    }
    assert_non_null(e);
    assert_int_equal(e->state, m->state[at]);
    if (below(3) == 0) {
        m->ready -= m->state[at] == ENTRY_READY;
        m->live--;
        m->state[at] = ENTRY_FREE;
        fifo_free(&m->fifo, e, at);
    } else if (m->state[at] == ENTRY_READY) {
        fifo_set_unacked(&m->fifo, e, at);
        m->state[at] = ENTRY_UNACKED;
        m->ready--;
    } else {
        fifo_set_ready(&m->fifo, e, at);
        m->state[at] = ENTRY_READY;
        m->ready++;
    }
}

static void test_against_model(void **unused)
{
    (void)unused;
    struct model *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    fifo_init(&m->fifo);
    while (m->n < MODEL_MAX) {
        if (below(2) == 0)
            model_append(m);
        else if (m->n)
            model_change(m, m->n > 500 && below(4) ? m->n - 1 - below(500) : below(m->n));
        assert_int_equal(m->fifo.ready, m->ready);
        assert_int_equal(m->fifo.live, m->live);
        if (below(50) == 0)
            model_check_head(m);
    }
    uint64_t pos = 0;
    uint32_t seen = 0;
    for (; fifo_next_live(&m->fifo, &pos); pos++) {
        assert_int_not_equal(m->state[pos], ENTRY_FREE);
        seen++;
    }
    assert_int_equal(seen, m->live);
    fifo_fini(&m->fifo);
    free(m);
}

static void test_memory_comes_back(void **unused)
{
    (void)unused;
    struct fifo f;
    fifo_init(&f);
    for (uint32_t i = 0; i < 100 * FIFO_CHUNK; i++) {
        uint64_t pos;
        fifo_append(&f, i + 1, &pos);
    }
    assert_int_equal(f.next - f.first, 100);
    /* From the middle outwards: chunks go at once, the front moves when its turn comes. */
    for (uint32_t i = 50 * FIFO_CHUNK; i < 100 * FIFO_CHUNK; i++)
        fifo_free(&f, fifo_at(&f, i), i);
    assert_int_equal(f.first, 0);
    for (uint32_t i = 0; i < 50 * FIFO_CHUNK; i++)
        fifo_free(&f, fifo_at(&f, i), i);
    assert_int_equal(f.first, f.next);
    assert_int_equal(f.live, 0);
    uint64_t pos;
    assert_non_null(fifo_append(&f, 1u << 20, &pos));
    assert_int_equal(pos, 100 * FIFO_CHUNK);
    fifo_fini(&f);
}

static void test_qseq_jumps(void **unused)
{
    (void)unused;
    static const uint64_t qseqs[] = {1,
                                     2,
                                     1ull << 40,
                                     (1ull << 40) + 1,
                                     5ull << 48,
                                     (5ull << 48) + UINT32_MAX,
                                     (5ull << 48) + UINT32_MAX + 1ull};
    struct fifo f;
    uint64_t pos[MQG_COUNTOF(qseqs)];
    fifo_init(&f);
    for (size_t i = 0; i < MQG_COUNTOF(qseqs); i++)
        fifo_append(&f, qseqs[i], &pos[i]);
    for (size_t i = 0; i < MQG_COUNTOF(qseqs); i++) {
        assert_int_equal(fifo_qseq(&f, pos[i]), qseqs[i]);
        assert_true(i == 0 || pos[i] > pos[i - 1]);
    }
    assert_int_equal(f.live, MQG_COUNTOF(qseqs));
    uint64_t at = 0;
    for (size_t i = 0; i < MQG_COUNTOF(qseqs); i++, at++) {
        assert_non_null(fifo_next_ready(&f, &at));
        assert_int_equal(at, pos[i]);
    }
    fifo_fini(&f);
}

/* An emptied tail chunk that a jump leaves behind is given back too. */
static void test_jump_after_empty(void **unused)
{
    (void)unused;
    struct fifo f;
    uint64_t pos;
    fifo_init(&f);
    fifo_append(&f, 1, &pos);
    fifo_free(&f, fifo_at(&f, pos), pos);
    fifo_append(&f, 1ull << 50, &pos);
    assert_int_equal(pos % FIFO_CHUNK, 0);
    assert_int_equal(f.next - f.first, 1);
    fifo_fini(&f);
}

static uint64_t take_head(struct fifo *f)
{
    uint64_t pos = 0;
    struct entry *e = fifo_head(f, &pos);
    assert_non_null(e);
    fifo_set_unacked(f, e, pos);
    return pos;
}

static void test_requeue_goes_to_its_place(void **unused)
{
    (void)unused;
    struct fifo f;
    uint64_t pos, head;
    fifo_init(&f);
    for (uint32_t i = 0; i < 200; i++)
        fifo_append(&f, i + 1, &pos);
    for (uint32_t i = 0; i < 150; i++)
        head = take_head(&f);
    assert_non_null(fifo_head(&f, &head));
    assert_int_equal(head, 150);
    fifo_set_ready(&f, fifo_at(&f, 70), 70);
    fifo_set_ready(&f, fifo_at(&f, 20), 20);
    fifo_set_ready(&f, fifo_at(&f, 90), 90);
    static const uint64_t order[] = {20, 70, 90, 150};
    for (size_t i = 0; i < MQG_COUNTOF(order); i++) {
        head = take_head(&f);
        assert_int_equal(head, order[i]);
    }
    fifo_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_memory_comes_back),
        cmocka_unit_test(test_qseq_jumps),
        cmocka_unit_test(test_jump_after_empty),
        cmocka_unit_test(test_requeue_goes_to_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

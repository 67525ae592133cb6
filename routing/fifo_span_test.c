/* fifo_span_test.c - spans against a list of qseqs: whatever is forgotten and restored, the order of positions is the order of
 * qseqs, and nothing behind a span is the head. */
#include "fifo.h"

#include <setjmp.h>
#include <stdlib.h>
#include <cmocka.h>

#define MODEL_MAX 6000u

enum { GONE, READY, UNACKED, FORGOTTEN };

struct model {
    struct fifo fifo;
    uint64_t qseq[MODEL_MAX];
    uint64_t pos[MODEL_MAX]; /* READY, UNACKED */
    uint8_t state[MODEL_MAX];
    uint32_t n;
    uint64_t next, cursor;
};

static uint64_t seed;

static uint32_t below(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static void model_append(struct model *m)
{
    if (m->n == MODEL_MAX)
        return;
    m->next += below(300) == 0 ? 1ull << (30 + below(20)) : 1 + below(3);
    m->qseq[m->n] = m->next;
    struct entry *e = fifo_append(&m->fifo, m->next, &m->pos[m->n]);
    e->body_bytes = 1;
    m->state[m->n++] = READY;
}

/* As a queue does: entries that follow each other, from a cursor that only moves on. */
static void model_forget(struct model *m)
{
    struct fifo *f = &m->fifo;
    uint64_t from = m->cursor, pos = from, at[100], tail = f->tail / FIFO_CHUNK * FIFO_CHUNK;
    struct entry *e;
    uint32_t n = 0, want = 1 + below(100);
    while (n < want && (e = fifo_next_live(f, &pos)) != NULL && pos < tail) {
        const struct fifo_span *between = fifo_span_from(f, from);
        if (e->state != ENTRY_READY || (between && between->pos < pos))
            break;
        at[n++] = pos++;
    }
    m->cursor = n ? at[n - 1] + 1 : pos + 1;
    if (n == 0 || m->cursor > tail) {
        m->cursor = m->cursor > tail ? tail : m->cursor;
        if (n == 0)
            return;
    }
    struct fifo_span s = {.pos = from,
                          .end = at[n - 1] + 1,
                          .first = fifo_qseq(f, at[0]),
                          .last = fifo_qseq(f, at[n - 1]),
                          .count = n};
    s.bytes = n;
    fifo_span_add(f, &s);
    for (uint32_t i = 0; i < n; i++)
        fifo_free(f, fifo_at(f, at[i]), at[i]);
    for (uint32_t i = 0; i < m->n; i++)
        if (m->qseq[i] >= s.first && m->qseq[i] <= s.last && m->state[i] != GONE)
            m->state[i] = FORGOTTEN;
}

static void model_restore(struct model *m)
{
    struct fifo_span *s = fifo_span_first(&m->fifo);
    uint32_t n = 1 + below(150);
    for (uint32_t i = 0; s && n > 0 && i < m->n; i++) {
        if (m->state[i] != FORGOTTEN || m->qseq[i] < s->first)
            continue;
        assert_true(m->qseq[i] <= s->last);
        assert_non_null(fifo_span_restore(&m->fifo, m->qseq[i], &m->pos[i]));
        m->state[i] = READY;
        n--;
        s->first = m->qseq[i] + 1;
        if (--s->count > 0)
            continue;
        fifo_span_drop(&m->fifo);
        break;
    }
}

static void model_change(struct model *m)
{
    uint32_t i = below(m->n);
    if (m->state[i] == GONE || m->state[i] == FORGOTTEN)
        return;
    struct entry *e = fifo_at(&m->fifo, m->pos[i]);
    assert_non_null(e);
    assert_int_equal(fifo_qseq(&m->fifo, m->pos[i]), m->qseq[i]);
    if (below(3) == 0) {
        fifo_free(&m->fifo, e, m->pos[i]);
        m->state[i] = GONE;
    } else if (m->state[i] == READY) {
        fifo_set_unacked(&m->fifo, e, m->pos[i]);
        m->state[i] = UNACKED;
    } else {
        fifo_set_ready(&m->fifo, e, m->pos[i]);
        m->state[i] = READY;
    }
}

static void model_check(struct model *m)
{
    uint64_t pos = 0, at = 0, ready = 0, live = 0, forgotten = 0;
    uint32_t first = 0;
    while (first < m->n && m->state[first] != READY && m->state[first] != FORGOTTEN)
        first++;
    struct entry *e = fifo_head(&m->fifo, &pos);
    assert_true((e != NULL) == (first < m->n && m->state[first] == READY));
    if (e)
        assert_int_equal(fifo_qseq(&m->fifo, pos), m->qseq[first]);
    for (uint32_t i = 0; i < m->n; i++) {
        ready += m->state[i] == READY;
        forgotten += m->state[i] == FORGOTTEN;
        if (m->state[i] != READY && m->state[i] != UNACKED)
            continue;
        live++;
        assert_non_null(fifo_next_live(&m->fifo, &at));
        assert_int_equal(at, m->pos[i]);
        at++;
    }
    assert_null(fifo_next_live(&m->fifo, &at));
    assert_int_equal(m->fifo.ready, ready);
    assert_int_equal(m->fifo.live, live);
    for (uint32_t i = m->fifo.spans ? m->fifo.spans->at : 0; m->fifo.spans && i < m->fifo.spans->n; i++)
        forgotten -= m->fifo.spans->span[i].count;
    assert_int_equal(forgotten, 0);
}

static void model_run(uint64_t number)
{
    struct model *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    seed = number;
    fifo_init(&m->fifo);
    model_append(m);
    for (uint32_t i = 0; i < 30000; i++) {
        uint32_t what = below(40);
        if (what < 12)
            model_append(m);
        else if (what < 34)
            model_change(m);
        else if (what < 36 && m->n > 200)
            model_forget(m);
        else if (what < 37)
            model_restore(m);
        if (i % 97 == 0)
            model_check(m);
    }
    while (m->fifo.spans)
        model_restore(m);
    model_check(m);
    fifo_fini(&m->fifo);
    free(m);
}

static void test_against_model(void **unused)
{
    (void)unused;
    int64_t before = fifo_chunks_all();
    for (uint64_t number = 1; number <= 40; number++)
        model_run(number);
    assert_int_equal(fifo_chunks_all(), before);
}

/* Told by recovery: entries far from each other in number need a chunk each, and find room. */
static void test_recovered_spans(void **unused)
{
    (void)unused;
    struct fifo f;
    uint64_t pos, qseq = 1;
    fifo_init(&f);
    fifo_append(&f, qseq++, &pos);
    struct fifo_span s = {.first = qseq, .last = qseq + 9 * (1ull << 33), .count = 10, .bytes = 10};
    fifo_span_append(&f, &s);
    struct fifo_span next = {
        .first = s.last + 1, .last = s.last + 1000000, .count = 1000000, .redelivered = true};
    fifo_span_append(&f, &next);
    fifo_append(&f, next.last + 1, &pos);
    assert_int_equal(f.live, 2);
    uint64_t head = 0, last = 0;
    fifo_free(&f, fifo_at(&f, 0), 0);
    assert_null(fifo_head(&f, &head));
    for (uint64_t i = 0; i < 10; i++) {
        struct entry *e = fifo_span_restore(&f, s.first + i * (1ull << 33), &head);
        assert_true(i == 0 || head > last);
        last = head;
        assert_int_equal(fifo_qseq(&f, head), s.first + i * (1ull << 33));
        fifo_free(&f, e, head);
    }
    fifo_span_drop(&f);
    assert_true(fifo_span_first(&f)->redelivered);
    for (uint64_t i = 0; i < 1000000; i++) {
        struct entry *e = fifo_span_restore(&f, next.first + i, &head);
        assert_true(head > last && head < pos);
        last = head;
        fifo_free(&f, e, head);
    }
    fifo_span_drop(&f);
    assert_non_null(fifo_head(&f, &head));
    assert_int_equal(head, pos);
    assert_int_equal(f.next - f.first, 1);
    fifo_fini(&f);
}

/* A span costs its entry and the ring's numbers. */
static void test_memory_of_a_long_queue(void **unused)
{
    (void)unused;
    struct fifo f;
    fifo_init(&f);
    int64_t before = fifo_chunks_all();
    for (uint64_t i = 0; i < 1000; i++) {
        for (uint64_t k = 0; k < 640; k++) {
            uint64_t pos;
            fifo_append(&f, i * 640 + k + 1, &pos);
        }
        struct fifo_span s = {
            .pos = i * 640, .end = (i + 1) * 640, .first = i * 640 + 1, .last = (i + 1) * 640, .count = 640};
        fifo_span_add(&f, &s);
        for (uint64_t at = s.pos; at < s.end; at++)
            fifo_free(&f, fifo_at(&f, at), at);
    }
    assert_int_equal(fifo_chunks_all(), before);
    assert_int_equal(f.spans->n - f.spans->at, 1);
    assert_int_equal(fifo_span_first(&f)->count, 640000);
    assert_true(f.cap <= 16384);
    fifo_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_recovered_spans),
        cmocka_unit_test(test_memory_of_a_long_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

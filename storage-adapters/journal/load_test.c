/* load_test.c - bodies read back: on the worker when they are in memory, by the readers when not; always
 * checked. */
#include "test_kit.h"

#include <errno.h>

enum { LOAD_MSGS = 300 };

struct load_fix {
    struct kit k;
    struct jrn_fs_fault fault;
    struct mqg_load items[LOAD_MSGS];
    uint64_t qseq[LOAD_MSGS];
    pthread_t thread; /* where done was called */
    _Atomic int done;
};

/* A journal of several segments with messages of all sizes, recovered; items in a shuffled order. */
static void load_setup(struct load_fix *f, const char *name)
{
    kit_init(&f->k, name, "1MiB");
    kit_open(&f->k);
    uint64_t ticket = 0;
    for (uint64_t i = 1; i <= LOAD_MSGS; i++)
        ticket = kit_put(&f->k, 0, 1, i, i * i % 30011);
    assert_true(kit_wait(&f->k, 0, ticket));
    kit_close(&f->k);
    jrn_fs_fault_init(&f->fault, &jrn_fs_real);
    mqg_journal_fs(&f->fault.fs);
    kit_open(&f->k);
    assert_int_equal(f->k.nmsg, LOAD_MSGS);
    for (size_t i = 0; i < LOAD_MSGS; i++) {
        const struct kit_msg *m = &f->k.msgs[i * 77 % LOAD_MSGS];
        f->items[i] = (struct mqg_load){.extent = m->extent, .off = m->off, .len = m->len};
        f->qseq[i] = m->qseq;
    }
    atomic_store(&f->done, 0);
}

static void load_teardown(struct load_fix *f)
{
    kit_close(&f->k);
    mqg_journal_fs(NULL);
    kit_fini(&f->k);
}

static void load_did(struct mqg_load_req *req)
{
    struct load_fix *f = req->arg;
    f->thread = pthread_self();
    atomic_fetch_add(&f->done, 1);
}

static bool load_is_done(struct kit *k, uint64_t arg)
{
    (void)k;
    return atomic_load(&((struct load_fix *)(uintptr_t)arg)->done) == 1;
}

static void load_all(struct load_fix *f)
{
    struct mqg_load_req req = {.items = f->items, .n = LOAD_MSGS, .done = load_did, .arg = f};
    jrn_ops.load(f->k.s, &req);
    assert_true(kit_wait_for(load_is_done, &f->k, (uint64_t)(uintptr_t)f));
}

/* The number of items that came right; the others have the error. */
static size_t load_count(struct load_fix *f, enum mqg_err err)
{
    size_t good = 0;
    for (size_t i = 0; i < LOAD_MSGS; i++) {
        struct mqg_load *it = &f->items[i];
        if (!it->msg) {
            assert_int_equal(it->err, err);
            continue;
        }
        assert_int_equal(it->err, MQG_OK);
        size_t bytes = f->qseq[i] * f->qseq[i] % 30011;
        struct mqg_msg *want = kit_msg_new(MQG_SLICE_LIT("some.key"), bytes, f->qseq[i]);
        assert_true(mqg_slice_eq(mqg_msg_body(it->msg), mqg_msg_body(want)));
        mqg_msg_unref(&want);
        mqg_msg_unref(&it->msg);
        good++;
    }
    return good;
}

static void load_from_memory(void **state)
{
    static struct load_fix f;
    (void)state;
    load_setup(&f, "warm");
    f.fault.warm = true;
    load_all(&f);
    assert_true(pthread_equal(f.thread, pthread_self()));
    assert_int_equal(load_count(&f, MQG_OK), LOAD_MSGS);
    load_teardown(&f);
}

static void load_from_disk(void **state)
{
    static struct load_fix f;
    (void)state;
    load_setup(&f, "cold");
    f.fault.cold = true;
    load_all(&f);
    assert_false(pthread_equal(f.thread, pthread_self()));
    assert_int_equal(load_count(&f, MQG_OK), LOAD_MSGS);
    load_teardown(&f);
}

/* The disk fails once: the messages of that read are an error, the others come. */
static void load_read_error(void **state)
{
    static struct load_fix f;
    (void)state;
    load_setup(&f, "eio");
    f.fault.cold = true;
    f.fault.only = "journal-reader";
    f.fault.op = JRN_FS_READ;
    f.fault.error = -EIO;
    atomic_store(&f.fault.nth, 2);
    load_all(&f);
    size_t good = load_count(&f, MQG_IO);
    assert_true(good > 0 && good < LOAD_MSGS);
    load_teardown(&f);
}

/* Flips a bit of a message's body, in whichever file one stands: a spare has none. */
static void load_flip(const struct kit *k)
{
    char path[512];
    size_t len, at = 0;
    for (size_t i = kit_files(k, ".seg"); i-- > 0 && at == 0;) {
        kit_file(k, ".seg", i, path);
        uint8_t *seg = kit_read(path, &len);
        const uint8_t *mark = memmem(seg, len, "MARK:", 5);
        at = mark ? (size_t)(mark - seg) : 0;
        free(seg);
    }
    assert_true(at > 0);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, (long)at, SEEK_SET);
    fputc('M' ^ 64, file);
    fclose(file);
}

/* One flipped bit: one message is an error. */
static void load_flipped(void **state)
{
    static struct load_fix f;
    (void)state;
    load_setup(&f, "flipped");
    load_flip(&f.k);
    load_all(&f);
    assert_int_equal(load_count(&f, MQG_CORRUPT), LOAD_MSGS - 1);
    load_teardown(&f);
}

/* Not durable yet: the host still has it. An empty request is answered too. */
static void load_too_early(void **state)
{
    static struct load_fix f;
    (void)state;
    load_setup(&f, "early");
    struct mqg_extent *x = jrn_ops.extent_open(f.k.s, 0);
    struct mqg_load item = {.extent = x, .off = 32, .len = 100};
    struct mqg_load_req req = {.items = &item, .n = 1, .done = load_did, .arg = &f};
    jrn_ops.load(f.k.s, &req);
    assert_int_equal(atomic_load(&f.done), 1);
    assert_true(item.msg == NULL && item.err == MQG_AGAIN);
    req.n = 0;
    jrn_ops.load(f.k.s, &req);
    assert_int_equal(atomic_load(&f.done), 2);
    load_teardown(&f);
}

/* A wrong place (a bug of somebody else) gives an error, not somebody else's bytes. */
static void load_wrong_place(void **state)
{
    static struct load_fix f;
    (void)state;
    load_setup(&f, "wrong");
    for (size_t i = 0; i < LOAD_MSGS; i++)
        f.items[i].off += 8;
    load_all(&f);
    assert_int_equal(load_count(&f, MQG_CORRUPT), 0);
    load_teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load_from_memory), cmocka_unit_test(load_from_disk),
        cmocka_unit_test(load_read_error),  cmocka_unit_test(load_flipped),
        cmocka_unit_test(load_too_early),   cmocka_unit_test(load_wrong_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

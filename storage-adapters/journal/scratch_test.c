/* scratch_test.c - transient messages aside and back: what comes back is what was put, space comes back with the last message,
 * and a disk that refuses costs nothing. */
#include "scratch.h"
#include "test_kit.h"

#include <errno.h>

enum { ITEMS = 200, ROUNDS = 100, BODY_MAX = 20011 };

struct scratch_fix {
    struct kit k;
    struct jrn_fs_fault fault;
    struct mqg_scratch_item items[ITEMS];
    struct mqg_load loads[ITEMS];
    _Atomic int done;
};

static void scratch_setup(struct scratch_fix *f, const char *name)
{
    *f = (struct scratch_fix){.done = 0};
    kit_init(&f->k, name, "1MiB");
    jrn_fs_fault_init(&f->fault, &jrn_fs_real);
    mqg_journal_fs(&f->fault.fs);
    kit_open(&f->k);
}

static void scratch_teardown(struct scratch_fix *f)
{
    kit_close(&f->k);
    mqg_journal_fs(NULL);
    kit_fini(&f->k);
}

static void put_done(struct mqg_scratch_req *req)
{
    atomic_fetch_add(&((struct scratch_fix *)req->arg)->done, 1);
}

static void load_done(struct mqg_load_req *req)
{
    atomic_fetch_add(&((struct scratch_fix *)req->arg)->done, 1);
}

static bool is_done(struct kit *k, uint64_t n)
{
    return atomic_load(&MQG_CONTAINER_OF(k, struct scratch_fix, k)->done) == (int)n;
}

static bool is_blocked(struct kit *k, uint64_t yes)
{
    return atomic_load(&k->s->blocked) == (yes != 0);
}

static bool has_bytes(struct kit *k, uint64_t n)
{
    return jrn_scratch_bytes(k->s->scratch) == n;
}

static struct mqg_msg *msg_of(uint64_t i)
{
    return kit_msg_new(MQG_SLICE_LIT("some.key"), i * i % BODY_MAX, i);
}

/* Puts messages first...; how many were taken. */
static size_t put(struct scratch_fix *f, uint64_t first)
{
    struct mqg_scratch_req req = {.items = f->items, .n = ITEMS, .done = put_done, .arg = f};
    size_t taken = 0;
    for (uint64_t i = 0; i < ITEMS; i++)
        f->items[i] = (struct mqg_scratch_item){.msg = msg_of(first + i)};
    atomic_store(&f->done, 0);
    jrn_ops.scratch_put(f->k.s, &req);
    assert_true(kit_wait_for(is_done, &f->k, 1));
    for (uint64_t i = 0; i < ITEMS; i++) {
        taken += f->items[i].extent != NULL;
        f->loads[i] = (struct mqg_load){
            .extent = f->items[i].extent, .off = f->items[i].off, .len = f->items[i].msg->total_len};
        mqg_msg_unref(&f->items[i].msg);
    }
    return taken;
}

static void load_back(struct scratch_fix *f, uint64_t first)
{
    struct mqg_load_req req = {.items = f->loads, .n = ITEMS, .done = load_done, .arg = f};
    atomic_store(&f->done, 0);
    jrn_ops.load(f->k.s, &req);
    assert_true(kit_wait_for(is_done, &f->k, 1));
    for (uint64_t i = 0; i < ITEMS; i++) {
        struct mqg_msg *want = msg_of(first + i);
        assert_int_equal(f->loads[i].err, MQG_OK);
        assert_true(mqg_slice_eq(mqg_msg_body(f->loads[i].msg), mqg_msg_body(want)));
        mqg_msg_unref(&want);
        mqg_msg_unref(&f->loads[i].msg);
    }
}

static void give(struct scratch_fix *f)
{
    for (uint64_t i = 0; i < ITEMS; i++)
        mqg_extent_give(f->loads[i].extent, 1);
}

static void scratch_back(void **state, bool cold)
{
    static struct scratch_fix f;
    static struct mqg_load first[ITEMS];
    (void)state;
    scratch_setup(&f, cold ? "scratch-cold" : "scratch");
    f.fault.cold = cold;
    assert_int_equal(put(&f, 0), ITEMS);
    memcpy(first, f.loads, sizeof first); /* stays while files come and go */
    for (uint64_t round = 1; round < ROUNDS; round++) {
        assert_int_equal(put(&f, round * ITEMS), ITEMS);
        load_back(&f, round * ITEMS);
        give(&f);
    }
    assert_true(jrn_scratch_bytes(f.k.s->scratch) <= 2 * (32u << 20));
    memcpy(f.loads, first, sizeof first);
    load_back(&f, 0);
    assert_int_equal(kit_files(&f.k, "scratch"), 0);
    give(&f);
    assert_true(kit_wait_for(has_bytes, &f.k, 0));
    scratch_teardown(&f);
}

static void scratch_from_memory(void **state)
{
    scratch_back(state, false);
}

static void scratch_from_disk(void **state)
{
    scratch_back(state, true);
}

static void scratch_refused(void **state)
{
    static struct scratch_fix f;
    (void)state;
    scratch_setup(&f, "scratch-full");
    f.fault.only = "journal-scratch"; /* not the keeper, which makes spare segments when it likes */
    f.fault.op = JRN_FS_OPEN;
    f.fault.error = -ENOSPC;
    atomic_store(&f.fault.nth, 1);
    assert_int_equal(put(&f, 0), 0);
    assert_int_equal(atomic_load(&f.fault.fired), 1);
    f.fault.op = JRN_FS_WRITE;
    atomic_store(&f.fault.nth, 1);
    assert_int_equal(put(&f, 0), 0);
    assert_int_equal(atomic_load(&f.fault.fired), 2);
    assert_int_equal(put(&f, 5), ITEMS); /* it goes on when there is room */
    load_back(&f, 5);
    give(&f);
    atomic_store(&f.fault.free_bytes, 0); /* the disk is short: publishers need what is left */
    assert_true(kit_wait_for(is_blocked, &f.k, true));
    assert_int_equal(put(&f, 0), 0);
    atomic_store(&f.fault.free_bytes, UINT64_MAX);
    assert_true(kit_wait_for(is_blocked, &f.k, false));
    assert_true(kit_wait_for(has_bytes, &f.k, 0));
    scratch_teardown(&f);
}

/* A message larger than a file. */
static void scratch_large(void **state)
{
    static struct scratch_fix f;
    (void)state;
    scratch_setup(&f, "scratch-large");
    struct mqg_scratch_req req = {.items = f.items, .n = 3, .done = put_done, .arg = &f};
    for (uint64_t i = 0; i < 3; i++)
        f.items[i].msg = kit_msg_new(MQG_SLICE_LIT("key"), i == 1 ? 40u << 20 : 10, i);
    jrn_ops.scratch_put(f.k.s, &req);
    assert_true(kit_wait_for(is_done, &f.k, 1));
    for (uint64_t i = 0; i < 3; i++) {
        f.loads[i] = (struct mqg_load){
            .extent = f.items[i].extent, .off = f.items[i].off, .len = f.items[i].msg->total_len};
        assert_non_null(f.items[i].extent);
    }
    struct mqg_load_req load = {.items = f.loads, .n = 3, .done = load_done, .arg = &f};
    jrn_ops.load(f.k.s, &load);
    assert_true(kit_wait_for(is_done, &f.k, 2));
    for (uint64_t i = 0; i < 3; i++) {
        assert_non_null(f.loads[i].msg);
        assert_true(mqg_slice_eq(mqg_msg_body(f.loads[i].msg), mqg_msg_body(f.items[i].msg)));
        mqg_msg_unref(&f.loads[i].msg);
        mqg_msg_unref(&f.items[i].msg);
        mqg_extent_give(f.loads[i].extent, 1);
    }
    assert_true(kit_wait_for(has_bytes, &f.k, 0));
    scratch_teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scratch_from_memory),
        cmocka_unit_test(scratch_from_disk),
        cmocka_unit_test(scratch_refused),
        cmocka_unit_test(scratch_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

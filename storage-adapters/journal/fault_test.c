/* fault_test.c - every kind of call fails at its n-th time, for every n until none is left: what was
 * confirmed before is there afterwards, nothing is confirmed after a failure, and what is no failure (EINTR,
 * a short transfer) is none. */
#include "test_kit.h"

#include <errno.h>

struct fault_case {
    const char *name;
    enum jrn_fs_op op;
    int error;
    bool harmless; /* the work must go through as if nothing had been */
};

static const struct fault_case fault_cases[] = {
    {"write EIO", JRN_FS_WRITE, -EIO, false},
    {"write ENOSPC", JRN_FS_WRITE, -ENOSPC, false},
    {"write EINTR", JRN_FS_WRITE, -EINTR, true},
    {"write short", JRN_FS_WRITE, 0, true},
    {"fdatasync EIO", JRN_FS_SYNC, -EIO, false},
    {"fdatasync EINTR", JRN_FS_SYNC, -EINTR, true},
    {"fsync of the folder EIO", JRN_FS_SYNC_DIR, -EIO, false},
    {"fallocate EOPNOTSUPP", JRN_FS_ALLOCATE, -EOPNOTSUPP, true},
    {"fallocate EIO", JRN_FS_ALLOCATE, -EIO, false},
    {"fallocate ENOSPC", JRN_FS_ALLOCATE, -ENOSPC, true}, /* waits until there is room */
    {"open EMFILE", JRN_FS_OPEN, -EMFILE, false},
    {"read EIO", JRN_FS_READ, -EIO, false},
    {"read EINTR", JRN_FS_READ, -EINTR, true},
    {"read short", JRN_FS_READ, 0, true},
    {"statvfs EIO", JRN_FS_SPACE, -EIO, true},
    {"unlink EIO", JRN_FS_UNLINK, -EIO, true},
    {"size EIO", JRN_FS_SIZE, -EIO, false},
    {"list EIO", JRN_FS_LIST, -EIO, false},
    {"mkdir EACCES", JRN_FS_MKDIR, -EACCES, false},
    {"lock EIO", JRN_FS_LOCK, -EIO, false},
    {"ftruncate EIO", JRN_FS_TRUNCATE, -EIO, false},
};

enum { FAULT_MSGS = 14, FAULT_ROUNDS = 400 };

/* Starts and publishes; the number of messages that were confirmed. */
static uint64_t fault_work(struct kit *k, bool *started)
{
    uint64_t confirmed = 0;
    *started = kit_try(k) == MQG_OK;
    for (uint64_t i = 1; *started && i <= FAULT_MSGS; i++) {
        if (!kit_wait(k, 0, kit_put(k, 0, 1, i, 150000)))
            break;
        confirmed = i;
    }
    return confirmed;
}

/* After a failure no ticket is told any more. */
static void fault_is_silent(struct kit *k, uint64_t confirmed)
{
    uint64_t ticket = kit_put(k, 0, 1, 999, 10);
    usleep(2000);
    assert_true(atomic_load(&k->done[0]) <= ticket - 1);
    assert_true(atomic_load(&k->done[0]) <= confirmed + 1);
    assert_int_equal(atomic_load(&k->failed), 1);
    assert_string_equal(kit_stats(k).state, "failed");
}

/* One fault at the n-th call; false when the work made fewer calls than n. */
static bool fault_once(const struct fault_case *fc, long n)
{
    struct kit k;
    struct jrn_fs_fault fault;
    bool started;
    kit_init(&k, "fault", "1MiB");
    kit_open(&k); /* something to recover, too */
    kit_wait(&k, 0, kit_put(&k, 0, 2, 1, 100));
    kit_crash(&k);
    jrn_fs_fault_init(&fault, &jrn_fs_real);
    fault.op = fc->op;
    fault.error = fc->error;
    atomic_store(&fault.nth, n);
    mqg_journal_fs(&fault.fs);
    uint64_t confirmed = fault_work(&k, &started);
    bool fired = atomic_load(&fault.fired) > 0;
    if (fc->harmless)
        assert_true(started && confirmed == FAULT_MSGS);
    if (started && atomic_load(&k.failed))
        fault_is_silent(&k, confirmed);
    if (started)
        kit_crash(&k);
    mqg_journal_fs(NULL);
    kit_open(&k);
    assert_non_null(kit_find(&k, 2, 1));
    for (uint64_t i = 1; i <= confirmed; i++)
        assert_non_null(kit_find(&k, 1, i));
    for (size_t i = 0; i < k.nmsg; i += 5)
        kit_check_body(&k, &k.msgs[i]);
    kit_crash(&k);
    kit_fini(&k);
    return fired;
}

static void fault_nth(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(fault_cases); i++) {
        long n = 1;
        while (n < FAULT_ROUNDS && fault_once(&fault_cases[i], n))
            n++;
        print_message("%-24s failed at each of its first %ld calls\n", fault_cases[i].name, n - 1);
        assert_true(n > 1 || fault_cases[i].op == JRN_FS_UNLINK);
    }
}

/* A failed fdatasync is final, even if the next one would succeed. */
static void fault_sync_is_final(void **state)
{
    struct kit k;
    struct jrn_fs_fault fault;
    (void)state;
    kit_init(&k, "final", "1MiB");
    jrn_fs_fault_init(&fault, &jrn_fs_real);
    mqg_journal_fs(&fault.fs);
    kit_open(&k);
    assert_true(kit_wait(&k, 0, kit_put(&k, 0, 1, 1, 100)));
    fault.op = JRN_FS_SYNC;
    fault.error = -EIO;
    atomic_store(&fault.nth, 1);
    assert_false(kit_wait(&k, 0, kit_put(&k, 0, 1, 2, 100)));
    fault_is_silent(&k, 1);
    kit_close(&k); /* must not say it was clean */
    mqg_journal_fs(NULL);
    kit_open(&k);
    assert_true(k.unclean);
    assert_non_null(kit_find(&k, 1, 1));
    kit_close(&k);
    kit_fini(&k);
}

static bool fault_is_blocked(struct kit *k, uint64_t arg)
{
    return (atomic_load(&k->blocked) != 0) == (arg != 0);
}

/* Little room: publishers are blocked, and let go again; what is submitted meanwhile is still taken and
 * confirmed. */
static void fault_disk_full(void **state)
{
    struct kit k;
    struct jrn_fs_fault fault;
    (void)state;
    kit_init(&k, "full", "1MiB");
    kit_set(&k, "min_free=10MiB");
    jrn_fs_fault_init(&fault, &jrn_fs_real);
    mqg_journal_fs(&fault.fs);
    kit_open(&k);
    assert_false(atomic_load(&k.blocked));
    atomic_store(&fault.free_bytes, 11u << 20);
    assert_true(kit_wait_for(fault_is_blocked, &k, 1));
    assert_string_equal(kit_stats(&k).state, "blocked");
    assert_true(kit_wait(&k, 0, kit_put(&k, 0, 1, 1, 100)));
    atomic_store(&fault.free_bytes, 1u << 30);
    assert_true(kit_wait_for(fault_is_blocked, &k, 0));
    kit_close(&k);
    mqg_journal_fs(NULL);
    kit_fini(&k);
}

/* The committer has tried again, and again. */
static bool fault_retried(struct kit *k, uint64_t arg)
{
    struct jrn_fs_fault *fault = (struct jrn_fs_fault *)(uintptr_t)arg;
    (void)k;
    return atomic_load(&fault->fired) >= 4;
}

/* No room at all for the next segment: nothing is confirmed until there is, then everything. */
static void fault_no_segment(void **state)
{
    struct kit k;
    struct jrn_fs_fault fault;
    uint64_t ticket = 0;
    (void)state;
    kit_init(&k, "nosegment", "1MiB");
    jrn_fs_fault_init(&fault, &jrn_fs_real);
    mqg_journal_fs(&fault.fs);
    kit_open(&k);
    fault.op = JRN_FS_ALLOCATE;
    fault.error = -ENOSPC;
    atomic_store(&fault.all_after, true);
    atomic_store(&fault.nth, 1);
    for (uint64_t i = 1; i <= 20; i++)
        ticket = kit_put(&k, 0, 1, i, 150000);
    assert_true(kit_wait_for(fault_is_blocked, &k, 1));
    assert_true(kit_wait_for(fault_retried, &k, (uint64_t)(uintptr_t)&fault));
    assert_true(atomic_load(&k.done[0]) < ticket);
    assert_int_equal(atomic_load(&k.failed), 0);
    atomic_store(&fault.all_after, false);
    atomic_store(&fault.nth, 0);
    assert_true(kit_wait(&k, 0, ticket));
    assert_true(kit_wait_for(fault_is_blocked, &k, 0));
    kit_crash(&k);
    mqg_journal_fs(NULL);
    kit_open(&k);
    assert_int_equal(k.nmsg, 20);
    kit_close(&k);
    kit_fini(&k);
}

/* flush=os: confirms without fdatasync, and the capability says so. */
static void fault_flush_os(void **state)
{
    struct kit k;
    struct jrn_fs_fault fault;
    (void)state;
    kit_init(&k, "os", "1MiB");
    kit_set(&k, "flush=os");
    jrn_fs_fault_init(&fault, &jrn_fs_real);
    fault.op = JRN_FS_SYNC;
    mqg_journal_fs(&fault.fs);
    kit_open(&k);
    assert_int_equal(jrn_ops.caps_of(k.s) & MQG_STORE_DURABLE, 0);
    atomic_store(&fault.nth, 1000); /* never gets so far: it counts */
    for (uint64_t i = 1; i <= 20; i++)
        assert_true(kit_wait(&k, 0, kit_put(&k, 0, 1, i, 100)));
    assert_true(atomic_load(&fault.nth) > 1000 - 20);
    kit_crash(&k);
    kit_open(&k);
    assert_int_equal(k.nmsg, 20);
    kit_close(&k);
    mqg_journal_fs(NULL);
    kit_fini(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fault_nth), cmocka_unit_test(fault_sync_is_final),
                                       cmocka_unit_test(fault_disk_full), cmocka_unit_test(fault_no_segment),
                                       cmocka_unit_test(fault_flush_os)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

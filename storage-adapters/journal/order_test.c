/* order_test.c - the promise itself: no done() came before the fdatasync that covers it had returned.
 *
 * Every message carries a mark; the record of system calls holds what was written. For each done(ticket) the
 * checker asks: were the marks of all tickets up to it written, and did an fdatasync of that file begin after
 * the write and end before the done? Run with --no-fsync, the same program takes the fdatasync out: then the
 * checker must find a violation, or it proves nothing (registered as journal_no_fsync_must_fail, expected to
 * fail). */
#include "test_kit.h"

enum { ORDER_ROUNDS = 400, ORDER_FILES = 64 };

static bool order_no_fsync;

/* What is known of each mark: 0 never written, 1 written, 2 a sync of its file has begun, 3 and has ended. */
struct order_check {
    uint8_t state[ORDER_ROUNDS + 1];
    int fd[ORDER_ROUNDS + 1];
    size_t violations, told;
};

static void order_written(struct order_check *c, const struct jrn_fs_event *e)
{
    for (size_t i = 0; i + 21 <= e->len; i++) {
        if (memcmp(e->data + i, "MARK:", 5) != 0)
            continue;
        char hex[17] = "";
        memcpy(hex, e->data + i + 5, 16);
        uint64_t mark = strtoull(hex, NULL, 16);
        assert_true(mark >= 1 && mark <= ORDER_ROUNDS);
        c->state[mark] = 1;
        c->fd[mark] = e->fd;
    }
}

static void order_synced(struct order_check *c, int fd, uint8_t from)
{
    for (size_t i = 1; i <= ORDER_ROUNDS; i++)
        if (c->fd[i] == fd && c->state[i] == from)
            c->state[i]++;
}

static void order_told(struct order_check *c, uint64_t ticket)
{
    c->told++;
    for (size_t i = 1; i <= ticket; i++)
        c->violations += c->state[i] != 3;
}

static void order_check(const struct jrn_fs_record *r, struct order_check *c)
{
    *c = (struct order_check){.told = 0};
    for (size_t i = 0; i < r->n; i++) {
        const struct jrn_fs_event *e = &r->events[i];
        switch (e->op) {
        case JRN_FS_WRITE: order_written(c, e); break;
        case JRN_FS_SYNC: order_synced(c, e->fd, 1); break;
        case JRN_FS_SYNC_END: order_synced(c, e->fd, 2); break;
        case JRN_FS_MARK: order_told(c, e->off); break;
        default: break;
        }
    }
}

static void order_of_confirms(void **state)
{
    struct kit k;
    struct jrn_fs_record record;
    struct jrn_fs_fault fault;
    struct order_check check;
    (void)state;
    kit_init(&k, "proof", "1MiB");
    jrn_fs_record_init(&record, &jrn_fs_real);
    jrn_fs_fault_init(&fault, &record.fs);
    fault.drop_sync = order_no_fsync;
    mqg_journal_fs(&fault.fs);
    k.record = &record;
    kit_open(&k);
    for (uint64_t i = 1; i <= ORDER_ROUNDS;
         i++) { /* tickets and marks are the same numbers; segments roll on the way */
        uint64_t ticket = kit_put(&k, 0, 1, i, 100 + i * 37 % 20000);
        assert_int_equal(ticket, i);
        if (i % 7 == 0)
            assert_true(kit_wait(&k, 0, ticket));
    }
    assert_true(kit_wait(&k, 0, ORDER_ROUNDS));
    kit_close(&k);
    mqg_journal_fs(NULL);
    order_check(&record, &check);
    jrn_fs_record_fini(&record);
    kit_fini(&k);
    print_message("%zu confirms, %zu before their fdatasync\n", check.told, check.violations);
    assert_true(check.told > 10);
    assert_int_equal(check.violations, 0);
}

/* Before a segment is written, its file, header and folder entry are durable; and its predecessor is. */
static void order_of_segments(void **state)
{
    struct kit k;
    struct jrn_fs_record record;
    int dirty[ORDER_FILES] = {0}, frames[ORDER_FILES] = {0}, entry_durable = 0;
    (void)state;
    if (order_no_fsync)
        return;
    kit_init(&k, "segments", "1MiB");
    jrn_fs_record_init(&record, &jrn_fs_real);
    mqg_journal_fs(&record.fs);
    kit_open(&k);
    for (uint64_t i = 1; i <= 60; i++)
        assert_true(kit_wait(&k, 0, kit_put(&k, 0, 1, i, 100000)));
    kit_close(&k);
    mqg_journal_fs(NULL);
    int rolls = 0, last = -1;
    for (size_t i = 0; i < record.n; i++) {
        const struct jrn_fs_event *e = &record.events[i];
        assert_true(e->fd < ORDER_FILES);
        if (e->op == JRN_FS_SYNC_DIR)
            entry_durable++;
        if (e->op == JRN_FS_SYNC_END)
            dirty[e->fd] = 0;
        if (e->op != JRN_FS_WRITE || e->len < 4)
            continue;
        bool frame = mqg_le32(e->data) == JRN_FRAME_MAGIC && e->off >= JRN_HEADER_BYTES;
        if (frame && !frames[e->fd]) { /* the first frame of a file */
            rolls++;
            assert_int_equal(dirty[e->fd], 0);
            assert_true(entry_durable >= rolls);
            assert_true(last < 0 || dirty[last] == 0);
        }
        frames[e->fd] |= frame;
        dirty[e->fd] = 1;
        if (frame)
            last = e->fd;
    }
    assert_true(rolls >= 5);
    jrn_fs_record_fini(&record);
    kit_fini(&k);
}

int main(int argc, char **argv)
{
    order_no_fsync = argc > 1 && strcmp(argv[1], "--no-fsync") == 0;
    const struct CMUnitTest tests[] = {cmocka_unit_test(order_of_confirms),
                                       cmocka_unit_test(order_of_segments)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_part.c - see test_part.h. */
#include "test_part.h"

#include <sys/stat.h>

void part_define(struct kit *k, bool exists)
{
    struct mqg_store_op op = {.kind = exists ? MQG_OP_STREAM_NEW : MQG_OP_STREAM_DELETE,
                              .stream = {PART, MQG_SLICE_LIT("topic"), 0}};
    assert_true(kit_wait(k, 0, kit_submit(k, 0, &op, 1, MQG_SUBMIT_URGENT)));
}

void part_conf(struct kit *k, struct mqg_stream_conf conf)
{
    struct mqg_store_op op = {.kind = MQG_OP_STREAM_CONF, .stream_conf = {PART, &conf}};
    assert_true(kit_wait(k, 0, kit_submit(k, 0, &op, 1, MQG_SUBMIT_URGENT)));
}

static void part_did(struct mqg_stream_read *r)
{
    atomic_store((_Atomic int *)r->arg, 1);
}

struct mqg_stream_read part_read(struct kit *k, uint64_t offset, uint32_t max_bytes)
{
    _Atomic int done = 0;
    struct mqg_stream_read r = {
        .partition = PART, .offset = offset, .max_bytes = max_bytes, .done = part_did, .arg = &done};
    jrn_ops.stream_read(k->s, &r);
    kit_answered(&done);
    return r;
}

struct mqg_stream_stats part_stats(struct kit *k)
{
    struct mqg_stream_stats st;
    assert_int_equal(jrn_ops.stream_stats(k->s, PART, &st), MQG_OK);
    return st;
}

void part_path(const struct kit *k, uint64_t base, const char *kind, char out[512])
{
    snprintf(out, 512, "%s/streams/%016llx/%020llu.%s", k->path, (unsigned long long)PART,
             (unsigned long long)base, kind);
}

bool part_folder_gone(struct kit *k, uint64_t unused)
{
    char path[512];
    struct stat st;
    (void)unused;
    snprintf(path, sizeof path, "%s/streams/%016llx", k->path, (unsigned long long)PART);
    return stat(path, &st) != 0;
}

void part_begin(struct kit *k, const char *name, uint64_t segment_bytes)
{
    kit_init(k, name, "1MiB");
    kit_open(k);
    part_define(k, true);
    part_conf(k, (struct mqg_stream_conf){.segment_bytes = segment_bytes});
}

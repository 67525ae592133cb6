/* test_kit.c - see test_kit.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "test_kit.h"

#include <mqgate/module.h>

#include <dirent.h>
#include <sys/stat.h>

extern const struct mqg_module mqg_module;

static void kit_wipe(const char *path)
{
    struct dirent **names = NULL;
    int n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char file[600];
        const char *name = names[i]->d_name;
        bool self = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
        snprintf(file, sizeof file, "%s/%s", path, name);
        if (!self && unlink(file) != 0)
            kit_wipe(file); /* a folder */
        free(names[i]);
    }
    free(names);
    rmdir(path);
}

void kit_init(struct kit *k, const char *name, const char *segment_size)
{
    const char *tmp = getenv("TMPDIR");
    *k = (struct kit){.nmsg = 0};
    snprintf(k->path, sizeof k->path, "%s/mqg-journal-%s-%d", tmp ? tmp : "/tmp", name, (int)getpid());
    snprintf(k->extra[k->nextra++], sizeof k->extra[0], "segment_size=%s", segment_size);
    snprintf(k->extra[k->nextra++], sizeof k->extra[0], "min_free=0");
    kit_wipe(k->path);
    mqg_log_level_set(MQG_LOG_ERROR + 1);
}

void kit_set(struct kit *k, const char *setting)
{
    assert_true(k->nextra < 8);
    snprintf(k->extra[k->nextra++], sizeof k->extra[0], "%s", setting);
}

void kit_fini(struct kit *k)
{
    free(k->msgs);
    free(k->span);
    for (int i = 0; i < KIT_LANES; i++)
        held_free(&k->held[i]);
    kit_wipe(k->path);
}

/* ---- the host ------------------------------------------------------------------------------------------ */

static void kit_done(void *host, uint32_t lane, uint64_t ticket)
{
    struct kit *k = host;
    if (k->record)
        jrn_fs_record_mark(k->record, (uint64_t)lane << 32 | ticket);
    atomic_store(&k->done[lane], ticket);
}

static void kit_failed(void *host, enum mqg_err err, const char *text)
{
    struct kit *k = host;
    (void)err;
    (void)text;
    atomic_fetch_add(&k->failed, 1);
}

static void kit_pressure(void *host, bool blocked, const char *why)
{
    struct kit *k = host;
    (void)why;
    atomic_store(&k->blocked, blocked);
}

static void kit_ready(void *host, uint64_t partition)
{
    struct kit *k = host;
    (void)partition;
    atomic_fetch_add(&k->ready, 1);
}

static void kit_tell_meta(void *arg, struct mqg_slice key, struct mqg_slice value)
{
    struct kit *k = arg;
    assert_true(k->nmeta < MQG_COUNTOF(k->metas));
    snprintf(k->metas[k->nmeta].key, 64, "%.*s", (int)key.len, (const char *)key.ptr);
    snprintf(k->metas[k->nmeta++].value, 64, "%.*s", (int)value.len, (const char *)value.ptr);
}

static bool kit_tell_msg(void *arg, uint64_t queue_id, uint64_t qseq, struct mqg_extent *extent, uint32_t off,
                         uint32_t len, const struct mqg_stored *head, uint32_t delivery_count,
                         uint32_t acquired_count)
{
    struct kit *k = arg;
    (void)head;
    (void)acquired_count;
    if (queue_id == k->drop_queue)
        return false;
    if (k->nmsg == k->cap_msg) {
        k->cap_msg = k->cap_msg ? k->cap_msg * 2 : 64;
        k->msgs = mqg_xrealloc(k->msgs, k->cap_msg * sizeof *k->msgs);
    }
    k->msgs[k->nmsg++] = (struct kit_msg){queue_id, qseq, extent, off, len, delivery_count};
    return true;
}

static bool kit_tell_span(void *arg, uint64_t queue_id, uint64_t first, uint64_t last, uint64_t count,
                          uint64_t bytes)
{
    struct kit *k = arg;
    if (queue_id == k->drop_queue)
        return false;
    assert_true(first <= last && count > 0 && count <= last - first + 1);
    for (size_t i = 0; i < k->nspan; i++)
        if (k->span[i].queue_id == queue_id)
            assert_true(k->span[i].last < first);
    for (size_t i = 0; i < k->nmsg; i++)
        if (k->msgs[i].queue_id == queue_id)
            assert_true(k->msgs[i].qseq < first || k->msgs[i].qseq > last);
    if (k->nspan == k->cap_span) {
        k->cap_span = k->cap_span ? k->cap_span * 2 : 64;
        k->span = mqg_xrealloc(k->span, k->cap_span * sizeof *k->span);
    }
    k->span[k->nspan++] = (struct kit_span){queue_id, first, last, count, bytes};
    return true;
}

static bool kit_tell_wanted(void *arg, uint64_t queue_id)
{
    struct kit *k = arg;
    (void)queue_id;
    return k->spans;
}

static void kit_tell_stream(void *arg, uint64_t partition, const struct mqg_stream_bounds *b)
{
    struct kit *k = arg;
    assert_true(k->nstream < 64);
    k->streams[k->nstream].partition = partition;
    k->streams[k->nstream++].b = *b;
}

static void kit_tell_producer(void *arg, uint64_t partition, uint64_t producer_id, int16_t epoch,
                              int32_t base_seq, int32_t last_seq, uint64_t offset)
{
    struct kit *k = arg;
    (void)epoch;
    if (k->nproducer == MQG_COUNTOF(k->producers))
        return;
    k->producers[k->nproducer].partition = partition;
    k->producers[k->nproducer].producer_id = producer_id;
    k->producers[k->nproducer].offset = offset;
    k->producers[k->nproducer].base_seq = base_seq;
    k->producers[k->nproducer++].last_seq = last_seq;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static void kit_forget(struct kit *k)
{
    k->nmsg = k->nmeta = k->nstream = k->nspan = k->nproducer = 0;
    atomic_store(&k->failed, 0);
    atomic_store(&k->blocked, 0);
    atomic_store(&k->ready, 0);
    for (int i = 0; i < KIT_LANES; i++) {
        k->ticket[i] = 0;
        atomic_store(&k->done[i], 0);
    }
}

static void kit_end(struct kit *k)
{
    if (k->s) {
        jrn_ops.stop(k->s);
        jrn_ops.fini(&k->s);
    }
    mqg_conf_free(&k->conf);
}

enum mqg_err kit_try(struct kit *k)
{
    struct mqg_store_host host = {kit_done, kit_failed, kit_pressure, kit_ready, NULL, k};
    struct mqg_recover r = {.meta = kit_tell_meta,
                            .message = kit_tell_msg,
                            .stream = kit_tell_stream,
                            .producer = kit_tell_producer,
                            .span = kit_tell_span,
                            .spans_wanted = kit_tell_wanted,
                            .arg = k};
    char set[400];
    kit_forget(k);
    k->conf = mqg_conf_new();
    mqg_conf_schema(k->conf, mqg_module.conf);
    snprintf(set, sizeof set, "store.journal.path=%s", k->path);
    assert_int_equal(mqg_conf_set(k->conf, set, &k->error), MQG_OK);
    for (int i = 0; i < k->nextra; i++) {
        snprintf(set, sizeof set, "store.journal.%s", k->extra[i]);
        assert_int_equal(mqg_conf_set(k->conf, set, &k->error), MQG_OK);
    }
    assert_int_equal(mqg_conf_check(k->conf, &k->error), MQG_OK);
    enum mqg_err err = jrn_ops.open(&k->s, &host, k->conf, "store.journal", KIT_LANES, &k->error);
    if (err == MQG_OK)
        err = jrn_ops.recover(k->s, &r, &k->error);
    if (err == MQG_OK)
        err = jrn_ops.start(k->s, &k->error);
    if (err != MQG_OK)
        kit_end(k);
    k->unclean = r.unclean;
    return err;
}

void kit_open(struct kit *k)
{
    enum mqg_err err = kit_try(k);
    if (err != MQG_OK)
        print_message("%s: %s\n", mqg_err_name(err), k->error.text);
    assert_int_equal(err, MQG_OK);
}

void kit_close(struct kit *k)
{
    jrn_ops.close(k->s);
    kit_end(k);
}

void kit_crash(struct kit *k)
{
    kit_end(k);
}

/* ---- work ---------------------------------------------------------------------------------------------- */

struct mqg_msg *kit_msg_new(struct mqg_slice key, size_t body_bytes, uint64_t mark)
{
    struct mqg_msg_parts p = {.proto = MQG_PROTO_AMQP091,
                              .flags = MQG_MSG_PERSISTENT,
                              .key_sep = '.',
                              .key = key,
                              .body_len = (uint32_t)body_bytes};
    struct mqg_msg *m = mqg_msg_new(&p);
    assert_non_null(m);
    uint8_t *body = mqg_msg_body_mut(m);
    for (size_t i = 0; i < body_bytes; i++)
        body[i] = (uint8_t)(mark + i);
    char text[32];
    size_t n = (size_t)snprintf(text, sizeof text, "MARK:%016llx", (unsigned long long)mark);
    memcpy(body, text, n < body_bytes ? n : body_bytes);
    return m;
}

uint64_t kit_submit(struct kit *k, uint32_t lane, const struct mqg_store_op *ops, size_t n, unsigned flags)
{
    uint64_t ticket = ++k->ticket[lane];
    enum mqg_err err;
    ops = held_ops(&k->held[lane], ops, n);
    while ((err = jrn_ops.submit(k->s, lane, ops, n, ticket, flags)) == MQG_AGAIN)
        usleep(1000);
    assert_int_equal(err, MQG_OK);
    return ticket;
}

uint64_t kit_put(struct kit *k, uint32_t lane, uint64_t queue_id, uint64_t qseq, size_t body_bytes)
{
    struct mqg_msg *m = kit_msg_new(MQG_SLICE_LIT("some.key"), body_bytes, qseq);
    struct mqg_dest d = {queue_id, qseq};
    struct mqg_store_op op = {.kind = MQG_OP_MSG, .msg = {m, &d, 1}};
    m->extent = jrn_ops.extent_open(k->s, lane);
    mqg_extent_take(m->extent, 1);
    uint64_t ticket = kit_submit(k, lane, &op, 1, MQG_SUBMIT_URGENT);
    mqg_msg_unref(&m);
    return ticket;
}

uint64_t kit_settle(struct kit *k, uint32_t lane, uint64_t queue_id, uint64_t first, uint64_t last)
{
    struct mqg_range r = {first, last};
    struct mqg_store_op op = {.kind = MQG_OP_SETTLE, .settle = {queue_id, &r, 1}};
    return kit_submit(k, lane, &op, 1, MQG_SUBMIT_URGENT);
}

uint64_t kit_meta(struct kit *k, const char *key, const char *value)
{
    struct mqg_store_op op = {
        .kind = MQG_OP_META,
        .meta = {mqg_slice_str(key), value ? mqg_slice_str(value) : MQG_SLICE_NONE, value == NULL}};
    return kit_submit(k, 0, &op, 1, MQG_SUBMIT_URGENT);
}

static bool kit_is_late(uint64_t begin_us)
{
    return mqg_clock_mono_us() - begin_us > KIT_PATIENCE_S * 1000000ull;
}

bool kit_wait_for(bool (*is)(struct kit *k, uint64_t arg), struct kit *k, uint64_t arg)
{
    for (uint64_t begin_us = mqg_clock_mono_us(); !kit_is_late(begin_us); usleep(1000))
        if (is(k, arg))
            return true;
    return is(k, arg);
}

bool kit_wait(struct kit *k, uint32_t lane, uint64_t ticket)
{
    for (uint64_t begin_us = mqg_clock_mono_us(); !kit_is_late(begin_us); usleep(50)) {
        if (atomic_load(&k->done[lane]) >= ticket)
            return true;
        if (atomic_load(&k->failed))
            return false;
    }
    return false;
}

void kit_answered(_Atomic int *answered)
{
    for (uint64_t begin_us = mqg_clock_mono_us(); !atomic_load(answered) && !kit_is_late(begin_us);)
        usleep(100);
    assert_true(atomic_load(answered));
}

const struct kit_msg *kit_find(const struct kit *k, uint64_t queue_id, uint64_t qseq)
{
    for (size_t i = 0; i < k->nmsg; i++)
        if (k->msgs[i].queue_id == queue_id && k->msgs[i].qseq == qseq)
            return &k->msgs[i];
    return NULL;
}

size_t kit_count(const struct kit *k, uint64_t queue_id)
{
    size_t n = 0;
    for (size_t i = 0; i < k->nmsg; i++)
        n += k->msgs[i].queue_id == queue_id;
    return n;
}

const char *kit_meta_value(const struct kit *k, const char *key)
{
    for (size_t i = 0; i < k->nmeta; i++)
        if (strcmp(k->metas[i].key, key) == 0)
            return k->metas[i].value;
    return NULL;
}

static void kit_loaded(struct mqg_load_req *req)
{
    atomic_store((_Atomic int *)req->arg, 1);
}

void kit_check_body(struct kit *k, const struct kit_msg *m)
{
    _Atomic int done = 0;
    struct mqg_load item = {.extent = m->extent, .off = m->off, .len = m->len};
    struct mqg_load_req req = {.items = &item, .n = 1, .done = kit_loaded, .arg = &done};
    jrn_ops.load(k->s, &req);
    kit_answered(&done);
    assert_int_equal(item.err, MQG_OK);
    struct mqg_slice body = mqg_msg_body(item.msg);
    struct mqg_msg *want = kit_msg_new(MQG_SLICE_LIT("some.key"), body.len, m->qseq);
    assert_true(mqg_slice_eq(body, mqg_msg_body(want)));
    mqg_msg_unref(&want);
    mqg_msg_unref(&item.msg);
}

static void kit_index_did(struct mqg_index_req *req)
{
    atomic_store((_Atomic int *)req->arg, 1);
}

uint32_t kit_index_read(struct kit *k, uint64_t queue_id, uint64_t first, uint64_t last,
                        struct mqg_index_entry *entries, uint32_t max, enum mqg_err *err)
{
    _Atomic int answered = 0;
    struct mqg_index_req req = {.queue_id = queue_id,
                                .first = first,
                                .last = last,
                                .entries = entries,
                                .max = max,
                                .done = kit_index_did,
                                .arg = &answered};
    jrn_ops.index_read(k->s, &req);
    kit_answered(&answered);
    for (uint32_t i = 0; i < req.n; i++)
        assert_true(entries[i].qseq >= first && entries[i].qseq <= last &&
                    (i == 0 || entries[i].qseq > entries[i - 1].qseq));
    *err = req.err;
    return req.n;
}

void kit_read_spans(struct kit *k)
{
    enum { MAX = 300 };
    struct mqg_index_entry *e = mqg_xcalloc(MAX, sizeof *e);
    for (size_t i = 0; i < k->nspan; i++) {
        struct kit_span span = k->span[i];
        uint64_t count = 0, bytes = 0, first = span.first;
        for (uint32_t n = MAX; n == MAX;) {
            enum mqg_err err;
            n = kit_index_read(k, span.queue_id, first, span.last, e, MAX, &err);
            assert_int_equal(err, MQG_OK);
            for (uint32_t j = 0; j < n; j++) {
                struct mqg_stored head = {.body_len = e[j].body_bytes};
                kit_tell_msg(k, span.queue_id, e[j].qseq, e[j].extent, e[j].off, e[j].len, &head, 0, 0);
                bytes += e[j].body_bytes;
            }
            count += n;
            first = n ? e[n - 1].qseq + 1 : first;
        }
        assert_int_equal(count, span.count);
        assert_int_equal(bytes, span.bytes);
    }
    k->nspan = 0;
    free(e);
}

bool kit_indexed(struct kit *k, uint64_t arg)
{
    bool all = true;
    (void)arg;
    pthread_mutex_lock(&k->s->seg_lock);
    for (struct jrn_seg *seg = k->s->segs; seg; seg = seg->next)
        all = all && (atomic_load(&seg->state) != JRN_CLOSED || atomic_load(&seg->index));
    pthread_mutex_unlock(&k->s->seg_lock);
    return all;
}

struct mqg_store_stats kit_stats(struct kit *k)
{
    struct mqg_store_stats st;
    jrn_ops.stats(k->s, &st);
    return st;
}

/* ---- files --------------------------------------------------------------------------------------------- */

static bool kit_ends(const char *name, const char *end)
{
    size_t n = strlen(name), e = strlen(end);
    return n >= e && strcmp(name + n - e, end) == 0;
}

static size_t kit_list(const struct kit *k, const char *end, size_t index, char out[512])
{
    struct dirent **names = NULL;
    int n = scandir(k->path, &names, NULL, alphasort);
    size_t found = 0;
    for (int i = 0; i < n; i++) {
        if (kit_ends(names[i]->d_name, end) || strncmp(names[i]->d_name, end, strlen(end)) == 0) {
            if (out && found == index)
                snprintf(out, 512, "%s/%s", k->path, names[i]->d_name);
            found++;
        }
        free(names[i]);
    }
    free(names);
    return found;
}

size_t kit_files(const struct kit *k, const char *end)
{
    return kit_list(k, end, 0, NULL);
}

void kit_file(const struct kit *k, const char *end, size_t index, char out[512])
{
    assert_true(kit_list(k, end, index, out) > index);
}

uint8_t *kit_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    struct stat st;
    assert_int_equal(fstat(fileno(f), &st), 0);
    *len = (size_t)st.st_size;
    uint8_t *data = mqg_xmalloc(*len ? *len : 1);
    assert_int_equal(fread(data, 1, *len, f), *len);
    fclose(f);
    return data;
}

void kit_write(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
}

size_t kit_frame(const uint8_t *seg, size_t len, size_t index, struct jrn_frame *f)
{
    struct jrn_seg_head h;
    struct mqg_error e;
    if (jrn_seg_head_decode(mqg_slice_of(seg, len), &h, &e) != MQG_OK)
        return 0;
    size_t off = JRN_HEADER_BYTES;
    for (size_t i = 0; off + JRN_FRAME_HEAD <= len; i++) {
        if (jrn_frame_head(mqg_slice_of(seg + off, len - off), &h.use, off, f) != MQG_OK)
            return 0;
        if (i == index)
            return off;
        off += jrn_round_block(f->length);
    }
    return 0;
}

size_t kit_frame_of(const uint8_t *seg, size_t len, const char *text, struct jrn_frame *f)
{
    size_t off;
    for (size_t i = 0; (off = kit_frame(seg, len, i, f)) != 0; i++)
        if (memmem(seg + off, f->length, text, strlen(text)))
            return off;
    return 0;
}

static void kit_time_did(struct mqg_time_req *req)
{
    atomic_store((_Atomic int *)req->arg, 1);
}

static void kit_position_did(struct mqg_position_req *req)
{
    atomic_store((_Atomic int *)req->arg, 1);
}

enum mqg_err kit_time(struct kit *k, uint64_t partition, uint64_t time_ms, uint64_t *offset)
{
    _Atomic int answered = 0;
    struct mqg_time_req req = {
        .partition = partition, .time_ms = time_ms, .done = kit_time_did, .arg = &answered};
    jrn_ops.offset_for_time(k->s, &req);
    kit_answered(&answered);
    *offset = req.offset;
    return req.err;
}

enum mqg_err kit_position(struct kit *k, struct mqg_slice group, uint64_t partition, uint64_t *offset)
{
    _Atomic int answered = 0;
    struct mqg_position_req req = {
        .group = group, .partition = partition, .done = kit_position_did, .arg = &answered};
    jrn_ops.position_get(k->s, &req);
    kit_answered(&answered);
    *offset = req.offset;
    return req.err;
}

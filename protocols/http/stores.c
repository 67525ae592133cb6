/* stores.c - who uses the disk: the stores, their files, and what each queue keeps in them. */
#include "http.h"

#include <mqgate/host.h>
#include <mqgate/lanes.h>

static json_t *store_json(struct mqg_storage *s)
{
    struct mqg_store_stats st = {0};
    json_t *out = json_object();
    s->ops->stats(s->store, &st);
    js_set_str(out, "name", s->name);
    js_set_str(out, "type", s->ops->type);
    js_set_str(out, "node", mqg_node_name());
    js_set_bool(out, "default", s == mqg_storage_default());
    js_set_bool(out, "durable", (s->caps & MQG_STORE_DURABLE) != 0);
    js_set_str(out, "state", st.state != NULL ? st.state : "ok");
    js_set_bool(out, "blocked", atomic_load(&s->blocked));
    js_set_int(out, "disk_bytes", st.disk_bytes);
    js_set_int(out, "live_bytes", st.live_bytes);
    js_set_int(out, "segments", st.segments);
    js_set_int(out, "live_extents", st.live_extents);
    js_set_int(out, "moved_messages", st.moved_messages);
    js_set_int(out, "moved_bytes", st.moved_bytes);
    js_set_int(out, "commits", st.commits);
    js_set_int(out, "records", st.records);
    js_set_int(out, "written_bytes", st.synced_bytes);
    js_set_int(out, "last_sync_us", st.last_sync_us);
    return out;
}

void stores_get(struct http_request *r)
{
    json_t *array = json_array();
    struct mqg_storage *s;
    for (uint32_t i = 0; (s = mqg_storage_at(i)) != NULL; i++)
        json_array_append_new(array, store_json(s));
    http_reply_list(r, array, "name");
}

void store_get(struct http_request *r)
{
    struct mqg_storage *s = mqg_storage_by_name(r->arg[0]);
    if (s != NULL)
        http_reply_object(r, store_json(s));
    else
        http_reply_not_found(r);
}

static void store_segment(void *arg, const struct mqg_store_segment *seg)
{
    json_t *out = json_object();
    js_set_int(out, "sequence", seg->sequence);
    js_set_str(out, "kind", seg->cold ? "cold" : "log");
    js_set_str(out, "state", seg->state);
    js_set_int(out, "disk_bytes", seg->disk_bytes);
    js_set_int(out, "used_bytes", seg->used_bytes);
    js_set_int(out, "live_bytes", seg->live_bytes);
    js_set_int(out, "live_messages", seg->live_messages);
    js_set_int(out, "queues", seg->queues);
    json_array_append_new(arg, out);
}

void store_segments_get(struct http_request *r)
{
    struct mqg_storage *s = mqg_storage_by_name(r->arg[0]);
    json_t *array = json_array();
    if (s == NULL) {
        json_decref(array);
        http_reply_not_found(r);
        return;
    }
    if (s->ops->segments != NULL)
        s->ops->segments(s->store, store_segment, array);
    http_reply_list(r, array, "kind,sequence");
}

void store_queue_json(json_t *out, uint64_t queue_id)
{
    struct mqg_store_usage all = {0}, one;
    struct mqg_storage *s;
    for (uint32_t i = 0; (s = mqg_storage_at(i)) != NULL; i++) {
        if (s->ops->queue_usage == NULL || !s->ops->queue_usage(s->store, queue_id, &one))
            continue;
        all.bytes += one.bytes;
        all.messages += one.messages;
        all.segments += one.segments;
    }
    js_set_int(out, "disk_bytes", all.bytes);
    js_set_int(out, "disk_messages", all.messages);
    js_set_int(out, "disk_segments", all.segments);
}

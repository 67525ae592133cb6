/* module.c - the memory store as a module: [store.NAME] type=memory. */
#include "memory.h"

static const struct mqg_conf_row mem_rows[] = {
    {"store.*", "max_bytes", MQG_CONF_SIZE, "512MiB", 0, INT64_MAX, NULL,
     "type=memory: bytes of messages and stream batches above which publishers are blocked; 0 is no bound"},
    {NULL, NULL, MQG_CONF_STR, NULL, 0, 0, NULL, NULL},
};

MQG_MODULE(memory) = {
    MQG_MODULE_HEAD(struct mqg_store_ops),
    .kind = MQG_MODULE_STORAGE,
    .name = "memory",
    .version = MQG_VERSION,
    .conf = mem_rows,
    .storage = &mem_ops,
};

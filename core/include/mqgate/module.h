/* mqgate/module.h - the descriptor every module exports.
 *
 * A module is a shared object with one exported symbol, `mqg_module` (statically linked: `mqg_module_NAME`, chosen by the
 * macro below). Magic, versions and sizes come first, they protect the rest: nothing else is read before they fit. The host
 * accepts an equal major and any minor up to its own; a table shorter than the host's counts as NULL beyond its end. */
#ifndef MQGATE_MODULE_H
#define MQGATE_MODULE_H

#include <mqgate/base.h>

#define MQG_MODULE_MAGIC     0x4d514741u /* "AGQM" */
#define MQG_MODULE_ABI_MAJOR 1
#define MQG_MODULE_ABI_MINOR 0

enum mqg_module_kind { MQG_MODULE_PROTOCOL = 1, MQG_MODULE_STORAGE = 2, MQG_MODULE_SERVICE = 3 };

struct mqg_conf;
struct mqg_conf_row; /* conf.h */
struct mqg_store_ops;
struct mqg_protocol_ops;

/* A service owns its sockets and thread; it reads snapshots and submits commands. */
struct mqg_service_ops {
    enum mqg_err (*start)(const struct mqg_conf *conf, struct mqg_error *e); /* (main) after workers run */
    void (*stop)(void);                                                      /* (main) before workers stop */
    void (*describe)(struct mqg_dynbuf *out); /* "http=127.0.0.1:15672" for the ready line; may be NULL */
    /* (main) Before the stores are read: bind, and tell whoever asks how far the start is (mqg_node_progress). Accounts, queues
     * and workers may not be touched before `start`. After it, `stop` is called even where `start` was not. May be NULL. */
    enum mqg_err (*prepare)(const struct mqg_conf *conf, struct mqg_error *e);
};

struct mqg_module {
    uint32_t magic;
    uint16_t abi_major, abi_minor;
    uint32_t size;     /* sizeof(struct mqg_module) when it was compiled */
    uint32_t ops_size; /* sizeof of the ops table when it was compiled */
    enum mqg_module_kind kind;
    const char *name; /* "amqp" */
    const char *version;
    const struct mqg_conf_row *conf; /* schema rows, ended by one with key NULL; may be NULL */
    union {
        const void *ops;
        const struct mqg_protocol_ops *protocol;
        const struct mqg_store_ops *storage;
        const struct mqg_service_ops *service;
    };
    /* Once, before anything else; refuse with a text. May be NULL. */
    enum mqg_err (*load)(const struct mqg_conf *conf, struct mqg_error *e);
    void (*reload)(const struct mqg_conf *conf); /* SIGHUP; may be NULL */
    void (*unload)(void);                        /* may be NULL */
};

/* MQG_MODULE(amqp) = { MQG_MODULE_HEAD(struct mqg_protocol_ops), .kind = ..., ... }; */
#define MQG_MODULE_HEAD(ops_type)                                                                    \
    .magic = MQG_MODULE_MAGIC, .abi_major = MQG_MODULE_ABI_MAJOR, .abi_minor = MQG_MODULE_ABI_MINOR, \
    .size = sizeof(struct mqg_module), .ops_size = sizeof(ops_type)
#ifdef MQG_MODULE_STATIC
#define MQG_MODULE(modname)                              \
    extern const struct mqg_module mqg_module_##modname; \
    const struct mqg_module mqg_module_##modname
#else
#define MQG_MODULE(modname)                            \
    extern MQG_API const struct mqg_module mqg_module; \
    MQG_API const struct mqg_module mqg_module
#endif

#endif

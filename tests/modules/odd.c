/* odd.c - modules that the loader must refuse, and one that is merely old; ODD says which. */
#include <mqgate/module.h>

#define ODD_MAGIC    1 /* another program's plug-in */
#define ODD_MAJOR    2 /* from a later mqgate */
#define ODD_MINOR    3
#define ODD_NEEDED   4 /* a required call is missing */
#define ODD_KIND     5
#define ODD_NAME     6
#define ODD_TABLE    7  /* no table */
#define ODD_SMALL    8  /* a descriptor too short to be one */
#define ODD_SYMBOL   9  /* exports nothing */
#define ODD_UNLOADED 10 /* its load() refuses */
#define ODD_OLD      11 /* shorter descriptor and table: accepted */

static enum mqg_err odd_start(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)conf;
    (void)e;
    return MQG_OK;
}

static void odd_stop(void)
{
}

static enum mqg_err odd_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)conf;
    return mqg_error_set(e, MQG_INVALID, 0, "odd: not today");
}

/* What lies behind the end of a short table must not be read. */
static void odd_describe(struct mqg_dynbuf *out)
{
    mqg_dynbuf_printf(out, "never=%d", ODD);
}

static const struct mqg_service_ops odd_ops = {
    .start = odd_start,
    .stop = ODD == ODD_NEEDED ? NULL : odd_stop,
    .describe = odd_describe,
};

#if ODD == ODD_SYMBOL
extern const struct mqg_module mqg_module;
const struct mqg_module mqg_module
#else
MQG_MODULE(odd)
#endif
    = {
        .magic = ODD == ODD_MAGIC ? 0x12345678 : MQG_MODULE_MAGIC,
        .abi_major = MQG_MODULE_ABI_MAJOR + (ODD == ODD_MAJOR),
        .abi_minor = MQG_MODULE_ABI_MINOR + (ODD == ODD_MINOR),
        .size = ODD == ODD_OLD     ? offsetof(struct mqg_module, load)
                : ODD == ODD_SMALL ? 16
                                   : sizeof(struct mqg_module),
        .ops_size = ODD == ODD_OLD ? offsetof(struct mqg_service_ops, describe)
                                   : sizeof(struct mqg_service_ops),
        .kind = ODD == ODD_KIND ? (enum mqg_module_kind)9 : MQG_MODULE_SERVICE,
        .name = ODD == ODD_NAME ? "Odd name" : "odd",
        .version = "1",
        .service = ODD == ODD_TABLE ? NULL : &odd_ops,
        .load = odd_load,
};

/* module.c - the descriptor of the HTTP service. */
#include "http.h"

static enum mqg_err http_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)conf;
    (void)e;
    mqg_origin_register(&http_origin_ops);
    return MQG_OK;
}

static const struct mqg_service_ops http_ops = {
    .start = http_start,
    .stop = http_stop,
    .describe = http_describe,
    .prepare = http_prepare,
};

MQG_MODULE(http) = {
    MQG_MODULE_HEAD(struct mqg_service_ops),
    .kind = MQG_MODULE_SERVICE,
    .name = "http",
    .version = MQG_VERSION,
    .service = &http_ops,
    .load = http_load,
};

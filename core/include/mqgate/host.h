/* mqgate/host.h - the few things the daemon's main knows of itself that others ask for. */
#ifndef MQGATE_HOST_H
#define MQGATE_HOST_H

#include <mqgate/base.h>

MQG_API const char *mqg_node_name(void);    /* "mqgate@host" */
MQG_API uint64_t mqg_node_started_us(void); /* wall */
MQG_API const char *mqg_node_state(void);   /* "recovering", "running", "draining", "failed" */
/* Asks the main thread to drain and stop; exit_code 0 for a wish, 1 for a failure. Any thread. */
MQG_API void mqg_node_stop(int exit_code, const char *why);
/* "amqp=127.0.0.1:5672 http=..." as in the ready line; copied into out. Any thread. */
MQG_API size_t mqg_node_listeners(char *out, size_t room);
/* Who listens on a TCP port of this machine: "rabbitmq (pid 123)", or "" when that cannot be read. For refusals. Any thread. */
MQG_API void mqg_port_holder(uint16_t port, char *out, size_t room);

#endif

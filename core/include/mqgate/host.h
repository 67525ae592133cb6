/* mqgate/host.h - the few things the daemon's main knows of itself that others ask for. */
#ifndef MQGATE_HOST_H
#define MQGATE_HOST_H

#include <mqgate/base.h>

MQG_API const char *mqg_node_name(void);    /* "mqgate@host" */
MQG_API uint64_t mqg_node_started_us(void); /* wall */
/* "starting", "recovering", "running", "draining", "failed" */
MQG_API const char *mqg_node_state(void);

/* How far a start has come. Any thread. */
struct mqg_node_progress {
    /* Static text: "opening", "reading" a store, "building" queues of what was read, "listening"; once it is up "". */
    const char *phase;
    char store[64];                 /* that is read, or was read last; "": none yet */
    uint64_t done_bytes, all_bytes; /* of that store; all 0: not known yet */
    uint64_t messages;              /* in queues that were built so far */
    uint64_t elapsed_ms;            /* since the process began */
    uint64_t rest_ms;               /* of the reading, by its pace so far; UINT64_MAX: not known */
};
MQG_API void mqg_node_progress(struct mqg_node_progress *out);
/* Asks the main thread to drain and stop; exit_code 0 for a wish, 1 for a failure. Any thread. */
MQG_API void mqg_node_stop(int exit_code, const char *why);
/* "amqp=127.0.0.1:5672 http=..." as in the ready line; copied into out. Any thread. */
MQG_API size_t mqg_node_listeners(char *out, size_t room);
/* Who listens on a TCP port of this machine: "rabbitmq (pid 123)", or "" when that cannot be read. For refusals. Any thread. */
MQG_API void mqg_port_holder(uint16_t port, char *out, size_t room);

#endif

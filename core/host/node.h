/* node.h - what the daemon knows of itself; the setting side of mqgate/host.h. */
#ifndef MQG_HOST_NODE_H
#define MQG_HOST_NODE_H

#include <mqgate/host.h>

void node_init(const char *name);       /* "" makes mqgate@HOSTNAME */
void node_state_set(const char *state); /* static storage */
void node_listeners_set(struct mqg_slice text);
/* The main thread's: an eventfd that becomes readable when mqg_node_stop was called, and what it was called with. */
int node_stop_fd(void);
bool node_stop_asked(int *exit_code, char why[256]);

#endif

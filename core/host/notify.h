/* notify.h - telling systemd: sd_notify in a few lines. */
#ifndef MQG_HOST_NOTIFY_H
#define MQG_HOST_NOTIFY_H

#include <stdbool.h>

/* "READY=1", "STOPPING=1", "STATUS=..."; false when nobody asked to be told (no NOTIFY_SOCKET), or it failed. */
bool notify_state(const char *state);

#endif

/* core/msg/common.h - the common form of properties and headers. Internal to core/msg. */
#ifndef MQG_MSG_COMMON_H
#define MQG_MSG_COMMON_H

#include <mqgate/msg.h>

/* Origin bytes of MQG_PROTO_INTERNAL: both ways. */
extern const struct mqg_origin_ops common_origin_ops;

#endif

/* core/msg/natural.h - typed header values as the text that any Kafka client can read, and back. Internal to core/msg. */
#ifndef MQG_MSG_NATURAL_H
#define MQG_MSG_NATURAL_H

#include <mqgate/value.h>

/* Appends the natural bytes of v: decimal numbers, true/false, RFC 3339 times, JSON for arrays and tables, strings and bytes
 * as they are, nothing for null. True when the text and the type together give the value back, so that nothing but the type
 * need be remembered. */
bool natural_put(struct mqg_dynbuf *out, const struct mqg_value *v);
/* The value of that type which the text says; false when it says none. Strings borrow. */
bool natural_take(struct mqg_slice text, enum mqg_value_type type, struct mqg_value *out);
/* Microseconds since 1970 as RFC 3339, "2026-11-21T06:07:10.5Z"; false beyond the years 0 to 9999. */
bool natural_put_time(struct mqg_dynbuf *out, int64_t us);
bool natural_take_time(struct mqg_slice text, int64_t *us);

#endif

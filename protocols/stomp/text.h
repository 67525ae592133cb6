/* text.h - typed values as text, and base64. Pure functions. */
#ifndef MQGATE_STOMP_TEXT_H
#define MQGATE_STOMP_TEXT_H

#include <mqgate/value.h>

/* Appends a value's natural text: 5, true, 2.5, RFC 3339, JSON of tables and arrays, base64 of bytes, and of strings with a NUL
 * inside; nothing for null. */
void stomp_text_of(struct mqg_dynbuf *out, const struct mqg_value *v);
void stomp_base64_encode(struct mqg_dynbuf *out, struct mqg_slice in);
/* Strict: whole groups of four, padding at the end only. */
bool stomp_base64_decode(struct mqg_slice in, struct mqg_arena *a, struct mqg_slice *out);

#endif

/* reply.c - answers, and faults in RabbitMQ's words: {"error": word, "reason": text}.
 *
 * What is missing because the client named it in the path is "Object Not Found"; what an operation found missing on its way is
 * "not_found" with the operation's text. */
#include "http.h"

#include <stdio.h>

void http_reply(struct http_request *r, unsigned status, json_t *value)
{
    json_decref(r->reply);
    r->status = status;
    r->reply = value;
}

void http_reply_none(struct http_request *r, unsigned status)
{
    http_reply(r, status, NULL);
}

void http_reply_error(struct http_request *r, unsigned status, const char *error, const char *fmt, ...)
{
    char reason[HTTP_REASON_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(reason, sizeof reason, fmt, args);
    va_end(args);
    json_t *value = json_object();
    js_set_str(value, "error", error);
    js_set_slice(value, "reason", mqg_slice_str(reason));
    http_reply(r, status, value);
}

void http_reply_not_found(struct http_request *r)
{
    http_reply_error(r, 404, "Object Not Found", "Not Found");
}

void http_reply_fault(struct http_request *r, const struct mqg_error *e)
{
    switch (e->err) {
    case MQG_NOT_FOUND: http_reply_error(r, 404, "not_found", "%s", e->text); return;
    case MQG_DENIED:
    case MQG_UNAUTHENTICATED: http_reply_error(r, 401, "not_authorised", "%s", e->text); return;
    case MQG_AGAIN:
    case MQG_NO_MEMORY:
    case MQG_NO_SPACE:
    case MQG_CLOSED: http_reply_error(r, 503, "unavailable", "%s", e->text); return;
    case MQG_IO:
    case MQG_CORRUPT: http_reply_error(r, 500, "internal_error", "%s", e->text); return;
    default: http_reply_error(r, 400, "bad_request", "%s", e->text); return;
    }
}

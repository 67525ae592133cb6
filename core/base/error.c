/* error.c - outcomes that a peer or the world can cause, and the words for them.
 *
 * The text of an error often quotes what a peer sent. It is cut at its array, and what a log line or a
 * protocol frame must not contain (control characters) is replaced here, once, rather than by each of the
 * readers. */
#include <mqgate/base.h>

#include <stdio.h>

static const char *const error_names[] = {
    [MQG_OK] = "ok",
    [MQG_AGAIN] = "again",
    [MQG_MORE] = "more",
    [MQG_MALFORMED] = "malformed",
    [MQG_TOO_LARGE] = "too_large",
    [MQG_UNSUPPORTED] = "unsupported",
    [MQG_INVALID] = "invalid",
    [MQG_NOT_FOUND] = "not_found",
    [MQG_EXISTS] = "exists",
    [MQG_MISMATCH] = "mismatch",
    [MQG_LOCKED] = "locked",
    [MQG_IN_USE] = "in_use",
    [MQG_NOT_EMPTY] = "not_empty",
    [MQG_DENIED] = "denied",
    [MQG_UNAUTHENTICATED] = "unauthenticated",
    [MQG_GONE] = "gone",
    [MQG_REJECTED] = "rejected",
    [MQG_NO_MEMORY] = "no_memory",
    [MQG_NO_SPACE] = "no_space",
    [MQG_IO] = "io",
    [MQG_CORRUPT] = "corrupt",
    [MQG_CLOSED] = "closed",
};
_Static_assert(MQG_COUNTOF(error_names) == MQG_ERR_COUNT, "each enum mqg_err has a name");

const char *mqg_err_name(enum mqg_err err)
{
    return (size_t)err < MQG_ERR_COUNT ? error_names[err] : "unknown";
}

static void error_text_clean(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

enum mqg_err mqg_error_set(struct mqg_error *e, enum mqg_err err, int code, const char *fmt, ...)
{
    if (e == NULL)
        return err;
    va_list args;
    va_start(args, fmt);
    e->err = err;
    e->code = code;
    if (vsnprintf(e->text, sizeof e->text, fmt, args) < 0)
        e->text[0] = '\0';
    va_end(args);
    error_text_clean(e->text);
    return err;
}

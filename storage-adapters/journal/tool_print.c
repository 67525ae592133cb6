/* tool_print.c - lines for eyes and for programs: the same fields as logfmt or as a JSON object.
 *
 * Texts come from clients and from damaged disks. What is no printable ASCII is escaped (\u00XX stands for the byte
 * XX), so that a line is always one line and always JSON. */
#include "tool.h"

#include <stdio.h>

void tool_row(struct tool *t, const char *what)
{
    mqg_dynbuf_reset(&t->row);
    t->row_first = true;
    if (t->o->json)
        mqg_dynbuf_u8(&t->row, '{');
    tool_word(t, "what", what);
}

static void tool_name(struct tool *t, const char *name)
{
    const char *lead = t->row_first ? "" : t->o->json ? "," : " ";
    mqg_dynbuf_printf(&t->row, t->o->json ? "%s\"%s\":" : "%s%s=", lead, name);
    t->row_first = false;
}

void tool_number(struct tool *t, const char *name, uint64_t value)
{
    tool_name(t, name);
    mqg_dynbuf_printf(&t->row, "%llu", (unsigned long long)value);
}

void tool_hex(struct tool *t, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
    tool_word(t, name, text);
}

static bool tool_is_bare(struct mqg_slice v)
{
    for (size_t i = 0; i < v.len; i++)
        if (v.ptr[i] <= ' ' || v.ptr[i] >= 0x7f || v.ptr[i] == '"' || v.ptr[i] == '=' || v.ptr[i] == '\\')
            return false;
    return v.len > 0;
}

void tool_text(struct tool *t, const char *name, struct mqg_slice value)
{
    tool_name(t, name);
    if (!t->o->json && tool_is_bare(value)) {
        mqg_dynbuf_slice(&t->row, value);
        return;
    }
    mqg_dynbuf_u8(&t->row, '"');
    for (size_t i = 0; i < value.len; i++) {
        uint8_t b = value.ptr[i];
        if (b == '"' || b == '\\')
            mqg_dynbuf_printf(&t->row, "\\%c", b);
        else if (b < ' ' || b >= 0x7f)
            mqg_dynbuf_printf(&t->row, "\\u%04x", b);
        else
            mqg_dynbuf_u8(&t->row, b);
    }
    mqg_dynbuf_u8(&t->row, '"');
}

void tool_word(struct tool *t, const char *name, const char *value)
{
    tool_text(t, name, mqg_slice_str(value));
}

void tool_row_end(struct tool *t)
{
    if (t->o->json)
        mqg_dynbuf_u8(&t->row, '}');
    mqg_dynbuf_u8(&t->row, '\n');
    fwrite(t->row.ptr, 1, t->row.len, stdout);
}

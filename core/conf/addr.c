/* addr.c - "127.0.0.1:5672,[::1]:5672": addresses to listen on.
 *
 * A host with colons stands in brackets, as in a URL; that it is a real address is found at the bind, with a better
 * text than could be given here. */
#include "conf_addr.h"

static bool addr_port(struct mqg_slice s, uint16_t *out)
{
    uint32_t port = 0;
    if (s.len == 0 || s.len > 5)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(s.ptr[i] - '0');
    }
    *out = (uint16_t)port;
    return port <= UINT16_MAX;
}

static bool addr_host(struct mqg_slice s, char *out, size_t room)
{
    bool bracketed = s.len > 2 && s.ptr[0] == '[' && s.ptr[s.len - 1] == ']';
    if (bracketed)
        s = mqg_slice_of(s.ptr + 1, s.len - 2);
    if (s.len == 0 || s.len >= room || (!bracketed && memchr(s.ptr, ':', s.len) != NULL))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] >= 0x7f || s.ptr[i] == '[' || s.ptr[i] == ']')
            return false;
    memcpy(out, s.ptr, s.len);
    out[s.len] = '\0';
    return true;
}

static bool addr_one(struct mqg_slice s, struct conf_addr *out)
{
    const uint8_t *colon = s.len > 0 ? memrchr(s.ptr, ':', s.len) : NULL;
    if (colon == NULL)
        return false;
    size_t host_len = (size_t)(colon - s.ptr);
    return addr_host(mqg_slice_of(s.ptr, host_len), out->host, sizeof out->host) &&
           addr_port(mqg_slice_of(colon + 1, s.len - host_len - 1), &out->port);
}

bool conf_addr_parse(const char *text, struct conf_addr list[CONF_ADDR_MAX], size_t *n)
{
    *n = 0;
    if (strcmp(text, "off") == 0)
        return true;
    while (*n < CONF_ADDR_MAX) {
        text += strspn(text, " ");
        size_t len = strcspn(text, ",");
        size_t used = len;
        while (used > 0 && text[used - 1] == ' ')
            used--;
        if (!addr_one(mqg_slice_of(text, used), &list[(*n)++]))
            return false;
        if (text[len] == '\0')
            return true;
        text += len + 1;
    }
    return false;
}

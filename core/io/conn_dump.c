/* conn_dump.c - what a crash says of the connections of the worker that died.
 *
 * Registered with the asserts, so it runs in the dying thread: no locks, no allocation, and nothing is believed to be
 * whole. Each connection is a line, then what its handler has to say. */
#include "conn_int.h"

#include <stdio.h>
#include <unistd.h>

enum { CONN_DUMP_MAX = 32 };

static const char *const conn_state_names[] = {[CONN_PREFACE] = "preface",
                                               [CONN_OPEN] = "open",
                                               [CONN_CLOSING] = "closing",
                                               [CONN_LINGER] = "linger",
                                               [CONN_DEAD] = "dead"};

static void conn_dump_line(int fd, const char *line, int n, size_t room)
{
    ssize_t written = write(fd, line, n > 0 && (size_t)n < room ? (size_t)n : room - 1);
    (void)written;
}

/* Oldest first, with its age in ms. */
static void conn_dump_notes(const struct mqg_conn *c, int fd)
{
    char line[160];
    uint32_t kept = c->notes_n < CONN_NOTES ? c->notes_n : CONN_NOTES;
    for (uint32_t i = c->notes_n - kept; i != c->notes_n; i++) {
        const struct conn_note *note = &c->notes[i % CONN_NOTES];
        int n = snprintf(line, sizeof line, "conn=%llu ago_ms=%u note=%s arg=%u\n",
                         (unsigned long long)c->info.id, (uint32_t)c->w->pub.now.mono_ms - note->mono_ms,
                         note->what, note->arg);
        conn_dump_line(fd, line, n, sizeof line);
    }
}

static void conn_dump_one(const struct mqg_conn *c, int fd)
{
    char line[512];
    const char *state = (size_t)c->state < MQG_COUNTOF(conn_state_names) ? conn_state_names[c->state] : "?";
    int n = snprintf(line, sizeof line,
                     "conn=%llu listener=%s peer=%s:%u state=%s unread=%zu unsent=%zu in=%llu out=%llu\n",
                     (unsigned long long)c->info.id, c->info.listener, c->info.peer_host, c->info.peer_port,
                     state, c->rest_len, c->out_pending, (unsigned long long)c->bytes_in,
                     (unsigned long long)c->bytes_out);
    conn_dump_line(fd, line, n, sizeof line);
    conn_dump_notes(c, fd);
    if (c->handler_up && c->ops->dump != NULL)
        c->ops->dump(c, fd);
}

void conn_dump(int fd, void *arg)
{
    (void)arg;
    const struct mqg_worker *w = mqg_worker_self();
    const struct conn_worker *cw = w != NULL ? w->io : NULL;
    if (cw == NULL)
        return;
    int n = 0;
    for (const struct conn_link *l = cw->all.next; l != &cw->all && n < CONN_DUMP_MAX; l = l->next, n++) {
        const struct mqg_conn *c = (const void *)((const char *)l - offsetof(struct mqg_conn, link));
        if (c->magic != CONN_MAGIC)
            return;
        conn_dump_one(c, fd);
    }
}

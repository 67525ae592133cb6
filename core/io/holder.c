/* holder.c - who holds a port: for the refusal of a start.
 *
 * /proc/net/tcp and tcp6 give the inode of the listening socket, /proc/PID/fd whose it is. Processes of other users
 * cannot be read without rights; then nobody is named. */
#include <mqgate/host.h>

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOLDER_TCP_LISTEN = 0x0a };

/* One line: "  0: 0100007F:1628 00000000:0000 0A ... uid timeout inode". */
static unsigned long holder_inode_of_line(const char *line, uint16_t port)
{
    unsigned local_port, state;
    unsigned long inode;
    int n = sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %lu", &local_port,
                   &state, &inode);
    return n == 3 && local_port == port && state == HOLDER_TCP_LISTEN ? inode : 0;
}

static unsigned long holder_inode(const char *table, uint16_t port)
{
    char line[512];
    unsigned long inode = 0;
    FILE *f = fopen(table, "re");
    while (f != NULL && inode == 0 && fgets(line, sizeof line, f) != NULL)
        inode = holder_inode_of_line(line, port);
    if (f != NULL)
        fclose(f);
    return inode;
}

static bool holder_has(const char *pid, const char *wanted)
{
    char path[300], target[64];
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *dir = opendir(path);
    bool found = false;
    for (struct dirent *d; dir != NULL && !found && (d = readdir(dir)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", pid, d->d_name);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        found = strcmp(target, wanted) == 0;
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

static void holder_name(const char *pid, char *out, size_t room)
{
    char path[64], name[64] = "?";
    snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
    FILE *f = fopen(path, "re");
    if (f != NULL && fgets(name, sizeof name, f) != NULL)
        name[strcspn(name, "\n")] = '\0';
    if (f != NULL)
        fclose(f);
    snprintf(out, room, "%s (pid %.20s)", name, pid);
}

void mqg_port_holder(uint16_t port, char *out, size_t room)
{
    char wanted[64];
    out[0] = '\0';
    unsigned long inode = holder_inode("/proc/net/tcp", port);
    if (inode == 0)
        inode = holder_inode("/proc/net/tcp6", port);
    DIR *proc = inode != 0 ? opendir("/proc") : NULL;
    if (proc == NULL)
        return;
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    for (struct dirent *d; out[0] == '\0' && (d = readdir(proc)) != NULL;)
        if (isdigit((unsigned char)d->d_name[0]) && holder_has(d->d_name, wanted))
            holder_name(d->d_name, out, room);
    closedir(proc);
}

/* node.c - the daemon's name, state and listeners, and the wish to stop, for any thread. */
#include "node.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

static pthread_mutex_t node_lock = PTHREAD_MUTEX_INITIALIZER;
static char node_name[256] = "mqgate";
static uint64_t node_started_us;
static _Atomic(const char *) node_state = "starting";
static char node_listeners[4096];
static int node_fd = -1;
static bool node_stopping;
static int node_exit_code;
static char node_why[256];

void node_init(const char *name)
{
    char host[200] = "localhost";
    gethostname(host, sizeof host - 1);
    if (name != NULL && *name != '\0')
        snprintf(node_name, sizeof node_name, "%s", name);
    else
        snprintf(node_name, sizeof node_name, "mqgate@%s", host);
    node_started_us = mqg_clock_now().wall_us;
    if (node_fd < 0)
        node_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    MQG_ASSERT(node_fd >= 0);
}

const char *mqg_node_name(void)
{
    return node_name;
}

uint64_t mqg_node_started_us(void)
{
    return node_started_us;
}

const char *mqg_node_state(void)
{
    return atomic_load(&node_state);
}

void node_state_set(const char *state)
{
    atomic_store(&node_state, state);
}

void node_listeners_set(struct mqg_slice text)
{
    pthread_mutex_lock(&node_lock);
    snprintf(node_listeners, sizeof node_listeners, "%.*s", (int)text.len, (const char *)text.ptr);
    pthread_mutex_unlock(&node_lock);
}

size_t mqg_node_listeners(char *out, size_t room)
{
    pthread_mutex_lock(&node_lock);
    int n = snprintf(out, room, "%s", node_listeners);
    pthread_mutex_unlock(&node_lock);
    return (size_t)n < room ? (size_t)n : room > 0 ? room - 1 : 0;
}

/* The first wish counts, but a failure after a wish is still a failure. */
void mqg_node_stop(int exit_code, const char *why)
{
    pthread_mutex_lock(&node_lock);
    if (!node_stopping || (node_exit_code == 0 && exit_code != 0)) {
        node_exit_code = exit_code;
        snprintf(node_why, sizeof node_why, "%s", why);
    }
    node_stopping = true;
    pthread_mutex_unlock(&node_lock);
    uint64_t one = 1;
    ssize_t n = node_fd >= 0 ? write(node_fd, &one, sizeof one) : 0;
    (void)n; /* a full counter is readable as well */
}

int node_stop_fd(void)
{
    return node_fd;
}

bool node_stop_asked(int *exit_code, char why[256])
{
    pthread_mutex_lock(&node_lock);
    bool asked = node_stopping;
    *exit_code = node_exit_code;
    memcpy(why, node_why, sizeof node_why);
    pthread_mutex_unlock(&node_lock);
    return asked;
}

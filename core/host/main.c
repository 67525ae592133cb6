/* main.c - the daemon: options, signals, and the main thread's loop.
 *
 * The main thread accepts connections, hears signals and waits; all other work is the workers'. SIGTERM and SIGINT ask
 * for a graceful end: no new connections, every protocol says its goodbye, and when all have gone or drain_timeout is
 * over the parts go down. A second signal ends the waiting. SIGHUP reads the configuration again: log, certificates,
 * limits and what modules make of theirs; listeners and stores stay as they are. */
#include "conn.h"
#include "core_rows.h"
#include "heap.h"
#include "listen.h"
#include "loader.h"
#include "node.h"
#include "notify.h"
#include "settings.h"
#include "start.h"
#include "tls.h"

#include <mqgate/auth.h>
#include <mqgate/obs.h>

#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define MAIN_OTHER_FILES 200 /* stores, listeners, timers: what is open beside connections */

enum { MAIN_DRAIN_LOOK_MS = 20 };

struct daemon {
    struct options options;
    struct mqg_conf *conf;
    struct event_base *base;
    struct event *term, *interrupt, *hup, *stop, *drain_tick;
    bool running;            /* everything is up: before that, a wish to stop ends the recovery (start.c) */
    uint64_t drain_until_ms; /* 0: not draining */
};

/* ---- draining ------------------------------------------------------------------------------------------------------------- */

static void main_drain_look(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct daemon *d = arg;
    if (conn_count() > 0 && mqg_clock_now().mono_ms < d->drain_until_ms)
        return;
    mqg_log(MQG_LOG_INFO, MQG_EVENT_DRAIN, "state=ended connections_left=%u", conn_count());
    event_base_loopbreak(d->base);
}

static void main_drain(struct daemon *d, const char *why)
{
    if (d->drain_until_ms != 0) {
        d->drain_until_ms = 1; /* asked again: at once */
        return;
    }
    int64_t timeout_ms = mqg_conf_int(d->conf, "node", "drain_timeout");
    struct timeval tick = {.tv_usec = MAIN_DRAIN_LOOK_MS * 1000};
    d->drain_until_ms = mqg_clock_now().mono_ms + (uint64_t)timeout_ms + 1;
    mqg_log(MQG_LOG_INFO, MQG_EVENT_DRAIN, "state=begun why=%s connections=%u timeout_ms=%lld",
            mqg_logqs(why), conn_count(), (long long)timeout_ms);
    node_state_set("draining");
    notify_state("STOPPING=1\nSTATUS=draining");
    start_close_listeners();
    conn_drain();
    event_add(d->drain_tick, &tick);
}

static void main_on_term(evutil_socket_t number, short what, void *arg)
{
    (void)what;
    struct daemon *d = arg;
    mqg_node_stop(0, number == SIGTERM ? "SIGTERM" : "SIGINT");
    if (d->running)
        main_drain(d, number == SIGTERM ? "SIGTERM" : "SIGINT");
}

/* mqg_node_stop from some thread: a wish drains; after a failure nobody is kept waiting. */
static void main_on_stop(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct daemon *d = arg;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);
    (void)n;
    int exit_code = 0;
    char why[256];
    if (!node_stop_asked(&exit_code, why) || !d->running)
        return;
    if (d->drain_until_ms == 0)
        main_drain(d, why);
    if (exit_code != 0) {
        node_state_set("failed");
        event_base_loopbreak(d->base);
    }
}

/* ---- reload ------------------------------------------------------------------------------------------------------------------ */

/* Whether a reload can change it: what was opened at the start stays. */
static bool main_is_fixed(const char *section, const char *key)
{
    bool listener = strcmp(section, "listeners") == 0;
    bool store = strncmp(section, "store", 5) == 0;
    bool node = strcmp(section, "node") == 0 && (strcmp(key, "workers") == 0 || strcmp(key, "name") == 0);
    return listener || store || node || strcmp(section, "modules") == 0;
}

static void main_changed(void *arg, const char *section, const char *key)
{
    (void)arg;
    mqg_log(MQG_LOG_INFO, MQG_EVENT_RELOAD, "changed=%s.%s effect=%s", section, key,
            main_is_fixed(section, key) ? "after_a_restart" : "now");
}

static void main_on_hup(evutil_socket_t number, short what, void *arg)
{
    (void)number;
    (void)what;
    struct daemon *d = arg;
    struct mqg_error e;
    struct mqg_conf *fresh = NULL;
    if (!d->running)
        return; /* what is read at the start is new enough */
    enum mqg_err err = settings_read(&d->options, &fresh, &e);
    if (err == MQG_OK)
        err = settings_check(fresh, &e);
    if (err == MQG_OK)
        err = settings_apply(fresh, &e);
    if (err != MQG_OK) {
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_RELOAD, "result=refused text=%s", mqg_logqs(e.text));
        mqg_conf_free(&fresh);
        return;
    }
    mqg_auth_reload(fresh);
    loader_reload(fresh);
    mqg_conf_diff(d->conf, fresh, main_changed, NULL);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_RELOAD, "result=ok");
    mqg_conf_retire(&d->conf); /* modules may keep strings of it */
    d->conf = fresh;
}

/* ---- running ----------------------------------------------------------------------------------------------------------------- */

static void main_events_init(struct daemon *d)
{
    d->base = event_base_new();
    MQG_ASSERT(d->base != NULL);
    d->term = evsignal_new(d->base, SIGTERM, main_on_term, d);
    d->interrupt = evsignal_new(d->base, SIGINT, main_on_term, d);
    d->hup = evsignal_new(d->base, SIGHUP, main_on_hup, d);
    d->stop = event_new(d->base, node_stop_fd(), EV_READ | EV_PERSIST, main_on_stop, d);
    d->drain_tick = event_new(d->base, -1, EV_PERSIST, main_drain_look, d);
    MQG_ASSERT(d->term != NULL && d->interrupt != NULL && d->hup != NULL && d->stop != NULL &&
               d->drain_tick != NULL);
    event_add(d->term, NULL);
    event_add(d->interrupt, NULL);
    event_add(d->hup, NULL);
    event_add(d->stop, NULL);
}

static void main_events_fini(struct daemon *d)
{
    event_free(d->term);
    event_free(d->interrupt);
    event_free(d->hup);
    event_free(d->stop);
    event_free(d->drain_tick);
    event_base_free(d->base);
}

static void main_ready(const struct daemon *d)
{
    char listeners[4096];
    mqg_node_listeners(listeners, sizeof listeners);
    node_state_set("running");
    mqg_log(MQG_LOG_INFO, MQG_EVENT_READY, "%s workers=%u", listeners, settings_workers(d->conf));
    notify_state("READY=1\nSTATUS=running");
}

/* One connection is one descriptor; what the system allows is asked for whole. */
static void main_raise_limits(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* limits.connections may want more than that: it is asked for, too, and what is not given is said before a client meets it. */
static void main_check_limits(const struct mqg_conf *conf)
{
    struct rlimit files;
    int64_t connections = mqg_conf_int(conf, "limits", "connections");
    rlim_t wanted = (rlim_t)connections + MAIN_OTHER_FILES;
    if (connections == 0 || getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max >= wanted)
        return;
    struct rlimit more = {.rlim_cur = wanted, .rlim_max = wanted};
    if (setrlimit(RLIMIT_NOFILE, &more) == 0)
        return;
    mqg_log(
        MQG_LOG_WARN, MQG_EVENT_CONFIG,
        "limits.connections=%lld open_files=%llu why=\"%llu open files are wanted; raise LimitNOFILE of the "
        "service, or ulimit -n\"",
        (long long)connections, (unsigned long long)files.rlim_max, (unsigned long long)wanted);
}

/* One line that says what is wrong and what to do: in the log of a daemon, in words to whoever typed a question; to both
 * when the log is not what he sees. */
static int main_refuse(const struct daemon *d, const struct mqg_error *e)
{
    bool asked = d->options.mode != OPTIONS_RUN;
    const char *file = d->conf != NULL ? mqg_conf_str(d->conf, "log", "file") : "";
    if (!asked)
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_STOP, "exit=1 why=%s", mqg_logqs(e->text));
    if (asked || *file != '\0')
        fprintf(stderr, "mqgate: %s\n", e->text);
    return EXIT_FAILURE;
}

static int main_run(struct daemon *d)
{
    struct mqg_error e = {.err = MQG_OK};
    int exit_code = 0;
    char why[256] = "";
    mqg_log(MQG_LOG_INFO, MQG_EVENT_START, "version=%s pid=%d node=%s config=%s", MQG_VERSION, (int)getpid(),
            mqg_logqs(mqg_node_name()),
            mqg_logqs(d->options.config != NULL ? d->options.config : MQG_CONF_FILE));
    main_check_limits(d->conf);
    main_events_init(d);
    enum mqg_err err = start_up(d->conf, d->base, &e);
    if (err == MQG_OK) {
        main_ready(d);
        d->running = true;
        if (!node_stop_asked(&exit_code,
                             why)) /* asked for before anybody could have come: nothing to drain */
            event_base_dispatch(d->base);
        node_stop_asked(&exit_code, why);
    }
    start_down();
    main_events_fini(d);
    if (err != MQG_OK)
        return main_refuse(d, &e);
    mqg_log(exit_code == 0 ? MQG_LOG_INFO : MQG_LOG_ERROR, MQG_EVENT_STOP, "exit=%d why=%s", exit_code,
            mqg_logqs(why));
    return exit_code;
}

/* ---- the command ------------------------------------------------------------------------------------------------------------- */

static int main_print(const struct mqg_conf *conf)
{
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 1 << 20);
    mqg_conf_print(conf, &out);
    size_t n = fwrite(out.ptr, 1, out.len, stdout);
    bool good = n == out.len && !out.failed && fflush(stdout) == 0;
    mqg_dynbuf_fini(&out);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

static enum mqg_err main_prepare(struct daemon *d, struct mqg_error *e)
{
    enum mqg_err err = settings_read(&d->options, &d->conf, e);
    if (err == MQG_OK)
        err = loader_open(mqg_conf_str(d->conf, "modules", "path"), e);
    if (err == MQG_OK)
        err = settings_check(d->conf, e);
    if (err != MQG_OK || d->options.mode == OPTIONS_PRINT)
        return err;
    err = settings_apply(d->conf, e);
    if (err == MQG_OK)
        err = listen_check(d->conf, e);
    return err == MQG_OK ? loader_load(d->conf, e) : err;
}

static int main_command(struct daemon *d)
{
    struct mqg_error e = {.err = MQG_OK};
    if (main_prepare(d, &e) != MQG_OK)
        return main_refuse(d, &e);
    if (d->options.mode == OPTIONS_PRINT)
        return main_print(d->conf);
    if (d->options.mode == OPTIONS_CHECK) {
        printf("the configuration is good\n");
        return EXIT_SUCCESS;
    }
    heap_init(settings_workers(d->conf));
    node_init(mqg_conf_str(d->conf, "node", "name"));
    return main_run(d);
}

int main(int argc, char **argv)
{
    static struct daemon d;
    struct mqg_error e;
    if (options_parse(argc, argv, &d.options, &e) != MQG_OK) {
        fprintf(stderr, "mqgate: %s\n", e.text);
        return 2;
    }
    if (d.options.mode == OPTIONS_VERSION || d.options.mode == OPTIONS_HELP) {
        fputs(d.options.mode == OPTIONS_HELP ? options_help : "mqgate " MQG_VERSION "\n", stdout);
        return EXIT_SUCCESS;
    }
    signal(SIGPIPE, SIG_IGN);
    main_raise_limits();
    int code = main_command(&d);
    loader_close();
    io_tls_unload();
    mqg_conf_free(&d.conf);
    return code;
}

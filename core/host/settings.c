/* settings.c - from sources to a checked configuration, and what the core makes of it.
 *
 * Two steps, since modules bring keys of their own and lie in a folder that is itself a setting: first everything is
 * read, then modules.path alone is believed, and when the modules are there all keys are checked. */
#include "settings.h"
#include "conn.h"
#include "core_rows.h"
#include "loader.h"
#include "tls.h"

#include <mqgate/obs.h>

#include <stdlib.h>
#include <unistd.h>

extern char **environ;

enum { SETTINGS_MEMORY_PERCENT = 40, SETTINGS_BEYOND_MIN_BYTES = 64 << 20 };

enum mqg_err settings_read(const struct options *o, struct mqg_conf **out, struct mqg_error *e)
{
    struct mqg_conf *conf = mqg_conf_new();
    mqg_conf_schema(conf, mqg_core_rows);
    enum mqg_err err = MQG_OK;
    if (o->config != NULL || access(MQG_CONF_FILE, F_OK) == 0)
        err = mqg_conf_file(conf, o->config != NULL ? o->config : MQG_CONF_FILE, e);
    if (err == MQG_OK)
        err = mqg_conf_environ(conf, environ, e);
    for (size_t i = 0; i < o->nsets && err == MQG_OK; i++)
        err = mqg_conf_set(conf, o->sets[i], e);
    mqg_conf_complete(conf);
    if (err != MQG_OK)
        mqg_conf_free(&conf);
    *out = conf;
    return err;
}

enum mqg_err settings_check(struct mqg_conf *conf, struct mqg_error *e)
{
    const struct loaded *l;
    for (size_t i = 0; (l = loader_at(i)) != NULL; i++)
        mqg_conf_schema(conf, l->module.conf);
    return mqg_conf_check(conf, e);
}

static int64_t settings_memory(const struct mqg_conf *conf)
{
    int64_t given = mqg_conf_int(conf, "limits", "memory");
    if (given > 0)
        return given;
    int64_t pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? pages / 100 * SETTINGS_MEMORY_PERCENT * page : INT64_C(1) << 30;
}

static void settings_limits(const struct mqg_conf *conf)
{
    int64_t high = settings_memory(conf);
    /* Publishers are blocked at the mark; what is on its way still fits, up to a quarter more. It is never less than what
     * the kernel holds for a few connections, since an ack may stand behind all of it in the same stream. */
    int64_t beyond = high / 4 > SETTINGS_BEYOND_MIN_BYTES ? high / 4 : SETTINGS_BEYOND_MIN_BYTES;
    mqg_msg_memory_limit(high + beyond);
    conn_configure(&(struct conn_settings){
        .login_timeout_ms = (uint64_t)mqg_conf_int(conf, "limits", "login_timeout"),
        .connections_max = (uint32_t)mqg_conf_int(conf, "limits", "connections"),
        .dribble = mqg_conf_bool(conf, "node", "debug_dribble"),
        .memory_high_bytes = high,
        .memory_hard_bytes = high + beyond,
    });
}

/* Switches the words of a list on or off. */
static void settings_trace_list(const char *list, bool on)
{
    for (list += strspn(list, " ,"); *list != '\0'; list += strspn(list, " ,")) {
        size_t n = strcspn(list, " ,");
        char *word = mqg_slice_dup(mqg_slice_of(list, n));
        mqg_trace_set(word, 0, on);
        free(word);
        list += n;
    }
}

static void settings_trace(const struct mqg_conf *conf)
{
    static char *before;
    if (before != NULL)
        settings_trace_list(before, false);
    free(before);
    before = mqg_xstrdup(mqg_conf_str(conf, "log", "trace"));
    settings_trace_list(before, true);
}

enum mqg_err settings_apply(const struct mqg_conf *conf, struct mqg_error *e)
{
    enum mqg_log_level level;
    if (mqg_log_level_parse(mqg_conf_str(conf, "log", "level"), &level))
        mqg_log_level_set(level);
    enum mqg_err err = mqg_log_file(mqg_conf_str(conf, "log", "file"), e);
    if (err == MQG_OK)
        err = io_tls_load(conf, e);
    if (err != MQG_OK)
        return err;
    settings_trace(conf);
    settings_limits(conf);
    return MQG_OK;
}

uint32_t settings_workers(const struct mqg_conf *conf)
{
    int64_t given = mqg_conf_int(conf, "node", "workers");
    int64_t cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t n = given > 0 ? given : cpus > 0 ? cpus : 1;
    return (uint32_t)(n > MQG_WORKERS_MAX ? MQG_WORKERS_MAX : n);
}

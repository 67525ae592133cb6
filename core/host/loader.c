/* loader.c - modules, from shared objects or linked in from the same source.
 *
 * Nothing of a descriptor is believed before what protects it: magic, then versions, then sizes. A module may be older
 * than the host: its descriptor and table may be shorter, so both are copied into full-length ones where what is missing
 * is NULL. It may not be newer: it could count on something that is not there. Each refusal is one line that names the
 * file, what it has and what would be right.
 *
 * Modules stay loaded until the end: their code may be on any stack. */
#include "loader.h"

#include <mqgate/conf.h>
#include <mqgate/obs.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static struct loaded *loaded[LOADER_MODULES_MAX];
static size_t nloaded;

const struct loaded *loader_at(size_t i)
{
    return i < nloaded ? loaded[i] : NULL;
}

const struct loaded *loader_find(const char *name)
{
    for (size_t i = 0; i < nloaded; i++)
        if (strcmp(loaded[i]->module.name, name) == 0)
            return loaded[i];
    return NULL;
}

/* ---- checks -------------------------------------------------------------------------------------------------------------- */

/* A call that a table must have, at its place. */
struct loader_need {
    size_t offset;
    const char *name;
};

#define LOADER_NEED(type, field)             \
    {                                        \
        offsetof(struct type, field), #field \
    }

static const struct loader_need loader_protocol[] = {
    LOADER_NEED(mqg_protocol_ops, name), LOADER_NEED(mqg_protocol_ops, listeners),
    LOADER_NEED(mqg_protocol_ops, conn_init), LOADER_NEED(mqg_protocol_ops, input),
    LOADER_NEED(mqg_protocol_ops, conn_fini)};
static const struct loader_need loader_storage[] = {
    LOADER_NEED(mqg_store_ops, type),    LOADER_NEED(mqg_store_ops, open),
    LOADER_NEED(mqg_store_ops, recover), LOADER_NEED(mqg_store_ops, start),
    LOADER_NEED(mqg_store_ops, submit),  LOADER_NEED(mqg_store_ops, stats),
    LOADER_NEED(mqg_store_ops, close),   LOADER_NEED(mqg_store_ops, stop),
    LOADER_NEED(mqg_store_ops, fini)};
static const struct loader_need loader_service[] = {LOADER_NEED(mqg_service_ops, start),
                                                    LOADER_NEED(mqg_service_ops, stop)};

struct loader_kind {
    const char *name;
    size_t ops_size;
    const struct loader_need *needs;
    size_t nneeds;
};

static const struct loader_kind loader_kinds[] = {
    [MQG_MODULE_PROTOCOL] = {"protocol", sizeof(struct mqg_protocol_ops), loader_protocol,
                             MQG_COUNTOF(loader_protocol)},
    [MQG_MODULE_STORAGE] = {"storage", sizeof(struct mqg_store_ops), loader_storage,
                            MQG_COUNTOF(loader_storage)},
    [MQG_MODULE_SERVICE] = {"service", sizeof(struct mqg_service_ops), loader_service,
                            MQG_COUNTOF(loader_service)},
};

#define LOADER_MODULE_MIN (offsetof(struct mqg_module, ops) + sizeof(void *))

static enum mqg_err loader_check_head(const char *file, const struct mqg_module *m, struct mqg_error *e)
{
    if (m->magic != MQG_MODULE_MAGIC)
        return mqg_error_set(e, MQG_UNSUPPORTED, 0, "module %s: magic 0x%08x, not 0x%08x: no mqgate module",
                             file, m->magic, MQG_MODULE_MAGIC);
    if (m->abi_major != MQG_MODULE_ABI_MAJOR || m->abi_minor > MQG_MODULE_ABI_MINOR)
        return mqg_error_set(e, MQG_UNSUPPORTED, 0, "module %s: interface %u.%u, this mqgate has %d.%d: %s",
                             file, m->abi_major, m->abi_minor, MQG_MODULE_ABI_MAJOR, MQG_MODULE_ABI_MINOR,
                             m->abi_major < MQG_MODULE_ABI_MAJOR ? "build the module anew"
                                                                 : "a newer mqgate is needed");
    if (m->size < LOADER_MODULE_MIN)
        return mqg_error_set(e, MQG_UNSUPPORTED, 0,
                             "module %s: a descriptor of %u bytes, at least %zu are needed", file, m->size,
                             LOADER_MODULE_MIN);
    return MQG_OK;
}

static bool loader_name_is_good(const char *name)
{
    size_t n = name != NULL ? strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") : 0;
    return n > 0 && n < 64 && name[n] == '\0';
}

static enum mqg_err loader_check_body(const char *file, const struct mqg_module *m, struct mqg_error *e)
{
    if (m->kind < MQG_MODULE_PROTOCOL || m->kind > MQG_MODULE_SERVICE)
        return mqg_error_set(e, MQG_UNSUPPORTED, 0, "module %s: kind %d, not protocol, storage or service",
                             file, (int)m->kind);
    if (!loader_name_is_good(m->name))
        return mqg_error_set(e, MQG_INVALID, 0, "module %s: its name is not made of a-z, 0-9 and _", file);
    if (m->ops == NULL)
        return mqg_error_set(e, MQG_INVALID, 0, "module %s: no %s table", file, loader_kinds[m->kind].name);
    const struct loaded *other = loader_find(m->name);
    if (other != NULL)
        return mqg_error_set(e, MQG_EXISTS, 0, "module %s: %s is loaded already from %s", file, m->name,
                             other->file);
    return MQG_OK;
}

static enum mqg_err loader_check_ops(const struct loaded *l, struct mqg_error *e)
{
    const struct loader_kind *kind = &loader_kinds[l->module.kind];
    for (size_t i = 0; i < kind->nneeds; i++) {
        const void *there;
        memcpy(&there, (const char *)&l->ops + kind->needs[i].offset, sizeof there);
        if (there == NULL)
            return mqg_error_set(e, MQG_INVALID, 0, "module %s: its %s table lacks %s, which is required",
                                 l->file, kind->name, kind->needs[i].name);
    }
    return MQG_OK;
}

/* ---- taking one in ---------------------------------------------------------------------------------------------------------- */

static size_t loader_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static enum mqg_err loader_take(const struct mqg_module *m, const char *file, void *handle,
                                struct mqg_error *e)
{
    enum mqg_err err = loader_check_head(file, m, e);
    if (err == MQG_OK)
        err = loader_check_body(file, m, e);
    if (err != MQG_OK)
        return err;
    if (nloaded == LOADER_MODULES_MAX)
        return mqg_error_set(e, MQG_TOO_LARGE, 0, "module %s: at most %d modules", file, LOADER_MODULES_MAX);
    struct loaded *l = mqg_xcalloc(1, sizeof *l);
    memcpy(&l->module, m, loader_least(m->size, sizeof l->module));
    memcpy(&l->ops, m->ops, loader_least(m->ops_size, loader_kinds[m->kind].ops_size));
    l->module.ops = &l->ops;
    l->handle = handle;
    snprintf(l->file, sizeof l->file, "%s", file);
    err = loader_check_ops(l, e);
    if (err != MQG_OK) {
        free(l);
        return err;
    }
    loaded[nloaded++] = l;
    mqg_log(MQG_LOG_DEBUG, MQG_EVENT_MODULE, "name=%s kind=%s version=%s file=%s", l->module.name,
            loader_kinds[m->kind].name, mqg_logqs(l->module.version), mqg_logqs(file));
    return MQG_OK;
}

static const char *loader_base(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash != NULL ? slash + 1 : file;
}

enum mqg_err loader_open_file(const char *file, struct mqg_error *e)
{
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return mqg_error_set(e, MQG_INVALID, 0, "module %s: %s", loader_base(file), dlerror());
    const struct mqg_module *m = dlsym(handle, "mqg_module");
    enum mqg_err err;
    if (m == NULL)
        err = mqg_error_set(e, MQG_UNSUPPORTED, 0, "module %s: it has no symbol mqg_module: no mqgate module",
                            loader_base(file));
    else
        err = loader_take(m, loader_base(file), handle, e);
    if (err != MQG_OK)
        dlclose(handle);
    return err;
}

static int loader_is_module(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return n > 3 && d->d_name[0] != '.' && strcmp(d->d_name + n - 3, ".so") == 0;
}

static enum mqg_err loader_open_folder(const char *path, struct mqg_error *e)
{
    struct dirent **names = NULL;
    int n = scandir(path, &names, loader_is_module, alphasort);
    if (n < 0)
        return mqg_error_set(e, MQG_IO, errno, "modules.path=%s cannot be read: %s", path, strerror(errno));
    enum mqg_err err = MQG_OK;
    for (int i = 0; i < n; i++) {
        char file[4096];
        int len = snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        free(names[i]);
        if (err != MQG_OK)
            continue;
        if (len < 0 || (size_t)len >= sizeof file)
            err = mqg_error_set(e, MQG_TOO_LARGE, 0, "modules.path=%.200s: a path is too long", path);
        else
            err = loader_open_file(file, e);
    }
    free(names);
    return err;
}

enum mqg_err loader_open(const char *path, struct mqg_error *e)
{
    enum mqg_err err = MQG_OK;
    for (size_t i = 0; host_static_modules[i] != NULL && err == MQG_OK; i++)
        err = loader_take(host_static_modules[i], "(linked in)", NULL, e);
    bool linked = nloaded > 0;
    if (err == MQG_OK && *path != '\0')
        err = loader_open_folder(path, e);
    if (err == MQG_IO && linked)
        err = MQG_OK; /* a static daemon needs no folder */
    return err;
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------ */

enum mqg_err loader_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    for (size_t i = 0; i < nloaded; i++) {
        const struct mqg_module *m = &loaded[i]->module;
        enum mqg_err err = m->load != NULL ? m->load(conf, e) : MQG_OK;
        if (err != MQG_OK)
            return err;
        loaded[i]->up = true;
    }
    return MQG_OK;
}

void loader_reload(const struct mqg_conf *conf)
{
    for (size_t i = 0; i < nloaded; i++)
        if (loaded[i]->up && loaded[i]->module.reload != NULL)
            loaded[i]->module.reload(conf);
}

void loader_close(void)
{
    while (nloaded > 0) {
        struct loaded *l = loaded[--nloaded];
        if (l->up && l->module.unload != NULL)
            l->module.unload();
        if (l->handle != NULL)
            dlclose(l->handle);
        free(l);
    }
}

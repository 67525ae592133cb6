/* log.c - one line of logfmt per event, one write(2) per line.
 *
 * A line is put together on the stack and written at once to a descriptor opened for appending, so lines of different
 * threads never mix and a crash loses none. There is no queue in between: what is logged is rare (connections,
 * definitions, refusals), messages are counted instead. What a peer sent is quoted and cut (mqg_logq), so that it can
 * neither forge a line nor fill a disk with one.
 *
 * The log file keeps its descriptor number for ever: reopening for rotation dup2()s over it, which no writer in
 * another thread can notice. */
#include <mqgate/obs.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    LOG_LINE_BYTES = 4096,
    LOG_QUOTED_MAX = 256,
    LOG_QUOTED_BYTES = LOG_QUOTED_MAX * 4 + 8,
    LOG_QUOTED_SLOTS = 8
};

static _Atomic int log_level = MQG_LOG_INFO;
static _Atomic int log_fd = STDERR_FILENO;
static int log_own_fd = -1; /* the number that log files get; main only */

static const char *const log_level_names[] = {
    [MQG_LOG_DEBUG] = "debug", [MQG_LOG_INFO] = "info", [MQG_LOG_WARN] = "warn", [MQG_LOG_ERROR] = "error"};

#define LOG_EVENT_NAME(sym, name, help) [MQG_EVENT_##sym] = name,
static const char *const log_event_names[] = {MQG_EVENTS(LOG_EVENT_NAME)};
#undef LOG_EVENT_NAME

/* ---- lines --------------------------------------------------------------------------------------------------------- */

static size_t log_head(char *line, size_t room, enum mqg_log_level level, enum mqg_event event)
{
    uint64_t us = mqg_clock_now().wall_us;
    time_t seconds = (time_t)(us / 1000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t len = strftime(line, room, "ts=%Y-%m-%dT%H:%M:%S", &tm);
    int n = snprintf(line + len, room - len, ".%06uZ level=%s event=%s ", (unsigned)(us % 1000000),
                     log_level_names[level], log_event_names[event]);
    MQG_ASSERT(n > 0 && (size_t)n < room - len);
    return len + (size_t)n;
}

static void log_write(const char *line, size_t len)
{
    int fd = atomic_load_explicit(&log_fd, memory_order_relaxed);
    while (len > 0) {
        ssize_t n = write(fd, line, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* a full disk must not stop the daemon, and there is nobody to tell */
        line += n;
        len -= (size_t)n;
    }
}

static void log_line_end(char *line, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    line[len] = '\n';
    log_write(line, len + 1);
}

bool mqg_log_on(enum mqg_log_level level)
{
    return (int)level >= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void mqg_log(enum mqg_log_level level, enum mqg_event event, const char *fmt, ...)
{
    MQG_ASSERT((size_t)event < MQG_EVENT_COUNT);
    if (event != MQG_EVENT_TRACE && !mqg_log_on(level))
        return;
    char line[LOG_LINE_BYTES];
    size_t len = log_head(line, sizeof line, level, event);
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line + len, sizeof line - len, fmt, args);
    va_end(args);
    size_t room = sizeof line - len - 1;
    len += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room;
    log_line_end(line, len);
}

/* ---- level and file ---------------------------------------------------------------------------------------------------- */

void mqg_log_level_set(enum mqg_log_level level)
{
    atomic_store(&log_level, (int)level);
}

bool mqg_log_level_parse(const char *word, enum mqg_log_level *out)
{
    for (size_t i = 0; i < MQG_COUNTOF(log_level_names); i++) {
        if (strcmp(word, log_level_names[i]) == 0) {
            *out = (enum mqg_log_level)i;
            return true;
        }
    }
    return false;
}

enum mqg_err mqg_log_file(const char *path, struct mqg_error *e)
{
    if (path == NULL || *path == '\0') {
        atomic_store(&log_fd, STDERR_FILENO);
        return MQG_OK;
    }
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return mqg_error_set(e, MQG_IO, errno, "log.file=%s cannot be opened: %s", path, strerror(errno));
    if (log_own_fd < 0) {
        log_own_fd = fd;
    } else {
        dup3(fd, log_own_fd, O_CLOEXEC);
        close(fd);
    }
    atomic_store(&log_fd, log_own_fd);
    return MQG_OK;
}

/* ---- values made safe ---------------------------------------------------------------------------------------------------- */

static bool log_byte_is_plain(uint8_t c)
{
    return c > 0x20 && c != 0x7f && c != '"' && c != '=' && c != '\\';
}

static bool log_is_plain(struct mqg_slice s)
{
    if (s.len == 0 || !mqg_utf8_valid(s))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!log_byte_is_plain(s.ptr[i]))
            return false;
    return true;
}

static char *log_escape(char *to, uint8_t c, bool utf8)
{
    static const char hex[] = "0123456789abcdef";
    if (c == '"' || c == '\\') {
        *to++ = '\\';
        *to++ = (char)c;
    } else if ((c >= 0x20 && c < 0x7f) || (c >= 0x80 && utf8)) {
        *to++ = (char)c;
    } else {
        *to++ = '\\';
        *to++ = 'x';
        *to++ = hex[c >> 4];
        *to++ = hex[c & 15];
    }
    return to;
}

/* Cuts at a whole UTF-8 character where the bytes are UTF-8. */
static struct mqg_slice log_cut(struct mqg_slice s)
{
    if (s.len <= LOG_QUOTED_MAX)
        return s;
    s.len = LOG_QUOTED_MAX;
    for (size_t back = 0; back < 4 && s.len > 0 && (s.ptr[s.len] & 0xc0) == 0x80; back++)
        s.len--;
    return s;
}

const char *mqg_logq(struct mqg_slice s)
{
    static _Thread_local char slots[LOG_QUOTED_SLOTS][LOG_QUOTED_BYTES];
    static _Thread_local unsigned slot;
    char *out = slots[slot++ % LOG_QUOTED_SLOTS];
    struct mqg_slice part = log_cut(s);
    if (part.len == s.len && log_is_plain(part)) {
        memcpy(out, part.ptr, part.len);
        out[part.len] = '\0';
        return out;
    }
    bool utf8 = mqg_utf8_valid(part);
    char *to = out;
    *to++ = '"';
    for (size_t i = 0; i < part.len; i++)
        to = log_escape(to, part.ptr[i], utf8);
    memcpy(to, part.len < s.len ? "..\"" : "\"", part.len < s.len ? 4 : 2);
    return out;
}

const char *mqg_logqs(const char *s)
{
    return mqg_logq(mqg_slice_str(s != NULL ? s : ""));
}

/* pattern.c - permission patterns: regular expressions of PCRE2, matched as RabbitMQ matches them.
 *
 * The search is not anchored, subjects are bytes, and the empty pattern stands for "^$". Patterns come from operators and
 * names from clients, so each match has a bound on its steps: one that would take longer is no permission. Compiled code
 * is immutable and shared between threads; only the match's scratch is not, so each thread has its own. */
#include "auth_int.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <pthread.h>
#include <stdlib.h>

enum { PATTERN_STEPS_MAX = 100000, PATTERN_DEPTH_MAX = 1000, PATTERN_HEAP_MAX_KIB = 1024 };

struct auth_pattern {
    pcre2_code *code;
};

static pthread_once_t pattern_once = PTHREAD_ONCE_INIT;
static pcre2_match_context *pattern_limits; /* for the process */
static pthread_key_t pattern_scratch;

static void pattern_scratch_free(void *scratch)
{
    pcre2_match_data_free(scratch);
}

static void pattern_init(void)
{
    pattern_limits = pcre2_match_context_create(NULL);
    MQG_ASSERT(pattern_limits != NULL && pthread_key_create(&pattern_scratch, pattern_scratch_free) == 0);
    pcre2_set_match_limit(pattern_limits, PATTERN_STEPS_MAX);
    pcre2_set_depth_limit(pattern_limits, PATTERN_DEPTH_MAX);
    pcre2_set_heap_limit(pattern_limits, PATTERN_HEAP_MAX_KIB);
}

struct auth_pattern *auth_pattern_new(struct mqg_slice text, struct mqg_error *e)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    struct mqg_slice shown = text;
    if (text.len == 0)
        text = MQG_SLICE_LIT("^$");
    pcre2_code *compiled = pcre2_compile(text.ptr, text.len, PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    if (compiled == NULL) {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(code, why, sizeof why);
        mqg_error_set(e, MQG_INVALID, 0, "invalid regular expression '%.*s': %s at offset %zu",
                      MQG_SLICE_FMT(shown), (const char *)why, (size_t)at);
        return NULL;
    }
    struct auth_pattern *p = mqg_xmalloc(sizeof *p);
    p->code = compiled;
    return p;
}

void auth_pattern_free(struct auth_pattern **p)
{
    if (*p == NULL)
        return;
    pcre2_code_free((*p)->code);
    free(*p);
    *p = NULL;
}

bool auth_pattern_match(const struct auth_pattern *p, struct mqg_slice subject)
{
    if (p == NULL)
        return false;
    pthread_once(&pattern_once, pattern_init);
    pcre2_match_data *scratch = pthread_getspecific(pattern_scratch);
    if (scratch == NULL) {
        scratch = pcre2_match_data_create(1, NULL);
        MQG_ASSERT(scratch != NULL && pthread_setspecific(pattern_scratch, scratch) == 0);
    }
    const uint8_t *ptr = subject.len > 0 ? subject.ptr : (const uint8_t *)"";
    return pcre2_match(p->code, ptr, subject.len, 0, 0, scratch, pattern_limits) >= 0;
}

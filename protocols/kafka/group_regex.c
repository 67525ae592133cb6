/* group_regex.c - RE2's language by PCRE2, which knows more than that: what RE2 does not have is refused, because a client that is
 * tested here must find the same elsewhere, and because it is what makes matching slow. What is left is bounded by a limit of steps
 * per name, so that no pattern stops a worker. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "group_regex.h"

#include <pcre2.h>
#include <stdlib.h>

enum { REGEX_STEPS = 20000, REGEX_HEAP_KIB = 1024, REGEX_NESTING = 100, REGEX_SLOW = 100 };

struct group_regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *limits;
    unsigned slow; /* names that took too many steps */
};

/* "(?" that RE2 has: (?:  (?P<name>  (?<name>  (?flags)  (?flags: */
static bool group_known(struct mqg_slice rest)
{
    if (rest.len == 0)
        return false;
    if (rest.ptr[0] == 'P')
        return rest.len > 1 && rest.ptr[1] == '<';
    if (rest.ptr[0] == '<')
        return rest.len > 1 && rest.ptr[1] != '=' && rest.ptr[1] != '!';
    size_t i = 0;
    while (i < rest.len && strchr("imsU-", rest.ptr[i]) != NULL)
        i++;
    return i < rest.len && (rest.ptr[i] == ':' || (i > 0 && rest.ptr[i] == ')'));
}

/* \1 \g \k and their like; \G \K \R \X \Z... are not RE2's either. */
static bool escape_known(uint8_t c)
{
    return c == 0 || strchr("123456789gkGKRXZ", c) == NULL;
}

static bool pattern_known(struct mqg_slice p)
{
    bool set = false;
    for (size_t i = 0; i < p.len; i++) {
        uint8_t c = p.ptr[i], next = i + 1 < p.len ? p.ptr[i + 1] : 0;
        if (c == '\\') {
            if (!set && !escape_known(next))
                return false;
            i++;
        } else if (set) {
            set = c != ']';
        } else if (c == '[') {
            set = true;
            i += next == '^' ? 1 : 0;
            i += i + 1 < p.len && p.ptr[i + 1] == ']' ? 1 : 0;
        } else if (c == '(' && (next == '*' ||
                                (next == '?' && !group_known(mqg_slice_of(p.ptr + i + 2, p.len - i - 2))))) {
            return false;
        } else if (strchr("*+?}", c) != NULL && c != 0 && next == '+') {
            return false; /* possessive */
        }
    }
    return true;
}

enum mqg_err group_regex_new(struct mqg_slice pattern, struct group_regex **out)
{
    int error;
    PCRE2_SIZE at;
    *out = NULL;
    if (pattern.len > GROUP_REGEX_MAX || !mqg_utf8_valid(pattern) || !pattern_known(pattern))
        return MQG_INVALID;
    pcre2_compile_context *how = pcre2_compile_context_create(NULL);
    MQG_ASSERT(how != NULL);
    (void)pcre2_set_parens_nest_limit(how, REGEX_NESTING);
    pcre2_code *code = pcre2_compile(pattern.ptr, pattern.len,
                                     PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C,
                                     &error, &at, how);
    pcre2_compile_context_free(how);
    if (code == NULL)
        return MQG_INVALID;
    struct group_regex *r = mqg_xcalloc(1, sizeof *r);
    *r = (struct group_regex){code, pcre2_match_data_create(1, NULL), pcre2_match_context_create(NULL), 0};
    MQG_ASSERT(r->data != NULL && r->limits != NULL);
    (void)pcre2_set_match_limit(r->limits, REGEX_STEPS);
    (void)pcre2_set_depth_limit(r->limits, REGEX_STEPS);
    (void)pcre2_set_heap_limit(r->limits, REGEX_HEAP_KIB);
    *out = r;
    return MQG_OK;
}

void group_regex_free(struct group_regex **r)
{
    if (*r == NULL)
        return;
    pcre2_code_free((*r)->code);
    pcre2_match_data_free((*r)->data);
    pcre2_match_context_free((*r)->limits);
    free(*r);
    *r = NULL;
}

bool group_regex_slow(const struct group_regex *r)
{
    return r->slow >= REGEX_SLOW;
}

bool group_regex_matches(struct group_regex *r, struct mqg_slice name)
{
    if (group_regex_slow(r) || !mqg_utf8_valid(name))
        return false;
    int found = pcre2_match(r->code, name.ptr, name.len, 0, 0, r->data, r->limits);
    if (found == PCRE2_ERROR_MATCHLIMIT || found == PCRE2_ERROR_DEPTHLIMIT || found == PCRE2_ERROR_HEAPLIMIT)
        r->slow++;
    return found >= 0;
}

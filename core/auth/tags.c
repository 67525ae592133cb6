/* tags.c - what a user may see and change over the management API, as words and as bits. */
#include "auth_int.h"

static const struct {
    unsigned tag;
    const char *word;
} tags_words[] = {
    {MQG_TAG_ADMINISTRATOR, "administrator"}, {MQG_TAG_MONITORING, "monitoring"},
    {MQG_TAG_POLICYMAKER, "policymaker"},     {MQG_TAG_MANAGEMENT, "management"},
    {MQG_TAG_IMPERSONATOR, "impersonator"},
};

static unsigned tags_word(struct mqg_slice word)
{
    for (size_t i = 0; i < MQG_COUNTOF(tags_words); i++)
        if (mqg_slice_eq(word, mqg_slice_str(tags_words[i].word)))
            return tags_words[i].tag;
    return 0;
}

unsigned mqg_tags_parse(struct mqg_slice words)
{
    unsigned tags = 0;
    size_t from = 0;
    for (size_t i = 0; i <= words.len; i++) {
        if (i < words.len && words.ptr[i] != ',' && words.ptr[i] != ' ')
            continue;
        if (i > from)
            tags |= tags_word(mqg_slice_of(words.ptr + from, i - from));
        from = i + 1;
    }
    return tags;
}

void mqg_tags_print(unsigned tags, char out[96])
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < MQG_COUNTOF(tags_words); i++) {
        if (!(tags & tags_words[i].tag))
            continue;
        size_t n = strlen(tags_words[i].word);
        if (len > 0)
            out[len++] = ',';
        memcpy(out + len, tags_words[i].word, n + 1);
        len += n;
    }
}

/* meta.c - who reads a module's own metadata records when the store is recovered. */
#include <mqgate/lanes.h>

enum { META_READERS_MAX = 16 };

static struct meta_reader {
    const char *prefix;
    void (*fn)(struct mqg_slice key, struct mqg_slice value);
    void (*end)(void);
} meta_readers[META_READERS_MAX];
static size_t meta_nreaders;

void mqg_meta_on_recover(const char *prefix, void (*fn)(struct mqg_slice key, struct mqg_slice value),
                         void (*end)(void))
{
    MQG_ASSERT(meta_nreaders < META_READERS_MAX);
    meta_readers[meta_nreaders++] = (struct meta_reader){prefix, fn, end};
}

bool mqg_meta_recover(struct mqg_slice key, struct mqg_slice value)
{
    for (size_t i = 0; i < meta_nreaders; i++) {
        if (!mqg_slice_starts(key, mqg_slice_str(meta_readers[i].prefix)))
            continue;
        meta_readers[i].fn(key, value);
        return true;
    }
    return false;
}

void mqg_meta_recovered(void)
{
    for (size_t i = 0; i < meta_nreaders; i++)
        if (meta_readers[i].end != NULL)
            meta_readers[i].end();
}

/* set.c - ranges in pages. Ranges never touch each other: neighbours are one. */
#include "set.h"

#include <stdlib.h>

enum { SET_PAGE_MIN = 2, SET_PAGE_MAX = 128 };

struct set_pos {
    uint32_t page, at;
};

void jrn_set_fini(struct jrn_set *set)
{
    for (uint32_t i = 0; i < set->npage; i++)
        free(set->pages[i]);
    free(set->pages);
    *set = (struct jrn_set){0};
}

/* The last range that begins at or before qseq; false when all begin behind it. */
static bool set_find(const struct jrn_set *set, uint64_t qseq, struct set_pos *pos)
{
    uint32_t low = 0, high = set->npage;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (set->pages[mid]->at[0].first <= qseq)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0)
        return false;
    pos->page = low - 1;
    const struct jrn_set_page *page = set->pages[pos->page];
    for (low = 0, high = page->n; low < high;) {
        uint32_t mid = low + (high - low) / 2;
        if (page->at[mid].first <= qseq)
            low = mid + 1;
        else
            high = mid;
    }
    pos->at = low - 1;
    return true;
}

static uint64_t set_width(struct mqg_range r)
{
    return r.last - r.first + 1;
}

static struct jrn_set_page *set_page_new(struct jrn_set *set, uint32_t where, uint32_t cap)
{
    if (set->npage == set->cap) {
        set->cap = set->cap ? set->cap * 2 : 1;
        set->pages = mqg_xrealloc(set->pages, set->cap * sizeof(struct jrn_set_page *));
    }
    memmove(&set->pages[where + 1], &set->pages[where], (set->npage - where) * sizeof(struct jrn_set_page *));
    set->npage++;
    struct jrn_set_page *page = mqg_xcalloc(1, sizeof *page + cap * sizeof page->at[0]);
    page->cap = cap;
    set->pages[where] = page;
    return page;
}

/* A full page gives its second half to a new one; one at the end (the usual growth) gives nothing. */
static void set_page_split(struct jrn_set *set, struct set_pos *pos)
{
    struct jrn_set_page *page = set->pages[pos->page];
    uint32_t keep = pos->at == page->n ? page->n : page->n / 2;
    struct jrn_set_page *next = set_page_new(set, pos->page + 1, SET_PAGE_MAX);
    for (uint32_t i = keep; i < page->n; i++) {
        next->at[next->n++] = page->at[i];
        next->members += set_width(page->at[i]);
    }
    page->n = keep;
    page->members -= next->members;
    if (pos->at >= keep)
        *pos = (struct set_pos){pos->page + 1, pos->at - keep};
}

/* Room for one more range in the page at pos; pos may move to another page. */
static struct jrn_set_page *set_room(struct jrn_set *set, struct set_pos *pos)
{
    if (set->npage == 0)
        return set_page_new(set, 0, SET_PAGE_MIN);
    struct jrn_set_page *page = set->pages[pos->page];
    if (page->n == SET_PAGE_MAX) {
        set_page_split(set, pos);
    } else if (page->n == page->cap) {
        page->cap *= 2;
        page = mqg_xrealloc(page, sizeof *page + page->cap * sizeof page->at[0]);
        set->pages[pos->page] = page;
    }
    return set->pages[pos->page];
}

static void set_insert(struct jrn_set *set, struct set_pos pos, struct mqg_range r)
{
    struct jrn_set_page *page = set_room(set, &pos);
    memmove(&page->at[pos.at + 1], &page->at[pos.at], (page->n - pos.at) * sizeof r);
    page->at[pos.at] = r;
    page->n++;
    page->members += set_width(r);
}

static void set_remove(struct jrn_set *set, struct set_pos pos)
{
    struct jrn_set_page *page = set->pages[pos.page];
    page->members -= set_width(page->at[pos.at]);
    page->n--;
    memmove(&page->at[pos.at], &page->at[pos.at + 1], (page->n - pos.at) * sizeof page->at[0]);
    if (page->n)
        return;
    free(page);
    set->npage--;
    memmove(&set->pages[pos.page], &set->pages[pos.page + 1],
            (set->npage - pos.page) * sizeof(struct jrn_set_page *));
}

/* The next range behind pos (or the first of all); false at the end. */
static bool set_next(const struct jrn_set *set, bool found, struct set_pos *pos)
{
    if (!found)
        *pos = (struct set_pos){0, 0};
    else if (++pos->at == set->pages[pos->page]->n)
        *pos = (struct set_pos){pos->page + 1, 0};
    return pos->page < set->npage;
}

/* Takes what touches r out of the set and into r, from the front on. */
static void set_swallow(struct jrn_set *set, struct mqg_range *r)
{
    for (;;) {
        struct set_pos pos = {0, 0};
        bool found = set_find(set, r->first, &pos);
        const struct mqg_range *at = found ? &set->pages[pos.page]->at[pos.at] : NULL;
        if (!at || (at->last < r->first && at->last + 1 != r->first)) {
            if (!set_next(set, found, &pos))
                return;
            at = &set->pages[pos.page]->at[pos.at];
            if (at->first > r->last && at->first - 1 != r->last)
                return;
        }
        if (at->first < r->first)
            r->first = at->first;
        if (at->last > r->last)
            r->last = at->last;
        set_remove(set, pos);
    }
}

/* The usual case: the range at pos grows at its end, and nothing follows so close. */
static bool set_grow(struct jrn_set *set, struct set_pos pos, struct mqg_range r)
{
    struct jrn_set_page *page = set->pages[pos.page];
    struct mqg_range *at = &page->at[pos.at];
    struct set_pos next = pos;
    if (at->last < r.first && at->last + 1 != r.first)
        return false;
    if (r.last <= at->last)
        return true;
    if (set_next(set, true, &next) && set->pages[next.page]->at[next.at].first <= r.last + 1)
        return false;
    page->members += r.last - at->last;
    at->last = r.last;
    return true;
}

void jrn_set_add(struct jrn_set *set, uint64_t first, uint64_t last)
{
    struct mqg_range r = {first, last};
    struct set_pos pos = {0, 0};
    if (last == UINT64_MAX) /* no qseq; widths stay below 2^64 */
        return;
    if (set_find(set, first, &pos) && set_grow(set, pos, r))
        return;
    set_swallow(set, &r);
    pos = (struct set_pos){0, 0};
    if (set_find(set, r.first, &pos))
        pos.at++;
    set_insert(set, pos, r);
}

bool jrn_set_has(const struct jrn_set *set, uint64_t qseq)
{
    struct set_pos pos;
    return set_find(set, qseq, &pos) && set->pages[pos.page]->at[pos.at].last >= qseq;
}

uint64_t jrn_set_count(const struct jrn_set *set, uint64_t first, uint64_t last)
{
    struct set_pos pos = {0, 0};
    uint64_t n = 0;
    bool found = set_find(set, first, &pos), more = found || set->npage > 0;
    while (more) {
        const struct jrn_set_page *page = set->pages[pos.page];
        struct mqg_range r = page->at[pos.at];
        if (r.first > last)
            break;
        if (pos.at == 0 && r.first >= first && page->at[page->n - 1].last <= last) {
            n += page->members;
            pos.at = page->n - 1;
        } else if (r.last >= first) {
            n += (r.last < last ? r.last : last) - (r.first > first ? r.first : first) + 1;
        }
        more = set_next(set, true, &pos);
    }
    return n;
}

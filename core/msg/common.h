/* core/msg/common.h - the common form of properties and headers, and the view's texts. Internal to core/msg. */
#ifndef MQG_MSG_COMMON_H
#define MQG_MSG_COMMON_H

#include <mqgate/msg.h>

/* The texts of a view: which bit of `has` speaks of which slice. The order is that of the common form's bytes. */
enum { VIEW_TEXTS = 9 };
struct view_text {
    uint32_t bit;
    size_t offset;
};
extern const struct view_text view_texts[VIEW_TEXTS];

static inline struct mqg_slice *view_text_at(struct mqg_view *v, size_t i)
{
    return (struct mqg_slice *)(void *)((char *)v + view_texts[i].offset);
}

/* Origin bytes of MQG_PROTO_INTERNAL: both ways. */
extern const struct mqg_origin_ops common_origin_ops;

#endif
